"""Events become objects: what comes together is written together, and acknowledged when it is written.

A bucket is paid by the write, and one takes tens of milliseconds. So a single thread writes: the first event at once,
then after each PAUSE_S one object of each kind with all that came meanwhile, and one in place of each MERGE of its own.
Each delivery waits until its record lies in the store; a process that dies before that acknowledged nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cloudevents.core.v1.event import CloudEvent

from eventing.errors import HeadraceError
from functions.journal import records, shelf
from functions.journal.records import Record
from functions.journal.shelf import Name, Shelf

# Between two writes: 430,000 of them a day at most of each kind, whatever the traffic. No longer, for the Broker of
# in-memory channels answers a sender only when each subscriber has taken the event.
PAUSE_S = 0.2
BATCH = 1000  # records in one object, some megabytes at most
MERGE = 60  # of its own objects become one
MERGE_BYTES = 1024 * 1024
REMEMBERED = 20_000  # events that this process has written, so that a redelivery is not written again
SETTLED = timedelta(minutes=10)  # after its end an hour is merged: no pod writes to it any more
LOOK_BACK = timedelta(hours=24)

log = logging.getLogger(__name__)


@dataclass
class Own:
    """What this process has written of one kind to the present hour and not merged yet."""

    hour: str = ""
    names: list[Name] = field(default_factory=list)
    content: list[Record] = field(default_factory=list)


class Writer:
    """Takes events, from several threads at once. keep: how long an hour of the journal is kept."""

    def __init__(self, kept: Shelf, keep: timedelta, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._shelf = kept
        self._keep = keep
        self._clock = clock
        self._waiting: queue.SimpleQueue[tuple[Record, Future[None]]] = queue.SimpleQueue()
        self._written: OrderedDict[bytes, None] = OrderedDict()
        self._own = {kind: Own() for kind in records.KINDS}
        self._tidied = ""
        threading.Thread(target=self._run, name="journal-write", daemon=True).start()

    def take(self, event: CloudEvent) -> None:
        """Returns when the event lies in the store. Raises RetryLater while it is away."""
        done: Future[None] = Future()
        self._waiting.put((records.record(event, self._clock()), done))
        done.result()

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get())
            try:
                self._write([record for record, _ in batch])
            except Exception as e:  # noqa: BLE001 - each delivery that waits for it gets it
                for _, done in batch:
                    done.set_exception(e)
            else:
                for _, done in batch:
                    done.set_result(None)
            began = time.monotonic()
            self._tidy()
            time.sleep(max(0.0, PAUSE_S - (time.monotonic() - began)))

    def _write(self, batch: list[Record]) -> None:
        new = [record for record in records.merged(batch) if record.key not in self._written]
        hour = shelf.hour_of(self._clock())
        for kind in records.KINDS:
            if of_kind := [record for record in new if record.kind == kind]:
                self._put(kind, hour, of_kind)

    def _put(self, kind: str, hour: str, new: list[Record]) -> None:
        name = self._shelf.put(hour, new)
        for record in new:
            self._written[record.key] = None
        while len(self._written) > REMEMBERED:
            self._written.popitem(last=False)
        if self._own[kind].hour != hour:
            self._own[kind] = Own(hour)  # what is left of the hour before, `_tidy` merges with that of the others
        self._own[kind].names.append(name)
        self._own[kind].content += new

    def _tidy(self) -> None:
        """Merge what is small, and forget what is old; whatever fails is done the next time."""
        now = self._clock()
        try:
            for kind, own in self._own.items():
                if len(own.names) >= MERGE or sum(name.bytes for name in own.names) >= MERGE_BYTES:
                    self._own[kind] = Own()
                    self._shelf.replace(own.hour, own.names, records.merged(own.content))
            present = shelf.hour_of(now - SETTLED)
            if self._tidied != present:
                since = shelf.hour_of(now - LOOK_BACK)
                for hour in self._shelf.hours():
                    if since <= hour < present:
                        self._shelf.merge(hour)
                self._shelf.forget(now - self._keep)
                self._tidied = present
        except HeadraceError as e:
            log.warning("the journal was not tidied: %s", e)
        except Exception:  # deliveries wait for this thread; what is not tidy can still be read
            log.exception("the journal was not tidied")
