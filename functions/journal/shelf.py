"""Where the journal lies in the store, and how what lies there becomes less without a record being lost.

    <store>/journal/<hour>/<first>-<last>-<bytes>-<digest>.jsonl

An object holds records, one a line, and never changes; the journal is all of them together, each event once. So two
pods may write at the same time, and an object may be written again by whoever takes the place of one that died: its
name is of its content. Merging writes one object of several and only then removes these; who dies in between leaves
some records twice, which every reader takes for one. An hour is that in which an object was written, so that whoever
follows looks at the newest two alone. One listing and some reads tell an hour: of a thousand small objects no bucket
could be asked in time.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from eventing.errors import RetryLater
from eventing.files import Files
from functions.journal import records
from functions.journal.records import Record

FOLDER = "journal"
HOUR = "%Y-%m-%dT%H"
FULL_BYTES = 4 * 1024 * 1024  # an object of this size is merged no more: what is merged is in memory
READERS = 8  # objects fetched at once; a bucket takes 10 to 50 ms for each
LOOKS = 5  # at an hour whose objects are being merged while it is read

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """An object of one hour, as its name tells."""

    first: int
    last: int
    """seq of its first and last record."""
    bytes: int
    digest: str

    @classmethod
    def parse(cls, text: str) -> Name | None:
        """None for what is no object of the journal."""
        stem, _, suffix = text.partition(".")
        parts = stem.split("-")
        if suffix != "jsonl" or len(parts) != 4 or not all(p.isdecimal() for p in parts[:3]):
            return None
        return cls(int(parts[0]), int(parts[1]), int(parts[2]), parts[3])

    def __str__(self) -> str:
        return f"{self.first}-{self.last}-{self.bytes}-{self.digest}.jsonl"


def hour_of(moment: datetime) -> str:
    """The folder that is written to at a moment."""
    return moment.astimezone(UTC).strftime(HOUR)


def groups(names: Iterable[Name]) -> list[list[Name]]:
    """Which objects are to become one: neighbours in time, as many as stay within FULL_BYTES."""
    found: list[list[Name]] = []
    size = 0
    for name in sorted(n for n in names if n.bytes < FULL_BYTES):
        if not found or size + name.bytes > FULL_BYTES:
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
        """One object with the records, which must be some, in order."""
        body = b"".join(r.line() for r in content)
        digest = hashlib.sha256(body).hexdigest()[:16]
        name = Name(content[0].seq, max(r.seq for r in content), len(body), digest)
        self._files.write(_path(hour, name), body)
        return name

    def hours(self) -> list[str]:
        """The folders that are there, oldest first."""
        return [child for child in self._files.children(FOLDER) if _moment(child) is not None]

    def names(self, hour: str) -> list[Name]:
        """The objects of an hour, by their first record."""
        found = (Name.parse(child) for child in self._files.children(f"{FOLDER}/{hour}"))
        return sorted(name for name in found if name is not None)

    def get(self, hour: str, names: Sequence[Name]) -> list[Record] | None:
        """The records of the objects, in no order; None where one has gone, because it was merged meanwhile."""
        with ThreadPoolExecutor(READERS) as pool:
            contents = list(pool.map(lambda name: self._files.read(_path(hour, name)), names))
        if any(content is None for content in contents):
            return None
        return [record for content in contents if content is not None for record in records.parse(content)]

    def read(self, hour: str, after: int = 0) -> list[Record]:
        """What was written in an hour, each event once, in order; objects that end before `after` are left alone."""
        for _ in range(LOOKS):
            found = self.get(hour, [name for name in self.names(hour) if name.last > after])
            if found is not None:
                return records.merged(found)
        raise RetryLater(f"the journal's hour {hour} is being merged; ask again")

    def merge(self, hour: str) -> int:
        """Make few objects of many; how many went. Harmless beside others who do the same, and at every line."""
        gone = 0
        for group in groups(self.names(hour)):
            found = self.get(hour, group)
            if found is not None:
                gone += self.replace(hour, group, records.merged(found))
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


def _path(hour: str, name: Name) -> str:
    return f"{FOLDER}/{hour}/{name}"
