"""The SQLite file under `headrace.local.objects.objects`: whole transactions in, everything out at start."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from eventing.errors import Misconfigured
from headrace.local import disk

Row = tuple[str, str, str, bytes | None]  # kind, namespace, name, body as JSON; no body: the object is deleted


class ObjectFile:
    """The file at `path`, made when absent, and locked against other processes while this is open.

    Raises Misconfigured where another process holds it, or where it is something else; sqlite3.Error where the disk
    does not take it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Autocommit: transactions are begun and ended in `write`. Threads: tests open here and serve there.
        self._db = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
        try:
            # Exclusive, because what another process wrote would be missing in this one's memory.
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS objects (kind TEXT, namespace TEXT, name TEXT, body BLOB,"
                " PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID"
            )
            self._db.execute("CREATE TABLE IF NOT EXISTS latest (resource_version INTEGER)")
            self._db.execute("INSERT INTO latest SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM latest)")
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as e:
            self._db.close()
            if disk.is_at_fault(e):
                raise
            held = isinstance(e, sqlite3.OperationalError)
            expected = "a file that no other process holds" if held else "a SQLite database of objects"
            raise Misconfigured("home", str(path), f"{expected} ({e})") from e

    def close(self) -> None:
        self._db.close()

    def rows(self) -> Iterator[tuple[str, str, str, bytes]]:
        """Every object."""
        yield from self._db.execute("SELECT kind, namespace, name, body FROM objects")

    def resource_version(self) -> int:
        """The latest that was written."""
        (latest,) = self._db.execute("SELECT resource_version FROM latest").fetchone()
        return int(latest)

    def write(self, rows: Sequence[Row], resource_version: int, durable: bool) -> None:
        """Write all rows, or none.

        durable: on the disk's platter before this returns. Without, a power failure may take the last such writes (in
        order, never in part); a kill -9 takes nothing either way. A fsync takes 1-10 ms of the event loop's time.
        """
        self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for *key, body in rows:
                if body is None:
                    self._db.execute("DELETE FROM objects WHERE kind=? AND namespace=? AND name=?", key)
                else:
                    self._db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (*key, body))
            self._db.execute("UPDATE latest SET resource_version=?", (resource_version,))
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk ends it by itself
                self._db.execute("ROLLBACK")
            raise
