"""One revision's day in one loop, compiled: arrivals, departures, pods that get ready, and the autoscaler's clock.

The next event is the earliest of the next request, the next departure (a heap) and the next of all that is rare: a
tick, a pod, a deadline. Called by `headrace.tune.simulation`, which makes the arrays and reads them afterwards.

The clock is the one of `headrace.local.gateway.scaler`: a look in the middle of each second, a decision every second
look, a look and a decision at once when a request meets a revision without pods, and no clock at all at rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.tune import decisions, pods, queues
from headrace.tune.compiled import compiled, inlined
from headrace.tune.decisions import INACTIVE, NONE, Floats, Memory, Record, Rules
from headrace.tune.pods import Path, Pods
from headrace.tune.queues import Lines, Requests


@compiled
def run(
    rules: Rules, memory: Memory, path: Path, requests: Requests, fleet: Pods, lines: Lines, lives: Record,
    first_pods: int, concurrency: Floats, ready: Floats,
) -> None:  # fmt: skip
    """Simulate from second 0 to `path.end_s`, and on until the last request has its end.

    lives: (1,) queues.LIVE, zeroed but for `random`. concurrency, ready: (bins,) requests x seconds and ready pods x
    seconds are added.
    """
    live = lives[0]
    _begin(rules, memory, path, fleet, lines, live, first_pods)
    starts_s, count, request = requests.starts_s, requests.starts_s.size, 0
    arrival = starts_s[0] if count else np.inf
    while True:
        departure = requests.departs_at[0] if live.departures else np.inf
        rare = min(live.tick_at, live.pod_at, live.deadline_at)
        if departure <= arrival and departure < rare:
            pod = queues.next_departure(requests, live)
            pods.depart(path, requests, fleet, lines, live, pod, departure)
        elif arrival < rare:
            pods.arrive(path, requests, fleet, lines, live, request, arrival)
            if live.ready == 0 and live.set_to == 0:
                _tick(rules, memory, path, requests, fleet, lines, live, arrival, True, concurrency, ready)
            request += 1
            arrival = starts_s[request] if request < count else np.inf
        else:
            if request >= count and live.in_flight == 0 and rare > path.end_s:
                break
            if rare == live.deadline_at:
                pods.give_up(path, requests, fleet, lines, live, rare, request)
            elif rare == live.pod_at:
                pods.become_ready(path, fleet, lines, live, rare)
                pods.flush(path, requests, fleet, lines, live, rare)
                _reconcile(rules, memory, path, fleet, lines, live, rare)
            else:
                _tick(rules, memory, path, requests, fleet, lines, live, rare, False, concurrency, ready)
    for at in range(live.alive):
        pods.count_life(path, fleet, live, fleet.created_at[fleet.alive[at]], path.end_s)
    for pod in range(fleet.phase.size):
        if fleet.phase[pod] == pods.DRAINING:
            pods.count_life(path, fleet, live, fleet.created_at[pod], path.end_s)


@inlined
def _ns(seconds: float) -> Any:
    return np.int64(np.rint(seconds * 1e9))


@compiled
def _begin(rules: Rules, memory: Memory, path: Path, fleet: Pods, lines: Lines, live: Record, first_pods: int) -> None:
    """A new revision whose first pods are ready: routes are pointed at it only then."""
    live.central_head = live.central_tail = queues.NOBODY
    live.deadline_at = live.pod_at = np.inf
    live.wish = -1
    live.set_to = min(first_pods, pods.MAX_PODS)
    live.in_path = 1
    live.decided = -np.inf
    live.tick_at = 0.5
    lines.head[:] = queues.NOBODY
    live.unused = fleet.unused.size
    for at in range(fleet.unused.size):
        fleet.unused[at] = fleet.unused.size - 1 - at
    pods.scale(path, fleet, lines, live, first_pods, 0.0)
    live.starts = 0
    pods.become_ready(path, fleet, lines, live, np.inf)
    _reconcile(rules, memory, path, fleet, lines, live, 0.0)


@compiled
def _tick(
    rules: Rules, memory: Memory, path: Path, requests: Requests, fleet: Pods, lines: Lines, live: Record, now: float,
    poked: bool, concurrency: Floats, ready: Floats,
) -> None:  # fmt: skip
    """One look, every second time a decision; at once when a request waits in vain."""
    now_ns = _ns(now)
    queues.change(live, now, 0)
    since = now - live.looked
    average = live.area / since if since > 0 else float(live.in_flight)
    per_second = live.arrived / since if since > 0 else 0.0
    at = min(int(now / path.end_s * concurrency.size), concurrency.size - 1)
    concurrency[at] += live.area
    ready[at] += live.ready * min(since, 1.0)
    live.area = 0.0
    live.arrived = 0
    live.looked = now
    if poked:
        # As in the activator's first report, the request that waits counts whole, however short its time has been.
        least = float(max(1, live.in_flight))
        average, per_second = max(average, least), max(per_second, least)
    decisions.record(rules, memory, now_ns, average, per_second)
    if poked or now - live.decided >= 1.75:
        live.decided = now
        live.decisions += 1
        if decisions.decide(rules, memory, live.ready, now_ns):
            live.wish = memory.scalars[0].desired
    _reconcile(rules, memory, path, fleet, lines, live, now)
    if not poked or live.tick_at == np.inf:
        live.tick_at = np.floor(now) + 1.5
    if (
        live.set_to == 0 and live.wish <= 0 and live.ready == 0 and live.in_flight == 0
        and memory.scalars[0].active == INACTIVE
    ):  # fmt: skip
        live.tick_at = np.inf  # at rest until the next request


@compiled
def _reconcile(rules: Rules, memory: Memory, path: Path, fleet: Pods, lines: Lines, live: Record, now: float) -> None:
    """Make pods of the last decision, and say whether the activator is in the path."""
    m = memory.scalars[0]
    proxied_ns = _ns(now - live.proxied_since) if live.in_path and not path.laptop else _ns(0.0)
    wanted = decisions.reconcile(rules, memory, live.wish >= 0, live.wish, live.ready, _ns(now), proxied_ns)
    if wanted != NONE and wanted != live.set_to:
        live.set_to = wanted
        pods.scale(path, fleet, lines, live, wanted, now)
    known = live.decisions > 0
    in_path = m.want == 0 or not known or m.excess_burst_capacity < 0 or (m.want < 0 and m.active == INACTIVE)
    if in_path and not live.in_path:
        live.proxied_since = now
    live.in_path = 1 if in_path else 0
