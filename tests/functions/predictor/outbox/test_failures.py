"""functions.predictor.outbox.failures: each reason once, never in the way."""

from __future__ import annotations

import threading
from collections.abc import Callable

from eventing.contract import ModelFailed
from eventing.errors import RetryLater
from functions.predictor.outbox.failures import MAX_REASON, QUEUE_LENGTH, Failures
from tests.functions.predictor import predictors


class Sink:
    """Stands for who tells: keeps what it is given, when it is let."""

    def __init__(self) -> None:
        self.told: list[ModelFailed] = []
        self.errors: list[Exception] = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, failed: ModelFailed) -> None:
        self.open.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.told.append(failed)

    def teller(self) -> Callable[[ModelFailed], object]:
        return self


def test_the_same_reason_is_told_once_and_another_one_again() -> None:
    sink = Sink()
    failures = Failures(sink.teller, "flights-00001")
    for _ in range(5):
        failures.offer("flights", "v1", "the store is away", retryable=True)
        failures.offer("flights", "", "not in the store yet", retryable=True)
        failures.offer("flights", "v1", "a digest differs", retryable=False)
    failures.close(predictors.DEADLINE_S)
    assert sink.told == [
        ModelFailed("flights", "the store is away", True, "v1", "flights-00001"),
        ModelFailed("flights", "not in the store yet", True, None, "flights-00001"),
        ModelFailed("flights", "a digest differs", False, "v1", "flights-00001"),
    ]


def test_what_the_sink_did_not_take_is_told_at_the_next_try() -> None:
    sink = Sink()
    failures = Failures(sink.teller)
    sink.errors = [RetryLater("away"), ZeroDivisionError("unforeseen")]
    for _ in range(2):
        failures.offer("flights", "v1", "the store is away", retryable=True)
        predictors.until(lambda: not failures._told)
    failures.offer("flights", "v1", "the store is away", retryable=True)
    failures.close(predictors.DEADLINE_S)
    assert len(sink.told) == 1


def test_a_sink_that_hangs_holds_up_nobody() -> None:
    sink = Sink()
    sink.open.clear()
    failures = Failures(sink.teller)
    for number in range(QUEUE_LENGTH * 2):
        failures.offer("flights", f"v{number}", "the store is away", retryable=True)
    failures.close(0.05)
    assert sink.told == []
    sink.open.set()


def test_nobody_tells_of_a_predictor_that_is_well() -> None:
    opened: list[str] = []
    sink = Sink()
    failures = Failures(lambda: opened.append("opened") or sink)  # type: ignore[func-returns-value]
    failures.close(predictors.DEADLINE_S)
    assert opened == []


def test_a_reason_of_any_length_fits_into_an_event() -> None:
    sink = Sink()
    failures = Failures(sink.teller)
    failures.offer("flights", "v1", "a digest differs; " * 100_000, retryable=False)
    failures.close(predictors.DEADLINE_S)
    assert len(sink.told[0].reason) == MAX_REASON
