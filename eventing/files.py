"""Where the store's bytes lie: one seam, a folder of this machine behind it or any bucket that fsspec reaches.

Used by `functions.store`, and by `landing` and `drop`, which cannot know the store; buckets are in `remote_files`. All
paths are relative to the root, with slashes. Reading what is absent gives None or FileNotFoundError; a place that is
away or full is RetryLater; a write is whole or absent, whatever line the process dies on. What a dead writer has left
in a folder is never listed, and the next writer there removes it. fsspec is imported only where a bucket is used: a
predictor beside a local folder starts 0.1 s sooner without it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from eventing.errors import Misconfigured, Rejected, RetryLater

SETTING = "HEADRACE_STORE"
AWAY_S = 5.0  # a bucket that was away is asked again after this time
FULL_S = 60.0  # room is made by a person, not by time
PART = ".part"  # ends the name of what is not whole yet; a dot begins it, and such names are never listed
# What nobody has written to for this long has lost its writer: a living one writes every few milliseconds. A day,
# because machines that share a folder may disagree on the time by hours, and a stopped process may go on.
LEFTOVER_S = 24 * 3600.0
CLOCKS_APART = "RequestTimeTooSkewed"  # S3's word for a signature more than a quarter of an hour off
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # link(2), and what servers of files answer
WITH_LINKS = "a file system with hard links, as local disks, NFS and CephFS have and Azure Files over SMB has not"
SWEEP_S = 3600.0  # between two looks for leftovers in a folder that is written to

log = logging.getLogger(__name__)


class Files(Protocol):
    """What is asked of the place where the store's bytes lie."""

    def read(self, path: str) -> bytes | None:
        """The file's bytes; None where there is none."""

    def write(self, path: str, content: bytes) -> None:
        """Replace the file; a reader sees the old one or the new one."""

    def create(self, path: str, content: bytes) -> bool:
        """Write the file unless there is one; False where there is, and it stays as it is.

        content: must tell its writer from others, or one of them may take the other's file for its own.
        """

    def put(self, path: str, file: Path) -> None:
        """Replace the file by a copy of a local one."""

    def stage(self, folder: str) -> AbstractContextManager[Path]:
        """A local file to fill whose name in `folder` is not known yet; gone when the block ends, if not adopted."""

    def adopt(self, staged: Path, path: str) -> None:
        """Replace the file by one that `stage` gave for its folder."""

    def get(self, path: str, into: Path) -> None:
        """Copy the file to the local file `into`. Raises FileNotFoundError."""

    def local(self, path: str) -> Path | None:
        """The file or folder as a local path; None where it is not on this machine."""

    def children(self, path: str) -> tuple[str, ...]:
        """Names directly inside the folder, sorted; empty where there is no folder."""

    def walk(self, path: str) -> tuple[str, ...]:
        """Paths of all files inside the folder, at any depth, sorted; empty where there is no folder."""

    def delete(self, path: str) -> None:
        """Remove the file or the whole folder; nothing where there is none."""


def open_files(url: str) -> Files:
    """The place that `url` names, e.g. `file:///var/lib/headrace`, `s3://bucket/prefix`, `memory://tests`.

    Raises Misconfigured for what is no such URL, or needs a driver that is not installed.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise Misconfigured(SETTING, url, "file:// and an absolute path, e.g. file:///var/lib/headrace")
        return LocalFiles(Path(unquote(parts.path)))
    if not parts.scheme or "://" not in url:
        raise Misconfigured(SETTING, url, "a URL such as file:///var/lib/headrace or s3://bucket/prefix")
    from eventing import remote_files

    system, root = remote_files.open_system(url, SETTING)
    return remote_files.RemoteFiles(system, root, url)


def uri(url: str, path: str) -> str:
    """The URL of a path in the place at `url`."""
    return f"{url}{path}" if url.endswith("/") else f"{url}/{path}"


def read_json(files: Files, path: str) -> dict[str, Any] | None:
    """The JSON object at `path`; None where there is none. Raises Rejected when it is no JSON object."""
    text = files.read(path)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as e:
        raise Rejected(f"{path} in the store is not JSON: {e}") from e
    if not isinstance(value, dict):
        raise Rejected(f"{path} in the store holds no JSON object")
    return value


def write_json(files: Files, path: str, value: dict[str, Any]) -> None:
    """Replace the JSON object at `path`; a reader sees the old one or the new one."""
    files.write(path, json.dumps(value, ensure_ascii=False).encode())


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


def listed(paths: Iterator[str]) -> tuple[str, ...]:
    return tuple(sorted(path for path in paths if not any(part.startswith(".") for part in path.split("/"))))


def _sync(path: Path) -> None:
    """The file's bytes, or the folder's names, are on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def reachable(place: object, what: str = "the store") -> Iterator[None]:
    """Failures of the place, which is `what`, as RetryLater; absence and every fault of ours escape as they are."""
    try:
        yield
    except FileNotFoundError:
        raise
    except PermissionError as e:
        said = getattr(e.__cause__, "response", None) or {}
        if (said.get("Error") or {}).get("Code") == CLOCKS_APART:
            why = (
                f"this machine's clock, {datetime.now(UTC):%F %T} UTC, is too far from the store's ({e.strerror or e})"
            )
        else:
            why = f"its keys or rights do not suffice ({e.strerror or e})"
        raise RetryLater(f"{what} {place} cannot be reached: {why}", after_s=AWAY_S) from e
    except OSError as e:
        full = e.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "has no room left" if full else f"cannot be reached ({e.strerror or e})"
        raise RetryLater(f"{what} {place} {why}", after_s=FULL_S if full else AWAY_S) from e
