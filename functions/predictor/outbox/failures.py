"""Versions that cannot serve, told to the Broker as model.failed: who watches events sees it without asking each pod.

By one thread of its own, begun with the first failure: no start waits for the sink, and a predictor that is well never
imports what sends events.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from eventing.errors import Rejected, RetryLater

if TYPE_CHECKING:
    from eventing import contract
    from functions.predictor.settings import Settings

ATTEMPTS = 8  # to tell of one failure: half a minute; a sink that is away for longer is told at the next try to load
QUEUE_LENGTH = 100  # failures that wait while the sink is slow
MAX_REASON = 4000  # characters: a package may have a fault in each of its thousand columns, and an event 64 KiB

Tell = Callable[["contract.ModelFailed"], object]
"""Tells of one failure. Raises a verdict where that fails."""

log = logging.getLogger(__name__)


class Failures:
    """Takes failures to load, tells of each that is new.

    open_teller: gives who tells; called by the thread, once there is something to tell.
    """

    def __init__(self, open_teller: Callable[[], Tell], revision: str | None = None) -> None:
        self._open_teller = open_teller
        self._revision = revision
        self._told: set[tuple[str, str, str]] = set()
        self._waiting: queue.Queue[tuple[str, str, str, bool] | None] = queue.Queue(QUEUE_LENGTH)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def offer(self, model: str, version: str, reason: str, *, retryable: bool) -> None:
        """Take a failure, unless it was told before; returns at once, whatever the sink does. version: may be empty."""
        key = (model, version, reason[:MAX_REASON])
        with self._lock:
            if key in self._told:
                return
            try:
                self._waiting.put_nowait((*key, retryable))
            except queue.Full:
                log.warning("%s %s: the failure was not told, too many wait for the sink", model, version)
                return
            self._told.add(key)
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_all, name="failures", daemon=True)
                self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Send what waits, for at most `timeout_s`; what is left then is lost."""
        if self._thread is None:
            return
        try:
            self._waiting.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _send_all(self) -> None:
        tell: Tell | None = None
        while (taken := self._waiting.get()) is not None:
            model, version, reason, retryable = taken
            try:
                from eventing import contract

                tell = tell or self._open_teller()
                tell(contract.ModelFailed(model, reason, retryable, version or None, self._revision))
            except (Rejected, RetryLater) as e:
                log.warning("%s %s: the failure was not told to the sink: %s", model, version, e)
                self._forget(model, version, reason)
            except Exception:
                log.exception("%s %s: the failure was not told to the sink", model, version)
                self._forget(model, version, reason)

    def _forget(self, *key: str) -> None:
        """It was not told: the next try to load may tell it."""
        with self._lock:
            self._told.discard((key[0], key[1], key[2]))


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
