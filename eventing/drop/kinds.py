"""Which kind of drop place a name says. Called by `eventing.source`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from eventing.drop import folder
from eventing.drop.place import DropPlace


def open_place(name: str) -> DropPlace:
    """The place that `name` says: a folder's path, or an fsspec URL. Touches nothing there. Raises Misconfigured."""
    parts = urlsplit(name)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        name = unquote(parts.path)
    if "://" not in name:
        return folder.Folder(Path(name))
    # A process that watches a folder need not know fsspec.
    from eventing.drop.bucket import Bucket

    return Bucket(name)
