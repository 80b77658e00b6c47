"""A drop place in a bucket, or wherever else fsspec reaches: `s3://bucket/drop/<dataset>/<file>`.

A look is one flat listing, a request per thousand keys of S3, whatever number of datasets there is; an object is read,
with one request, when its listing is new. An object of a bucket is listed when it is whole: a multipart upload that is
under way is not. Other places, such as `sftp://`, list what is still being written, so that two looks must agree.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from eventing import files, remote_files
from eventing.drop import place
from eventing.drop.place import Found

WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "memory"})
PAGE_KEYS = 1000  # of S3's ListObjectsV2; what others take for a page is no more
# What tells one version of a content from another, by driver; the first that is there. With an ETag, the time adds
# nothing: the same content put again is no news.
_VERSIONS = ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "mtime", "updated", "created")
_WHAT = "the drop place"
_FOLDER = Found((0, "folder"), 0, folder=True)


class Bucket:
    """Any place that fsspec reaches; see `place.DropPlace`."""

    pause_s = 10.0  # 8,640 listings a day, some 4 cents at Amazon's price for each thousand keys

    def __init__(self, url: str) -> None:
        self.name = url.rstrip("/") if not url.endswith("://") else url
        self.whole = url.partition("://")[0] in WHOLE
        self._system, self._root = remote_files.open_system(url, place.SETTING)
        self._keys = 0

    def listing(self) -> dict[str, Found]:
        with remote_files.reachable(self.name, what=_WHAT):
            self._system.invalidate_cache()
            try:
                listed: Mapping[str, Mapping[str, Any]] = self._system.find(self._root, detail=True)
            except FileNotFoundError as e:
                if remote_files.names_no_bucket(e):
                    raise
                return {}  # nothing was dropped yet
            finally:
                # s3fs keeps what it has listed, by folder; nobody here asks again.
                self._system.invalidate_cache()
        self._keys = len(listed)
        below = f"{self._root}/"  # an empty place is listed in itself by some servers
        return candidates({name[len(below) :]: info for name, info in listed.items() if name.startswith(below)})

    def requests(self) -> int:
        return self._keys // PAGE_KEYS + 1

    @contextmanager
    def fetch(self, path: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="headrace-drop-") as scratch:
            file = Path(scratch) / PurePosixPath(path).name
            with remote_files.reachable(self.name, what=_WHAT):
                self._system.get_file(f"{self._root}/{path}", str(file))
            yield file

    def is_gone(self, path: str) -> bool:
        return False  # what was fetched is here

    def uri(self, path: str) -> str:
        return files.uri(self.name, path)


def candidates(listed: Mapping[str, Mapping[str, Any]]) -> dict[str, Found]:
    """What of a flat listing is a candidate, by path relative to the place. Pure.

    listed: every key below the place, with what fsspec tells of it. All keys in `<dataset>/<folder>/` are one.
    """
    found: dict[str, Found] = {}
    for path, info in listed.items():
        parts = path.split("/")
        # A key that ends with a slash is a console's mark of a folder.
        if not parts[-1] or info.get("type") == "directory" or not all(place.counts(part) for part in parts):
            continue
        if len(parts) > 2:
            found["/".join(parts[:2])] = _FOLDER
        else:
            size = int(info.get("size") or 0)
            found[path] = Found((size, _version(info)), size)
    return found


def _version(info: Mapping[str, Any]) -> str:
    return next((f"{key}={info[key]}" for key in _VERSIONS if info.get(key) is not None), "")
