"""The Broker's journal: every event it took and what became of each delivery, in one SQLite file.

The Broker and its dispatcher write, `GET /journal` reads. A write is on the disk's platter before its future resolves:
one thread takes all writes that wait, commits them as one transaction (one fsync for a burst of events), and tells each
writer. Reads have a thread and a connection of their own, so that neither waits for the other.

Bounded: what is delivered is forgotten, oldest first, beyond `Limits`; what is pending never is. When the pending alone
fill the file, `accept` raises JournalFull, and the sender keeps its event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from eventing.errors import Misconfigured
from headrace.local import disk
from headrace.local.events import journal_tables as tables
from headrace.local.events.journal_tables import Attempt, JournalFull, Limits, Pending, Query, Taken

__all__ = ["Attempt", "Journal", "JournalFull", "Limits", "Pending", "Query", "Taken"]

log = logging.getLogger(__name__)

PRUNE_EVERY = 1000  # events taken between two looks at the limits
MAX_BATCH = 512  # writes in one transaction: a burst shares a fsync, and the first still does not wait for the last

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Journal:
    """One Broker process's journal. `open` first; all coroutines belong on the loop that opened it."""

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self._path = path
        self._limits = limits or Limits()
        self._writes: queue.SimpleQueue[tuple[Work[Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="journal-read")
        self._followers: set[asyncio.Event] = set()
        self._since_prune = 0
        self._pruning: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Make or take up the file, and forget what is over the limits. Raises Misconfigured for a file of others."""
        self._loop = asyncio.get_running_loop()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = await asyncio.to_thread(tables.open_for_writing, self._path)
        except sqlite3.DatabaseError as e:
            if disk.is_at_fault(e):
                raise
            raise Misconfigured("home", str(self._path), f"a SQLite database of events ({e})") from e
        self._read_db = await self._loop.run_in_executor(self._reader, tables.open_for_reading, self._path)
        self._thread = threading.Thread(target=self._write_all, name="journal-write", daemon=True)
        self._thread.start()
        await self.prune(time.time())

    async def close(self) -> None:
        """Write what waits, then let go of the file."""
        if self._pruning is not None:
            await self._pruning
        self._writes.put(None)
        await asyncio.to_thread(self._thread.join)
        await self._loop.run_in_executor(self._reader, self._read_db.close)
        self._reader.shutdown()
        self._db.close()

    async def accept(self, taken: Taken) -> int:
        """Put an event and its pending deliveries on disk; its place in the journal.

        Raises JournalFull; sqlite3.Error when the disk does not take it.
        """

        def work(db: sqlite3.Connection) -> int:
            if tables.used_bytes(db) > self._limits.pending_bytes:
                raise JournalFull(f"undelivered events fill the journal ({self._limits.pending_bytes} bytes)")
            return tables.insert(db, taken)

        seq = await self._write(work)
        self._taken()
        return seq

    async def record(self, pending: Pending, attempt: Attempt, reply: Taken | None = None) -> tuple[bool, int | None]:
        """Put an attempt's end on disk, and in the same transaction the reply that came with it.

        Whether it was noted, and the reply's place: a delivery that was dropped meanwhile stays dropped, and its reply
        is not taken. Raises sqlite3.Error.
        """

        def work(db: sqlite3.Connection) -> tuple[bool, int | None]:
            noted = tables.update(db, pending, attempt)
            return noted, tables.insert(db, reply) if noted and reply is not None else None

        noted, seq = await self._write(work)
        if seq is not None:
            self._taken()
        return noted, seq

    async def drop(self, trigger_uid: str, reason: str, now: float) -> int:
        """Record the pending deliveries of a Trigger as dropped; how many there were."""
        return await self._write(lambda db: tables.drop(db, trigger_uid, reason, now))

    async def prune(self, now: float) -> None:
        """Forget what is over the limits, and give the disk its pages back."""
        forgotten = 0
        while pruned := await self._write(lambda db: tables.prune(db, self._limits, now)):
            forgotten += pruned
        if forgotten:
            await asyncio.to_thread(tables.vacuum, self._path)

    async def pending(self) -> list[Pending]:
        """Every delivery that has to be made, oldest event first, without the events themselves."""
        return await self._read(tables.pending)

    async def event(self, seq: int) -> Taken:
        """One event, without its deliveries. Raises KeyError for a place that is empty."""
        return await self._read(lambda db: tables.event(db, seq))

    async def entries(self, query: Query) -> list[dict[str, Any]]:
        """Events and what became of their deliveries, as `GET /journal` writes them."""
        return await self._read(lambda db: tables.entries(db, query))

    async def page(self, query: Query) -> tuple[list[dict[str, Any]], int]:
        """The same, and the place up to which it was looked for."""

        def work(db: sqlite3.Connection) -> tuple[list[dict[str, Any]], int]:
            looked = tables.newest(db)  # before: what comes between is wanted the next time
            return tables.entries(db, query), looked

        return await self._read(work)

    async def from_tail(self, query: Query) -> Query:
        """The same query with `after` in place of `tail`, as the journal stands now: for who follows on from there."""
        return await self._read(lambda db: tables.from_tail(db, query))

    @contextlib.contextmanager
    def follow(self) -> Iterator[asyncio.Event]:
        """An asyncio.Event that is set whenever an event was taken, for the time of the context."""
        news = asyncio.Event()
        self._followers.add(news)
        try:
            yield news
        finally:
            self._followers.discard(news)

    def wake_followers(self) -> None:
        """Have every follower look again."""
        for news in self._followers:
            news.set()

    def _taken(self) -> None:
        self.wake_followers()
        self._since_prune += 1
        # One at a time, so that `close` waits for the one that runs.
        if self._since_prune >= PRUNE_EVERY and (self._pruning is None or self._pruning.done()):
            self._since_prune = 0
            self._pruning = self._loop.create_task(self._prune_in_background())

    async def _prune_in_background(self) -> None:
        try:
            await self.prune(time.time())
        except sqlite3.Error:
            log.exception("the journal could not be pruned; it grows until it can")

    async def _write(self, work: Work[T]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        self._writes.put((work, future))
        # Shielded: the write happens even where its caller is cancelled, and its future must then still be there.
        return await asyncio.shield(future)

    async def _read(self, work: Work[T]) -> T:
        return await self._loop.run_in_executor(self._reader, work, self._read_db)

    def _write_all(self) -> None:
        """The writer thread: everything that waits, in the order it came, in one transaction."""
        while True:
            batch = [self._writes.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < MAX_BATCH:
                    batch.append(self._writes.get_nowait())
            works = [item for item in batch if item is not None]
            if works:
                results = _transact(self._db, [work for work, _ in works])
                futures = [future for _, future in works]
                self._loop.call_soon_threadsafe(_resolve, futures, results)
            if len(works) < len(batch):
                return


def _resolve(futures: Sequence[asyncio.Future[Any]], results: Sequence[Any]) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.cancelled():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


def _transact(db: sqlite3.Connection, works: Sequence[Work[Any]]) -> list[Any]:
    """The works' results after their commit; for those that failed, the exception."""
    try:
        db.execute("BEGIN IMMEDIATE")
        results = [work(db) for work in works]
        db.execute("COMMIT")
    except Exception as e:  # noqa: BLE001 - handed to whoever waits for it; the thread must live on
        if db.in_transaction:
            db.execute("ROLLBACK")
        # One that fails must not take its neighbours with it: each gets a transaction of its own.
        return [e] if len(works) == 1 else [result for work in works for result in _transact(db, [work])]
    return results
