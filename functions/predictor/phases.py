"""How long a cold start takes, phase by phase: as metrics and as one line of the log.

`interpreter` from the process's birth to the first line of ours; `imports`, the port opened among them; `fetch` with
its digests; `load`; `self_test`; and, from birth, `ready` and `first_answer`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitoring import metrics


class Phases:
    """The phases of this process's start.

    born: `time.monotonic()` at the process's birth. entered: the same at the first line of ours.
    """

    def __init__(self, born: float, entered: float) -> None:
        self._born = born
        self._entered = entered
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()
        self._set("interpreter", entered - born)

    def imported(self) -> None:
        """Everything is imported."""
        self._set("imports", time.monotonic() - self._entered)

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Count the block as `phase`; a phase that is tried again is the last try's."""
        began = time.monotonic()
        yield
        self._set(phase, time.monotonic() - began)

    def reached(self, milestone: str) -> float:
        """Seconds from birth until now, kept under `milestone`."""
        seconds = time.monotonic() - self._born
        self._set(milestone, seconds)
        return seconds

    def __str__(self) -> str:
        return ", ".join(f"{phase} {seconds:.3f}" for phase, seconds in self._seconds.items())

    def _set(self, phase: str, seconds: float) -> None:
        with self._lock:
            self._seconds[phase] = seconds
        metrics.START_SECONDS.labels(phase).set(seconds)


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
