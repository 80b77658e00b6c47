"""How long a cold start takes, phase by phase: as metrics and as one line of the log.

`interpreter` from the process's birth to the first line of ours; `imports`, the port opened among them; `fetch` with
its digests; `load`; `self_test`; and, from birth, `ready` and `first_answer`. Of several models the log has a line for
each, the metrics their sum, and `ready` is the last one's.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitoring import predictions


class Phases:
    """How long one version took on its way: `fetch`, `load`, `self_test`, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Count the block as `phase`; a block that ends in an error is not counted."""
        began = time.monotonic()
        yield
        self.seconds[phase] = time.monotonic() - began

    def __str__(self) -> str:
        return ", ".join(f"{phase} {seconds:.3f}" for phase, seconds in self.seconds.items())


class Start(Phases):
    """The start of this process, which may load several models.

    born: `time.monotonic()` at the process's birth. entered: the same at the first line of ours.
    """

    def __init__(self, born: float, entered: float) -> None:
        super().__init__()
        self._born = born
        self._entered = entered
        self._lock = threading.Lock()
        self._set("interpreter", entered - born)

    def imported(self) -> None:
        """Everything is imported."""
        self._set("imports", time.monotonic() - self._entered)

    def ready(self, version: Phases) -> float:
        """One more of the start's models answers, `version` is its way; seconds from birth until now."""
        for phase, seconds in version.seconds.items():
            self._set(phase, self.seconds.get(phase, 0.0) + seconds)
        seconds = time.monotonic() - self._born
        self._set("ready", seconds)
        own = ("interpreter", "imports")
        version.seconds = {p: self.seconds[p] for p in own if p in self.seconds} | version.seconds | {"ready": seconds}
        return seconds

    def answered(self) -> None:
        """The first answer is out; that of a second model is no part of the start."""
        if "first_answer" not in self.seconds:
            self._set("first_answer", time.monotonic() - self._born)

    def _set(self, phase: str, seconds: float) -> None:
        with self._lock:
            self.seconds[phase] = seconds
        predictions.START_SECONDS.labels(phase).set(seconds)


def process_birth(now: float) -> float:
    """`time.monotonic()` at this process's birth, to a hundredth of a second; `now` where the system does not tell.

    Source: proc(5), /proc/pid/stat field 22: ticks since boot, which is when Linux's monotonic clock begins.
    """
    try:
        # The second field is the program's name in parentheses and may hold spaces: count from behind it.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, AttributeError):
        return now
    # Suspended time counts in the ticks, not in the monotonic clock.
    return int(fields[19]) / os.sysconf("SC_CLK_TCK") - (boot - time.monotonic())
