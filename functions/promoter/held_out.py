"""The rows that champion and challenger are compared on: held out by the challenger, and learned from by neither.

Used by the promoter's gate. Two trainings by the same split hold the same rows of a file out (see `trainers.split`), so
the challenger's held-out rows are new to both. By another split (another seed, share or rule) the champion may have
learned from most of them, and would win by heart: then the rows count that both have held out.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eventing.errors import Rejected, RetryLater
from functions.package import Manifest
from functions.store import Store

Rows = Mapping[str, npt.NDArray[Any]]

TARGET = "__target__"  # in held-out rows: the index of the true class, int64
SPLIT = ("split", "seed", "test_share")  # parameters in a manifest that decide which rows of a file are held out
LEAST_ROWS = 100  # of fewer, one row more or less right would decide


def read(store: Store, model: str, version: str, work: Path) -> Rows:
    """The rows that `version` was scored on, by column. work: a folder to download to.

    Raises Rejected when the file is missing or cannot be read, RetryLater while the store is away.
    """
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"{model}-{version}.npz"
    path = f"heldout/{model}/{version}.npz"
    try:
        store.get_file(path, file)
    except RetryLater:
        # They are put there before the package: what is not there was removed, and will not come.
        if path in store.list(f"heldout/{model}"):
            raise
        raise Rejected(f"the store has no held-out rows of {version}") from None
    try:
        return _arrays(file)
    except (ValueError, OSError, EOFError, LookupError, zipfile.BadZipFile) as e:
        raise Rejected(f"{path} holds no held-out rows: {e}") from e


def _arrays(file: Path) -> Rows:
    """The arrays of an .npz as `trainers.heldout` writes it.

    Not by numpy.load, which takes a column called `a.npy` for the one called `a`, and knows no lists of words.
    """
    rows: dict[str, npt.NDArray[Any]] = {}
    with zipfile.ZipFile(file) as archive:
        entries = set(archive.namelist())
        for entry in archive.namelist():
            if not entry.endswith(".npy"):
                continue
            name = entry.removesuffix(".npy")
            with archive.open(entry) as content:
                rows[name] = np.lib.format.read_array(content, allow_pickle=False)
            if f"{name}.words" in entries:
                rows[name] = np.array(json.loads(archive.read(f"{name}.words")), object)[rows[name]]
    return rows


def comparable(store: Store, champion: Manifest, challenger: Manifest, work: Path) -> tuple[Rows, str | None]:
    """Rows that neither version has learned from, and why they are not all that the challenger held out.

    Raises Rejected when too few are left, RetryLater while the store is away.
    """
    rows = read(store, challenger.name, challenger.version, work)
    change = split_change(champion, challenger)
    if change is None:
        return rows, None
    theirs = set(_cells(read(store, champion.name, champion.version, work), list(rows)))
    both = np.fromiter((row in theirs for row in _cells(rows, list(rows))), bool)
    kept = int(both.sum())
    said = f"{kept:,} of {len(both):,} held-out rows were held out by the champion, too, which was split by {change}"
    if kept < LEAST_ROWS:
        raise Rejected(f"{said}; expected {LEAST_ROWS} at least")
    return {name: values[both] for name, values in rows.items()}, said


def split_change(champion: Manifest, challenger: Manifest) -> str | None:
    """How the champion's split differs, in words; None where it is the same, or no file is common to both."""
    if not _datasets(champion) & _datasets(challenger):
        return None
    before, after = champion.parameters, challenger.parameters
    changes = [
        f"{name} {before.get(name)}, not {after.get(name)}" for name in SPLIT if before.get(name) != after.get(name)
    ]
    return " and ".join(changes) or None


def _datasets(manifest: Manifest) -> set[str]:
    """The digests of the files it learned from."""
    return set(manifest.parameters.get("datasets") or [manifest.dataset["sha256"]])


def _cells(rows: Rows, names: list[str]) -> Iterator[tuple[object, ...]]:
    """Each row as what can be compared: its cells, gaps equal to gaps."""
    columns = []
    for name in names:
        values = rows[name].reshape(-1) if name in rows else np.array([])
        columns.append([None if cell != cell else cell for cell in values.tolist()])
    return zip(*columns, strict=False)
