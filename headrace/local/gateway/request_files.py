"""Where a home keeps the gateway's journal of requests, for who reads it: `headrace tune --from-local`.

What the lines hold is told by `headrace.local.gateway.request_journal`, which writes them. A torn last line in the last
file, or one that is being written just now, is to be left out.
"""

from __future__ import annotations

from pathlib import Path

from headrace.local.gateway import rotating_lines

FOLDER = "requests"  # in the platform's home
REQUESTS, PODS = "requests", "pods"


def requests(home: Path) -> tuple[Path, ...]:
    """The files with a home's requests, the oldest first; none where there are none."""
    return rotating_lines.files(home / FOLDER, REQUESTS)


def pods(home: Path) -> tuple[Path, ...]:
    """The files with a home's pods, in the same way."""
    return rotating_lines.files(home / FOLDER, PODS)
