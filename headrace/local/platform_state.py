"""Which platform runs in a home: a lock that the system lets go of however the process ends, and what it tells of
itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from eventing.errors import HeadraceError

STATE_FILE = "platform.json"  # written when everything answers
LOCK_FILE = "lock"  # held by the platform's process; holds its id
TRIES, AGAIN_S = 20, 0.02


@dataclass(frozen=True, slots=True)
class Running:
    """A platform that answers."""

    pid: int
    url: str
    kubeconfig: str

    def write(self, home: Path) -> None:
        part = home / f".{STATE_FILE}.{self.pid}"
        part.write_text(json.dumps(asdict(self)), encoding="utf-8")
        part.replace(home / STATE_FILE)


def make(home: Path) -> None:
    """The folder, made where it is not there. Raises HeadraceError when it cannot be made or not be written to."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with (home / LOCK_FILE).open("a"):
            pass
    except OSError as e:
        raise HeadraceError(
            f"the home {home} cannot be used: {e.strerror} ({e.filename}); expected a folder that you may write to, "
            "or a path where one can be made; name another with --home"
        ) from e


def hold(home: Path) -> IO[str]:
    """Take the home for this process alone, until the file is closed. Raises HeadraceError when another has it, or
    nobody can.
    """
    make(home)
    lock = (home / LOCK_FILE).open("a+", encoding="utf-8")
    if not _taken(lock):
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise HeadraceError(
            f"a platform runs in {home} already (process {holder}); use it, stop it with `headrace down`, "
            "or give another --home"
        )
    forget(home)  # of a platform that was killed
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _taken(lock: IO[str]) -> bool:
    """Whether the lock is ours now. Who only looks, as `headrace up --detach` does while it waits for this very
    process, has it for an instant.
    """
    for _ in range(TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(AGAIN_S)
        else:
            return True
    return False


def holder(home: Path) -> int | None:
    """The living process that holds the home, None when none does. A number in a file alone would not tell: it may be
    another process by now. Raises HeadraceError for a home of somebody else's.
    """
    try:
        lock = (home / LOCK_FILE).open("r", encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as e:
        raise HeadraceError(f"the home {home} cannot be read: {e.strerror}; name your own with --home") from e
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            number = lock.read().strip()
            return int(number) if number.isdecimal() else 0  # 0: it has the lock, and has not yet written who it is
        return None


def read(home: Path) -> Running | None:
    """The platform that runs and answers in `home`; None when none does, or not yet. Raises as `holder` does."""
    if holder(home) is None:
        return None
    try:
        return Running(**json.loads((home / STATE_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def forget(home: Path) -> None:
    (home / STATE_FILE).unlink(missing_ok=True)
