"""What the journal keeps of an event, how records of several objects become one row, and what a reader asks for. Pure.

A record is of the loop or of its traffic: the loop's own events are few, and never lie among predictions (`shelf`).

A record is known by the event's source and id: told twice is one fact, whoever delivered it again and however often it
was written. Its place, `seq`, is the microsecond in which the Broker took the event, so that a redelivery finds the
same place; where a Broker does not say it, the one in which it was first delivered here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from cloudevents.core.v1.event import CloudEvent

from eventing import contract
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
FLAGS = {"true": True, "false": False}
LOOP, TRAFFIC = "loop", "traffic"
KINDS = (LOOP, TRAFFIC)


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

    @property
    def kind(self) -> str:
        """LOOP or TRAFFIC, whose are predictions and other people's events."""
        return LOOP if self.event.get("type") in contract.LOOP else TRAFFIC

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


def parse(content: bytes, sieves: Collection[Collection[bytes]] = ()) -> Iterator[Record]:
    """The records of one object. Raises Rejected where it is none of the journal's.

    sieves: of a line without a text of each of them nothing is made, which costs a hundredth.
    """
    try:
        for line in content.splitlines():
            if not all(any(text in line for text in sieve) for sieve in sieves):
                continue
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
    id: frozenset[str] | None = None
    """One of these; so the next three."""
    type: frozenset[str] | None = None
    subject: frozenset[str] | None = None
    causationid: frozenset[str] | None = None
    loop: bool | None = None
    """The loop's own events alone, or all but these."""
    follow: bool = False
    """And then each as it comes."""

    @classmethod
    def parse(cls, wanted: Iterable[tuple[str, str]]) -> Query:
        """Of the pairs of a URL's query: of a text there may be several. Raises Rejected naming every fault."""
        known = (*NUMBERS, *TEXTS, "loop", "follow")
        faults: list[str] = []
        values: dict[str, Any] = {}
        for key, text in wanted:
            if key in TEXTS:
                values[key] = values.get(key, frozenset()) | {text}
            elif key in NUMBERS and text.isascii() and text.isdecimal():
                values[key] = int(text)
            elif key in NUMBERS:
                faults.append(f"{key} is {text!r:.60}; expected a whole number")
            elif key in known and text in FLAGS:
                values[key] = FLAGS[text]
            elif key in known:
                faults.append(f"{key} is {text!r:.60}; expected true or false")
            else:
                faults.append(f"{key} is not known; expected {', '.join(known)}")
        if faults:
            raise Rejected("the journal cannot be asked so", faults)
        return cls(**values)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those that may hold what is wanted."""
        loops = {True, False} if self.loop is None else {self.loop}
        if self.type is not None:
            loops &= {type in contract.LOOP for type in self.type}
        return tuple(kind for kind in KINDS if (kind == LOOP) in loops)

    @property
    def sieves(self) -> tuple[tuple[bytes, ...], ...]:
        """For `parse`: what stands in every line that is wanted, as `Record.line` writes it."""
        asked = (getattr(self, key) for key in TEXTS)
        return tuple(tuple(orjson.dumps(text) for text in texts) for texts in asked if texts is not None)

    def wants(self, record: Record) -> bool:
        """Whether the record is one of those, but for their number."""
        return record.seq > self.after and self.agrees(record)

    def agrees(self, record: Record) -> bool:
        """The same, wherever its place is."""
        asked = ((key, getattr(self, key)) for key in TEXTS)
        found = all(texts is None or record.event.get(key) in texts for key, texts in asked)
        return found and self.loop in (None, record.kind == LOOP)
