"""A version that cannot serve, let through by a person: it gets no request, says why, and what served goes on."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from eventing.contract import ModelFailed, ModelPromoted
from tests.end_to_end import tables
from tests.end_to_end.house import House, until

MODEL = "brittle"
POOR = ("--parameter", "n_estimators=1", "--parameter", "max_depth=1")


@pytest.fixture(scope="module")
def versions(house: House, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """The one that serves, and two that the gate refused, whole in the store."""
    folder = tmp_path_factory.mktemp("brittle")
    first = house.learn(tables.table(folder / "first.csv", seed=61), MODEL)
    assert first.type == ModelPromoted.TYPE, first.data
    others = [house.learn(tables.table(folder / f"{seed}.csv", seed), MODEL, *POOR) for seed in (62, 63)]
    return (first.data["version"], *(other.data["version"] for other in others))


def test_a_wrong_digest_is_never_ready_and_the_version_before_goes_on(
    house: House, versions: tuple[str, str, str]
) -> None:
    champion, broken, _ = versions
    (house.store / "models" / MODEL / broken / "model.onnx").write_bytes(b"not what the digest says")
    with asking(house) as statuses, house.start("promote", MODEL, broken) as promotion:
        reason = told(house, broken, retryable=False)
        assert "model.onnx has digest" in reason
        assert reason in never_ready(house, broken)
        assert any(reason in log.read_text() for log in (house.home / "logs").rglob("*.log"))
        promotion.terminate()  # an interrupt is ignored in what a shell runs in the background
        promotion.communicate()
    assert set(statuses) == {200}
    assert serving(house) == champion


def test_a_half_copied_package_is_waited_for_and_then_takes_over(house: House, versions: tuple[str, str, str]) -> None:
    champion, _, late = versions
    sample = house.store / "models" / MODEL / late / "sample.json"
    content = sample.read_bytes()
    sample.unlink()
    with asking(house) as statuses, house.start("promote", MODEL, late) as promotion:
        reason = told(house, late, retryable=True)
        assert "sample.json is missing" in reason
        assert reason in never_ready(house, late)
        assert serving(house) == champion
        sample.write_bytes(content)
        said, _ = promotion.communicate()
    assert promotion.returncode == 0, said
    assert set(statuses) == {200}
    assert serving(house) == late


@contextmanager
def asking(house: House) -> Iterator[Counter[int]]:
    """Somebody asks all the while; what was answered, by status."""
    statuses, over = Counter[int](), threading.Event()

    def ask() -> None:
        rows = tables.questions(tables.MANY, seed=64)
        number = 0
        while not over.wait(0.05):
            statuses[house.ask(MODEL, [rows[number % tables.MANY]]).status] += 1
            number += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        over.set()
        thread.join()


def told(house: House, version: str, retryable: bool) -> str:
    """The reason that the event model.failed gives."""

    def reason() -> str | None:
        events = [e for e in house.entries(type=ModelFailed.TYPE, subject=MODEL) if e.data["version"] == version]
        return next((str(e.data["reason"]) for e in events if e.data["retryable"] is retryable), None)

    return until(f"an event that {version} cannot serve", reason)


def never_ready(house: House, version: str) -> str:
    """What the pod of `version` itself says of the model's readiness."""
    pods = [p.environ() for p in house.pods_running("functions.predictor")]
    (port,) = {pod["PORT"] for pod in pods if pod.get("HEADRACE_MODEL_VERSION") == version}
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/{MODEL}/ready", timeout=60)
    with caught.value as answer:
        assert answer.code == 503
        return answer.read().decode()


def serving(house: House) -> str:
    row = tables.questions(1, seed=65)
    answer = house.ask(MODEL, row)
    assert answer.status == 200
    (entry,) = (t for t in house.get("ksvc", MODEL)["status"]["traffic"] if t.get("percent") == 100)
    variables = house.get("revision", entry["revisionName"])["spec"]["containers"][0]["env"]
    return next(str(v["value"]) for v in variables if v["name"] == "HEADRACE_MODEL_VERSION")
