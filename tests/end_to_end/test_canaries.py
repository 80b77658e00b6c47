"""A challenger takes over, or what serves goes on: one at a time, whatever goes wrong on its way."""

from __future__ import annotations

import json
import shlex
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventing.contract import ModelPromoted, ModelRejected, ModelRolledBack, ModelTrained
from headrace import daemon
from tests.answers import Answer
from tests.end_to_end import tables
from tests.end_to_end.conftest import Open
from tests.end_to_end.house import VERDICTS, House, until

MODEL = "duel"
PREDICTOR = "ghcr.io/headrace/predictor"
CANARY = "headrace.dev/canary"
# Ready like a good one, and then an error for whatever it is asked.
FAULTY = """
import http.server, os

class Faulty(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response(200 if "/health/" in self.path else 500)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_GET = do_POST = answer

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Faulty).serve_forever()
"""


class Image:
    """An image of the predictor that is as good as ours until told otherwise: then predictors of new versions `crash`
    at their start, or are `faulty`, as after a bad release."""

    def __init__(self, folder: Path) -> None:
        self._fault, self._spared = folder / "fault", folder / "spared"
        self.interpreter = folder / "image"
        python = daemon.functions_interpreter().get(PREDICTOR, sys.executable)
        faulty = folder / "faulty.py"
        faulty.write_text(FAULTY)
        fault, spared = shlex.quote(str(self._fault)), shlex.quote(str(self._spared))
        self.interpreter.write_text(
            f"""#!/bin/sh
if [ "$2" = functions.predictor ] && [ -e {fault} ] && ! grep -q "^$HEADRACE_MODEL_VERSION$" {spared}; then
    [ "$(cat {fault})" = faulty ] && exec {shlex.quote(python)} {shlex.quote(str(faulty))}
    echo "this image is broken" >&2
    exit 3
fi
exec {shlex.quote(python)} "$@"
"""
        )
        self.interpreter.chmod(0o755)

    @contextmanager
    def broken(self, how: str, *spared: str) -> Iterator[None]:
        """how: crash or faulty. spared: versions whose predictors are well."""
        self._spared.write_text("\n".join(spared) + "\n")
        self._fault.write_text(how)
        try:
            yield
        finally:
            self._fault.unlink()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return Image(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def house(open_another: Open, image: Image, tmp_path_factory: pytest.TempPathFactory) -> House:
    """A house with a champion, and canaries long enough to be seen."""
    values = {"HEADRACE_CANARY_S": "4", "HEADRACE_READY_S": "12"}
    house = open_another(values, {PREDICTOR: str(image.interpreter)})
    verdict = house.learn(tables.table(tmp_path_factory.mktemp("champion") / "champion.csv", seed=81), MODEL)
    assert verdict.type == ModelPromoted.TYPE, verdict.data
    return house


class Crowd:
    """People who ask all the while, and what they were answered, by status and version."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.statuses: Counter[int] = Counter()

    @contextmanager
    def asking(self) -> Iterator[None]:
        over = threading.Event()

        def ask() -> None:
            rows = tables.questions(tables.MANY, seed=82)
            number = 0
            while not over.wait(0.05):
                answer: Answer = self._house.ask(MODEL, [rows[number % tables.MANY]])
                self.statuses[answer.status] += 1
                number += 1

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def test_a_challenger_that_crashes_is_taken_back_and_nobody_notices(
    house: House, image: Image, file: Callable[[int], Path]
) -> None:
    champion = _serving(house)
    crowd = Crowd(house)
    with image.broken("crash", champion), crowd.asking():
        verdict = house.learn(file(83), MODEL)
    assert verdict.type == ModelRolledBack.TYPE, verdict.data
    assert (verdict.data["previous"], _serving(house)) == (champion, champion)
    assert set(crowd.statuses) == {200}
    assert "not ready" in verdict.data["reason"] or "failed to start" in verdict.data["reason"]


def test_a_challenger_that_answers_errors_is_taken_back(
    house: House, image: Image, file: Callable[[int], Path]
) -> None:
    champion = _serving(house)
    crowd = Crowd(house)
    with image.broken("faulty", champion), crowd.asking():
        verdict = house.learn(file(84), MODEL)
    assert verdict.type == ModelRolledBack.TYPE, verdict.data
    assert _serving(house) == champion
    # Its share of the traffic is what a canary puts at stake, and no more.
    assert crowd.statuses[200] > crowd.statuses[500]
    assert "probes" in verdict.data["reason"]
    assert house.ask(MODEL, tables.questions(1, seed=85)).status == 200


def test_a_challenger_that_is_worse_gets_no_traffic(house: House, file: Callable[[int], Path]) -> None:
    """Told with the figures of both, on the same rows."""
    champion, revisions = _serving(house), _revisions(house)
    poor = ("--parameter", "n_estimators=1", "--parameter", "max_depth=1")
    verdict = house.learn(file(86), MODEL, *poor)
    assert verdict.type == ModelRejected.TYPE, verdict.data
    assert verdict.data["previous"] == champion
    assert "roc_auc" in json.dumps(verdict.data["evidence"])
    assert (_serving(house), _revisions(house)) == (champion, revisions)


def test_two_challengers_at_once_never_interleave(house: House, file: Callable[[int], Path]) -> None:
    """Each has its verdict, in the order of their training, and the traffic never knows three versions."""
    first, last = file(87), file(88)
    seen: list[dict[str, Any]] = []
    with _every_state(house, seen):
        drops = [house.drop(first, MODEL), house.drop(last, MODEL)]
        verdicts = [house.verdict_on(drop) for drop in drops]
        trained = [e for e in house.entries(type=ModelTrained.TYPE) if e.cause in drops]
        until("the end of the canaries", lambda: _rollout(house.get("ksvc", MODEL)) is None)
    assert len(trained) == 2
    assert {v.type for v in verdicts} <= VERDICTS
    told = [e.data["version"] for e in sorted(verdicts, key=lambda e: e.seq)]
    assert told == [e.data["version"] for e in sorted(trained, key=lambda e: e.seq)]
    versions = _versions(house)
    assert len(seen) > 2
    for service in seen:
        targets = service.get("status", {}).get("traffic", [])
        sharing = {versions[t["revisionName"]] for t in targets if t.get("percent")}
        assert len(sharing) <= 2, targets
        assert sum(t.get("percent", 0) for t in targets) == 100
    rollouts = [_rollout(service) for service in seen]
    order = [version for i, version in enumerate(rollouts) if version and version not in rollouts[:i]]
    assert order == [v for v in told if v in order]
    for version in order:  # one rollout is one stretch: it does not come back after another's
        at = [i for i, v in enumerate(rollouts) if v == version]
        assert all(rollouts[i] == version for i in range(at[0], at[-1] + 1))


@contextmanager
def _every_state(house: House, seen: list[dict[str, Any]]) -> Iterator[None]:
    """Each state of the model's Service, as a watch of the Kubernetes API tells them."""
    with house.start_kubectl("get", "ksvc", MODEL, "-w", "-o", "json") as watch:

        def read() -> None:
            assert watch.stdout is not None
            decoder, text = json.JSONDecoder(), ""
            for line in watch.stdout:
                text += line
                if line.startswith("}"):
                    seen.append(decoder.decode(text))
                    text = ""

        reader = threading.Thread(target=read)
        reader.start()
        until("the first state", lambda: seen)
        try:
            yield
        finally:
            watch.terminate()
            reader.join()


def _rollout(service: dict[str, Any]) -> str | None:
    text = service["metadata"].get("annotations", {}).get(CANARY)
    return None if text is None else str(json.loads(text)["version"])


def _revisions(house: House) -> list[str]:
    return [r["metadata"]["name"] for r in house.items("revisions", f"serving.knative.dev/service={MODEL}")]


def _versions(house: House) -> dict[str, str]:
    """Model version by Revision."""
    found = {}
    for revision in house.items("revisions", f"serving.knative.dev/service={MODEL}"):
        variables = {v["name"]: v.get("value") for v in revision["spec"]["containers"][0]["env"]}
        found[revision["metadata"]["name"]] = str(variables["HEADRACE_MODEL_VERSION"])
    return found


def _serving(house: House) -> str:
    """The version that answers everything."""
    traffic = house.get("ksvc", MODEL)["status"]["traffic"]
    (name,) = {t["revisionName"] for t in traffic if t.get("percent")}
    return _versions(house)[name]
