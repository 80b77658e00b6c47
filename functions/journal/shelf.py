"""Where the journal lies in the store, and how what lies there becomes less without a record being lost.

    <store>/journal/<hour>/<first>-<last>-<bytes>-<digest>-<kind>.jsonl

An object holds records of one kind, one a line, and never changes; the journal is all of them together, each event
once. So two pods may write at the same time, and an object may be written again by whoever takes the place of one that
died: its name is of its content. Merging writes one object of several and only then removes these; who dies in between
leaves some records twice, which every reader takes for one. An hour is that in which an object was written, so that
whoever follows looks at the newest two alone. One listing and some reads tell an hour: of a thousand small objects no
bucket could be asked in time. Kinds lie apart, so that what a model came of is found among millions of predictions.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count

from eventing.errors import RetryLater
from eventing.files import Files
from functions.journal import records
from functions.journal.records import KINDS, Record

FOLDER = "journal"
HOUR = "%Y-%m-%dT%H"
FULL_BYTES = 4 * 1024 * 1024  # an object of this size is merged no more: what is merged is in memory
READERS = 8  # objects fetched at once; a bucket takes 10 to 50 ms for each

log = logging.getLogger(__name__)


class Merged(RetryLater):
    """An object has gone since it was listed: its records are in another of the same hour."""

    def __init__(self, hour: str) -> None:
        super().__init__(f"the journal's hour {hour} is being merged; ask again")
        self.hour = hour


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """An object of one hour, as its name tells."""

    first: int
    last: int
    """seq of its first and last record."""
    bytes: int
    digest: str
    kind: str

    @classmethod
    def parse(cls, text: str) -> Name | None:
        """None for what is no object of the journal."""
        stem, _, suffix = text.partition(".")
        parts = stem.split("-")
        if suffix != "jsonl" or len(parts) != 5 or parts[4] not in KINDS or not all(p.isdecimal() for p in parts[:3]):
            return None
        return cls(int(parts[0]), int(parts[1]), int(parts[2]), *parts[3:])

    def __str__(self) -> str:
        return f"{self.first}-{self.last}-{self.bytes}-{self.digest}-{self.kind}.jsonl"


Object = tuple[str, Name]
"""An hour and an object of it."""


def hour_of(moment: datetime) -> str:
    """The folder that is written to at a moment."""
    return moment.astimezone(UTC).strftime(HOUR)


def groups(names: Iterable[Name]) -> list[list[Name]]:
    """Which objects are to become one: neighbours in time of one kind, as many as stay within FULL_BYTES."""
    found: list[list[Name]] = []
    size = 0
    for name in sorted((n for n in names if n.bytes < FULL_BYTES), key=lambda n: (n.kind, n)):
        if not found or found[-1][0].kind != name.kind or size + name.bytes > FULL_BYTES:
            found.append([])
            size = 0
        found[-1].append(name)
        size += name.bytes
    return [group for group in found if len(group) > 1]


class Shelf:
    """The objects. May be used from several threads at once. Every call raises RetryLater while the store is away."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def put(self, hour: str, content: Sequence[Record]) -> Name:
        """One object with the records, which must be some, of one kind, in order."""
        body = b"".join(r.line() for r in content)
        digest = hashlib.sha256(body).hexdigest()[:16]
        name = Name(content[0].seq, max(r.seq for r in content), len(body), digest, content[0].kind)
        self._files.write(_path(hour, name), body)
        return name

    def hours(self) -> list[str]:
        """The folders that are there, oldest first."""
        return [child for child in self._files.children(FOLDER) if _moment(child) is not None]

    def names(self, hour: str, kinds: Collection[str] = KINDS) -> list[Name]:
        """The objects of an hour, by their first record."""
        return _names(self._files.children(f"{FOLDER}/{hour}"), kinds)

    def objects(self, kinds: Collection[str] = KINDS) -> list[Object]:
        """The objects of all hours, oldest first: of a bucket one request for each thousand of them."""
        found: dict[str, list[str]] = {}
        for path in self._files.walk(FOLDER):
            hour, _, name = path.removeprefix(f"{FOLDER}/").partition("/")
            found.setdefault(hour, []).append(name)
        return [(h, name) for h in sorted(found) if _moment(h) is not None for name in _names(found[h], kinds)]

    def read(
        self, objects: Sequence[Object], sieves: Collection[Collection[bytes]] = ()
    ) -> Iterator[tuple[str, Record]]:
        """The records of the objects with their hour, hour by hour, each hour's in order; what lies there twice is told
        twice. A few objects are in memory at a time. Raises Merged where one has gone, when the hours before are told.

        objects: as `objects` gives them. sieves: as for `records.parse`.
        """
        waiting: list[tuple[int, bytes, int, Record]] = []
        numbers = count()
        present = ""
        for (hour, name), content in zip(objects, self._contents(objects), strict=True):
            while waiting and (hour != present or waiting[0][0] < name.first):
                yield present, heappop(waiting)[-1]
            present = hour
            if content is None:
                raise Merged(hour)
            for record in records.parse(content, sieves):
                heappush(waiting, (record.seq, record.key, next(numbers), record))
        while waiting:
            yield present, heappop(waiting)[-1]

    def _contents(self, objects: Iterable[Object]) -> Iterator[bytes | None]:
        """What each holds, None for one that has gone; the next few are fetched meanwhile."""
        fetched: deque[Future[bytes | None]] = deque()
        with ThreadPoolExecutor(READERS) as pool:
            for hour, name in objects:
                fetched.append(pool.submit(self._files.read, _path(hour, name)))
                if len(fetched) == READERS:
                    yield fetched.popleft().result()
            while fetched:
                yield fetched.popleft().result()

    def merge(self, hour: str) -> int:
        """Make few objects of many; how many went. Harmless beside others who do the same, and at every line."""
        gone = 0
        for group in groups(self.names(hour)):
            try:
                found = records.merged(record for _, record in self.read([(hour, name) for name in group]))
            except Merged:
                continue  # by another
            gone += self.replace(hour, group, found)
        return gone

    def replace(self, hour: str, names: Iterable[Name], content: Sequence[Record]) -> int:
        """Put one object in place of those that hold the same records; how many went."""
        kept = self.put(hour, content)
        going = [name for name in names if name != kept]
        for name in going:
            self._files.delete(_path(hour, name))
        return len(going)

    def forget(self, before: datetime) -> int:
        """Remove the hours that ended before a moment; how many went."""
        old = [h for h in self.hours() if (m := _moment(h)) is not None and m + timedelta(hours=1) <= before]
        for hour in old:
            self._files.delete(f"{FOLDER}/{hour}")
        return len(old)


def _moment(hour: str) -> datetime | None:
    try:
        return datetime.strptime(hour, HOUR).replace(tzinfo=UTC)
    except ValueError:
        return None


def _names(texts: Iterable[str], kinds: Collection[str]) -> list[Name]:
    found = (Name.parse(text) for text in texts)
    return sorted(name for name in found if name is not None and name.kind in kinds)


def _path(hour: str, name: Name) -> str:
    return f"{FOLDER}/{hour}/{name}"
