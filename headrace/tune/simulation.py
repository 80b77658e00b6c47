"""What a setting would have done to recorded traffic: every request, every pod, every decision of Knative's.

`simulate` is called by `headrace.tune.search` some hundred times, by threads side by side, and by whoever predicts. The
same arguments give the same outcome. What is simplified is told by `headrace.tune.assumptions`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.tune import decisions, event_loop, pods, queues
from headrace.tune.decisions import Floats, Rules
from headrace.tune.pods import Path, Pods
from headrace.tune.queues import Ints, Lines, Requests
from headrace.tune.traffic import Traffic
from headrace.tune.world import LAPTOP, Setting, World
from knative import autoscaler

ROWS = 2 * pods.MAX_PODS  # as many again may be on their way out
BINS = 480  # of a series: more than a page has room for
QUANTILES = (0.50, 0.95, 0.99)

ACTIVATOR_LINE = 11_000  # requests that the activator holds where there is a limit: breaker depth 10,000 and capacity
QUEUE_PROXY_LINE = 10  # waiting for each request that a pod may hold
LAPTOP_LINE, LAPTOP_LINE_MIN, LAPTOP_LINE_PER_SLOT = 10_000, 100, 10  # headrace.local.gateway.revision_queue
UNBOUNDED = 2**40


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """What happened over time, in equal bins from second 0.

    bin_s: the width of one. pods: there on average, starting and ending ones included; ready: able to take requests;
    concurrency: requests in flight on average; requests: that came; p95_s: of those that came in it, NaN without one;
    failed: of them without an answer.
    """

    bin_s: float
    pods: Floats
    ready: Floats
    concurrency: Floats
    requests: Floats
    p50_s: Floats
    p95_s: Floats
    failed: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One setting on one traffic.

    p50_s, p95_s, p99_s, mean_s: of the answered requests' latencies, NaN without one. cold: requests that met no ready
    pod. refused: 503, a full queue; timed_out: 504. pod_seconds: from each pod's creation to its end, within the
    traffic's time. most_pods: wanted at once. starts: pods started after the first ones. clipped: more pods were wanted
    than can be simulated.
    """

    requests: int
    answered: int
    refused: int
    timed_out: int
    cold: int
    p50_s: float
    p95_s: float
    p99_s: float
    mean_s: float
    pod_seconds: float
    most_pods: int
    starts: int
    decisions: int
    end_s: float
    clipped: bool
    series: Series | None = None

    @property
    def failed_share(self) -> float:
        """5xx among all requests; 0 without one."""
        return (self.refused + self.timed_out) / self.requests if self.requests else 0.0

    @property
    def cold_share(self) -> float:
        """Requests that met no ready pod among all; 0 without one."""
        return self.cold / self.requests if self.requests else 0.0


def simulate(
    traffic: Traffic,
    setting: Setting,
    world: World,
    *,
    seed: int = 0,
    end_s: float | None = None,
    first_pods: int | None = None,
    series: bool = False,
) -> Outcome:
    """The outcome of a setting: applied at second 0, as a new revision that takes all traffic once its first pods are
    ready.

    end_s: pods are counted until then; None for the end of the last started second. first_pods: None for the setting's
    initial scale. series: also what happened over time.
    """
    spec = setting.spec(world.config)
    end_s = float(math.floor(traffic.span_s) + 1) if end_s is None else float(end_s)
    begin_with = autoscaler.first_pods(spec) if first_pods is None else first_pods
    limit, count = setting.container_concurrency, traffic.count
    path = Path(
        laptop=world.path == LAPTOP,
        limit=limit,
        places=min(world.pod_capacity, limit) if limit else world.pod_capacity,
        timeout_s=world.timeout_s,
        stop_s=world.seconds_to_stop,
        end_s=end_s,
        pod_line=QUEUE_PROXY_LINE * limit,
        **_central_line(world.path, limit),
    )
    requests = Requests(
        starts_s=traffic.starts_s,
        service_s=traffic.service_s,
        latency_s=np.empty(count, np.float32),
        # Touched where a request waits or is served, so that most of this memory is never really taken.
        next=np.empty(count, np.int32),
        where=np.empty(count, np.int32),
        waits=np.zeros(count, np.int8),
        departs_at=np.empty(count + 1, np.float64),
        departs_from=np.empty(count + 1, np.int32),
    )
    lives = np.zeros(1, queues.LIVE)
    lives["random"] = np.uint64(seed & 0xFFFF_FFFF_FFFF_FFFF)
    fleet = _fleet(world.colds, BINS)
    lines = Lines(*(np.zeros(ROWS, np.int64) for _ in Lines._fields))
    concurrency, ready = np.zeros(BINS), np.zeros(BINS)
    memory = decisions.start(spec, begin_with, 0)
    event_loop.run(
        Rules.of(spec), memory, path, requests, fleet, lines, lives, begin_with, concurrency, ready
    )  # fmt: skip
    live = lives[0]
    failed = int(live["refused"] + live["timed_out"])
    p50, p95, p99, mean = latencies(requests.latency_s, count - failed, keep=series)
    return Outcome(
        requests=count,
        answered=count - failed,
        refused=int(live["refused"]),
        timed_out=int(live["timed_out"]),
        cold=int(live["cold"]),
        p50_s=p50,
        p95_s=p95,
        p99_s=p99,
        mean_s=mean,
        pod_seconds=float(live["pod_seconds"]),
        most_pods=int(live["most_pods"]),
        starts=int(live["starts"]),
        decisions=int(live["decisions"]),
        end_s=end_s,
        clipped=bool(live["clipped"]),
        series=_series(traffic, requests.latency_s, fleet.bins, concurrency, ready, end_s) if series else None,
    )


def _central_line(path: str, limit: int) -> dict[str, int]:
    if path == LAPTOP:
        per_pod = LAPTOP_LINE_PER_SLOT * limit
        return {"central_line": LAPTOP_LINE_MIN if limit else LAPTOP_LINE, "central_line_per_pod": per_pod}
    return {"central_line": ACTIVATOR_LINE if limit else UNBOUNDED, "central_line_per_pod": 0}


def _fleet(colds: Floats, bins: int) -> Pods:
    def whole() -> Ints:
        return np.zeros(ROWS, np.int64)

    return Pods(
        phase=whole(),
        created_at=np.zeros(ROWS),
        ready_at=np.zeros(ROWS),
        told_at=np.zeros(ROWS),
        alive=whole(),
        ready=whole(),
        unused=whole(),
        bins=np.zeros(bins),
        cold_starts_s=colds,
    )


def latencies(latency_s: NDArray[np.float32], answered: int, *, keep: bool) -> tuple[float, float, float, float]:
    """The quantiles and the mean of the answered; the others are infinite, so they come last in any order."""
    if not answered:
        return math.nan, math.nan, math.nan, math.nan
    ranks = [min(answered - 1, max(0, math.ceil(q * answered) - 1)) for q in QUANTILES]
    ordered = latency_s.copy() if keep else latency_s
    # One rank at a time, each behind the last one found: numpy selects a single one with vector instructions.
    begin = 0
    for rank in sorted({*ranks, answered - 1}):
        ordered[begin:].partition(rank - begin)
        begin = rank + 1
    mean = float(ordered[:answered].mean(dtype=np.float64))
    p50, p95, p99 = (float(ordered[rank]) for rank in ranks)
    return p50, p95, p99, mean


def _series(
    traffic: Traffic, latency_s: NDArray[np.float32], lives: Floats, concurrency: Floats, ready: Floats, end_s: float
) -> Series:
    """Per bin; the compiled loop has counted requests x seconds and pods x seconds."""
    width = end_s / BINS
    edges = np.searchsorted(traffic.starts_s, np.arange(BINS + 1) * width)
    p50, p95, failed = np.full(BINS, np.nan), np.full(BINS, np.nan), np.zeros(BINS)
    for at in range(BINS):
        here = latency_s[edges[at] : edges[at + 1]]
        answered = here[np.isfinite(here)]
        failed[at] = here.size - answered.size
        if answered.size:
            p50[at], p95[at] = np.quantile(answered, (0.5, 0.95))
    return Series(
        width, lives / width, ready / width, concurrency / width, np.diff(edges).astype(float), p50, p95, failed
    )
