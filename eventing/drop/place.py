"""A drop place: where people put files, `<place>/<dataset>/<file>`, and nobody of ours changes any.

Two kinds: a folder of this machine or one mounted into it (`folder`), and a bucket or whatever else fsspec reaches
(`bucket`); `kinds` opens them. Used by the watcher.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

SETTING = "HEADRACE_DROP"
UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".swp", ".swx", ".filepart", "~")

Stamp = tuple[int | str, ...]
"""What changes when a file is written or replaced: its size in bytes, then what else its place tells of it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate, as a listing has it."""

    stamp: Stamp
    bytes: int
    folder: bool = False
    """A folder inside a dataset: it holds none of its files, and is told like a file that cannot be."""


class DropPlace(Protocol):
    """What is asked of the place. All paths are relative to it: `<dataset>/<file>`, or a file in no dataset."""

    name: str
    """As it was set: a URL, or the path of a folder."""
    whole: bool
    """Whether a file is whole as soon as it is listed, as objects of a bucket are."""
    pause_s: float
    """Seconds between two looks, unless somebody sets them."""

    def listing(self) -> dict[str, Found]:
        """Every candidate. Raises RetryLater while the place is away."""

    def requests(self) -> int:
        """How many requests to a service the last listing took; 0 where that costs nothing."""

    def fetch(self, path: str) -> AbstractContextManager[Path]:
        """The file on this machine, to be read only. Raises FileNotFoundError, RetryLater."""

    def is_gone(self, path: str) -> bool:
        """Whether a file that was fetched has been taken away meanwhile."""

    def uri(self, path: str) -> str:
        """The URL of a path."""


def counts(name: str) -> bool:
    """Whether a file of this name is meant to be a dataset: neither hidden nor some program's unfinished work."""
    return not name.startswith((".", "~$", "#")) and not name.lower().endswith(UNFINISHED)
