"""What the journal keeps of an event, how records of several objects become one row, and what a reader asks for. Pure.

A record is known by the event's source and id: told twice is one fact, whoever delivered it again and however often it
was written. Its place, `seq`, is the microsecond in which the Broker took the event, so that a redelivery finds the
same place; where a Broker does not say it, the one in which it was first delivered here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from cloudevents.core.v1.event import CloudEvent

from eventing.errors import Rejected
from functions.dead_letters import letter_of

ARRIVED = "knativearrivaltime"  # Source: knative/eventing pkg/broker/metrics.go, EventArrivalTime
KEY_BYTES = 16
# By how much a Broker's clock may be ahead of ours. What came before 1970 has no name in the store (see `shelf.Name`);
# of what comes later than this, all that comes in between would lie before it, and a reader sees what is after.
AHEAD = timedelta(minutes=1)
EPOCH = datetime.fromtimestamp(0, UTC)
NUMBERS = ("after", "tail", "limit")
TEXTS = ("id", "type", "subject", "causationid")


@dataclass(frozen=True, slots=True)
class Record:
    """One event in the journal."""

    seq: int
    """Microseconds since the epoch."""
    event: Mapping[str, Any]
    """The CloudEvent in the JSON format."""
    key: bytes = field(init=False, compare=False, repr=False)
    """Who the event is, in few bytes: readers remember many."""

    def __post_init__(self) -> None:
        name = f"{self.event['source']}\0{self.event['id']}"
        object.__setattr__(self, "key", hashlib.sha256(name.encode()).digest()[:KEY_BYTES])

    def line(self) -> bytes:
        """As it lies in the store, with its line's end."""
        return orjson.dumps({"seq": self.seq, "event": self.event}) + b"\n"

    def told(self) -> bytes:
        """As a reader gets it. What became of its deliveries no Broker of a cluster tells."""
        received = datetime.fromtimestamp(self.seq / 1e6, UTC).isoformat(timespec="microseconds")
        return orjson.dumps({"seq": self.seq, "received": received, "event": self.event, "deliveries": []}) + b"\n"


def record(event: CloudEvent, now: datetime) -> Record:
    """The record of an event that was delivered at `now`, in UTC."""
    arrived = event.get_extension(ARRIVED)
    taken = now
    if isinstance(arrived, str):
        try:
            said = datetime.fromisoformat(arrived)
            if said.tzinfo is not None and EPOCH <= said <= now + AHEAD:
                taken = said
        except ValueError:
            pass  # anybody may send an attribute of that name
    return Record(round(taken.timestamp() * 1e6), letter_of(event))


def parse(content: bytes) -> Iterator[Record]:
    """The records of one object. Raises Rejected where it is none of the journal's."""
    try:
        for line in content.splitlines():
            value = orjson.loads(line)
            yield Record(int(value["seq"]), value["event"])
    except (ValueError, KeyError, TypeError) as e:
        raise Rejected(f"an object of the journal is broken: {e}") from e


def merged(records: Iterable[Record]) -> list[Record]:
    """The same events, each once, the first that was seen of it, in order."""
    first: dict[bytes, Record] = {}
    for each in records:
        known = first.get(each.key)
        if known is None or each.seq < known.seq:
            first[each.key] = each
    return sorted(first.values(), key=lambda r: (r.seq, r.key))


@dataclass(frozen=True, slots=True)
class Query:
    """What a reader wants: records after `after` that agree with all that is not None; of these the newest `tail`."""

    after: int = 0
    tail: int | None = None
    limit: int | None = None
    id: str | None = None
    type: str | None = None
    subject: str | None = None
    causationid: str | None = None
    follow: bool = False
    """And then each as it comes."""

    @classmethod
    def parse(cls, wanted: Mapping[str, str]) -> Query:
        """Of a URL's query. Raises Rejected naming every fault."""
        known = (*NUMBERS, *TEXTS, "follow")
        faults = [f"{key} is not known; expected {', '.join(known)}" for key in wanted if key not in known]
        values: dict[str, Any] = {key: wanted[key] for key in TEXTS if key in wanted}
        for key in NUMBERS:
            if key in wanted and not (wanted[key].isascii() and wanted[key].isdecimal()):
                faults.append(f"{key} is {wanted[key]!r:.60}; expected a whole number")
            elif key in wanted:
                values[key] = int(wanted[key])
        if wanted.get("follow", "false") not in ("true", "false"):
            faults.append(f"follow is {wanted['follow']!r:.60}; expected true or false")
        if faults:
            raise Rejected("the journal cannot be asked so", faults)
        return cls(**values, follow=wanted.get("follow") == "true")

    def wants(self, record: Record) -> bool:
        """Whether the record is one of those, but for their number."""
        return record.seq > self.after and self.agrees(record)

    def agrees(self, record: Record) -> bool:
        """The same, wherever its place is."""
        pairs = ((key, getattr(self, key)) for key in TEXTS)
        return all(value is None or record.event.get(key) == value for key, value in pairs)
