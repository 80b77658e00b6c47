"""Who trains what: of several Jobs that are to train the same, one does, and the others tell of its package.

Used by `trainers.job`. A training's key names a folder of the store, `runs/<key>/`, with one file per try, numbered
from 1 and made by whoever was first to create it. The highest number owns the training; its beats, written every few
seconds, say that it lives. Another Job watches them and takes the training over, by creating the next number, once

- the owner ended without a package,
- or the owner is an earlier pod of the same Job: Kubernetes starts the next when the one before has failed,
- or its beats have stopped for LEASE_S, by the watcher's own clock: two machines need not agree on the time.

A pod that slept through its lease finds a higher number before it publishes, and lets go.
Source: C. Gray, D. Cheriton, Leases, SOSP 1989; the numbers are fencing tokens.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from eventing import files
from eventing.errors import Rejected, RetryLater
from eventing.files import Files

BEAT_S = 5.0
LEASE_S = 60.0  # twelve beats: TensorFlow's import and a store that is away for a moment hold up one or two
POLL_S = 1.0

log = logging.getLogger("trainers.ledger")


class TakenOver(RetryLater):
    """Another Job has taken the training over; what this one has made must not be published."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who wants to train."""

    job: str
    pod: str
    event: str
    """Id of the event that asks for it."""


@dataclass(frozen=True, slots=True)
class Try:
    """One try at a training, as its file says."""

    number: int
    version: str
    """The package's, if it comes to one."""
    job: str
    pod: str
    event: str
    began: str
    """ISO 8601 in UTC."""
    beats: int = 0
    ended: bool = False
    """Whether its process has let go, with a package or without."""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Try:
        """Raises Rejected for what is no try."""
        try:
            return cls(**value)
        except TypeError as e:
            raise Rejected(f"the ledger holds no try: {e}") from e


class Ledger:
    """The tries at one training. key: its name."""

    def __init__(
        self, place: Files, key: str, lease_s: float = LEASE_S, beat_s: float = BEAT_S, poll_s: float = POLL_S
    ) -> None:
        self._place = place
        self._folder = f"runs/{key}"
        self._lease_s = lease_s
        self._beat_s = beat_s
        self._poll_s = poll_s

    def tries(self) -> tuple[Try, ...]:
        """All of them, oldest first."""
        found = []
        for name in self._place.children(self._folder):
            if (value := files.read_json(self._place, f"{self._folder}/{name}")) is not None:
                found.append(Try.from_json(value))
        return tuple(sorted(found, key=lambda one: one.number))

    @contextmanager
    def turn(self, me: Claimant, version: Callable[[], str], done: Callable[[], bool]) -> Iterator[Turn | None]:
        """Wait for the turn to train; None where another's package came first, as `done` says.

        version: names the package, when the turn comes. Raises RetryLater while the store is away.
        """
        turn = self._take(me, version, done)
        if turn is None:
            yield None
            return
        stop = threading.Event()
        heart = threading.Thread(target=turn.beat, args=(stop, self._beat_s), daemon=True, name="ledger")
        heart.start()
        try:
            yield turn
        finally:
            stop.set()
            heart.join()
            turn.end()

    def _take(self, me: Claimant, version: Callable[[], str], done: Callable[[], bool]) -> Turn | None:
        watched: tuple[int, int] | None = None
        since = time.monotonic()
        while not done():
            owner = next(reversed(self.tries()), None)
            seen = None if owner is None else (owner.number, owner.beats)
            if owner is not None and seen != watched:
                if not (_free(owner, me) or (watched and watched[0] == owner.number)):
                    log.info("%s trains the same, as %s; waiting for it", owner.job, owner.version)
                watched, since = seen, time.monotonic()
            if owner is None or _free(owner, me) or time.monotonic() - since > self._lease_s:
                if done():  # it may have published, and ended, since it was looked at
                    break
                began = datetime.now(UTC).isoformat()
                entry = Try(owner.number + 1 if owner else 1, version(), me.job, me.pod, me.event, began)
                path = f"{self._folder}/{entry.number:04}.json"
                if self._place.create(path, json.dumps(asdict(entry)).encode()):
                    return Turn(self, self._place, path, entry)
                continue  # another one was faster, and is watched from now on
            time.sleep(self._poll_s)
        return None


class Turn:
    """The right to train and publish, while it lasts."""

    def __init__(self, ledger: Ledger, place: Files, path: str, entry: Try) -> None:
        self.entry = entry
        self._ledger = ledger
        self._place = place
        self._path = path

    def hold(self) -> None:
        """Raises TakenOver where another Job goes on; RetryLater while the store is away."""
        newest = self._ledger.tries()[-1]
        if newest.number != self.entry.number:
            raise TakenOver(f"{newest.job} has taken this training over, as {newest.version}")

    def beat(self, stop: threading.Event, every_s: float) -> None:
        """Say that this process lives, until `stop` is set."""
        while not stop.wait(every_s):
            self.entry = replace(self.entry, beats=self.entry.beats + 1)
            self._write()

    def end(self) -> None:
        """Let go."""
        self.entry = replace(self.entry, ended=True)
        self._write()

    def _write(self) -> None:
        try:
            files.write_json(self._place, self._path, asdict(self.entry))
        except RetryLater as e:
            # Whoever waits finds out by the beats that are missing.
            log.warning("the ledger was not written: %s", e)


def _free(owner: Try, me: Claimant) -> bool:
    return owner.ended or (owner.job == me.job and owner.pod != me.pod)
