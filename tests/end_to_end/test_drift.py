"""The world changes, and one training starts by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eventing.contract import DriftDetected, ModelPromoted, PredictionMade
from headrace.journal import Entry
from tests.end_to_end import tables
from tests.end_to_end.conftest import Open
from tests.end_to_end.house import ENDS, House, trained, until

MODEL = "weather"
# Every answer is told: how many are by default depends on how fast they are asked for.
DRIFT = {
    "HEADRACE_DRIFT_WINDOW_ROWS": "200",
    "HEADRACE_DRIFT_MIN_ROWS": "100",
    "HEADRACE_PREDICTION_SAMPLES_PER_S": "1000",
}
ROWS = 20  # a request


@pytest.fixture(scope="module")
def house(open_another: Open, tmp_path_factory: pytest.TempPathFactory) -> House:
    """A model that knows one of the two files that were dropped: the newer training was not good enough to serve."""
    house = open_another(DRIFT)
    folder = tmp_path_factory.mktemp("drift")
    first = house.learn(tables.table(folder / "first.csv", seed=91), MODEL)
    assert first.type == ModelPromoted.TYPE, first.data
    house.learn(tables.table(folder / "second.csv", seed=92), MODEL, "--parameter", "n_estimators=1")
    return house


def test_rows_like_those_of_the_training_are_no_drift(house: House) -> None:
    _ask(house, requests=15, seed=93, shift=0.0)
    assert house.entries(type=DriftDetected.TYPE) == []


def test_one_drift_is_told_once_and_starts_one_training(house: House) -> None:
    before = trained(house.entries(), MODEL)
    _ask(house, requests=30, seed=94, shift=2.5)
    drift = until("word of the drift", lambda: house.entries(type=DriftDetected.TYPE))[0]
    assert (drift.data["feature"], drift.data["model"]) == ("Länge", MODEL)
    assert drift.data["value"] > drift.data["threshold"]
    ended = until("an end of its training", lambda: [e for e in house.follows(drift.id) if e.type in ENDS])
    _ask(house, requests=10, seed=95, shift=2.5)  # the drift goes on; it was told
    assert [e.id for e in house.entries(type=DriftDetected.TYPE)] == [drift.id]
    new = {id: e for id, e in trained(house.entries(), MODEL).items() if id not in before}
    assert [e.cause for e in new.values()] == [drift.id]
    assert ended[0].type != "dev.headrace.training.failed.v1", ended[0].data


def test_a_training_by_drift_learns_from_everything_that_was_dropped(house: House) -> None:
    newest: Entry = max(trained(house.entries(), MODEL).values(), key=lambda e: e.seq)
    assert newest.data["rows"] == 800


def test_why_leads_from_the_new_model_to_the_answers_that_drifted(house: House) -> None:
    drift = house.entries(type=DriftDetected.TYPE)[0]
    cause = next(e for e in house.entries() if e.id == drift.cause)
    assert cause.type == PredictionMade.TYPE
    newest = max(trained(house.entries(), MODEL).values(), key=lambda e: e.seq)
    told = house.headrace("why", newest.id)
    assert drift.id in told
    assert cause.id in told


def _ask(house: House, requests: int, seed: int, shift: float) -> None:
    """Rows over HTTP, until all that was to be told of them has been taken in."""
    rows = tables.questions(requests * ROWS, seed, shift)
    for begin in range(0, len(rows), ROWS):
        house.predictions(MODEL, rows[begin : begin + ROWS])
    made: Callable[[], int] = lambda: len(house.entries(type=PredictionMade.TYPE))  # noqa: E731
    until("word of the answers", made)
    house.all_settled()
