"""The traffic that settings are tried on: when requests came, and how long each keeps a place of a pod busy.

Made by `headrace.tune.readers` from recordings and by `headrace.tune.shapes` from nothing; read by the simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventing.errors import HeadraceError


class BadTraffic(HeadraceError):
    """What was given cannot be read as traffic: what was seen, what was expected, what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Requests in the order they came. The arrays are read-only.

    Raises BadTraffic where they do not belong together: lengths that differ, starts that descend, numbers that are
    negative or not finite.
    """

    starts_s: NDArray[np.float64]
    """(n,) seconds since `began`, ascending. Nothing need come at second 0; n may be 0."""
    service_s: NDArray[np.float64]
    """(n,) seconds each request needs on a free place of a warm pod: without queueing, without cold start."""
    began: datetime | None
    """When second 0 was, in UTC; None where the recording does not say."""
    source: str
    """Where it comes from, in words."""
    cold_start_s: NDArray[np.float64]
    """(m,) seconds of each cold start that was measured beside the requests; may be empty."""
    repairs: tuple[str, ...]
    """Each repair and assumption that made this of the source, a sentence with its counts."""

    def __post_init__(self) -> None:
        for name in ("starts_s", "service_s", "cold_start_s"):
            object.__setattr__(self, name, _seconds(name, getattr(self, name)))
        if self.starts_s.size != self.service_s.size:
            raise BadTraffic(f"there are {self.starts_s.size:,} starts_s and {self.service_s.size:,} service_s")
        if (np.diff(self.starts_s) < 0).any():
            at = int(np.argmax(np.diff(self.starts_s) < 0))
            raise BadTraffic(
                f"starts_s[{at + 1}] is {self.starts_s[at + 1]:g}, before starts_s[{at}], {self.starts_s[at]:g}; "
                "expected them ascending"
            )
        if self.began is not None and self.began.utcoffset() != timedelta(0):
            raise BadTraffic(f"began is {self.began.isoformat()}; expected a time in UTC")

    @property
    def count(self) -> int:
        """How many requests."""
        return self.starts_s.size

    @property
    def span_s(self) -> float:
        """Seconds from second 0 to the last request's start; 0.0 without one."""
        return float(self.starts_s[-1]) if self.starts_s.size else 0.0


def _seconds(name: str, given: ArrayLike) -> NDArray[np.float64]:
    seconds = np.ascontiguousarray(given, dtype=np.float64).view()
    if seconds.ndim != 1:
        raise BadTraffic(f"{name} has the shape {seconds.shape}; expected one dimension")
    broken = ~(np.isfinite(seconds) & (seconds >= 0))
    if broken.any():
        at = int(np.argmax(broken))
        raise BadTraffic(f"{name}[{at}] is {seconds[at]:g}; expected seconds of 0 or more")
    seconds.flags.writeable = False
    return seconds
