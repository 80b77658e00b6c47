"""functions.predictor.outbox.sampler: at the rate, never in the way."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from eventing.errors import RetryLater
from functions.model import Model
from functions.predictor.outbox import made
from functions.predictor.outbox.sampler import MAX_ROWS, QUEUE_LENGTH, Sampler
from functions.predictor.query import Prediction, Query
from functions.predictor.served import Served
from functions.predictor.wire import predict_body
from monitoring import predictions
from tests.functions import packages
from tests.functions.predictor import predictors


class Sink:
    """Stands for who tells: keeps what it is given, when it is let."""

    def __init__(self) -> None:
        self.told: list[Prediction] = []
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def __call__(self, served: Served, prediction: Prediction) -> None:
        self.open.wait()
        if self.error is not None:
            raise self.error
        self.told.append(prediction)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = packages.build_package(tmp_path_factory.mktemp("package"), name="sampled")
    return Served("sampled", packages.VERSION, Model.load(folder))


def _prediction(served: Served, times: int = 1) -> Prediction:
    rows = packages.ROWS * times
    return served.predict(Query(packages.arrays(rows), len(rows)), time.perf_counter(), told=False)


def _untold() -> float:
    return float(predictions.PREDICTIONS_UNSAMPLED.labels("sampled").value)


def test_no_more_than_the_rate_is_told_and_the_rest_is_counted(served: Served) -> None:
    sink, clock, before = Sink(), Clock(), _untold()
    sampler = Sampler(lambda: sink, 10, clock)
    prediction = _prediction(served)
    for _ in range(500):  # five seconds, a hundred requests each
        clock.now += 0.01
        sampler.offer(served, prediction)
    sampler.close(predictors.DEADLINE_S)
    # Ten a second for five seconds, and the burst of one second beforehand.
    assert 55 <= len(sink.told) <= 62
    assert _untold() - before == 500 - len(sink.told)


def test_a_sink_that_hangs_holds_up_no_request(served: Served) -> None:
    sink, clock, before = Sink(), Clock(), _untold()
    sink.open.clear()
    sampler = Sampler(lambda: sink, 1000, clock)
    prediction = _prediction(served)
    for _ in range(QUEUE_LENGTH * 3):
        clock.now += 1
        sampler.offer(served, prediction)
    assert _untold() - before >= QUEUE_LENGTH * 2 - 1
    sink.open.set()
    sampler.close(predictors.DEADLINE_S)
    assert len(sink.told) >= QUEUE_LENGTH


def test_closing_ends_in_time_though_the_sink_hangs(served: Served) -> None:
    sink = Sink()
    sink.open.clear()
    sampler = Sampler(lambda: sink, 1000)
    sampler.offer(served, _prediction(served))
    sampler.close(0.05)
    assert sink.told == []
    sink.open.set()


def test_a_sample_that_cannot_be_told_ends_nothing(served: Served) -> None:
    sink, before = Sink(), _untold()
    sampler = Sampler(lambda: sink, 1000)
    for count, sink.error in enumerate((RetryLater("away"), ZeroDivisionError("unforeseen"), None), 1):
        sampler.offer(served, _prediction(served))
        predictors.until(lambda count=count: len(sink.told) + _untold() - before == count)
    sampler.close(predictors.DEADLINE_S)
    assert (len(sink.told), _untold() - before) == (1, 2)


def test_of_many_rows_the_first_are_told_and_all_are_counted(served: Served) -> None:
    sink = Sink()
    sampler = Sampler(lambda: sink, 1000)
    sampler.offer(served, _prediction(served, times=200))
    sampler.close(predictors.DEADLINE_S)
    data = made.prediction_made(served, sink.told[0], [])
    assert data.rows == 1000
    assert data.features is not None
    assert data.answers is not None
    assert len(data.features["delay"]) == len(data.answers["score"]) == MAX_ROWS


def test_an_event_holds_floats_by_their_own_digits(served: Served) -> None:
    features = made.features_of(served, _prediction(served), 5)
    assert features["delay"] == (45.0, -5.0, 12.0, None, 20.5)
    assert features["carrier"] == ("AA", "DL", "UA", "AA", None)


def test_of_one_row_what_was_asked_for_is_what_is_told(served: Served) -> None:
    """A request of V2 may choose its outputs; those that it did not ask for are not there to be told."""

    def told(*outputs: str) -> list[Any]:
        row = Query(packages.arrays(packages.ROWS[1:2]), 1, outputs)
        prediction = served.predict(row, time.perf_counter(), told=False)
        answers: list[Any] = json.loads(predict_body.encode(served, prediction, columns=False))["predictions"]
        return answers

    assert told("label") == [0]
    assert [set(answer) for answer in told("label", "probabilities")] == [{"label", "probabilities"}]
