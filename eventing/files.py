"""Where the store's bytes lie: one seam, a folder of this machine behind it or any bucket that fsspec reaches.

Used by `functions.store`, and by `landing` and `drop`, which cannot know the store. All paths are relative to the root,
with slashes. Reading what is absent gives None or FileNotFoundError; a place that is away or full is RetryLater; a
write is whole or absent, whatever line the process dies on. `local_files` is a folder, `remote_files` a bucket, and
imported only where one is used: a predictor beside a local folder starts 0.1 s sooner without fsspec.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from eventing.errors import Misconfigured, Rejected
from eventing.local_files import LocalFiles
from eventing.storage import SETTING


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
