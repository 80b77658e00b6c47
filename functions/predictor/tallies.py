"""Sums of what was counted, as values: made under their owner's lock, added up where versions or pods are one.

Used by `functions.predictor.statistics`, which counts, and by whatever shows the numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from monitoring import predictions
from monitoring.predictions import REQUEST_SECONDS


def _no_outcomes() -> dict[str, int]:
    return dict.fromkeys(predictions.OUTCOMES, 0)


@dataclass(slots=True)
class Durations:
    """A histogram with the bounds of REQUEST_SECONDS. buckets: counts between the bounds, the last one beyond them."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(REQUEST_SECONDS) + 1))
    total_s: float = 0.0

    def count(self, seconds: float) -> None:
        self.buckets[bisect_left(REQUEST_SECONDS, seconds)] += 1
        self.total_s += seconds

    def add(self, other: Durations) -> None:
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        self.total_s += other.total_s

    def cumulated(self) -> list[tuple[str, float]]:
        """Each upper bound with the count of all at or below it."""
        pairs, below = [], 0
        for bound, inside in zip((*map(str, map(float, REQUEST_SECONDS)), "+Inf"), self.buckets, strict=True):
            below += inside
            pairs.append((bound, float(below)))
        return pairs


@dataclass(slots=True)
class Requests:
    """Requests that have ended. outcomes: by `predictions.OUTCOMES`; probes: those of them that only looked; failed_s:
    the share of the durations that went into what was not done.
    """

    outcomes: dict[str, int] = field(default_factory=_no_outcomes)
    probes: dict[str, int] = field(default_factory=_no_outcomes)
    durations: Durations = field(default_factory=Durations)
    failed_s: float = 0.0

    def count(self, seconds: float, outcome: str, probe: bool) -> None:
        self.durations.count(seconds)
        self.outcomes[outcome] += 1
        if outcome != predictions.DONE:
            self.failed_s += seconds
        if probe:
            self.probes[outcome] += 1

    def add(self, other: Requests) -> Requests:
        self.durations.add(other.durations)
        self.failed_s += other.failed_s
        for outcome in predictions.OUTCOMES:
            self.outcomes[outcome] += other.outcomes[outcome]
            self.probes[outcome] += other.probes[outcome]
        return self


@dataclass(slots=True)
class Inferences:
    """Requests that the model has answered. durations: of the model's own work; decode_s and queue_s: before it."""

    count: int = 0
    rows: int = 0
    decode_s: float = 0.0
    queue_s: float = 0.0
    durations: Durations = field(default_factory=Durations)

    def executed(self, rows: int, decode_s: float, queue_s: float, compute_s: float) -> None:
        self.count += 1
        self.rows += rows
        self.decode_s += decode_s
        self.queue_s += queue_s
        self.durations.count(compute_s)

    def add(self, other: Inferences) -> Inferences:
        self.count += other.count
        self.rows += other.rows
        self.decode_s += other.decode_s
        self.queue_s += other.queue_s
        self.durations.add(other.durations)
        return self
