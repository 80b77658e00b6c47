"""A package's graph as onnxruntime has optimised it for this machine, kept in the cache, so that it loads quicker.

`python -m functions.optimise` puts a copy here where that pays; `Model.load` takes what is kept, and the package's own
graph everywhere else. The copy is of this graph, this onnxruntime and this processor's instructions: its name is their
digest. It is written whole or not at all, and its own digest is checked at each load.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import stat
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from functions import package
from functions.package import MODEL_FILE, PACKAGE_FILES, SUMS_FILE

QUICKER, QUICKER_S = 0.8, 0.02
"""A copy is kept where loading it, its digest included, takes at most this share of the time, and this much less,"""
SMALLER_BYTES, SLOWER = 16 * 1024 * 1024, 1.1
"""or where the process is smaller by this, and loading it takes at most this share of the time."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one load took: seconds, digest included, and how much larger the process became."""

    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a copy: the best of the trials, and, where it is kept, its file and digest."""

    plain: Loaded
    optimised: Loaded
    file: str | None
    sha256: str | None


def folder_in(cache: Path) -> Path:
    return cache / "optimised"


def find(package_folder: Path, cache: Path, onnxruntime_version: str) -> Path | None:
    """The copy kept for the package; None where there is none, or none that may be trusted."""
    folder = folder_in(cache)
    # Most caches hold no copy: that costs one look.
    if not folder.is_dir() or (key := key_of(package_folder, onnxruntime_version)) is None:
        return None
    file = folder / f"{key}.json"
    if not file.is_file():
        return None
    try:
        if not _is_ours(folder):
            raise ValueError(f"{folder} can be written by others")
        record = json.loads(file.read_bytes())
        if record["file"] is None:
            return None
        copy = folder / str(record["file"])
        if sha256_of(copy) != record["sha256"]:
            raise ValueError(f"{copy.name} is not what was kept")
    except (OSError, ValueError, KeyError, TypeError) as e:
        log.warning("the optimised copy of %s is not used: %s", package_folder.name, e)
        return None
    return copy


def put(plain: Loaded, optimised: Loaded, copy: Path, folder: Path, key: str) -> Record:
    """Keep `copy`, which lies on the same disk as `folder`, where that pays; and what was found out, either way."""
    record = Record(plain, optimised, None, None)
    if pays(plain, optimised):
        sha256 = sha256_of(copy)
        # By its own digest: of two who make it at once, each record finds the file it speaks of.
        record = Record(plain, optimised, f"{key}-{sha256[:16]}.ort", sha256)
        copy.replace(folder / f"{key}-{sha256[:16]}.ort")
    told = copy.with_suffix(".json")
    told.write_text(json.dumps(asdict(record)))
    told.replace(folder / f"{key}.json")  # last: it says that the copy is whole
    return record


def pays(plain: Loaded, optimised: Loaded) -> bool:
    """Whether a copy is worth its place on the disk."""
    spared_s, spared_bytes = plain.seconds - optimised.seconds, plain.bytes - optimised.bytes
    is_quicker = optimised.seconds <= plain.seconds * QUICKER and spared_s >= QUICKER_S
    return is_quicker or (spared_bytes >= SMALLER_BYTES and optimised.seconds <= plain.seconds * SLOWER)


def key_of(package_folder: Path, onnxruntime_version: str) -> str | None:
    """The digest of all that a copy depends on; None where the package does not tell its graph's."""
    file = package_folder / SUMS_FILE
    sums = package.read_sums(file.read_bytes()) if file.is_file() else {}
    if MODEL_FILE not in sums:
        return None
    # A graph's weights may lie in files beside it: whatever else the package holds may be one of them.
    data = sorted(f"{sha256} {name}" for name, sha256 in sums.items() if name not in PACKAGE_FILES)
    of = [sums[MODEL_FILE], *data, onnxruntime_version, sys.platform, platform.machine(), _instructions()]
    return hashlib.sha256("\n".join(of).encode()).hexdigest()[:32]


def _instructions() -> str:
    """What the processor can do, in the system's words: layouts in an optimised graph are chosen by it."""
    try:
        with Path("/proc/cpuinfo").open() as f:
            return next((line for line in f if line.startswith(("flags", "Features"))), "")
    except OSError:
        return platform.processor()


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can have put a file there: a digest beside its file proves only that it is whole."""
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def sha256_of(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
