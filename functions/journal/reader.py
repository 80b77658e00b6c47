"""The journal as its readers see it: each event once, in order, and then each as it comes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from functions.journal import records, shelf
from functions.journal.records import Query, Record
from functions.journal.shelf import Merged, Object, Shelf

POLL_S = 1.0  # of a follower: two listings each
QUIET_S = 5.0  # without news a follower is told where it stands
FOLLOW_S = 240.0  # a request ends before the revision's timeoutSeconds, and the reader asks again
# Of the time that a record may need from its place to the store: a Broker's retries while a pod starts. A reader that
# asks again begins so far before what it has seen.
OVERLAP_US = 120 * 1_000_000
LOOKS = 5  # at an hour whose objects are being merged while it is read
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
    found = iter(_tail(kept, query, query.tail)) if query.tail is not None else _wanted(kept, query, Seen())
    return islice(found, query.limit)


def follow(
    kept: Shelf, query: Query, stop: threading.Event, now: Look = lambda: datetime.now(UTC)
) -> Iterator[Record | int]:
    """What is there, then each as it comes; between them, an int: the `after` with which a reader may go on.

    Ends after FOLLOW_S, or when `stop` is set, with such an int.
    """
    ends, spoken = time.monotonic() + FOLLOW_S, time.monotonic()
    seen, known = Seen(), set[Object]()
    if query.tail is not None:
        tail = _tail(kept, query, query.tail)
        query = replace(query, tail=None, after=tail[0].seq - 1 if tail else query.after)
    newest = query.after
    # Before anything is read: what is written meanwhile lies in these hours, and they are looked at again.
    since, unread = _recent(now()), set(kept.hours())
    for record in _wanted(kept, query, seen, before=since):
        newest = max(newest, record.seq)
        yield record
    while not stop.is_set() and time.monotonic() < ends:
        for hour in (h for h in kept.hours() if h >= since):
            objects = [(hour, name) for name in kept.names(hour, query.kinds) if (hour, name) not in known]
            try:
                for _, record in kept.read(objects, query.sieves):
                    # What was there is asked for by its place; what comes is news, however late it is.
                    wanted = query.wants(record) if hour in unread else query.agrees(record)
                    if seen.add(record) and wanted:
                        newest, spoken = max(newest, record.seq), time.monotonic()
                        yield record
            except Merged:
                continue  # the next look finds the records in another object
            known.update(objects)
            unread.discard(hour)
        since = max(since, _recent(now()))
        known = {(hour, name) for hour, name in known if hour >= since}
        if time.monotonic() - spoken > QUIET_S:
            spoken = time.monotonic()
            yield _again(newest)
        stop.wait(POLL_S)
    yield _again(newest)


def _wanted(kept: Shelf, query: Query, seen: Seen, before: str | None = None) -> Iterator[Record]:
    """The records that are wanted and new, oldest first within each hour. before: an hour that is not read."""
    since, looks = "", 0
    told = ("", 0, b"")  # up to here, also where an hour of more than is remembered is read again
    while True:
        objects = [
            (hour, name)
            for hour, name in kept.objects(query.kinds)
            if since <= hour and (before is None or hour < before) and name.last > query.after
        ]
        try:
            for hour, record in kept.read(objects, query.sieves):
                if (place := (hour, record.seq, record.key)) <= told:
                    continue
                told = place
                if query.wants(record) and seen.add(record):
                    yield record
            return
        except Merged as e:
            looks = looks + 1 if e.hour == since else 1
            since = e.hour
            if looks == LOOKS:
                raise


def _tail(kept: Shelf, query: Query, number: int) -> list[Record]:
    """The newest records that are wanted, in order."""
    for _ in range(LOOKS - 1):
        with suppress(Merged):
            return _newest(kept, query, number)
    return _newest(kept, query, number)


def _newest(kept: Shelf, query: Query, number: int) -> list[Record]:
    """The same, read once from the last hour backwards, from its newest object on. Raises Merged."""
    found: list[Record] = []
    present = ""
    for hour, name in sorted(kept.objects(query.kinds), key=lambda o: (o[0], o[1].last), reverse=True):
        if name.last <= query.after:
            continue
        if len(found) >= number and (hour != present or name.last < found[0].seq):
            break
        present = hour
        more = (r for _, r in kept.read([(hour, name)], query.sieves) if query.wants(r))
        found = records.merged([*found, *more])[-number:]
    return found


def _recent(now: datetime) -> str:
    """The first of the hours that may still be written to."""
    return shelf.hour_of(now - timedelta(hours=1))


def _again(newest: int) -> int:
    return max(newest - OVERLAP_US, 0)
