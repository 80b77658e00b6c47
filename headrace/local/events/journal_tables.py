"""The journal's tables: what is kept of an event and of its deliveries, and every SQL statement over it.

`headrace.local.events.journal` runs these functions, on its writer's thread inside a transaction, or on its reader's.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from eventing import contract
from eventing.errors import HeadraceError
from headrace.local.events.stored_event import StoredEvent

PENDING, DELIVERED, DEAD_LETTERED, DROPPED = "pending", "delivered", "dead-lettered", "dropped"
TOO_BIG_BATCH = 100  # events forgotten before the file is measured again
PRUNE_BATCH = 2000  # events forgotten in one transaction: some 20 ms, during which writers wait

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, broker TEXT NOT NULL, received REAL NOT NULL,
    ttl INTEGER NOT NULL, id TEXT NOT NULL, type TEXT NOT NULL, subject TEXT, causationid TEXT,
    attributes BLOB NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS events_id ON events(id);
CREATE INDEX IF NOT EXISTS events_type ON events(type);
CREATE INDEX IF NOT EXISTS events_subject ON events(subject) WHERE subject IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_causationid ON events(causationid) WHERE causationid IS NOT NULL;
CREATE TABLE IF NOT EXISTS deliveries (
    event INTEGER NOT NULL, trigger_uid TEXT NOT NULL, trigger_name TEXT NOT NULL, state TEXT NOT NULL,
    to_dead_letter INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0,
    code INTEGER, reason TEXT NOT NULL DEFAULT '', destination TEXT NOT NULL DEFAULT '', body BLOB, updated REAL,
    PRIMARY KEY (event, trigger_uid)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deliveries_pending ON deliveries(trigger_uid) WHERE state = 'pending';
"""
_LOOP = "type IN ({})".format(", ".join(f"'{type}'" for type in sorted(contract.LOOP)))
_FILTERS = ("id", "type", "subject", "causationid")


class JournalFull(HeadraceError):
    """Events that are not delivered yet fill the file; nothing new is taken until some are."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is remembered of what is delivered."""

    events: int = 100_000
    """A month of one event every 26 s: of those of data, trainings, models and drifts so many, and of all others."""
    bytes: int = 256 * 1024 * 1024
    """The file without its free pages."""
    age_s: float = 30 * 86_400.0
    pending_bytes: int = 1024 * 1024 * 1024
    """The file's end: beyond it new events are refused. Replies are not, for they let deliveries end."""


@dataclass(frozen=True, slots=True)
class Pending:
    """One delivery that has to be made.

    attempts: made at the present destination. due: seconds since the epoch. code, destination, body: of the failure
    that led to the dead letter sink. event: None where it must be read from the journal.
    """

    seq: int
    trigger_uid: str
    to_dead_letter: bool = False
    attempts: int = 0
    due: float = 0.0
    code: int = 0
    destination: str = ""
    body: bytes = b""
    event: Taken | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """An event as a Broker took it.

    received: seconds since the epoch. ttl: how many more times a reply may follow on a reply. deliveries: uid and name
    of the Triggers that want it.
    """

    namespace: str
    broker: str
    event: StoredEvent
    received: float
    ttl: int
    deliveries: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt changes: the delivery as it stands after it. `state` is one of the four above."""

    state: str
    attempts: int
    now: float
    code: int
    reason: str = ""
    due: float = 0.0
    to_dead_letter: bool = False
    destination: str = ""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Query:
    """What a reader wants: events of one Broker after `after`, oldest first, that agree with all that is not None."""

    namespace: str
    broker: str
    after: int = 0
    limit: int = 500
    id: tuple[str, ...] | None = None
    """One of these; so the next three."""
    type: tuple[str, ...] | None = None
    subject: tuple[str, ...] | None = None
    causationid: tuple[str, ...] | None = None
    loop: bool | None = None
    """The loop's own events alone, or all but these."""
    tail: int | None = None
    """Of these the newest so many, and then what follows them."""

    def page(self, size: int) -> Query:
        """The same, at most `size` events of it."""
        return replace(self, limit=size)

    def from_after(self, seq: int) -> Query:
        """What is left to read once `seq` has been."""
        return replace(self, after=seq, tail=None)


def open_for_writing(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    db.execute("PRAGMA auto_vacuum=INCREMENTAL")  # before the first table, or never
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")  # WAL's default would acknowledge what a power failure takes back
    db.execute("PRAGMA journal_size_limit=16777216")
    db.executescript(_SCHEMA)
    return db


def open_for_reading(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    db.execute("PRAGMA query_only=TRUE")
    return db


def insert(db: sqlite3.Connection, taken: Taken) -> int:
    event = taken.event
    seq = db.execute(
        "INSERT INTO events (namespace, broker, received, ttl, id, type, subject, causationid, attributes, data)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(taken.namespace, taken.broker, taken.received, taken.ttl, event.id, event.type),
            *(event.optional("subject"), event.optional("causationid"), orjson.dumps(event.attributes), event.data),
        ),
    ).lastrowid
    assert seq is not None  # INSERT gives one
    db.executemany(
        "INSERT INTO deliveries (event, trigger_uid, trigger_name, state) VALUES (?, ?, ?, 'pending')",
        [(seq, uid, name) for uid, name in taken.deliveries],
    )
    return seq


def update(db: sqlite3.Connection, pending: Pending, attempt: Attempt) -> bool:
    """Note an attempt's end; False for a delivery that is not pending any more."""
    changed = db.execute(
        "UPDATE deliveries SET state=?, to_dead_letter=?, attempts=?, due=?, code=?, reason=?, destination=?, body=?,"
        " updated=? WHERE event=? AND trigger_uid=? AND state='pending'",
        (
            *(attempt.state, attempt.to_dead_letter, attempt.attempts, attempt.due, attempt.code, attempt.reason),
            *(attempt.destination, attempt.body, attempt.now, pending.seq, pending.trigger_uid),
        ),
    ).rowcount
    return changed > 0


def drop(db: sqlite3.Connection, trigger_uid: str, reason: str, now: float) -> int:
    return db.execute(
        "UPDATE deliveries SET state='dropped', reason=?, updated=? WHERE trigger_uid=? AND state='pending'",
        (reason, now, trigger_uid),
    ).rowcount


def pending(db: sqlite3.Connection) -> list[Pending]:
    rows = db.execute(
        "SELECT event, trigger_uid, to_dead_letter, attempts, due, code, destination, body FROM deliveries"
        " WHERE state='pending' ORDER BY event"
    )
    return [Pending(r[0], r[1], bool(r[2]), r[3], r[4], r[5] or 0, r[6], r[7] or b"") for r in rows]


def event(db: sqlite3.Connection, seq: int) -> Taken:
    row = db.execute(
        "SELECT namespace, broker, received, ttl, attributes, data FROM events WHERE seq=?", (seq,)
    ).fetchone()
    if row is None:
        raise KeyError(seq)
    return Taken(row[0], row[1], StoredEvent(orjson.loads(row[4]), row[5]), row[2], row[3])


def entries(db: sqlite3.Connection, query: Query) -> list[dict[str, Any]]:
    query = from_tail(db, query)
    where, values = _where(query)
    rows = db.execute(
        f"SELECT seq, received, attributes, data {where} ORDER BY seq LIMIT ?", (*values, query.limit)
    ).fetchall()
    return [
        {
            "seq": seq,
            "received": datetime.fromtimestamp(received, UTC).isoformat(timespec="milliseconds"),
            "event": StoredEvent(orjson.loads(attributes), data).json(),
            "deliveries": _deliveries(db, seq),
        }
        for seq, received, attributes, data in rows
    ]


def newest(db: sqlite3.Connection) -> int:
    """The last event's place; 0 where there is none."""
    (seq,) = db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
    return int(seq)


def from_tail(db: sqlite3.Connection, query: Query) -> Query:
    """The same query with `after` in place of `tail`, as the journal stands now."""
    if query.tail is None:
        return query
    where, values = _where(query)
    row = db.execute(f"SELECT seq {where} ORDER BY seq DESC LIMIT 1 OFFSET ?", (*values, query.tail)).fetchone()
    return query.from_after(query.after if row is None else row[0])


def _where(query: Query) -> tuple[str, tuple[str | int, ...]]:
    """The end of a SELECT for what the query wants, and its values."""
    wanted: Mapping[str, tuple[str, ...]] = {n: t for n in _FILTERS if (t := getattr(query, n)) is not None}
    clauses = "".join(f" AND {name} IN ({', '.join('?' * len(texts))})" for name, texts in wanted.items())
    if query.loop is not None:
        clauses += f" AND {'' if query.loop else 'NOT '}{_LOOP}"
    values: tuple[str | int, ...] = (query.after, query.namespace, query.broker, *chain(*wanted.values()))
    return f" FROM events WHERE seq > ? AND namespace=? AND broker=?{clauses}", values


def _deliveries(db: sqlite3.Connection, seq: int) -> list[dict[str, Any]]:
    rows = db.execute(
        "SELECT trigger_name, state, attempts, code, reason, to_dead_letter, due, updated FROM deliveries"
        " WHERE event=? ORDER BY trigger_name",
        (seq,),
    )
    deliveries = []
    for trigger, state, attempts, code, reason, to_dead_letter, due, updated in rows:
        line = {"trigger": trigger, "state": state, "attempts": attempts, "code": code}
        line["reason"] = reason
        line["destination"] = "dead letter sink" if to_dead_letter else "subscriber"
        if updated is not None:
            line["updated"] = datetime.fromtimestamp(updated, UTC).isoformat(timespec="milliseconds")
        if state == PENDING and due:
            line["due"] = datetime.fromtimestamp(due, UTC).isoformat(timespec="milliseconds")
        deliveries.append(line)
    return deliveries


def used_bytes(db: sqlite3.Connection) -> int:
    counts = ("page_count", "freelist_count", "page_size")
    pages, free, size = (int(db.execute(f"PRAGMA {count}").fetchone()[0]) for count in counts)
    return (pages - free) * size


def prune(db: sqlite3.Connection, limits: Limits, now: float) -> int:
    """Forget up to PRUNE_BATCH delivered events that are over a limit; how many. now: seconds since the epoch.

    What a model came of are few events, which a day of predictions must not push out; also where the file is too big,
    they go last.
    """
    too_big = used_bytes(db) > limits.bytes
    beyond = f"SELECT seq FROM events WHERE {_LOOP} ORDER BY seq DESC LIMIT 1 OFFSET ?"
    (loops_over,) = db.execute(beyond, (limits.events,)).fetchone() or (0,)
    for among, over in ((f"NOT {_LOOP}", newest(db) - limits.events), (_LOOP, loops_over)):
        # Only the oldest are looked at, so that the look costs the same however long the journal is.
        oldest = db.execute(
            f"SELECT seq, received FROM events WHERE {among} AND NOT EXISTS"
            " (SELECT 1 FROM deliveries WHERE event=seq AND state='pending') ORDER BY seq LIMIT ?",
            (PRUNE_BATCH,),
        ).fetchall()
        victims = [
            (seq,)
            for place, (seq, received) in enumerate(oldest)
            if seq <= over or received < now - limits.age_s or (too_big and place < TOO_BIG_BATCH)
        ]
        if victims:
            db.executemany("DELETE FROM deliveries WHERE event=?", victims)
            db.executemany("DELETE FROM events WHERE seq=?", victims)
            return len(victims)
    return 0


def vacuum(path: Path) -> None:
    """Give the disk the file's free pages back. Writers wait meanwhile, a few milliseconds for a thousand pages."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as db:
        # As a script: execute() takes one step of the pragma, and that is one page.
        db.executescript("PRAGMA incremental_vacuum")
