"""Times that something takes, known by their distribution alone: to draw from where requests have none of their own.

A histogram, percentiles or samples become one thing, an inverse distribution function, linear between what is known, as
Prometheus's own histogram_quantile has it. Pure; `headrace.tune.readers.given` reads them from files.

Source: prometheus.io, Histograms and summaries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.tune.traffic import BadTraffic

Floats = NDArray[np.float64]
# Of a measured distribution: more points say no more than these do, and a request would look them up longer.
POINTS = 10_001


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """Seconds by the share of times that are shorter. Raises BadTraffic where that is no distribution."""

    shares: Floats
    """(k,) ascending from 0 to 1."""
    seconds: Floats
    """(k,) ascending, 0 or more."""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ascending = (np.diff(self.seconds) >= 0).all() and (np.diff(self.shares) >= 0).all()
        if not (self.seconds.size and np.isfinite(self.seconds).all() and ascending and self.seconds[0] >= 0):
            raise BadTraffic(
                f"times that are to be drawn go {', '.join(f'{s:g}' for s in self.seconds[:8])} s; expected finite "
                "seconds of 0 or more, ascending with their shares"
            )

    def draw(self, count: int, rng: np.random.Generator) -> Floats:
        """(count,) seconds."""
        return np.interp(rng.random(count), self.shares, self.seconds)

    @property
    def mean_s(self) -> float:
        """The mean of what is drawn."""
        if self.shares.size == 1:
            return float(self.seconds[0])
        return float((np.diff(self.shares) * (self.seconds[1:] + self.seconds[:-1]) / 2).sum())


def of_samples(seconds: ArrayLike) -> Distribution:
    """What was measured: (n,) seconds in any order, at least one."""
    measured = np.asarray(seconds, dtype=np.float64)
    shares = np.linspace(0, 1, min(measured.size, POINTS))
    return Distribution(shares, np.quantile(measured, shares) if measured.size else measured)


def of_buckets(upper_s: ArrayLike, counts: ArrayLike, name: str) -> Distribution:
    """A histogram. upper_s: (k,) bounds, ascending, the last perhaps infinite; counts: (k,) cumulative, as Prometheus
    has them. Raises BadTraffic for one without observations."""
    upper, cumulative = np.asarray(upper_s, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if not cumulative.size or not cumulative[-1] > 0:
        raise BadTraffic(f"the histogram {name} holds no observation")
    # Rates of counters that were scraped at slightly different times descend by a hair, which says nothing.
    cumulative = np.maximum.accumulate(cumulative)
    notes: tuple[str, ...] = (f"times are drawn from the histogram {name}, evenly within each of its buckets",)
    finite = np.isfinite(upper)
    if not finite.any():
        raise BadTraffic(f"the histogram {name} has no finite bucket; expected bounds (le) in seconds or milliseconds")
    beyond = 1 - cumulative[finite][-1] / cumulative[-1]
    if beyond > 0:
        last = upper[finite][-1]
        notes += (f"{beyond:.2%} of them are longer than its last bound: taken as {last:g} s, which is too short",)
    edges = np.concatenate(([0.0], upper[finite]))
    shares = np.concatenate(([0.0], cumulative[finite] / cumulative[-1]))
    if beyond > 0:
        edges, shares = np.append(edges, edges[-1]), np.append(shares, 1.0)
    return Distribution(*_without_empty(shares, edges), notes)


def of_percentiles(percentiles: ArrayLike, seconds: ArrayLike) -> Distribution:
    """Known percentiles, (k,) from 0 to 100, and their (k,) seconds."""
    return Distribution(np.asarray(percentiles, dtype=np.float64) / 100, np.asarray(seconds, dtype=np.float64))


def _without_empty(shares: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """Without the bounds below the first observation and above the last: nothing is drawn there."""
    first = int(np.searchsorted(shares, 0.0, side="right")) - 1
    last = int(np.searchsorted(shares, 1.0, side="left"))
    return shares[first : last + 1], edges[first : last + 1]
