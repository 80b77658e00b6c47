"""What the user says about a recording that the recording does not say itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from eventing.errors import Misconfigured

# Seconds in one of each unit.
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class Options:
    """Raises Misconfigured at once for a value that can never work."""

    only: str | None = None
    """Of a recording of many: the function, service, host or series to take."""
    duration_unit: str | None = None
    """s, ms, us or ns, where the name of the duration's column does not say it."""
    time_unit: str | None = None
    """The same, for times written as numbers."""
    time_zone: str = "UTC"
    """The zone of times written without one, as `Europe/Berlin`."""
    service_s: float | None = None
    """The mean service time in seconds: for recordings without durations, and instead of recorded ones."""
    service_from: Path | None = None
    """The same as a distribution, of a file that `distribution.read` knows: a histogram, percentiles, durations."""
    cold_start_s: float | None = None
    """How long each cold start takes, in seconds: instead of those that the recording tells of."""
    cold_start_from: Path | None = None
    """The same as a distribution."""
    container_concurrency: int | None = None
    """Places in each pod when it was recorded: where the log names its pods, waiting is told from service by it."""
    cold_after_s: float | None = None
    """A slow request after so many idle seconds met a cold start; None: no cold start is looked for."""
    seed: int = 0
    """Of all that is drawn."""

    def __post_init__(self) -> None:
        for key in ("duration_unit", "time_unit"):
            if getattr(self, key) not in (None, *UNITS):
                raise Misconfigured(key, getattr(self, key), f"one of {', '.join(UNITS)}")
        for key in ("service_s", "cold_start_s", "cold_after_s"):
            number = getattr(self, key)
            if number is not None and not (math.isfinite(number) and number > 0):
                raise Misconfigured(key, number, "seconds above 0")
        for key in ("service", "cold_start"):
            if None not in (getattr(self, f"{key}_s"), getattr(self, f"{key}_from")):
                raise Misconfigured(
                    f"{key}_from", str(getattr(self, f"{key}_from")), f"nothing beside {key}_s: one of the two"
                )
        if self.container_concurrency is not None and self.container_concurrency < 1:
            raise Misconfigured("container_concurrency", self.container_concurrency, "1 or more places in a pod")
        if self.seed < 0:
            raise Misconfigured("seed", self.seed, "a whole number of 0 or more")
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as e:
            raise Misconfigured("time_zone", self.time_zone, "a zone such as UTC or Europe/Berlin") from e


# Nothing said: the recording alone is to say it.
UNTOLD = Options()
