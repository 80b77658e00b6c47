"""How many pods a revision should have: Knative's decisions, one at a time, each with its reason. Pure: no clock, no
I/O.

`decide` turns what was scraped into a wish, before bounds; `reconcile` turns the wish into pods: bounds, initial scale,
and the long way to zero. The caller keeps the two states, passes the time in, and acts. Called by
`headrace.local.scaler` and by whatever replays traffic.

Source: knative/serving pkg/autoscaler/scaling/autoscaler.go (decide), pkg/autoscaler/metrics/collector.go (record),
pkg/reconciler/autoscaling/kpa/scaler.go and kpa.go (reconcile).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from knative import settings
from knative.literals import SECOND, format_duration, nanoseconds
from knative.settings import Config, Spec, resolve
from knative.windows import Window

__all__ = [
    "Config", "Decision", "Life", "Observation", "Plan", "Scrape", "Spec", "State", "bounded", "decide", "reconcile",
    "record", "resolve", "respecified", "start",
]  # fmt: skip

SCRAPE_INTERVAL_S = 1.0
DECISION_INTERVAL_S = 2.0
# Knative's reason and message of condition Active, word for word: people and tools search for them.
QUEUED = ("Queued", "Requests to the target are being buffered as resources are provisioned.")
NO_TRAFFIC = ("NoTraffic", "The target is not receiving traffic.")
TIMED_OUT = ("TimedOut", "The target could not be activated.")
_SLOT_S = 2  # the scale-down delay is counted in decision intervals
_INT32_MIN = -(2**31)

Active = Literal["Unknown", "True", "False"]


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


@dataclass(frozen=True, slots=True)
class Life:
    """Where a revision stands between its first pod and none.

    active: condition Active of its PodAutoscaler, since_ns the moment it became so; initialized: whether the initial
    scale was reached once. reason and message are Knative's words for the condition.
    """

    active: Active = "Unknown"
    since_ns: int = 0
    initialized: bool = False
    reason: str = QUEUED[0]
    message: str = QUEUED[1]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. want: the desired scale to publish, -1 while unknown; pods: set so many, None to leave them be."""

    want: int
    pods: int | None
    reason: str


def start(spec: Spec, ready: int, now_s: float) -> State:
    """The state of an autoscaler that starts now and sees `ready` pods.

    Above one pod it starts in panic: a restarted autoscaler has no history, and panic keeps it from scaling down for
    lack of it.
    """
    return State(
        spec=spec,
        stable=Window.empty(_buckets(spec.stable_window_ns), spec.weighted),
        panic=Window.empty(_buckets(spec.panic_window_ns), spec.weighted),
        panic_since_ns=nanoseconds(now_s) if ready > 1 else None,
        panic_pods=ready,
        delayed=(),
        delay_slots=-(-spec.scale_down_delay_ns // (_SLOT_S * SECOND)),
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
        stable=state.stable.resized(_buckets(spec.stable_window_ns), second),
        panic=state.panic.resized(_buckets(spec.panic_window_ns), second),
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
    most = math.ceil(spec.max_scale_up_rate * pods)
    least = math.floor(pods / spec.max_scale_down_rate) if spec.reachable else 0
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


def bounded(spec: Spec, desired: int, initialized: bool) -> int:
    """`desired` held between min-scale and max-scale; the initial scale is a minimum until it was reached once."""
    low = max(0, spec.min_scale)
    if spec.initial_scale > 1 and not initialized and spec.reachable:
        low = max(low, spec.initial_scale)
    if desired < low:
        return low
    return spec.max_scale if 0 < spec.max_scale < desired else desired


def first_pods(spec: Spec) -> int:
    """Pods a new revision starts with, before anything was observed: its initial scale, within bounds."""
    pods = max(spec.initial_scale, spec.min_scale)
    return min(pods, spec.max_scale) if spec.max_scale > 0 else pods


def reconcile(
    spec: Spec, life: Life, desired: int | None, ready: int, now_s: float, proxied_for_s: float = 0.0
) -> tuple[Life, Plan]:
    """What to do about a decision: the pods to set, and the revision's life after it.

    desired: of the last valid decision, None before any. ready: pods ready now. proxied_for_s: how long all traffic has
    been going through the activator, as far as it is known; that time counts towards the grace period.
    """
    now_ns = nanoseconds(now_s)
    want = -1 if desired is None else desired
    if want < 0 and life.active != "Unknown":
        plan = Plan(-1, None, "no decision yet")
    else:
        want = bounded(spec, want, life.initialized)
        plan = Plan(want, want, _bound(spec, desired, want)) if want else _to_zero(spec, life, now_ns, proxied_for_s)
    return _aged(spec, life, plan.want, ready, now_ns), plan


def _bound(spec: Spec, desired: int | None, want: int) -> str:
    """Which bound made `want` of `desired`, in words."""
    if desired == want:
        return ""
    if desired is not None and desired > want:
        return f"max-scale {spec.max_scale} holds it at {want}"
    return f"{'min-scale' if want == spec.min_scale else 'initial-scale'} {want}"


def _to_zero(spec: Spec, life: Life, now_ns: int, proxied_for_s: float) -> Plan:
    """Zero is wanted; whether it is time. One pod stays until the revision was active for a whole stable window; then
    it is inactive, and the last pod goes after the grace period, or the pod retention where that is longer.
    """
    if not spec.scale_to_zero:
        return Plan(1, 1, "the last pod stays: enable-scale-to-zero is off")
    age = now_ns - life.since_ns
    if life.active == "Unknown":
        # 30 s more than the deadline, so that what went wrong can be told before the pods are gone.
        limit = spec.progress_deadline_ns + 30 * SECOND
        if age > limit:
            return Plan(0, 0, f"not ready after {format_duration(limit)}")
        return Plan(-1, None, "waiting for the first ready pod")
    if life.active == "True":
        if age >= spec.stable_window_ns:
            return Plan(0, None, "idle for a whole stable window")
        left = format_duration((spec.stable_window_ns - age) // SECOND * SECOND)
        return Plan(1, 1, f"idle; the last pod stays {left} longer, a stable window from its start")
    retention = spec.pod_retention_ns if spec.reachable else 0
    patience = max(spec.grace_period_ns, retention)
    grace_over = proxied_for_s > 0 and nanoseconds(proxied_for_s) >= spec.grace_period_ns and age >= retention
    if age >= patience or grace_over:
        return Plan(0, 0, f"inactive for {format_duration(age // SECOND * SECOND)}: the last pod goes")
    left = format_duration((patience - age) // SECOND * SECOND)
    return Plan(0, None, f"inactive; the last pod goes in {left}")


def _aged(spec: Spec, life: Life, want: int, ready: int, now_ns: int) -> Life:
    """The life after this moment. Source: kpa.go, the table above computeActiveCondition."""
    needed = max(spec.min_scale, 1 if life.initialized else spec.initial_scale)
    initialized = life.initialized or ready >= needed
    inactive = ("False", *NO_TRAFFIC)
    if want == 0 or needed == 0:
        timed_out = life.active == "Unknown" and needed > 0
        after = ("False", *TIMED_OUT) if timed_out else inactive
    elif want < 0 and life.active == "False":
        after = inactive
    elif ready < needed:
        after = ("Unknown", *QUEUED)
    else:
        after = ("True", "", "")
    active, reason, message = after
    if active == life.active:
        # A timeout stays told until something changes.
        keep = life.active == "False" and life.reason == TIMED_OUT[0]
        reason, message = (life.reason, life.message) if keep else (reason, message)
        return dataclasses.replace(life, initialized=initialized, reason=reason, message=message)
    return Life(_ACTIVE[active], now_ns, initialized, reason, message)


_ACTIVE: dict[str, Active] = {"Unknown": "Unknown", "True": "True", "False": "False"}


def _buckets(window_ns: int) -> int:
    return max(1, -(-window_ns // SECOND))


def _pods_for(value: float, target: float) -> float:
    """Pods that bring the average down to the target; up, not to nearest, or one pod's queue grows for ever. May be
    NaN.
    """
    pods = value / target
    return float(math.ceil(pods)) if math.isfinite(pods) else pods


def _held(wish: float, least: float, most: float) -> int:
    # NaN arises from a NaN target alone, which the webhook lets through: Go's int32(NaN) on amd64 is the smallest
    # number, and a wish below zero is no wish at all.
    return _INT32_MIN if math.isnan(wish) else int(min(max(wish, least), most, 2**31 - 1))


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
    spec: Spec, ready: int, stable: float, panic: float, stable_wish: float, panic_wish: float, least: int, most: int,
    panicking: bool, wish: int, desired: int,
) -> str:  # fmt: skip
    """Why `desired`, for a person."""
    what = "requests per second" if spec.metric == settings.RPS else "in flight"
    use_panic = panicking and panic_wish >= stable_wish
    value, needed = (panic, panic_wish) if use_panic else (stable, stable_wish)
    window = format_duration(spec.panic_window_ns if use_panic else spec.stable_window_ns)
    have = f"{ready} {'is' if ready == 1 else 'are'} ready"
    text = f"{'panic' if panicking else 'stable'}: {value:.4g} {what} on average over the last {window}"
    text += f" would need {needed:.0f} {'pod' if needed == 1 else 'pods'} of {spec.target_value:.4g}, {have}"
    if needed > most:
        text += f"; at most {most} in one step"
    elif needed < least:
        text += f"; at least {least} in one step"
    if spec.activation_scale > max(1, needed) and needed > 0:
        text += f"; activation-scale {spec.activation_scale}"
    if panicking and wish > max(needed, least, spec.activation_scale if needed > 0 else 0):
        text += f"; panic never lowers, so {wish} stay"
    if desired > wish:
        text += f"; scale-down-delay keeps {desired}"
    return text
