"""Files in a folder of this machine, or one mounted into it: what `eventing.files` opens for `file://`.

What a dead writer has left in a folder is never listed, and the next writer there removes it.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from eventing.errors import Misconfigured
from eventing.storage import SETTING, listed, reachable

PART = ".part"  # ends the name of what is not whole yet; a dot begins it, and such names are never listed
# What nobody has written to for this long has lost its writer: a living one writes every few milliseconds. A day,
# because machines that share a folder may disagree on the time by hours, and a stopped process may go on.
LEFTOVER_S = 24 * 3600.0
SWEEP_S = 3600.0  # between two looks for leftovers in a folder that is written to
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # link(2), and what servers of files answer
WITH_LINKS = "a file system with hard links, as local disks, NFS and CephFS have and Azure Files over SMB has not"

log = logging.getLogger(__name__)


# shutil brings lzma, bz2 and more, 3 ms of a cold start that neither copies nor removes: imported where it is used.


def copy(file: Path, target: Path) -> None:
    """The file's bytes, in `target`."""
    import shutil

    shutil.copyfile(file, target)


def remove_tree(folder: Path, *, ignore_errors: bool = False) -> None:
    """`folder` and all in it."""
    import shutil

    shutil.rmtree(folder, ignore_errors=ignore_errors)


def partial_folder(beside: Path) -> Path:
    """An empty folder next to `beside`, which may become it by one rename; `sweep` knows it as not whole yet."""
    import tempfile

    return Path(tempfile.mkdtemp(prefix=f".{beside.name}.", suffix=PART, dir=beside.parent))


def sweep(folder: Path) -> None:
    """Remove what writers that died left in `folder`; what a living one may still fill stays."""
    before = time.time() - LEFTOVER_S
    with os.scandir(folder) as entries:
        for entry in entries:
            if not (entry.name.startswith(".") and entry.name.endswith(PART)):
                continue
            with suppress(FileNotFoundError):  # another writer sweeps at the same moment
                if entry.stat(follow_symlinks=False).st_mtime > before:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(Path(entry.path))
                else:
                    Path(entry.path).unlink()
                log.info("removed %s, which a writer that died has left", entry.path)


class LocalFiles:
    """A folder of this machine, or one mounted into it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._swept: dict[Path, float] = {}

    def read(self, path: str) -> bytes | None:
        with reachable(self._root):
            try:
                return (self._root / path).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, path: str, content: bytes) -> None:
        with self.stage(_folder(path)) as staged:
            staged.write_bytes(content)
            self.adopt(staged, path)

    def create(self, path: str, content: bytes) -> bool:
        """Raises Misconfigured where the file system has no hard links, without which two writers both succeed."""
        target = self._root / path
        with self.stage(_folder(path)) as staged:
            staged.write_bytes(content)
            _sync(staged)
            try:
                # A link, not a rename: it fails where the name is taken, also by a writer of the same moment.
                os.link(staged, target)
            except FileExistsError:
                return False
            except OSError as e:
                if e.errno not in NO_LINKS:
                    raise
                raise Misconfigured(SETTING, self._root.as_uri(), f"a bucket, or a folder on {WITH_LINKS}") from e
            _sync(target.parent)
        return True

    def put(self, path: str, file: Path) -> None:
        with self.stage(_folder(path)) as staged:
            copy(file, staged)
            self.adopt(staged, path)

    @contextmanager
    def stage(self, folder: str) -> Iterator[Path]:
        home = self._root / folder
        with reachable(self._root):
            home.mkdir(parents=True, exist_ok=True)
            self._sweep(home)
            # Beside the target: a rename is atomic only within one file system.
            staged = home / f".{os.urandom(8).hex()}{PART}"
            try:
                yield staged
            finally:
                staged.unlink(missing_ok=True)

    def adopt(self, staged: Path, path: str) -> None:
        with reachable(self._root):
            _sync(staged)
            # The folder too, or a power cut takes the name away and an event speaks of a file that is not there.
            _sync(staged.replace(self._root / path).parent)

    def get(self, path: str, into: Path) -> None:
        with reachable(self._root):
            copy(self._root / path, into)

    def local(self, path: str) -> Path | None:
        return self._root / path

    def children(self, path: str) -> tuple[str, ...]:
        with reachable(self._root):
            try:
                return listed(p.name for p in (self._root / path).iterdir())
            except (FileNotFoundError, NotADirectoryError):
                return ()

    def walk(self, path: str) -> tuple[str, ...]:
        with reachable(self._root):
            found = (p for p in (self._root / path).rglob("*") if p.is_file())
            return listed(p.relative_to(self._root).as_posix() for p in found)

    def delete(self, path: str) -> None:
        target = self._root / path
        with reachable(self._root):
            if target.is_dir():
                remove_tree(target)
            else:
                target.unlink(missing_ok=True)

    def _sweep(self, folder: Path) -> None:
        """Sweep a folder that is written to, but not at each write: a full one takes milliseconds to list."""
        now = time.monotonic()
        if now - self._swept.get(folder, float("-inf")) > SWEEP_S:
            self._swept[folder] = now
            sweep(folder)


def _folder(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _sync(path: Path) -> None:
    """The file's bytes, or the folder's names, are on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
