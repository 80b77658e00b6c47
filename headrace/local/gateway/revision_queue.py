"""The requests of one revision: who waits, which pod takes the next, how many were in flight on average.

The laptop's activator and queue-proxy in one: `containerConcurrency` is held per pod, requests to a revision without a
ready pod wait, and the wait is bounded. Called by `headrace.local.gateway.gateway`, on the event loop alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventing.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.local.pods.process import Endpoint

QUEUE_PER_SLOT = 10  # queue-proxy's depth: ten waiting for each request a pod may hold
MIN_WAITING = 100  # a pod that takes one at a time still lets a page's or a batch's requests wait
MAX_WAITING = 10_000  # the activator's breaker depth, where no concurrency limit says otherwise


class Unavailable(HeadraceError):
    """No pod takes this request: 503 with the reason. after_s: when another try makes sense."""

    def __init__(self, reason: str, after_s: float) -> None:
        super().__init__(reason)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Traffic:
    """A revision's requests since the last look.

    concurrency: in flight on average over that time, waiting ones included. concurrency_since_first: over the time
    since its first request only, where there was none in flight when it began; what an activator counts. arrived:
    requests that came, requests_per_s: of them per second. in_flight, waiting: now. Each request is counted once.
    """

    concurrency: float
    concurrency_since_first: float
    arrived: int
    requests_per_s: float
    in_flight: int
    waiting: int


NO_TRAFFIC = Traffic(0.0, 0.0, 0, 0.0, 0, 0)


@dataclass(slots=True)
class Activation:
    """One way up from zero, in the queue's seconds; None: not reached yet."""

    wanted: float
    created: float | None = None
    running: float | None = None
    ready: float | None = None

    def phases_ms(self) -> dict[str, float]:
        """Milliseconds of each phase that is over: `schedule` to the pod object, `start` to its process, `ready` to its
        probe.
        """
        phases, last = {}, self.wanted
        for name, at in (("schedule", self.created), ("start", self.running), ("ready", self.ready)):
            if at is not None:
                phases[name] = max(0.0, (at - last) * 1000)
                last = at
        return phases


class RevisionQueue:
    """One revision's pods and waiting requests.

    limit: containerConcurrency, 0 for no limit. clock: monotonic seconds.
    """

    def __init__(self, limit: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.in_flight = 0
        self.activation: Activation | None = None
        self._clock = clock
        self._held: dict[Endpoint, int] = {}
        self._waiting: deque[asyncio.Future[Endpoint]] = deque()
        self._turn = 0
        self._arrived = 0
        self._area = 0.0  # requests x seconds since the last look
        self._changed = self._looked = self._first = clock()

    @property
    def pods(self) -> Collection[Endpoint]:
        return self._held.keys()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def max_waiting(self) -> int:
        if self.limit == 0:
            return MAX_WAITING
        return max(MIN_WAITING, QUEUE_PER_SLOT * self.limit * max(1, len(self._held)))

    def enter(self) -> None:
        """A request arrived; it counts as in flight until `leave`."""
        self._count(1)
        if self._arrived == 0 and self.in_flight == 1 and self._area == 0.0:
            self._first = self._changed
        self._arrived += 1

    def leave(self) -> None:
        self._count(-1)

    async def acquire(self, without: Collection[Endpoint] = ()) -> Endpoint:
        """The least loaded pod with a free slot, waiting in line for one; give it back with `release`.

        without: pods that have just refused this request. Raises Unavailable when the line is full or the revision
        failed.
        """
        if not self._waiting:
            free = self._free(without)
            if free is not None:
                self._held[free] += 1
                return free
        if len(self._waiting) >= self.max_waiting:
            raise Unavailable(
                f"{len(self._waiting)} requests wait already, the most that may "
                f"({len(self._held)} pods ready, containerConcurrency {self.limit or 'unlimited'})",
                after_s=1,
            )
        if not self._held and (self.activation is None or self.activation.ready is not None):
            self.activation = Activation(self._clock())
        turn: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release(turn.result())  # the turn came in the same moment as the cancellation
            raise
        finally:
            if not turn.done() or turn.cancelled():
                with contextlib.suppress(ValueError):  # taken out of the line already
                    self._waiting.remove(turn)

    def release(self, endpoint: Endpoint) -> None:
        """The pod is done with a request; the next in line has it."""
        if endpoint in self._held:
            self._held[endpoint] -= 1
            self._serve_waiting()

    def set_endpoints(self, endpoints: Collection[Endpoint]) -> None:
        """These pods are ready now, and no others. Requests that a leaving pod still holds go on to their end."""
        self._held = {endpoint: self._held.get(endpoint, 0) for endpoint in endpoints}
        if self._held and self.activation is not None and self.activation.ready is None:
            self.activation.ready = self._clock()
        if not self._held and not self._waiting:
            self.activation = None
        self._serve_waiting()

    def fail(self, reason: str) -> None:
        """No pod will come: everybody who waits hears why."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(Unavailable(reason, after_s=5))
        self.activation = None

    def look(self) -> Traffic:
        """The traffic since the last look, which this one becomes."""
        self._count(0)
        now = self._changed
        seconds, since_first = now - self._looked, now - max(self._looked, self._first)
        traffic = Traffic(
            concurrency=self._area / seconds if seconds > 0 else float(self.in_flight),
            concurrency_since_first=self._area / since_first if since_first > 0 else float(self.in_flight),
            arrived=self._arrived,
            requests_per_s=self._arrived / seconds if seconds > 0 else 0.0,
            in_flight=self.in_flight,
            waiting=len(self._waiting),
        )
        self._area, self._arrived, self._looked = 0.0, 0, now
        return traffic

    def _count(self, change: int) -> None:
        now = self._clock()
        self._area += self.in_flight * (now - self._changed)
        self._changed = now
        self.in_flight += change

    def _free(self, without: Collection[Endpoint]) -> Endpoint | None:
        """The least loaded pod below its limit; among equals each in turn."""
        pods = list(self._held)
        best, load = None, 0
        for step in range(len(pods)):
            pod = pods[(self._turn + step) % len(pods)]
            held = self._held[pod]
            if (self.limit and held >= self.limit) or pod in without:
                continue
            if best is None or held < load:
                best, load = pod, held
        self._turn += 1
        return best

    def _serve_waiting(self) -> None:
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            free = self._free(())
            if free is None:
                return
            self._held[free] += 1
            self._waiting.popleft().set_result(free)
