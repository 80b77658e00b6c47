"""How many requests a process takes at once: some are worked on, some wait, the rest are told to come again.

Bounded, so that the latency of what is taken stays bounded: under overload a client hears 503 with Retry-After at once,
and an event comes again by the Broker's own schedule, where an endless queue would answer all of them too late.
"""

from __future__ import annotations

import queue

from eventing.errors import RetryLater

CONCURRENCY = 8  # long inferences hold no lock of Python's: they need not wait for each other
WAITING = 64  # eight times as many: a burst of a few milliseconds, and an overload is told within one more
WAIT_S = 10.0
RETRY_AFTER_S = 1.0


class Overloaded(RetryLater):
    """More requests than may wait: 503 over HTTP, RetryLater to an event."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, after_s=RETRY_AFTER_S)


class Places:
    """A bounded number of places. Tokens in a SimpleQueue: to take and give back one costs less than any semaphore.

    count: how many there are. full: what is said to whom finds none. wait_s: how long one waits for a place.
    """

    __slots__ = ("_free", "_full", "_wait_s", "count")

    def __init__(self, count: int, full: str, wait_s: float = 0.0) -> None:
        self.count = count
        self._full = full
        self._wait_s = wait_s
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    @property
    def taken(self) -> int:
        return self.count - self._free.qsize()

    def take(self) -> None:
        """Take a place, to be given back by `leave`. Raises Overloaded when none gets free in time."""
        try:
            self._free.get_nowait()
        except queue.Empty:
            self._wait()

    def leave(self) -> None:
        self._free.put(None)

    def _wait(self) -> None:
        if self._wait_s <= 0:
            raise Overloaded(self._full)
        try:
            self._free.get(timeout=self._wait_s)
        except queue.Empty:
            raise Overloaded(f"{self._full}; none of them ended within {self._wait_s:g} s") from None


class Admission:
    """A process's places: `concurrency` inferences at once, and `waiting` requests more behind them.

    wait_s: how long a request that was taken waits for its inference at most.
    """

    def __init__(self, concurrency: int = CONCURRENCY, waiting: int = WAITING, wait_s: float = WAIT_S) -> None:
        most = concurrency + waiting
        self.requests = Places(most, f"{most} requests are worked on or wait, the most taken at once")
        self.inferences = Places(concurrency, f"{concurrency} inferences go on, the most at once", wait_s)
