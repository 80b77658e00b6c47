"""Waiting for what comes about by other processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(what: str, condition: Callable[[], T | None], within_s: float, every_s: float) -> T:
    """What `condition` gives once that is neither None nor false. Fails naming what was waited for."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(every_s)
    raise AssertionError(f"{what} did not come about within {within_s:.0f} s")
