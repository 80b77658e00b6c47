"""The loop on real flights in a cluster: dropped, trained, gated, promoted, asked in three ways, replaced, rolled back.

One walk, told in order; each test takes over where the one before left the model.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventing.contract import ModelPromoted, ModelTrained, PredictionMade, PredictionRequested
from headrace import flights
from tests.e2e import phases
from tests.e2e.place import Answer, Deployed, until

pytestmark = pytest.mark.cluster

MODEL = "flights"
Row = Mapping[str, Any]
Figure = Callable[[str], None]


@pytest.fixture(scope="module")
def january(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("months") / "january.csv"
    flights.write_month(1, file)
    return file


@pytest.fixture(scope="module")
def february(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("months") / "february.csv"
    flights.write_month(2, file)
    return file


@pytest.fixture(scope="module")
def rows(january: Path) -> list[Row]:
    """Some flights of January, without the answer; of the whole month, for one day's weather would be drift."""
    read = flights.sample(january, 1000)
    return [{k: flights.value(k, v) for k, v in row.items() if k != flights.TARGET} for row in read]


def test_after_deploy_every_part_is_ready_and_the_status_says_so(deployed: Deployed) -> None:
    report = json.loads(deployed.headrace("status", "-o", "json"))
    assert report["healthy"]
    assert {"promoter", "drift-watch", "dead-letters"} <= {p["name"] for p in report["parts"] if p["kind"] == "Service"}


def test_a_dropped_month_becomes_a_promoted_model_by_one_job(deployed: Deployed, january: Path, figure: Figure) -> None:
    began = time.monotonic()
    told = deployed.headrace("drop", str(january), "--dataset", MODEL, "--target", flights.TARGET, "--wait")
    figure(f"January, dropped to promoted: {time.monotonic() - began:.0f} s")
    assert "serves" in told
    assert len(deployed.items("jobs")) == 1, "one event, one Job"
    assert deployed.get("ksvc", MODEL)["status"]["conditions"]


def test_v1_and_v2_answer_alike(deployed: Deployed, rows: list[Row]) -> None:
    first = deployed.v1(MODEL, rows[:5])
    assert first.status == 200, first.body
    second = _infer(deployed, rows[:5])
    assert second.status == 200, second.body
    labels = [p["label"] if isinstance(p, dict) else p for p in first.json()["predictions"]]
    outputs = {o["name"]: o["data"] for o in second.json()["outputs"]}
    assert labels in outputs.values(), (labels, outputs)


def test_predict_asks_the_cluster_as_it_asks_the_laptop(deployed: Deployed, january: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.csv"
    few.write_text("\n".join(january.read_text().splitlines()[:6]) + "\n")
    answers = json.loads(deployed.headrace("predict", MODEL, "--rows", str(few), "-o", "json"))
    assert len(answers) == 5


def test_a_prediction_asked_by_event_is_answered_by_event(deployed: Deployed, rows: list[Row]) -> None:
    deployed.headrace("send", "-", given=json.dumps(_request("ask-1", rows[0])))
    made = deployed.event("an answer", lambda e: e.get("causationid") == "ask-1", PredictionMade.TYPE)
    assert made["subject"] == MODEL
    why = deployed.headrace("why", made["id"])
    assert "january" in why or "Job" in why, why


def test_the_model_goes_to_zero_and_comes_back_for_one_request(
    deployed: Deployed, rows: list[Row], figure: Figure
) -> None:
    until("zero pods", lambda: deployed.replicas(MODEL) == 0)
    with phases.watched(deployed, f"serving.knative.dev/service={MODEL}") as seen:
        answer = deployed.v1(MODEL, rows[:1])
    assert answer.status == 200, answer.body
    figure(f"from zero, request to answer: {answer.seconds:.2f} s: {seen}")


def test_the_challenger_gets_its_share_in_a_canary_then_all(
    deployed: Deployed, february: Path, rows: list[Row], figure: Figure
) -> None:
    champion = _answering(deployed, rows)
    began = time.monotonic()
    with _traffic(deployed, rows) as counts:
        told = deployed.run("drop", str(february), "--dataset", MODEL, "--target", flights.TARGET, "--wait")
    figure(f"February beside traffic, dropped to promoted: {time.monotonic() - began:.0f} s; answers {dict(counts)}")
    assert told.returncode == 0, told.stdout + told.stderr
    versions = {version for kind, version in counts if kind == 200}
    assert {kind for kind, _ in counts} == {200}, counts
    assert len(versions) == 2
    assert _answering(deployed, rows) != champion


def test_a_rollback_is_one_step_and_the_former_champion_answers(
    deployed: Deployed, rows: list[Row], figure: Figure
) -> None:
    newer = _answering(deployed, rows)
    rows_of_models = json.loads(deployed.headrace("models", "-o", "json"))
    versions = {row["serves"]: row["version"] for row in rows_of_models if row["model"] == MODEL}
    assert versions["yes"] == newer
    began = time.monotonic()
    deployed.headrace("rollback", MODEL)
    older = until("the other version", lambda: (v := _answering(deployed, rows)) != newer and v)
    figure(f"rollback, command to the champion's first answer: {time.monotonic() - began:.1f} s")
    assert older == versions["before"]


def test_each_step_is_caused_by_the_one_before(deployed: Deployed) -> None:
    events = {e["id"]: e for e in deployed.events()}
    promoted = next(e for e in events.values() if e["type"] == ModelPromoted.TYPE)
    trained = events[promoted["causationid"]]
    assert trained["type"] == ModelTrained.TYPE
    assert events[trained["causationid"]]["type"].endswith("dataset.arrived.v1")


def test_what_nobody_takes_is_kept_and_can_be_sent_again(deployed: Deployed, rows: list[Row]) -> None:
    broken = _request("ask-broken", rows[0])
    broken["data"]["inputs"] = {"instances": "none"}
    deployed.headrace("send", "-", given=json.dumps(broken))

    def dead() -> list[Any]:
        return [
            d for d in json.loads(deployed.headrace("dead-letters", "list", "-o", "json")) if "ask-broken" in str(d)
        ]

    until("the dead letter", dead)


def _infer(deployed: Deployed, rows: list[Row]) -> Answer:
    """Rows by the Open Inference protocol, which says the version."""
    columns = [_column(name, rows) for name in rows[0]]
    return deployed.ask(MODEL, f"/v2/models/{MODEL}/infer", {"inputs": columns})


def _answering(deployed: Deployed, rows: list[Row]) -> str:
    answer = _infer(deployed, rows[:1])
    assert answer.status == 200, answer.body
    return str(answer.json()["model_version"])


@contextmanager
def _traffic(deployed: Deployed, rows: list[Row]) -> Iterator[Counter[tuple[int, str]]]:
    """Somebody who asks five times a second, counted by status and by the version that answered."""
    counts: Counter[tuple[int, str]] = Counter()
    done = threading.Event()

    def ask() -> None:
        begin = 0
        while not done.wait(0.2):
            answer = _infer(deployed, rows[begin : begin + 3])
            begin = (begin + 3) % (len(rows) - 3)
            counts[(answer.status, answer.json()["model_version"] if answer.status == 200 else "")] += 1

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        yield counts
    finally:
        done.set()
        asking.join()


def _column(name: str, rows: list[Row]) -> dict[str, Any]:
    datatype = "BYTES" if name in flights.WORDS else "FP32"
    return {"name": name, "shape": [len(rows), 1], "datatype": datatype, "data": [r[name] for r in rows]}


def _request(id: str, row: Row) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": id,
        "source": "/tests/e2e",
        "type": PredictionRequested.TYPE,
        "subject": MODEL,
        "datacontenttype": "application/json",
        "data": {"model": MODEL, "inputs": {"instances": [dict(row)]}},
    }
