"""Requests of one simulated revision, compiled: who waits where, who is served until when, who gives up.

A request is the number of its row in the traffic. Lines are linked through one array, so that a line costs nothing
while it is empty and nothing is ever moved. Called by `headrace.tune.pods` and `headrace.tune.event_loop`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.tune.compiled import compiled, inlined
from headrace.tune.decisions import Floats, Record

Ints = NDArray[np.int64]
Ints32 = NDArray[np.int32]

CENTRAL = -1  # the line before all pods: the activator's
NOBODY = -1
OUT = np.inf  # the latency of a request that was not answered

LIVE = np.dtype(
    [
        ("now", np.float64),
        # Requests. held: in flight, waiting ones included.
        ("in_flight", np.int64),
        ("waiting", np.int64),
        ("central", np.int64),
        ("central_head", np.int64),
        ("central_tail", np.int64),
        ("oldest", np.int64),
        ("deadline_at", np.float64),
        ("departures", np.int64),
        # The look of the autoscaler: requests x seconds and arrivals since the last one.
        ("area", np.float64),
        ("changed", np.float64),
        ("looked", np.float64),
        ("arrived", np.int64),
        # What an activator tells: since when it has had requests, whether it has told of them, and of how many ahead.
        ("first", np.float64),
        ("heard", np.int64),
        ("ahead", np.float64),
        # Pods.
        ("alive", np.int64),
        ("ready", np.int64),
        ("free", np.int64),
        ("unused", np.int64),
        ("pod_at", np.float64),
        ("turn", np.int64),
        ("random", np.uint64),
        # The autoscaler's clock and wishes. slot: of the last decision, in intervals; set_to, wish: -1 before any;
        # excess: the last excess burst capacity; in_path: whether the activator is.
        ("tick_at", np.float64),
        ("slot", np.int64),
        ("excess", np.float64),
        ("set_to", np.int64),
        ("wish", np.int64),
        ("in_path", np.int64),
        ("proxied_since", np.float64),
        # What is counted.
        ("cold", np.int64),
        ("refused", np.int64),
        ("timed_out", np.int64),
        ("pod_seconds", np.float64),
        ("most_pods", np.int64),
        ("starts", np.int64),
        ("clipped", np.int64),
        ("decisions", np.int64),
    ]
)


class Requests(NamedTuple):
    """The traffic and where each request stands; all (n,) but `live`.

    latency_s: written when a request's end is known; OUT where it gets no answer. next: the one behind it in its line.
    where: the pod in whose line it waits, or CENTRAL. waits: 1 while it does. departs_at, departs_from: a heap of those
    being served, by time.
    """

    starts_s: Floats
    service_s: Floats
    latency_s: NDArray[np.float32]
    next: Ints32
    where: Ints32
    waits: NDArray[np.int8]
    departs_at: Floats
    departs_from: Ints32


class Lines(NamedTuple):
    """Each pod's requests: (pods,) arrays. held: being served or waiting there; busy: being served."""

    held: Ints
    busy: Ints
    head: Ints
    tail: Ints


@inlined
def change(live: Record, now: float, by: int) -> None:
    """`by` more requests are in flight from now on."""
    live.area += live.in_flight * (now - live.changed)
    live.changed = now
    live.in_flight += by


@inlined
def depart_later(requests: Requests, live: Record, at: float, pod: int) -> None:
    """Put a departure into the heap."""
    times, pods, hole = requests.departs_at, requests.departs_from, live.departures
    live.departures += 1
    while hole > 0:
        parent = (hole - 1) >> 1
        if times[parent] <= at:
            break
        times[hole] = times[parent]
        pods[hole] = pods[parent]
        hole = parent
    times[hole] = at
    pods[hole] = pod


@inlined
def next_departure(requests: Requests, live: Record) -> int:
    """Take the earliest departure out of the heap: its pod."""
    times, pods = requests.departs_at, requests.departs_from
    pod = pods[0]
    live.departures -= 1
    count = live.departures
    at, from_, hole = times[count], pods[count], 0
    while True:
        child = 2 * hole + 1
        if child >= count:
            break
        if child + 1 < count and times[child + 1] < times[child]:
            child += 1
        if at <= times[child]:
            break
        times[hole] = times[child]
        pods[hole] = pods[child]
        hole = child
    times[hole] = at
    pods[hole] = from_
    return int(pod)


@inlined
def serve(requests: Requests, lines: Lines, live: Record, request: int, pod: int, now: float, timeout_s: float) -> None:
    """The pod begins with a request that it holds already. One that would end after its deadline ends there, with
    504.
    """
    begun = requests.starts_s[request]
    end, deadline = now + requests.service_s[request], begun + timeout_s
    if end > deadline:
        end = max(now, deadline)
        requests.latency_s[request] = OUT
        live.timed_out += 1
    else:
        requests.latency_s[request] = end - begun
    lines.busy[pod] += 1
    depart_later(requests, live, end, pod)


@compiled
def wait(requests: Requests, lines: Lines, live: Record, request: int, where: int, timeout_s: float) -> None:
    """Stand at the end of a line."""
    requests.next[request] = NOBODY
    requests.where[request] = where
    requests.waits[request] = 1
    if where == CENTRAL:
        if live.central_head == NOBODY:
            live.central_head = request
        else:
            requests.next[live.central_tail] = request
        live.central_tail = request
        live.central += 1
    else:
        if lines.head[where] == NOBODY:
            lines.head[where] = request
        else:
            requests.next[lines.tail[where]] = request
        lines.tail[where] = request
    if live.waiting == 0:
        live.oldest = request
        live.deadline_at = requests.starts_s[request] + timeout_s
    live.waiting += 1


@compiled
def leave_central(requests: Requests, live: Record) -> int:
    """The first of the central line, out of it; NOBODY when it is empty. Who has given up is passed over."""
    while live.central_head != NOBODY:
        request = live.central_head
        live.central_head = requests.next[request]
        if requests.waits[request]:
            requests.waits[request] = 0
            live.waiting -= 1
            live.central -= 1
            return int(request)
    return NOBODY


@compiled
def leave_line(requests: Requests, lines: Lines, live: Record, pod: int) -> int:
    """The first of a pod's line, out of it; NOBODY when it is empty."""
    while lines.head[pod] != NOBODY:
        request = lines.head[pod]
        lines.head[pod] = requests.next[request]
        if requests.waits[request]:
            requests.waits[request] = 0
            live.waiting -= 1
            return int(request)
    return NOBODY


@compiled
def give_up(requests: Requests, live: Record, now: float, upto: int, timeout_s: float) -> int:
    """The longest waiting request gives up, if its time is over: it, or NOBODY, and the next deadline is set.

    upto: requests below it have arrived. All have the same patience, so the one that came first is the first to leave.
    """
    gone = NOBODY
    request = live.oldest
    while request < upto:
        if requests.waits[request]:
            deadline = requests.starts_s[request] + timeout_s
            if gone != NOBODY or deadline > now:
                live.oldest = request
                live.deadline_at = deadline
                return gone
            gone = request
            requests.waits[request] = 0
            requests.latency_s[request] = OUT
            live.waiting -= 1
            live.timed_out += 1
            if requests.where[request] == CENTRAL:
                live.central -= 1
        request += 1
    live.oldest = request
    live.deadline_at = np.inf
    return gone
