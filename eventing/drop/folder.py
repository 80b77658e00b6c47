"""A drop place that is a folder: of a laptop, or of a claim mounted into the pod.

Scanning costs a stat per file. A file may be seen while it is still being written, so that it counts only when two
looks agree on it (see `watcher.settled`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventing.drop import place
from eventing.drop.place import Found
from eventing.errors import Misconfigured
from eventing.storage import reachable


class Folder:
    """A folder of this machine; see `place.DropPlace`."""

    whole = False
    pause_s = 1.0

    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self._root = root

    def make(self) -> None:
        """The folder, where it is absent. Raises Misconfigured where it cannot be."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise Misconfigured(
                place.SETTING, self.name, f"a folder that is there or can be made ({e.strerror})"
            ) from e

    def listing(self) -> dict[str, Found]:
        with reachable(self.name, "the drop place"):
            return dict(self._scan())

    def requests(self) -> int:
        return 0

    @contextmanager
    def fetch(self, path: str) -> Iterator[Path]:
        yield self._root / path

    def is_gone(self, path: str) -> bool:
        return not (self._root / path).exists()

    def uri(self, path: str) -> str:
        return (self._root.absolute() / path).as_uri()

    def _scan(self) -> Iterator[tuple[str, Found]]:
        """Each candidate directly in the folder and in its sub-folders."""
        with os.scandir(self._root) as entries:
            for entry in entries:
                if not place.counts(entry.name):
                    continue
                try:
                    if entry.is_dir():
                        with os.scandir(entry.path) as inside:
                            for file in inside:
                                if place.counts(file.name) and (file.is_file() or file.is_dir()):
                                    yield f"{entry.name}/{file.name}", _found(file)
                    elif entry.is_file():
                        yield entry.name, _found(entry)
                except (FileNotFoundError, PermissionError):
                    continue  # gone, or shut, between the listing and the look; the next look tells


def _found(entry: os.DirEntry[str]) -> Found:
    stat = entry.stat()
    # The time of the last change of rights too: a file that could not be read may be readable now.
    return Found((stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns), stat.st_size, entry.is_dir())
