"""Lines in numbered files of bounded size, the oldest of which go: an append-only record that never fills a disk.

`NAME-00000001.jsonl`, `NAME-00000002.jsonl`, …; the number only grows, so the order of names is that of time. Every
line is whole once it has its line end: after a crash the last one may be torn, which readers leave out and the next
writer cuts off. Not synced to the disk: a lost power supply may cost the last seconds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

FILES = 8  # of which the oldest goes: an eighth of what is kept is forgotten at a time
_NUMBERED = re.compile(r"-(\d{8,})\.jsonl$")


def files(folder: Path, name: str) -> tuple[Path, ...]:
    """The files of one record that are there, the oldest first; none where the folder is not there."""
    found = [(int(m[1]), path) for path in folder.glob(f"{name}-*.jsonl") if (m := _NUMBERED.search(path.name))]
    return tuple(path for _, path in sorted(found))


class RotatingLines:
    """The writer of one record. limit_bytes: all its files together.

    One process at a time. Raises OSError, from every method, where the disk will not.
    """

    def __init__(self, folder: Path, name: str, limit_bytes: int) -> None:
        self._folder = folder
        self._name = name
        self._file_bytes = max(1, limit_bytes // FILES)
        self._out: BinaryIO | None = None
        self._size = 0

    def open(self) -> None:
        """Go on with the newest file, its torn end cut off."""
        self._folder.mkdir(parents=True, exist_ok=True)
        known = files(self._folder, self._name)
        self._take(known[-1] if known else self._numbered(1))

    def append(self, lines: Iterable[bytes]) -> None:
        """Write the lines, each with its line end, in one call per file."""
        for piece in self._pieces(lines):
            if self._size and self._size + len(piece) > self._file_bytes:
                self._next()
            assert self._out is not None  # `open` was called
            self._out.write(piece)
            self._size += len(piece)

    def close(self) -> None:
        if self._out is not None:
            self._out.close()
            self._out = None

    def _pieces(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Lines joined to what a file may still take."""
        batch: list[bytes] = []
        size, room = 0, self._file_bytes - self._size
        for line in lines:
            if batch and size + len(line) > room:
                yield b"".join(batch)
                batch, size, room = [], 0, self._file_bytes
            batch.append(line)
            size += len(line)
        if batch:
            yield b"".join(batch)

    def _numbered(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:08d}.jsonl"

    def _next(self) -> None:
        self.close()
        known = files(self._folder, self._name)
        found = _NUMBERED.search(known[-1].name) if known else None
        self._take(self._numbered(int(found[1]) + 1 if found else 1))
        for path in files(self._folder, self._name)[:-FILES]:
            path.unlink(missing_ok=True)

    def _take(self, path: Path) -> None:
        self._out = path.open("ab", buffering=0)
        self._size = _heal(path)


def _heal(path: Path) -> int:
    """Cut off what follows the last line end; the size that is left."""
    with path.open("rb+") as f:
        size = end = f.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - 65536)
            f.seek(begin)
            at = f.read(end - begin).rfind(b"\n")
            if at >= 0:
                end = begin + at + 1
                break
            end = begin
        if end < size:
            f.truncate(end)
        return end
