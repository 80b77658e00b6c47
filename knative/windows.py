"""Averages over the last seconds of a metric, as Knative's autoscaler sees them; immutable, so a state can be kept and
replayed.

One bucket per second; a scrape adds into the bucket of its second, and seconds without a scrape are zeros. Called by
`knative.autoscaler`. Sums run in the same order as Go's, so that the last bit agrees.

Source: knative/serving pkg/autoscaler/aggregation/bucketing.go.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import lru_cache

from knative import powers

DECIMALS = 1e6  # averages are rounded to 6 decimals: the sums carry float dust, and ceil(1.0000000001) is 2
MIN_SMOOTHING = 0.2  # below it, a long window's weighted average would be nearly the plain one
WEIGHT_LEFT_OVER = (
    0.0001  # the weights of a whole window sum to at least 1 less this; written out, since 1 - 0.9999 is not it
)


@dataclass(frozen=True, slots=True)
class Window:
    """One metric's last `len(buckets)` seconds.

    buckets: a ring, second s at index s % len; first, last: the seconds of the first and last write, None before any.
    total: the running sum of the ring. broken: the window ends within its last second (6.5 s have 7 buckets): the
    webhook refuses such a window, yet the autoscaler would take it.
    """

    buckets: tuple[float, ...]
    weighted: bool = False
    first: int | None = None
    last: int | None = None
    total: float = 0.0
    broken: bool = False

    @classmethod
    def empty(cls, seconds: int, weighted: bool, broken: bool = False) -> Window:
        """A window of so many seconds, the last one broken or not, with nothing in it."""
        return cls((0.0,) * seconds, weighted, broken=broken)

    def is_empty(self, second: int) -> bool:
        """Whether nothing was recorded for a whole window before `second`."""
        return self.last is None or second - self.last > len(self.buckets) - self.broken

    def record(self, second: int, value: float) -> Window:
        """The window with `value` added to the bucket of `second`; a scrape older than the window changes nothing."""
        size, first, last, total = len(self.buckets), self.first, self.last, self.total
        if last is None or second - last >= size:
            # A whole window of silence: what was before says nothing any more, and the average counts afresh.
            fresh = [0.0] * size
            fresh[second % size] = value
            return Window(tuple(fresh), self.weighted, second, second, value, self.broken)
        if second <= last - size:
            return self
        buckets = list(self.buckets)
        if second != last and (first is None or second < first):
            first = second
        for skipped in range(last + 1, second + 1):
            index = skipped % size
            total -= buckets[index]
            buckets[index] = 0.0
        buckets[second % size] += value
        return Window(tuple(buckets), self.weighted, first, max(last, second), total + value, self.broken)

    def average(self, second: int) -> float:
        """The average as of `second`; 0 when nothing was recorded within the window."""
        if self.last is None or self.is_empty(second):
            return 0.0
        return self._weighted(second, self.last) if self.weighted else self._linear(second, self.last)

    def _linear(self, second: int, last: int) -> float:
        # Over the seconds between first and last write only: a revision six seconds old is judged by six seconds, and
        # a late scrape does not look like idleness.
        size, silent, total = len(self.buckets), second - last, self.total
        if silent >= size:
            return 0.0
        for skipped in range(last + 1, second + 1):
            total -= self.buckets[skipped % size]
        seen = size - max(0, silent)
        return _rounded(total / (seen if self.first is None else min(last - self.first + 1, seen)))

    def _weighted(self, second: int, last: int) -> float:
        size, silent = len(self.buckets), max(0, second - last)
        smoothing = _smoothing(size)
        weight = smoothing * powers.power(1 - smoothing, silent) if silent else smoothing
        result = 0.0
        for age in range(size - silent):
            result += self.buckets[(last - age) % size] * weight
            weight *= 1 - smoothing
        return result

    def resized(self, seconds: int, second: int, broken: bool = False) -> Window:
        """The same history in a window of another length, as of `second`; what no longer fits is forgotten."""
        old = len(self.buckets)
        if (seconds, broken) == (old, self.broken):
            return self
        empty = Window.empty(seconds, self.weighted, broken)
        if self.last is None:
            return empty
        if self.is_empty(second):
            # The moment of the last write is kept: in a longer window it may be data again, of nothing.
            return dataclasses.replace(empty, last=self.last)
        fresh, total = [0.0] * seconds, 0.0
        for at in range(self.last, self.last - min(seconds, old), -1):
            fresh[at % seconds] = self.buckets[at % old]
            total += self.buckets[at % old]
        return Window(tuple(fresh), self.weighted, self.last - old + 1, self.last, total, broken)


@lru_cache(maxsize=64)
def _smoothing(buckets: int) -> float:
    """m of the weights m, m(1-m), m(1-m)^2 …, newest first."""
    return max(1 - powers.power(WEIGHT_LEFT_OVER, 1 / buckets), MIN_SMOOTHING)


def _rounded(value: float) -> float:
    """To 6 decimals, halves away from zero as Go's math.Round: Python's round() goes to the even digit."""
    scaled = value * DECIMALS
    if not math.isfinite(scaled):
        return value
    whole = math.floor(abs(scaled))
    if abs(scaled) - whole >= 0.5:
        whole += 1
    return math.copysign(whole / DECIMALS, scaled)
