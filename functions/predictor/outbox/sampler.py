"""Predictions asked over HTTP, told to the Broker as prediction.made, so that drift is seen on all traffic.

A sample, at a bounded rate, by `post`: no request waits for it and none fails by it. What does not fit
into the rate or the queue is counted and forgotten.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from eventing.errors import Rejected, RetryLater
from functions.predictor.outbox.post import Post
from functions.predictor.query import Prediction
from functions.predictor.served import Served
from functions.predictor.settings import Settings
from monitoring import predictions

QUEUE_LENGTH = 100  # samples that wait while the sink is slow: ten seconds of the default rate
BURST_S = 1.0  # this much of the rate may come at once: traffic is not even
MAX_ROWS = 256  # of one request: a window of thousands is filled soon enough, and encoding costs the thread its time
COMPLAIN_EVERY_S = 60.0  # a sink that is away is one line a minute, not one per sample

Sample = tuple[Served, Prediction]
Tell = Callable[[Served, Prediction], object]
"""Tells of one prediction. Raises a verdict where that fails."""

log = logging.getLogger(__name__)


class Sampler:
    """Takes predictions, tells of some of them.

    open_teller: gives who tells; called by the sampler's thread, once there is something to tell. per_s: how many each
    second at most, more than 0.
    """

    def __init__(
        self, open_teller: Callable[[], Tell], per_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._step_s = 1.0 / per_s
        self._clock = clock
        self._due = 0.0
        self._complained = float("-inf")
        self._post = Post("sampler", QUEUE_LENGTH, lambda: _pairs(open_teller()), self._untold)

    def offer(self, served: Served, prediction: Prediction) -> None:
        """Take a prediction, or count it as untold; returns at once, whatever the sink does."""
        now = self._clock()
        # A virtual schedule (GCRA): each sample is due one step after the last; a burst may run ahead of it. Two
        # threads at this line may both pass, now and then a sample too many; a lock on every request would cost more.
        due = max(self._due, now)
        # Where the line is full the sink is slower than the rate: counted like any other untold one.
        if due - now <= BURST_S and self._post.offer((served, prediction.head(MAX_ROWS))):
            self._due = due + self._step_s
            return
        predictions.PREDICTIONS_UNSAMPLED.labels(served.name).inc()

    def close(self, timeout_s: float) -> None:
        """Send what waits, for at most `timeout_s`; what is left then is lost."""
        self._post.close(timeout_s)

    def _untold(self, sample: Sample, error: Exception) -> None:
        predictions.PREDICTIONS_UNSAMPLED.labels(sample[0].name).inc()
        if not isinstance(error, Rejected | RetryLater):
            log.error("a prediction was not told to the sink", exc_info=error)
        elif (now := self._clock()) - self._complained > COMPLAIN_EVERY_S:
            self._complained = now
            log.warning("a prediction was not told to the sink: %s", error)


def _pairs(tell: Tell) -> Callable[[Sample], object]:
    return lambda sample: tell(*sample)


def of(settings: Settings) -> Sampler | None:
    """Who tells predictions over HTTP to the sink; None where nobody is to be told."""
    sink = settings.sink
    if sink is None or settings.samples_per_s == 0:
        return None

    def open_teller() -> Tell:
        from functions.predictor.outbox import made  # the imports of events and HTTP, when the first answer is out

        return made.Teller(sink, settings.instance)

    return Sampler(open_teller, settings.samples_per_s)
