"""One revision's day in one loop, compiled: arrivals, departures, pods that get ready, and the autoscaler's clock.

The next event is the earliest of the next request, the next departure (a heap) and the next of all that is rare: a
tick, a pod, a deadline. Called by `headrace.tune.simulation`, which makes the arrays and reads them afterwards.

The clock and what is heard at each of its ticks are those of `headrace.local.gateway.scaler` and `.meter`, which are
Knative's: a look in the middle of each second, a decision every second look, one at once when the activator tells of a
request to a revision that wants no pods, and no clock at all at rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.tune import decisions, pods, queues
from headrace.tune.compiled import compiled, inlined
from headrace.tune.decisions import INACTIVE, NONE, Floats, Memory, Record, Rules
from headrace.tune.pods import Path, Pods
from headrace.tune.queues import Lines, Requests

PHASE_S = 0.5  # of a look within its second


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
            alone = live.in_flight == 0
            pods.arrive(path, requests, fleet, lines, live, request, arrival)
            if live.wish <= 0 and live.in_path and (alone or live.ready == 0):
                _poke(rules, memory, path, fleet, lines, live, arrival)
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
                _tick(rules, memory, path, fleet, lines, live, rare, concurrency, ready)
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
    live.slot = -1
    live.tick_at = PHASE_S
    # Before a decision: what the initial scale will have. Source: pkg/autoscaler/scaling/multiscaler.go.
    live.excess = rules.target_burst_capacity
    if rules.target_burst_capacity > 0:
        live.excess = rules.initial_scale * rules.total_value - rules.target_burst_capacity
    lines.head[:] = queues.NOBODY
    live.unused = fleet.unused.size
    for at in range(fleet.unused.size):
        fleet.unused[at] = fleet.unused.size - 1 - at
    pods.scale(path, fleet, lines, live, first_pods, 0.0)
    live.starts = 0
    pods.become_ready(path, fleet, lines, live, np.inf)
    _reconcile(rules, memory, path, fleet, lines, live, 0.0)


@compiled
def _poke(rules: Rules, memory: Memory, path: Path, fleet: Pods, lines: Lines, live: Record, now: float) -> None:
    """The activator tells of a request to a silent revision at once, as of one whole request."""
    if live.tick_at == np.inf:
        live.tick_at = np.floor(now + 1 - PHASE_S) + PHASE_S
    if not live.heard:
        live.heard = 1
        live.ahead = 1.0
        decisions.record(rules, memory, _ns(now), 1.0, 1.0)
    _decide(rules, memory, live, now)
    _reconcile(rules, memory, path, fleet, lines, live, now)


@compiled
def _tick(
    rules: Rules, memory: Memory, path: Path, fleet: Pods, lines: Lines, live: Record, now: float,
    concurrency: Floats, ready: Floats,
) -> None:  # fmt: skip
    """One look, every second time a decision."""
    queues.change(live, now, 0)
    at = min(int(now / path.end_s * concurrency.size), concurrency.size - 1)
    concurrency[at] += live.area
    ready[at] += live.ready * min(now - live.looked, 1.0)
    _observe(rules, memory, live, now)
    live.area = 0.0
    live.arrived = 0
    live.looked = now
    slot = int(now // 2)
    if slot != live.slot:
        live.slot = slot
        _decide(rules, memory, live, now)
    _reconcile(rules, memory, path, fleet, lines, live, now)
    live.tick_at = np.floor(now) + 1 + PHASE_S
    if (
        live.set_to == 0 and live.wish <= 0 and live.ready == 0 and live.in_flight == 0
        and memory.scalars[0].active >= INACTIVE
    ):  # fmt: skip
        live.tick_at = np.inf  # at rest until the next request


@compiled
def _observe(rules: Rules, memory: Memory, live: Record, now: float) -> None:
    """Record what pods and the activator would report of the second that ends now, if anything."""
    since, since_first = now - live.looked, now - max(live.looked, live.first)
    scraped = rules.target_burst_capacity != -1
    pods_report = scraped and live.ready > 0
    if not live.in_path:
        live.heard = 0
        live.ahead = 0.0
        if pods_report:
            average = live.area / since if since > 0 else float(live.in_flight)
            per_second = live.arrived / since if since > 0 else 0.0
            decisions.record(rules, memory, _ns(now), average, per_second)
            return
    else:
        spoke = live.heard == 1
        average = live.area / since_first if since_first > 0 else float(live.in_flight)
        heard = 1 if average > 0 else 0
        requests = float(live.arrived) - live.ahead
        if not spoke and heard:
            spoke = True
            average = max(1.0, average)
            requests = float(live.arrived)
        else:
            average = max(0.0, average - live.ahead)
        live.heard = heard
        live.ahead = 0.0
        if spoke or pods_report:
            decisions.record(rules, memory, _ns(now), average, requests)
            return
    last, size = memory.scalars[0].stable_last, memory.stable.size
    if not scraped and decisions.is_empty(last, int(np.floor(now)), size, rules.stable_broken):
        # Where no pod is ever scraped, silence is no lack of data: nobody asks.
        decisions.record(rules, memory, _ns(now), 0.0, 0.0)


@compiled
def _decide(rules: Rules, memory: Memory, live: Record, now: float) -> None:
    live.decisions += 1
    if decisions.decide(rules, memory, live.ready, _ns(now)):
        live.wish = memory.scalars[0].desired
        live.excess = memory.scalars[0].excess_burst_capacity


@compiled
def _reconcile(rules: Rules, memory: Memory, path: Path, fleet: Pods, lines: Lines, live: Record, now: float) -> None:
    """Make pods of the last decision, and say whether the activator is in the path."""
    proxied_ns = _ns(now - live.proxied_since) if live.in_path else _ns(0.0)
    wanted = decisions.reconcile(
        rules, memory, live.wish >= 0, live.wish, live.ready, _ns(now), proxied_ns
    )  # fmt: skip
    # Without a ready pod all requests go through it, whatever the capacity.
    if live.ready == 0 or memory.scalars[0].want <= 0 or not live.excess > -1:
        if not live.in_path:
            live.proxied_since = now
        live.in_path = 1
    else:
        live.in_path = 0
    if wanted != NONE and wanted != live.set_to:
        live.set_to = wanted
        pods.scale(path, fleet, lines, live, wanted, now)
