"""How many requests a process takes at once: some are worked on, some wait, the rest are told to come again.

Bounded, so that the latency of what is taken stays bounded: under overload a client hears 503 with Retry-After at once,
and an event comes again by the Broker's own schedule, where an endless queue would answer all of them too late.
"""

from __future__ import annotations

import queue
import threading
from collections import deque

from eventing.errors import RetryLater

CONCURRENCY = 8  # long inferences hold no lock of Python's: they need not wait for each other
WAITING = 64  # eight times as many: a burst of a few milliseconds, and an overload is told within one more
WAIT_S = 10.0
RETRY_AFTER_S = 1.0


class Overloaded(RetryLater):
    """More requests than may wait: 503 over HTTP, RetryLater to an event."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, after_s=RETRY_AFTER_S)


class Gone(RetryLater):
    """Nobody waits for the answer any more. What is said is for the log: no client is left to hear it."""

    def __init__(self) -> None:
        super().__init__("the client has gone, or its deadline is over: nothing was inferred", after_s=RETRY_AFTER_S)


class Places:
    """A bounded number of places. Tokens in a SimpleQueue: to take and give back one costs less than any semaphore.

    count: how many there are. reason: what is said to whom finds none.
    """

    __slots__ = ("_free", "_reason", "count")

    def __init__(self, count: int, reason: str) -> None:
        self.count = count
        self._reason = reason
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    @property
    def taken(self) -> int:
        return self.count - self._free.qsize()

    def full(self) -> Overloaded | None:
        """What whoever comes now would be told; None where there is room. To refuse early what costs much to read."""
        return Overloaded(self._reason) if self._free.empty() else None

    def take(self) -> None:
        """Take a place, to be given back by `leave`. Raises Overloaded where there is none."""
        try:
            self._free.get_nowait()
        except queue.Empty:
            raise Overloaded(self._reason) from None

    def leave(self) -> None:
        self._free.put(None)


class Turns:
    """A bounded number of turns, in the order in which they were asked for.

    In order, because whoever comes under overload would else be before those that wait, and some of them would wait for
    as long as the overload lasts. count: how many at once. reason: what is said to whose turn does not come within
    `wait_s`.
    """

    __slots__ = ("_free", "_lock", "_reason", "_wait_s", "_waiting", "count")

    def __init__(self, count: int, reason: str, wait_s: float) -> None:
        self.count = count
        self._reason = reason
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._free = count
        self._waiting: deque[threading.Lock] = deque()

    @property
    def taken(self) -> int:
        return self.count - self._free

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def take(self) -> None:
        """Wait for a turn, to be ended by `leave`. Raises Overloaded where it does not come in time."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        if turn.acquire(timeout=self._wait_s):
            return
        with self._lock:
            if turn not in self._waiting:
                return  # it came in this moment
            self._waiting.remove(turn)
        raise Overloaded(f"{self._reason}; none of them ended within {self._wait_s:g} s")

    def leave(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()  # handed over: it is never free in between
            else:
                self._free += 1


class Admission:
    """A process's places: `concurrency` inferences at once, and `waiting` requests more behind them.

    wait_s: how long a request that was taken waits for its inference at most.
    """

    def __init__(self, concurrency: int = CONCURRENCY, waiting: int = WAITING, wait_s: float = WAIT_S) -> None:
        most = concurrency + waiting
        self.requests = Places(most, f"{most} requests are worked on or wait, the most taken at once")
        self.inferences = Turns(concurrency, f"{concurrency} inferences go on, the most at once", wait_s)
