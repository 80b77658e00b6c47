"""Where the store's bytes lie: one seam, a folder of this machine behind it or any bucket that fsspec reaches.

Every path is relative to the root, with slashes. Reading what is absent gives None or FileNotFoundError; a place that
is away or full is RetryLater; a write is whole or absent, whatever line the process dies on. Names that begin with a
dot are leftovers of a writer that died and are never listed. fsspec is imported only where a bucket is used: a
predictor beside a local folder starts 0.1 s sooner without it.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from eventing.errors import Misconfigured, RetryLater

SETTING = "HEADRACE_STORE"
# Errors of the libraries under s3fs, gcsfs and adlfs that are no OSError; all of them mean the far side.
_DRIVERS = frozenset({"aiohttp", "aiobotocore", "azure", "botocore", "gcsfs", "google", "requests", "urllib3"})
AWAY_S = 5.0  # a bucket that was away is asked again after this time
FULL_S = 60.0  # room is made by a person, not by time


class Files(Protocol):
    """What the store asks of the place where its bytes lie."""

    def read(self, path: str) -> bytes | None:
        """The file's bytes; None where there is none."""

    def write(self, path: str, content: bytes) -> None:
        """Replace the file; a reader sees the old one or the new one."""

    def create(self, path: str, content: bytes) -> bool:
        """Write the file unless there is one; False where there is, and it stays as it is."""

    def put(self, path: str, file: Path) -> None:
        """Replace the file by a copy of a local one."""

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
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(url)
    except ImportError as e:
        raise Misconfigured(SETTING, url, f"a URL whose driver is installed ({e})") from e
    except ValueError as e:
        raise Misconfigured(SETTING, url, f"a URL that fsspec knows ({e})") from e
    return RemoteFiles(system, root, url)


class LocalFiles:
    """A folder of this machine, or one mounted into it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> bytes | None:
        with _reachable(self._root):
            try:
                return (self._root / path).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, path: str, content: bytes) -> None:
        with _reachable(self._root), self._whole(path) as temporary:
            temporary.write_bytes(content)

    def create(self, path: str, content: bytes) -> bool:
        target = self._root / path
        with _reachable(self._root):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = _temporary(target)
            try:
                temporary.write_bytes(content)
                _sync(temporary)
                # A link, not a rename: it fails where the name is taken, also by a writer of the same moment.
                os.link(temporary, target)
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
            _sync(target.parent)
        return True

    def put(self, path: str, file: Path) -> None:
        with _reachable(self._root), self._whole(path) as temporary:
            shutil.copyfile(file, temporary)

    def get(self, path: str, into: Path) -> None:
        with _reachable(self._root):
            shutil.copyfile(self._root / path, into)

    def local(self, path: str) -> Path | None:
        return self._root / path

    def children(self, path: str) -> tuple[str, ...]:
        with _reachable(self._root):
            try:
                return tuple(sorted(p.name for p in (self._root / path).iterdir() if not p.name.startswith(".")))
            except (FileNotFoundError, NotADirectoryError):
                return ()

    def walk(self, path: str) -> tuple[str, ...]:
        with _reachable(self._root):
            found = (p for p in (self._root / path).rglob("*") if p.is_file())
            return _listed(p.relative_to(self._root).as_posix() for p in found)

    def delete(self, path: str) -> None:
        target = self._root / path
        with _reachable(self._root):
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    @contextmanager
    def _whole(self, path: str) -> Iterator[Path]:
        """A temporary file beside the target, which takes its place, safe on disk, when the block ends well."""
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(target)
        try:
            yield temporary
            _sync(temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(target.parent)


class RemoteFiles:
    """Any place that fsspec reaches. One object appears whole or not at all: every bucket's PUT promises that."""

    def __init__(self, system: Any, root: str, url: str) -> None:
        self._system = system
        self._root = root.rstrip("/")
        self._url = url

    def read(self, path: str) -> bytes | None:
        with _reachable(self._url):
            # Listings are remembered by some drivers; what another process wrote must be seen.
            self._system.invalidate_cache()
            try:
                content: bytes = self._system.cat_file(self._at(path))
            except FileNotFoundError:
                return None
            return content

    def write(self, path: str, content: bytes) -> None:
        with _reachable(self._url):
            self._system.pipe_file(self._at(path), content)

    def create(self, path: str, content: bytes) -> bool:
        with _reachable(self._url):
            try:
                # S3 and Google make this one conditional PUT; drivers without it look first.
                self._system.pipe_file(self._at(path), content, mode="create")
            except FileExistsError:
                return False
        return True

    def put(self, path: str, file: Path) -> None:
        with _reachable(self._url):
            self._system.put_file(str(file), self._at(path))

    def get(self, path: str, into: Path) -> None:
        with _reachable(self._url):
            self._system.get_file(self._at(path), str(into))

    def local(self, path: str) -> Path | None:
        return None

    def children(self, path: str) -> tuple[str, ...]:
        with _reachable(self._url):
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._at(path), detail=False)
            except FileNotFoundError:
                return ()
            return _listed(PurePosixPath(name).name for name in found)

    def walk(self, path: str) -> tuple[str, ...]:
        with _reachable(self._url):
            self._system.invalidate_cache()
            found = self._system.find(self._at(path))
            return _listed(str(PurePosixPath(name).relative_to(self._root)) for name in found)

    def delete(self, path: str) -> None:
        with _reachable(self._url):
            try:
                self._system.rm(self._at(path), recursive=True)
            except FileNotFoundError:
                return

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}".rstrip("/")


def _listed(paths: Iterator[str]) -> tuple[str, ...]:
    return tuple(sorted(path for path in paths if not any(part.startswith(".") for part in path.split("/"))))


def _temporary(target: Path) -> Path:
    """A name beside `target` that no other writer has: a rename is atomic only within one file system."""
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")


def _sync(path: Path) -> None:
    """The file's bytes, or the folder's names, are on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _reachable(place: object) -> Iterator[None]:
    """Failures of the place as RetryLater; absence and every fault of ours escape as they are."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as e:
        full = e.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "has no room left" if full else f"cannot be reached ({e.strerror or e})"
        raise RetryLater(f"the store {place} {what}", after_s=FULL_S if full else AWAY_S) from e
    except Exception as e:
        if type(e).__module__.partition(".")[0] not in _DRIVERS:
            raise
        raise RetryLater(f"the store {place} cannot be reached ({e})", after_s=AWAY_S) from e
