"""The little that a source needs of the store: put a file there whole, keep one small JSON file. Any fsspec URL.

Used by `landing` and `source`, which cannot know the functions' store.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from eventing.errors import Misconfigured, RetryLater

HIDDEN = ".landing-"  # begins the name of a copy that is not whole yet; the store lists no name with a dot first


class Files:
    """The files at one URL; paths are relative to it.

    Raises Misconfigured for a URL that no installed file system knows. Every method raises RetryLater while the place
    is away. A write is whole or absent, on whatever line the process dies.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as e:
            raise Misconfigured("HEADRACE_STORE", url, f"an fsspec URL that this installation knows ({e})") from e
        self.url = url.rstrip("/")
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def uri(self, path: str) -> str:
        return f"{self.url}/{path}"

    def exists(self, path: str) -> bool:
        with self._reachable():
            return bool(self._fs.exists(self._at(path)))

    def read_json(self, path: str) -> dict[str, Any] | None:
        """The JSON object at `path`; None where there is none."""
        with self._reachable():
            if not self._fs.exists(self._at(path)):
                return None
            value = json.loads(self._fs.cat_file(self._at(path)))
            return value if isinstance(value, dict) else None

    def write_json(self, path: str, value: dict[str, Any]) -> None:
        with self.stage(path) as stage:
            stage.write_text(json.dumps(value))
            self.publish(stage, path)

    @contextmanager
    def stage(self, path: str) -> Iterator[Path]:
        """A local file to fill: beside `path` where that is on this machine, so that a rename puts it there whole."""
        with self._reachable():
            if self._local:
                folder = Path(self._at(path)).parent
                folder.mkdir(parents=True, exist_ok=True)
                stage = folder / f"{HIDDEN}{secrets.token_hex(8)}"
                try:
                    yield stage
                finally:
                    stage.unlink(missing_ok=True)
            else:
                with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
                    yield Path(scratch) / "file"

    def publish(self, stage: Path, path: str) -> None:
        """The staged file at `path`, safe against a power cut; what was there is replaced."""
        with self._reachable():
            if not self._local:
                self._fs.put_file(str(stage), self._at(path))  # an object appears when its upload is whole
                return
            with stage.open("rb") as written:
                os.fsync(written.fileno())
            target = stage.replace(self._at(path))
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # else the name may be forgotten, and an event speak of a file that is not there
            finally:
                os.close(folder)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise RetryLater(f"the store {self.url} is away: {e}") from e
