"""Predictions asked over HTTP, told to the Broker as prediction.made, so that drift is seen on all traffic.

A sample, at a bounded rate, by one thread of its own: no request waits for it and none fails by it. What does not fit
into the rate or the queue is counted and forgotten.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

import orjson

from eventing import sender
from eventing.errors import Rejected, RetryLater
from functions.predictor import made
from functions.predictor.catalog import Prediction, Served
from functions.predictor.protocols import v1
from monitoring import metrics

QUEUE_LENGTH = 100  # samples that wait while the sink is slow: ten seconds of the default rate
BURST_S = 1.0  # this much of the rate may come at once: traffic is not even
MAX_ROWS = 256  # of one request: a window of thousands is filled soon enough, and encoding costs the thread its time
COMPLAIN_EVERY_S = 60.0  # a sink that is away is one line a minute, not one per sample
ATTEMPTS = 3

log = logging.getLogger(__name__)


class Sampler:
    """Takes predictions, sends some of them.

    sink: where to. per_s: how many each second at most, more than 0. source: the events' source.
    """

    def __init__(
        self, sink: sender.Sender, per_s: float, source: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sink = sink
        self._step_s = 1.0 / per_s
        self._source = source
        self._clock = clock
        self._due = 0.0
        self._waiting: queue.Queue[tuple[Served, Prediction] | None] = queue.Queue(QUEUE_LENGTH)
        self._complained = float("-inf")
        self._thread = threading.Thread(target=self._send_all, name="sampler", daemon=True)
        self._thread.start()

    def offer(self, served: Served, prediction: Prediction) -> None:
        """Take a prediction, or count it as untold; returns at once, whatever the sink does."""
        now = self._clock()
        # A virtual schedule (GCRA): each sample is due one step after the last; a burst may run ahead of it. Two
        # threads at this line may both pass, now and then a sample too many; a lock on every request would cost more.
        due = max(self._due, now)
        if due - now <= BURST_S:
            try:
                self._waiting.put_nowait((served, made.head(prediction, MAX_ROWS)))
                self._due = due + self._step_s
                return
            except queue.Full:
                pass  # the sink is slower than the rate: counted below like any other untold one
        metrics.PREDICTIONS_UNSAMPLED.labels(served.name).inc()

    def close(self, timeout_s: float) -> None:
        """Send what waits, for at most `timeout_s`; what is left then is lost."""
        try:
            self._waiting.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _send_all(self) -> None:
        while (taken := self._waiting.get()) is not None:
            try:
                self._send(*taken)
            except (Rejected, RetryLater) as e:
                metrics.PREDICTIONS_UNSAMPLED.labels(taken[0].name).inc()
                if (now := self._clock()) - self._complained > COMPLAIN_EVERY_S:
                    self._complained = now
                    log.warning("a prediction was not told to the sink: %s", e)
            except Exception:
                metrics.PREDICTIONS_UNSAMPLED.labels(taken[0].name).inc()
                log.exception("a prediction was not told to the sink")

    def _send(self, served: Served, prediction: Prediction) -> None:
        outputs = orjson.loads(v1.encode(served, prediction, columns=False))
        data = made.prediction_made(served, prediction, outputs)
        self._sink.send(sender.stamp(data, self._source), attempts=ATTEMPTS)
