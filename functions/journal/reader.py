"""The journal as its readers see it: each event once, in order, and then each as it comes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from functions.journal import records, shelf
from functions.journal.records import Query, Record
from functions.journal.shelf import Name, Shelf

POLL_S = 1.0  # of a follower: two listings each
QUIET_S = 5.0  # without news a follower is told where it stands
FOLLOW_S = 240.0  # a request ends before the revision's timeoutSeconds, and the reader asks again
# Of the time that a record may need from its place to the store: a Broker's retries while a pod starts. A reader that
# asks again begins so far before what it has seen.
OVERLAP_US = 120 * 1_000_000
REMEMBERED = 200_000  # events, so that none is told twice; 30 MB

Look = Callable[[], datetime]


class Seen:
    """The events that a reader has had, the newest of them."""

    def __init__(self) -> None:
        self._keys: OrderedDict[bytes, None] = OrderedDict()

    def add(self, record: Record) -> bool:
        """Whether it is new."""
        key = record.key
        if key in self._keys:
            return False
        self._keys[key] = None
        if len(self._keys) > REMEMBERED:
            self._keys.popitem(last=False)
        return True


def read(kept: Shelf, query: Query) -> Iterator[Record]:
    """The records that are there, oldest first within each hour. Raises RetryLater while the store is away."""
    found: Iterator[Record]
    if query.tail is not None:
        found = iter(_tail(kept, query, query.tail))
    else:
        seen = Seen()
        found = (r for hour in kept.hours() for r in kept.read(hour, query.after) if query.wants(r) and seen.add(r))
    for number, record in enumerate(found):
        if query.limit is not None and number >= query.limit:
            return
        yield record


def follow(
    kept: Shelf, query: Query, stop: threading.Event, now: Look = lambda: datetime.now(UTC)
) -> Iterator[Record | int]:
    """What is there, then each as it comes; between them, an int: the `after` with which a reader may go on.

    Ends after FOLLOW_S, or when `stop` is set, with such an int.
    """
    ends, spoken = time.monotonic() + FOLLOW_S, time.monotonic()
    seen, known = Seen(), set[tuple[str, Name]]()
    if query.tail is not None:
        tail = _tail(kept, query, query.tail)
        query = replace(query, tail=None, after=tail[0].seq - 1 if tail else query.after)
    newest = query.after
    # Before anything is read: what is written meanwhile lies in these hours, and they are looked at again.
    since, unread = _recent(now()), set(kept.hours())
    for hour in sorted(h for h in unread if h < since):
        for record in kept.read(hour, query.after):
            if query.wants(record) and seen.add(record):
                newest = max(newest, record.seq)
                yield record
    while not stop.is_set() and time.monotonic() < ends:
        for hour in (h for h in kept.hours() if h >= since):
            names = [n for n in kept.names(hour) if (hour, n) not in known]
            found = kept.get(hour, names)
            if found is None:
                continue  # merged meanwhile: the next look finds the records in another object
            known.update((hour, n) for n in names)
            for record in records.merged(found):
                # What was there is asked for by its place; what comes is news, however late it is.
                wanted = query.wants(record) if hour in unread else query.agrees(record)
                if seen.add(record) and wanted:
                    newest, spoken = max(newest, record.seq), time.monotonic()
                    yield record
            unread.discard(hour)
        since = max(since, _recent(now()))
        known = {(hour, n) for hour, n in known if hour >= since}
        if time.monotonic() - spoken > QUIET_S:
            spoken = time.monotonic()
            yield _again(newest)
        stop.wait(POLL_S)
    yield _again(newest)


def _recent(now: datetime) -> str:
    """The first of the hours that may still be written to."""
    return shelf.hour_of(now - timedelta(hours=1))


def _tail(kept: Shelf, query: Query, count: int) -> list[Record]:
    """The newest `count` records that are wanted, in order: read from the last hour backwards."""
    found: deque[Record] = deque()
    for hour in reversed(kept.hours()):
        if len(found) >= count:
            break
        found.extendleft(reversed([r for r in kept.read(hour, query.after) if query.wants(r)]))
    return records.merged(found)[-count:] if count else []


def _again(newest: int) -> int:
    return max(newest - OVERLAP_US, 0)
