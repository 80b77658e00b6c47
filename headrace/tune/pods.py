"""Pods of one simulated revision, compiled: they start, take requests, drain and end.

A pod is the number of its row in `Pods`; rows are used again. Called by `headrace.tune.event_loop`.

Source: knative/serving pkg/activator/net/lb_policy.go and throttler.go (who gets a request), pkg/queue/breaker.go (its
line); kubernetes pkg/controller (which pods go first).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from headrace.tune import queues
from headrace.tune.compiled import compiled, inlined
from headrace.tune.decisions import Floats, Record
from headrace.tune.queues import CENTRAL, NOBODY, Ints, Lines, Requests

MAX_PODS = 5_000  # alive at once; Kubernetes itself is built for 5,000 nodes

FREE, STARTING, READY, DRAINING = 0, 1, 2, 3


class Path(NamedTuple):
    """How requests reach pods, in numbers; see `headrace.tune.world.World`.

    limit: containerConcurrency, 0 for none. places: requests that a pod serves at once, the others it holds wait inside
    it. pod_line, central_line, central_line_per_pod, central_line_min: how many may wait.
    """

    laptop: bool
    limit: int
    places: int
    timeout_s: float
    stop_s: float
    end_s: float
    pod_line: int
    central_line: int
    central_line_per_pod: int


class Pods(NamedTuple):
    """(MAX_PODS,) each. alive: starting or ready ones, oldest first, live.alive of them; ready: those that take
    requests, live.ready of them; unused: free rows, live.unused of them. lives: (bins, 2) pods x seconds and the width
    of a bin in its second column's first row.
    """

    phase: Ints
    created_at: Floats
    ready_at: Floats
    told_at: Floats
    alive: Ints
    ready: Ints
    unused: Ints
    bins: Floats
    cold_starts_s: Floats


@inlined
def random_below(live: Record, count: int) -> Any:
    """A whole number from 0 up to `count`, not included. Source: Steele et al., SplitMix64 (2014)."""
    live.random += np.uint64(0x9E3779B97F4A7C15)
    z = live.random
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.int64((z >> np.uint64(32)) * np.uint64(count) >> np.uint64(32))


@inlined
def take(path: Path, lines: Lines, live: Record, pod: int) -> None:
    """The pod holds one request more."""
    lines.held[pod] += 1
    if path.limit and lines.held[pod] == path.limit:
        live.free -= 1


@inlined
def put_back(path: Path, pods: Pods, lines: Lines, live: Record, pod: int) -> None:
    """The pod holds one request less."""
    lines.held[pod] -= 1
    if path.limit and lines.held[pod] == path.limit - 1 and pods.phase[pod] == READY:
        live.free += 1


@inlined
def hand(path: Path, requests: Requests, lines: Lines, live: Record, request: int, pod: int, now: float) -> None:
    """Give a request to a pod: it is served at once, or waits in the pod's own line."""
    take(path, lines, live, pod)
    if lines.busy[pod] < path.places:
        queues.serve(requests, lines, live, request, pod, now, path.timeout_s)
    else:
        queues.wait(requests, lines, live, request, pod, path.timeout_s)


@inlined
def choose(path: Path, pods: Pods, lines: Lines, live: Record) -> int:
    """The pod that gets the next request; the caller has seen that one is free, or sends without looking.

    laptop: the least loaded. Knative's activator: of two random ones the less loaded without a limit, the first free
    one with a limit of 3 at most, else each in turn. Past the activator: the less loaded of two random ones.
    """
    count = live.ready
    if count == 1:
        return int(pods.ready[0])
    if path.laptop:
        best, load = NOBODY, 0
        live.turn = (live.turn + 1) % count
        for step in range(count):
            at = live.turn + step
            pod = pods.ready[at if at < count else at - count]
            held = lines.held[pod]
            if path.limit and held >= path.limit:
                continue
            if best == NOBODY or held < load:
                best, load = pod, held
                if load == 0:
                    break
        return int(best)
    if path.limit == 0 or not live.in_path:
        first = random_below(live, count)
        second = random_below(live, count - 1)
        if second >= first:
            second += 1
        one, other = pods.ready[first], pods.ready[second]
        return int(one if lines.held[one] <= lines.held[other] else other)
    begin = 0
    if path.limit > 3:
        live.turn = (live.turn + 1) % count
        begin = live.turn
    for step in range(count):
        pod = pods.ready[(begin + step) % count]
        if lines.held[pod] < path.limit:
            return int(pod)
    return NOBODY


@inlined
def arrive(path: Path, requests: Requests, pods: Pods, lines: Lines, live: Record, request: int, now: float) -> None:
    """A request comes: it is served, waits, or is refused with 503."""
    queues.change(live, now, 1)
    if live.arrived == 0 and live.in_flight == 1 and live.area == 0.0:
        live.first = now
    live.arrived += 1
    if live.ready == 0:
        live.cold += 1
    elif not (path.laptop or live.in_path):
        pod = choose(path, pods, lines, live)
        if path.limit and lines.held[pod] >= path.limit + path.pod_line:
            refuse(requests, live, request, now)
        else:
            hand(path, requests, lines, live, request, pod, now)
        return
    elif live.central == 0 and live.free > 0:
        hand(path, requests, lines, live, request, choose(path, pods, lines, live), now)
        return
    if live.central >= max(path.central_line, path.central_line_per_pod * max(1, live.ready)):
        refuse(requests, live, request, now)
    else:
        queues.wait(requests, lines, live, request, CENTRAL, path.timeout_s)


@compiled
def refuse(requests: Requests, live: Record, request: int, now: float) -> None:
    """503 at once."""
    queues.change(live, now, -1)
    requests.latency_s[request] = queues.OUT
    live.refused += 1


@compiled
def flush(path: Path, requests: Requests, pods: Pods, lines: Lines, live: Record, now: float) -> None:
    """As many of the central line as there are free places go on."""
    while live.central > 0 and live.free > 0:
        request = queues.leave_central(requests, live)
        if request == NOBODY:
            return
        pod = choose(path, pods, lines, live)
        if path.limit and lines.held[pod] >= path.limit:
            # Two random ones may both be full while a third is free: then the first that is.
            for at in range(live.ready):
                if lines.held[pods.ready[at]] < path.limit:
                    pod = pods.ready[at]
                    break
        hand(path, requests, lines, live, request, int(pod), now)


@inlined
def depart(path: Path, requests: Requests, pods: Pods, lines: Lines, live: Record, pod: int, now: float) -> None:
    """A pod is done with a request: the next of its own line, else of the central one, has the place."""
    queues.change(live, now, -1)
    lines.busy[pod] -= 1
    put_back(path, pods, lines, live, pod)
    if lines.head[pod] != NOBODY:
        request = queues.leave_line(requests, lines, live, pod)
        if request != NOBODY:
            queues.serve(requests, lines, live, request, pod, now, path.timeout_s)
    if live.central > 0:
        flush(path, requests, pods, lines, live, now)
    if pods.phase[pod] == DRAINING and lines.held[pod] == 0:
        end(path, pods, live, pod, now)


@compiled
def give_up(path: Path, requests: Requests, pods: Pods, lines: Lines, live: Record, now: float, upto: int) -> None:
    """The deadline of the longest waiting request: it leaves with 504."""
    request = queues.give_up(requests, live, now, upto, path.timeout_s)
    if request == NOBODY:
        return
    queues.change(live, now, -1)
    pod = requests.where[request]
    if pod != CENTRAL:
        put_back(path, pods, lines, live, pod)
        if pods.phase[pod] == DRAINING and lines.held[pod] == 0:
            end(path, pods, live, pod, now)
        flush(path, requests, pods, lines, live, now)


@compiled
def scale(path: Path, pods: Pods, lines: Lines, live: Record, wanted: int, now: float) -> None:
    """Make the pods that are missing, end those too many: starting ones first, then the younger."""
    if wanted > MAX_PODS:
        live.clipped = 1
        wanted = MAX_PODS
    while live.alive < wanted and live.unused > 0:
        live.unused -= 1
        pod = pods.unused[live.unused]
        pods.phase[pod] = STARTING
        pods.created_at[pod] = now
        pods.ready_at[pod] = now + pods.cold_starts_s[random_below(live, pods.cold_starts_s.size)]
        pods.alive[live.alive] = pod
        live.alive += 1
        live.starts += 1
    for phase in (STARTING, READY):
        at = live.alive - 1
        while live.alive > wanted and at >= 0:
            pod = pods.alive[at]
            if pods.phase[pod] == phase:
                live.alive -= 1
                for behind in range(at, live.alive):
                    pods.alive[behind] = pods.alive[behind + 1]
                stop(path, pods, lines, live, pod, now)
            at -= 1
    settle(path, pods, lines, live)


@compiled
def settle(path: Path, pods: Pods, lines: Lines, live: Record) -> None:
    """Look anew at which pods are ready, how many have a place, and when the next one is ready."""
    live.ready = 0
    live.free = 0
    live.pod_at = np.inf
    for at in range(live.alive):
        pod = pods.alive[at]
        if pods.phase[pod] == READY:
            pods.ready[live.ready] = pod
            live.ready += 1
            if path.limit == 0 or lines.held[pod] < path.limit:
                live.free += 1
        elif pods.ready_at[pod] < live.pod_at:
            live.pod_at = pods.ready_at[pod]
    live.most_pods = max(live.most_pods, live.alive)


@compiled
def become_ready(path: Path, pods: Pods, lines: Lines, live: Record, now: float) -> None:
    """Pods whose start is over take requests from now on."""
    for at in range(live.alive):
        pod = pods.alive[at]
        if pods.phase[pod] == STARTING and pods.ready_at[pod] <= now:
            pods.phase[pod] = READY
    settle(path, pods, lines, live)


@compiled
def stop(path: Path, pods: Pods, lines: Lines, live: Record, pod: int, now: float) -> None:
    """A pod is told to end: no request more; what it holds goes on."""
    pods.phase[pod] = DRAINING
    pods.told_at[pod] = now
    if lines.held[pod] == 0:
        end(path, pods, live, pod, now)


@compiled
def end(path: Path, pods: Pods, live: Record, pod: int, now: float) -> None:
    """A pod is empty, and over after its time to stop."""
    over = max(now, pods.told_at[pod] + path.stop_s)
    count_life(path, pods, live, pods.created_at[pod], over)
    pods.phase[pod] = FREE
    pods.unused[live.unused] = pod
    live.unused += 1


@compiled
def count_life(path: Path, pods: Pods, live: Record, begun: float, over: float) -> None:
    """Count a pod's time within the traffic's, as a whole and bin by bin."""
    over = min(over, path.end_s)
    if over <= begun:
        return
    live.pod_seconds += over - begun
    width = path.end_s / pods.bins.size
    first, last = int(begun / width), min(int(over / width), pods.bins.size - 1)
    for at in range(first, last + 1):
        pods.bins[at] += min(over, (at + 1) * width) - max(begun, at * width)
