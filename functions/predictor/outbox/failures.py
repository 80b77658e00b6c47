"""Versions that cannot serve, told to the Broker as model.failed: who watches events sees it without asking each pod.

By `post`: no start waits for the sink, and a predictor that is well never imports what sends events.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eventing.errors import Rejected, RetryLater
from functions.predictor.outbox.post import Post

if TYPE_CHECKING:
    from eventing import contract
    from functions.predictor.settings import Settings

ATTEMPTS = 8  # to tell of one failure: half a minute; a sink that is away for longer is told at the next try to load
QUEUE_LENGTH = 100  # failures that wait while the sink is slow
MAX_REASON = 4000  # characters: a package may have a fault in each of its thousand columns, and an event 64 KiB

Tell = Callable[["contract.ModelFailed"], object]
"""Tells of one failure. Raises a verdict where that fails."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """A version that cannot serve, and why. retryable: whether it may yet; the same reason is one fact all the same."""

    model: str
    version: str
    reason: str
    retryable: bool = field(compare=False)


class Failures:
    """Takes failures to load, tells of each that is new.

    open_teller: gives who tells; called by the thread, once there is something to tell.
    """

    def __init__(self, open_teller: Callable[[], Tell], revision: str | None = None) -> None:
        self._revision = revision
        self._told: set[Failure] = set()
        self._lock = threading.Lock()
        self._post = Post("failures", QUEUE_LENGTH, lambda: self._teller(open_teller()), self._untold)

    def offer(self, model: str, version: str, reason: str, *, retryable: bool) -> None:
        """Take a failure, unless it was told before; returns at once, whatever the sink does. version: may be empty."""
        failure = Failure(model, version, reason[:MAX_REASON], retryable)
        with self._lock:
            if failure in self._told:
                return
            self._told.add(failure)
        if not self._post.offer(failure):
            log.warning("%s %s: the failure was not told, too many wait for the sink", model, version)
            self._forget(failure)

    def close(self, timeout_s: float) -> None:
        """Send what waits, for at most `timeout_s`; what is left then is lost."""
        self._post.close(timeout_s)

    def _teller(self, tell: Tell) -> Callable[[Failure], object]:
        from eventing import contract

        def told(failure: Failure) -> None:
            version = failure.version or None
            tell(contract.ModelFailed(failure.model, failure.reason, failure.retryable, version, self._revision))

        return told

    def _untold(self, failure: Failure, error: Exception) -> None:
        known = isinstance(error, Rejected | RetryLater)
        what = "%s %s: the failure was not told to the sink: %s"
        log.log(
            logging.WARNING if known else logging.ERROR,
            what, failure.model, failure.version, error,
            exc_info=None if known else error,
        )  # fmt: skip
        self._forget(failure)

    def _forget(self, failure: Failure) -> None:
        """It was not told: the next try to load may tell it."""
        with self._lock:
            self._told.discard(failure)


def of(settings: Settings, stopping: threading.Event) -> Failures | None:
    """Who tells the sink of versions that cannot serve; None where nobody is to be told.

    stopping: set when the process ends; between two attempts nobody waits then.
    """
    sink = settings.sink
    if sink is None:
        return None

    def open_teller() -> Tell:
        from eventing import contract, sender
        from functions.predictor.outbox import made

        door = sender.Sender(sink, sleep=stopping.wait)
        source = made.source(settings.instance)

        def tell(failed: contract.ModelFailed) -> None:
            # The same reason of the same version is one fact, whichever pod of the Revision tells it.
            parts = (failed.model, failed.version or "", failed.revision or "", failed.reason, str(failed.retryable))
            door.send(sender.stamp(failed, source, id=contract.derived_id("failed", *parts)), attempts=ATTEMPTS)

        return tell

    return Failures(open_teller, settings.revision)
