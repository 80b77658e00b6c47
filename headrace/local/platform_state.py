"""Which platform runs in a home: a lock that the system lets go of however the process ends, and what it tells of
itself.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from eventing.errors import HeadraceError

STATE_FILE = "platform.json"  # written when everything answers
LOCK_FILE = "lock"  # held by the platform's process; holds its id


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


def hold(home: Path) -> IO[str]:
    """Take the home for this process alone, until the file is closed. Raises HeadraceError when another has it."""
    home.mkdir(parents=True, exist_ok=True)
    lock = (home / LOCK_FILE).open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise HeadraceError(
            f"a platform runs in {home} already (process {holder}); use it, stop it with `headrace down`, "
            "or give another --home"
        ) from None
    forget(home)  # of a platform that was killed
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def held(home: Path) -> bool:
    """Does a living process hold the home? A number in a file would not tell: it may be another process by now."""
    try:
        lock = (home / LOCK_FILE).open("r", encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def read(home: Path) -> Running | None:
    """The platform that runs and answers in `home`; None when none does, or not yet."""
    if not held(home):
        return None
    try:
        return Running(**json.loads((home / STATE_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def forget(home: Path) -> None:
    (home / STATE_FILE).unlink(missing_ok=True)
