"""Functions compiled to machine code, once per machine: a day of traffic is millions of events.

The machine code is kept in the user's cache folder, under a digest of every compiled module's source. numba alone looks
at the one file that a function stands in, so that a change in a function that it calls would go unseen.

Compiled functions hold no lock of Python's: threads run them side by side, on the same arrays.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.core.config

_F = TypeVar("_F", bound=Callable[..., object])

MODULES = ("compiled.py", "decisions.py", "queues.py", "pods.py", "event_loop.py")


def compiled(function: _F) -> _F:
    """The same function as machine code, with IEEE arithmetic as it stands: no reordering, no fused operations."""
    return _compile(function, forceinline=False)


def inlined(function: _F) -> _F:
    """`compiled`, and made part of each function that calls it: for what runs for every request. A call would copy the
    description of each array that it is given."""
    return _compile(function, forceinline=True)


def _compile(function: _F, *, forceinline: bool) -> _F:
    config: Any = numba.core.config
    before = config.CACHE_DIR
    if _FOLDER is not None and not before:
        config.CACHE_DIR = str(_FOLDER)
    options: dict[str, Any] = {
        "cache": _FOLDER is not None or bool(before),
        "nogil": True,
        "error_model": "numpy",
        "forceinline": forceinline,
        # No counting of references: each array belongs to the caller for the whole call, nothing is allocated inside,
        # and counting costs more than the simulation does (an atomic operation per array and call).
        "_nrt": False,
    }
    try:
        made = numba.njit(**options)(function)
    finally:
        config.CACHE_DIR = before
    return cast(_F, made)


def has_cache() -> bool:
    """Whether machine code lies ready, so that nobody need be told to wait."""
    return _FOLDER is not None and any(_FOLDER.rglob("event_loop.run-*.nbi"))


def _folder() -> Path | None:
    """Where machine code is kept; None where the user has no folder to write to, so that each process compiles."""
    here = Path(__file__).parent
    digest = hashlib.sha256(b"".join((here / name).read_bytes() for name in MODULES)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "headrace" / f"compiled-{digest}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return None


_FOLDER = _folder()
