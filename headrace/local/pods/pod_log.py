"""The log of a Pod: one file, cut short when it grows too long, removed some time after its Pod is gone.

Containers write straight into the file, so a log costs the platform nothing while it is written, and a container
never waits for a reader. Source of the limits: kubelet's containerLogMaxSize and containerLogMonitorInterval.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

MAX_BYTES = 10 * 1024 * 1024  # kubelet's default
KEPT_BYTES = 5 * 1024 * 1024  # the end of it, which stays when it is cut
CHECK_S = 10.0  # kubelet's default
KEPT_LOGS = 100  # of Pods that are gone, per namespace: what a pod that vanished said last is often the question
TAIL_BYTES = 2048  # of a termination message; kubelet's limit for FallbackToLogsOnError
TAIL_LINES = 20


def file(home: Path, namespace: str, pod: str) -> Path:
    return home / "logs" / namespace / f"{pod}.log"


def shorten(log: Path, max_bytes: int = MAX_BYTES, kept_bytes: int = KEPT_BYTES) -> bool:
    """Keep the last `kept_bytes` of a log longer than `max_bytes`; true when it was cut.

    In place, since a process holds it open in append mode. What is written during the copy is lost; kubelet, which
    renames, loses nothing, but would need every container's output to pass through it.
    """
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        return False
    if size <= max_bytes:
        return False
    end = tail(log, kept_bytes)
    os.truncate(log, 0)
    with log.open("ab") as f:
        f.write(b"... earlier lines were dropped: the log was longer than %d bytes ...\n" % max_bytes + end)
    return True


def tail(log: Path, max_bytes: int = TAIL_BYTES) -> bytes:
    """The last `max_bytes` of a log, from the first whole line on; empty when there is none."""
    try:
        with log.open("rb") as f:
            size = f.seek(0, os.SEEK_END)
            f.seek(max(0, size - max_bytes))
            end = f.read(max_bytes)
    except FileNotFoundError:
        return b""
    return end.partition(b"\n")[2] if size > max_bytes else end


def last_lines(log: Path) -> str:
    """What the container said last, for its termination message."""
    lines = tail(log).decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-TAIL_LINES:])


def prune(folder: Path, keep: Callable[[str], bool]) -> None:
    """Remove the oldest logs beyond KEPT_LOGS of Pods for whose name `keep` says no."""
    gone = [log for log in folder.glob("*.log") if not keep(log.stem)]
    gone.sort(key=lambda log: log.stat().st_mtime, reverse=True)
    for log in gone[KEPT_LOGS:]:
        log.unlink(missing_ok=True)
