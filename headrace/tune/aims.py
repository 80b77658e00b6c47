"""What is wanted of a setting, and which of many fits it best. Pure.

Two things pull against each other: the latency of slow requests and the pods that are paid for. The front is what no
other candidate beats in both; an aim picks one of it. Called by `headrace.tune.search`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eventing.errors import Misconfigured
from headrace.tune.simulation import Outcome
from headrace.tune.world import Setting

MAX_FAILED_SHARE = 0.001


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A setting and what it does to the whole of the traffic."""

    setting: Setting
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Aim:
    """The cheapest setting below these latencies, or the fastest within this many pod-seconds; the knee of the front
    with neither.

    max_failed: share of requests that may end with 5xx. Raises Misconfigured where both are asked for.
    """

    p95_s: float | None = None
    p99_s: float | None = None
    pod_seconds: float | None = None
    max_failed: float = MAX_FAILED_SHARE

    def __post_init__(self) -> None:
        for what, seen in (("p95", self.p95_s), ("p99", self.p99_s), ("budget", self.pod_seconds)):
            if seen is not None and not (math.isfinite(seen) and seen > 0):
                raise Misconfigured(what, seen, "more than 0")
        if not 0 <= self.max_failed < 1:
            raise Misconfigured("share of 5xx", self.max_failed, "0 or more, below 1")
        if self.pod_seconds is not None and (self.p95_s or self.p99_s):
            raise Misconfigured("aim", "a latency and a budget", "one of them: the other is what the search minimises")

    @property
    def is_knee(self) -> bool:
        """Whether nothing was asked for but the best compromise."""
        return self.p95_s is None and self.p99_s is None and self.pod_seconds is None

    def latency_s(self, outcome: Outcome) -> float:
        """The latency that is compared: p99 where only that is asked for, else p95; infinite without an answer."""
        latency = outcome.p99_s if self.p95_s is None and self.p99_s is not None else outcome.p95_s
        return math.inf if math.isnan(latency) else latency

    def excess(self, outcome: Outcome) -> float:
        """By which factor the outcome misses the aim at its worst point; 0 where it meets it."""
        factors = [
            outcome.p95_s / self.p95_s if self.p95_s else 0.0,
            outcome.p99_s / self.p99_s if self.p99_s else 0.0,
            outcome.pod_seconds / self.pod_seconds if self.pod_seconds else 0.0,
        ]
        worst = max(math.inf if math.isnan(f) else f for f in factors)
        return worst if worst > 1 else 0.0

    def holds(self, outcome: Outcome) -> bool:
        """Whether the outcome is what was asked for."""
        return outcome.failed_share <= self.max_failed and self.excess(outcome) == 0

    def key(self, outcome: Outcome) -> tuple[float, float, float, float]:
        """Smaller is better: too many failures first, then how far off the aim, then what is minimised."""
        failed = max(0.0, outcome.failed_share - self.max_failed)
        cost, latency = outcome.pod_seconds, self.latency_s(outcome)
        return failed, self.excess(outcome), *((latency, cost) if self.pod_seconds else (cost, latency))


def front(candidates: Sequence[Candidate], aim: Aim) -> list[Candidate]:
    """Those that no other beats in both latency and pod-seconds, cheapest first; of those with few failures, if any."""
    well = [c for c in candidates if c.outcome.failed_share <= aim.max_failed]
    if not well:
        least = min(c.outcome.failed_share for c in candidates)
        well = [c for c in candidates if c.outcome.failed_share == least]
    ordered = sorted(well, key=lambda c: (c.outcome.pod_seconds, aim.latency_s(c.outcome), len(c.setting.annotations)))
    kept: list[Candidate] = []
    for candidate in ordered:
        if not kept or aim.latency_s(candidate.outcome) < aim.latency_s(kept[-1].outcome):
            kept.append(candidate)
    return kept


def best(candidates: Sequence[Candidate], aim: Aim) -> Candidate:
    """The candidate that the aim asks for."""
    if aim.is_knee:
        return knee(front(candidates, aim), aim)
    return min(candidates, key=lambda c: (aim.key(c.outcome), len(c.setting.annotations)))


def knee(ordered: Sequence[Candidate], aim: Aim) -> Candidate:
    """Where one percent of latency costs one percent of pods: the smallest product of both.

    Before it a step up the front buys more latency than it costs, behind it less. Independent of units, and of how far
    the front reaches.
    """
    return min(ordered, key=lambda c: c.outcome.pod_seconds * aim.latency_s(c.outcome))
