"""How many pods a revision should have: Knative's decisions, one by one, each with its reason. Pure: no clock, no I/O.

`decide` turns what was scraped into a wish, before bounds; `reconcile` (of `knative.scale`) turns the wish into pods:
bounds, initial scale, and the long way to zero. The caller keeps the two states, passes the time in, and acts. Called
by `headrace.local.gateway.scaler` and by whatever replays traffic.

Source: knative/serving pkg/autoscaler/scaling/autoscaler.go (decide), pkg/autoscaler/metrics/collector.go (record),
pkg/reconciler/autoscaling/kpa/scaler.go and kpa.go (reconcile).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from knative import settings
from knative.literals import SECOND, format_duration, nanoseconds
from knative.scale import NO_TRAFFIC, Life, Plan, bounded, first_pods, reconcile
from knative.settings import Config, Spec, resolve
from knative.windows import Window

__all__ = [
    "NO_TRAFFIC", "Config", "Decision", "Life", "Observation", "Plan", "Scrape", "Spec", "State", "bounded", "decide",
    "first_pods", "reconcile", "record", "resolve", "respecified", "start",
]  # fmt: skip

SCRAPE_INTERVAL_S = 1.0
DECISION_INTERVAL_S = 2.0
_SLOT_S = 2  # the scale-down delay is counted in decision intervals
_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1


@dataclass(frozen=True, slots=True)
class Scrape:
    """What one second of a revision's pods looked like, all pods together.

    at_s: when, in seconds of the caller's clock. concurrency: requests in flight on average. requests: requests per
    second. proxied_*: the share of both that came through the activator, which has reported it already.
    """

    at_s: float
    concurrency: float
    requests: float = 0.0
    proxied_concurrency: float = 0.0
    proxied_requests: float = 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """What is seen at the moment of a decision. ready: pods ready now; scrapes: those since the last decision, in
    order.
    """

    ready: int
    scrapes: tuple[Scrape, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """All that one decision hands on to the next, for one revision.

    stable, panic: the averages of the spec's metric. panic_since_ns: last moment over the threshold, None when calm.
    panic_pods: the largest wish since panic began. delayed: (slot, pods) of the scale-down delay, descending pods.
    delay_slots: length of that delay; 0 without one.
    """

    spec: Spec
    stable: Window
    panic: Window
    panic_since_ns: int | None
    panic_pods: int
    delayed: tuple[tuple[int, int], ...]
    delay_slots: int


@dataclass(frozen=True, slots=True)
class Decision:
    """The wish of one moment. desired: pods before min-scale and max-scale; meaningless unless `valid`.

    excess_burst_capacity: requests that could still arrive at once beyond the target burst; below 0 the activator stays
    in the path. stable, panic: the averages it rests on. panicking: whether panic holds. reason: why, in words with the
    numbers.
    """

    valid: bool
    desired: int
    excess_burst_capacity: int
    stable: float
    panic: float
    panicking: bool
    reason: str


def start(spec: Spec, ready: int, now_s: float) -> State:
    """The state of an autoscaler that starts now and sees `ready` pods.

    Above one pod it starts in panic: a restarted autoscaler has no history, and panic keeps it from scaling down for
    lack of it.
    """
    return State(
        spec=spec,
        stable=_window(spec.stable_window_ns, spec.weighted),
        panic=_window(spec.panic_window_ns, spec.weighted),
        panic_since_ns=nanoseconds(now_s) if ready > 1 else None,
        panic_pods=ready,
        delayed=(),
        delay_slots=max(0, -(-spec.scale_down_delay_ns // (_SLOT_S * SECOND))),
    )


def respecified(state: State, spec: Spec, now_s: float) -> State:
    """The same history under another spec: a route came or went, or the ConfigMap changed. A delay keeps its first
    length.
    """
    if spec == state.spec:
        return state
    if spec.metric != state.spec.metric or spec.weighted != state.spec.weighted:
        return dataclasses.replace(start(spec, state.panic_pods, now_s), panic_since_ns=state.panic_since_ns)
    second = nanoseconds(now_s) // SECOND
    return dataclasses.replace(
        state,
        spec=spec,
        stable=_resized(state.stable, spec.stable_window_ns, second),
        panic=_resized(state.panic, spec.panic_window_ns, second),
    )


def record(state: State, scrape: Scrape) -> State:
    """The state with one scrape in its averages, without what the activator has already counted."""
    if state.spec.metric == settings.RPS:
        value = scrape.requests - scrape.proxied_requests
    else:
        value = scrape.concurrency - scrape.proxied_concurrency
    second = nanoseconds(scrape.at_s) // SECOND
    # A scrape that says nothing happened is data as well: it is a zero, not a gap.
    return dataclasses.replace(
        state, stable=state.stable.record(second, value), panic=state.panic.record(second, value)
    )


def decide(state: State, observation: Observation, now_s: float) -> tuple[State, Decision]:
    """The pods that the revision wants now, before its bounds, and the state for the next decision.

    Without a scrape within the stable window the decision is not valid and nothing changes.
    """
    for scrape in observation.scrapes:
        state = record(state, scrape)
    spec, now_ns = state.spec, nanoseconds(now_s)
    second = now_ns // SECOND
    if state.stable.is_empty(second):
        window = format_duration(spec.stable_window_ns)
        nothing = Decision(False, 0, 0, 0.0, 0.0, state.panic_since_ns is not None, f"no data in the last {window}")
        return state, nothing
    stable, panic = state.stable.average(second), state.panic.average(second)

    pods = max(1, observation.ready)
    # Up and down in steps of a factor, yet always by one pod at least: ceil(1.1 x 2) = 3.
    most = _whole(math.ceil, spec.max_scale_up_rate * pods)
    least = _whole(math.floor, pods / spec.max_scale_down_rate) if spec.reachable else 0.0
    stable_wish, panic_wish = _pods_for(stable, spec.target_value), _pods_for(panic, spec.target_value)
    for_stable, for_panic = _held(stable_wish, least, most), _held(panic_wish, least, most)
    if spec.activation_scale > 1:
        if stable_wish > 0:
            for_stable = max(for_stable, spec.activation_scale)
        if panic_wish > 0:
            for_panic = max(for_panic, spec.activation_scale)

    since, largest = state.panic_since_ns, state.panic_pods
    if panic_wish / pods >= spec.panic_threshold:
        since = now_ns
    elif since is not None and since + spec.stable_window_ns < now_ns:
        since, largest = None, 0

    wish = for_stable
    if since is not None:
        # Only up while it lasts. The stable wish may be the larger one, just after a surge.
        wish = largest = max(for_stable, for_panic, largest)
    delayed, desired = state.delayed, wish
    if spec.reachable and state.delay_slots:
        delayed = _delay(delayed, int(second) // _SLOT_S, wish, state.delay_slots)
        desired = delayed[0][1]

    decision = Decision(
        valid=True,
        desired=desired,
        excess_burst_capacity=_excess_burst_capacity(spec, observation.ready, panic),
        stable=stable,
        panic=panic,
        panicking=since is not None,
        reason=_reason(
            spec,
            observation.ready,
            stable,
            panic,
            stable_wish,
            panic_wish,
            least,
            most,
            since is not None,
            wish,
            desired,
        ),
    )
    return (
        dataclasses.replace(state, panic_since_ns=since, panic_pods=largest, delayed=delayed),
        decision,
    )


def _window(window_ns: int, weighted: bool) -> Window:
    return Window.empty(_buckets(window_ns), weighted, window_ns % SECOND != 0)


def _resized(window: Window, window_ns: int, second: int) -> Window:
    return window.resized(_buckets(window_ns), second, window_ns % SECOND != 0)


def _buckets(window_ns: int) -> int:
    return max(1, -(-window_ns // SECOND))


def _pods_for(value: float, target: float) -> float:
    """Pods that bring the average down to the target; up, not to nearest, or one pod's queue grows for ever."""
    return _whole(math.ceil, value / target)


def _whole(rounded: Callable[[float], int], value: float) -> float:
    """The value rounded; NaN and infinities, which the webhook and the ConfigMap let through, stay what they are."""
    return float(rounded(value)) if math.isfinite(value) else value


def _held(wish: float, least: float, most: float) -> int:
    """The wish between the two, as a number of pods.

    Exact also where something is NaN or beyond an int32: that is the smallest int32 to Go on amd64, and a wish below
    zero is no wish at all.
    """
    if math.inf in (wish, least):
        held = math.inf  # even beside NaN, to Go's math.Max
    elif math.isnan(wish) or math.isnan(least):
        held = math.nan
    else:
        held = max(wish, least)
    held = math.nan if math.isnan(most) else min(held, most)
    return int(held) if held <= _INT32_MAX else _INT32_MIN


def _delay(delayed: tuple[tuple[int, int], ...], slot: int, pods: int, slots: int) -> tuple[tuple[int, int], ...]:
    """The wishes of the last `slots` slots that can still be the largest, with this one at the end; the first is the
    answer.

    Source: pkg/autoscaler/aggregation/max/window.go, the ascending minima algorithm.
    """
    kept = [entry for entry in delayed if entry[1] > pods and slot - entry[0] < slots]
    if kept and kept[-1][0] == slot:
        return tuple(kept)  # two decisions in a slot: the larger one counts
    return (*kept, (slot, pods))


def _excess_burst_capacity(spec: Spec, ready: int, panic: float) -> int:
    # Not -1 alone: what the webhook refuses, Go also treats as unlimited.
    if spec.target_burst_capacity == 0:
        return 0
    if not spec.target_burst_capacity > 0:
        return -1
    excess = ready * spec.total_value - spec.target_burst_capacity - panic
    return math.floor(excess) if math.isfinite(excess) and abs(excess) < 2**31 else _INT32_MIN


def _reason(
    spec: Spec, ready: int, stable: float, panic: float, stable_wish: float, panic_wish: float, least: float,
    most: float, panicking: bool, wish: int, desired: int,
) -> str:  # fmt: skip
    """Why `desired`, for a person."""
    what = "requests per second" if spec.metric == settings.RPS else "in flight"
    use_panic = panicking and panic_wish >= stable_wish
    value, needed = (panic, panic_wish) if use_panic else (stable, stable_wish)
    window = format_duration(spec.panic_window_ns if use_panic else spec.stable_window_ns)
    have = f"{ready} {'is' if ready == 1 else 'are'} ready"
    # + 0.0: an average rounded from below zero is zero to a person, not -0.
    text = f"{'panic' if panicking else 'stable'}: {value + 0.0:.4g} {what} on average over the last {window}"
    text += f" would need {needed:.0f} {'pod' if needed == 1 else 'pods'} of {spec.target_value:.4g}, {have}"
    if needed > most:
        text += f"; at most {most:.0f} in one step"
    elif needed < least:
        text += f"; at least {least:.0f} in one step"
    if spec.activation_scale > max(1, needed) and needed > 0:
        text += f"; activation-scale {spec.activation_scale}"
    if panicking and wish > max(needed, least, spec.activation_scale if needed > 0 else 0):
        text += f"; panic never lowers, so {wish} stay"
    if desired > wish:
        text += f"; scale-down-delay keeps {desired}"
    return text
