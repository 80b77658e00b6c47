"""Requests that come at the same time, answered by one run of the model: adaptive batching, without a timer.

Who finds the model idle runs at once, alone: no request waits for another that may never come. While a run goes on the
others queue; when it ends, the oldest of them leads the next run, with all that fit. So batches are as large as the
load makes them, and a lone client sees none of it. `batching` decides which models this pays for.

Why nobody is forgotten. One lock guards the free slots, the queue, and of each call `leads`, `others` and `gone`.
1. A call is queued only while no slot is free, and every slot that is not free belongs to one call, which `leads`.
2. That call gives it up in `_pass_on`, which it reaches whether its run ends or fails, and which makes the oldest call
   that waits the slot's owner or, where none waits, counts the slot as free. So while somebody waits, some thread owns
   a slot and will pass it on. `_pass_on` allocates nothing that it could not do without: it does not fail.
3. A call that waits is in the queue or among the `others` of one leader, never both. It is woken once: with its answer,
   to lead, or because its client has gone. A leader that fails passes its slot to the first of its others, with the
   rest of them.
4. The event is a plain lock, held from the call's birth: waking releases it, so a wake before the wait is not lost.
Signals raise in the main thread alone, which takes no requests: one that waits there leaves nobody behind, one that
leads might, in the few lines between two of these steps.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from eventing.errors import RetryLater
from functions.predictor.admission import Gone

if TYPE_CHECKING:
    from functions.predictor.query import Query
    from functions.tensors import Array

Outputs = dict[str, "Array"]
Run = Callable[[Mapping[str, "Array"], Sequence[str] | None], Outputs]
"""`Model.infer`: inputs by name, outputs asked for or None for all."""

MAX_ROWS = 64
"""Of one joint run. Of a network of 9 MFLOP per row 8 rows take 2.4 times as long as one, 16 take 4, 64 take 17: beyond
some 16 a row gets no cheaper, and everybody waits for all. 32 requests in hand make runs of 16."""
MAX_BYTES = 8 * 1024 * 1024
"""Of the inputs of one joint run, which are copied into one: a few milliseconds at most."""
MAX_WAITING = 1000
RETRY_S = 1.0  # what a client is told to wait where too many do

log = logging.getLogger(__name__)


class _Call:
    """One request, from its arrival to its answer."""

    __slots__ = ("apart", "event", "gone", "kind", "leads", "others", "outputs", "query", "ran", "unwanted", "wanted")

    def __init__(self, query: Query, wanted: Callable[[], bool] | None) -> None:
        self.query = query
        self.wanted = wanted
        self.unwanted = False  # its client had gone when its turn came
        self.kind = _kind(query)
        self.event = threading.Lock()
        self.event.acquire()
        self.outputs: Outputs = {}
        self.ran = 0.0  # when the run that answered it began
        self.leads = False  # owns a slot
        self.others: list[_Call] = []  # who waits for this one's run
        self.apart = False  # runs without its others: the joint run failed
        self.gone = False  # nobody waits for it any more


class Batcher:
    """One model's requests, batched. Any thread may call `infer`.

    run: answers any number of rows, each independently of the others. max_rows, max_bytes: of one joint run; a request
    that alone has more runs alone. slots: how many runs at once; one core is one slot. max_waiting: how many requests
    may queue. on_run: told of each run, with its rows and the seconds that it took to join them, to run the model and
    to divide the answer; must neither block nor raise.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_rows: int = MAX_ROWS,
        max_bytes: int = MAX_BYTES,
        slots: int = 1,
        max_waiting: int = MAX_WAITING,
        on_run: Callable[[int, float, float, float], object] | None = None,
    ) -> None:
        self._run = run
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._max_waiting = max_waiting
        self.on_run = on_run
        self._lock = threading.Lock()
        self._free = slots
        self._waiting: deque[_Call] = deque()

    @property
    def waiting(self) -> int:
        """Requests that queue now."""
        return len(self._waiting)

    def infer(
        self, query: Query, deadline: float | None = None, wanted: Callable[[], bool] | None = None
    ) -> tuple[Outputs, float]:
        """The answer to `query`, and the seconds that it waited for its run.

        The arrays may be parts of a joint answer, which lives as long as one of them: copy what is kept.
        deadline: `time.monotonic()` by which its run must have begun. wanted: whether somebody still waits for the
        answer, asked when its turn comes, by any thread; must not raise. Raises RetryLater when too many wait or the
        deadline passes, Gone when nobody waits any more, else whatever `run` raises for this query alone.
        """
        came = time.monotonic()
        call = _Call(query, wanted)
        try:
            with self._lock:
                if self._free > 0:
                    self._free -= 1
                    call.leads = True
                elif len(self._waiting) < self._max_waiting:
                    self._waiting.append(call)
                else:
                    raise RetryLater(f"{len(self._waiting)} requests wait for the model already", RETRY_S)
            if not call.leads:
                self._wait(call, deadline)
                if call.unwanted or (call.leads and not _wanted(call)):
                    raise Gone
            if call.leads:
                self._lead(call)
        except BaseException:
            self._leave(call)
            raise
        return call.outputs, max(0.0, call.ran - came)

    def _wait(self, call: _Call, deadline: float | None) -> None:
        """Wait for the answer, or for the turn to lead. Raises RetryLater at the deadline."""
        if deadline is None:
            call.event.acquire()
        elif not call.event.acquire(timeout=max(0.0, deadline - time.monotonic())):
            with self._lock:
                if call in self._waiting:
                    raise RetryLater("the request waited too long for the model", RETRY_S)
            call.event.acquire()  # it runs already, or is about to: its answer is had soon

    def _lead(self, call: _Call) -> None:
        """Run, for itself and its others; then the slot is the next one's. Raises what its own query raises."""
        if call.others and not call.apart:
            self._let_go(call)
            try:
                self._run_jointly([call, *call.others])
            except Exception:
                # One of them, or their sum, is at fault: each runs alone, in its own thread, and gets its own error.
                log.debug("a run of %d requests failed; each runs alone", len(call.others) + 1, exc_info=True)
                call.apart = True
            else:
                answered, call.others = call.others, []
                self._pass_on(call)  # first: the next run begins while these are answered
                for other in answered:
                    other.event.release()
                return
        call.ran = time.monotonic()
        call.outputs = self._run(call.query.inputs, call.query.outputs)
        self._tell(call.query.rows, call.ran, call.ran, time.monotonic())
        self._pass_on(call)

    def _let_go(self, leader: _Call) -> None:
        """Wake those of the leader's others whose clients have gone: they run with nobody."""
        kept = []
        for other in leader.others:
            if _wanted(other):
                kept.append(other)
            else:
                other.unwanted = True
                other.event.release()
        leader.others = kept

    def _leave(self, call: _Call) -> None:
        """End a call that has failed: nobody goes on waiting for it."""
        with self._lock:
            call.gone = True
            if call in self._waiting:
                self._waiting.remove(call)
        self._pass_on(call)

    def _run_jointly(self, calls: Sequence[_Call]) -> None:
        """One run for all: everybody's outputs are set, or an error is raised and nobody's is of use."""
        queries = [call.query for call in calls]
        began = time.monotonic()
        inputs = {name: np.concatenate([q.inputs[name] for q in queries]) for name in queries[0].inputs}
        wanted: Sequence[str] | None = None
        if all(q.outputs is not None for q in queries):
            wanted = list(dict.fromkeys(name for q in queries for name in q.outputs or ()))
        joined = time.monotonic()
        answers = self._run(inputs, wanted)
        ran = time.monotonic()
        rows = sum(q.rows for q in queries)
        for name, answer in answers.items():
            if answer.ndim == 0 or len(answer) != rows:
                raise ValueError(f"output {name!r} has shape {list(answer.shape)} for {rows} rows")
        start = 0
        for call, query in zip(calls, queries, strict=True):
            end = start + query.rows
            names = answers if query.outputs is None else query.outputs
            call.outputs = {name: answers[name][start:end] for name in names}
            call.ran = began
            start = end
        self._tell(rows, began, joined, ran)

    def _pass_on(self, call: _Call) -> None:
        """Give the slot of `call`, if it has one, to the first of its others, else to the oldest that waits."""
        with self._lock:
            if not call.leads:
                return
            call.leads = False
            heir, rest = None, call.others
            while rest and heir is None:
                first = rest.pop(0)
                heir = None if first.gone else first
            if heir is not None:
                heir.others, heir.apart = rest, call.apart
            elif self._waiting:
                heir = self._waiting.popleft()
                with suppress(MemoryError):  # alone, then: less memory, and an error that is its own
                    heir.others = self._companions(heir)
            else:
                self._free += 1
                return
            heir.leads = True
        heir.event.release()

    def _companions(self, leader: _Call) -> list[_Call]:
        """Who runs together with `leader`, oldest first, taken out of the queue. The lock is held.

        Who does not fit is passed over, not forgotten: it leads as soon as it is the oldest.
        """
        rows, size = self._max_rows - leader.query.rows, self._max_bytes - _bytes(leader.query)
        if leader.kind is None or rows < 1 or not self._waiting:
            return []
        companions, left = [], deque[_Call]()
        for call in self._waiting:
            if call.kind == leader.kind and call.query.rows <= rows and (call_bytes := _bytes(call.query)) <= size:
                companions.append(call)
                rows -= call.query.rows
                size -= call_bytes
            else:
                left.append(call)
        self._waiting = left
        return companions

    def _tell(self, rows: int, began: float, joined: float, ran: float) -> None:
        if self.on_run is not None:
            self.on_run(rows, joined - began, ran - joined, time.monotonic() - ran)


def _wanted(call: _Call) -> bool:
    return call.wanted is None or call.wanted()


def _kind(query: Query) -> tuple[object, ...] | None:
    """What queries must have in common to run together; None for one that always runs alone."""
    kind = []
    for name, values in query.inputs.items():
        if values.ndim == 0 or len(values) != query.rows:
            return None
        kind.append((name, values.dtype, values.shape[1:]))
    # Of no rows, and for no outputs, there is nothing to share; its error, if it is one, is its own.
    return tuple(kind) if query.rows > 0 and kind and (query.outputs is None or query.outputs) else None


def _bytes(query: Query) -> int:
    return sum(values.nbytes for values in query.inputs.values())
