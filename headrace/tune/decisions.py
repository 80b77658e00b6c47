"""`knative.autoscaler`, compiled: the same record, decide and reconcile, for millions of simulated seconds.

A twin, not a second reading of the rules: each function stands for the one of the same name in `knative.windows`,
`knative.autoscaler` and `knative.scale`, without its reasons in words, in the same order of operations. Tests compare
the two decision by decision, on Knative's recorded ones and on drawn ones. A rule changes there first.
"""

from __future__ import annotations

from typing import Any, NamedTuple, get_type_hints

import numpy as np
from numpy.typing import NDArray

from headrace.tune.compiled import compiled, inlined
from knative import autoscaler
from knative import settings as autoscaler_settings
from knative.autoscaler import Spec
from knative.literals import SECOND
from knative.windows import Window

Floats = NDArray[np.float64]
Record = Any
"""One element of an array of `MEMORY`: fields are read and written as attributes, in place."""

NEVER = -(2**62)  # a moment before any, for None
NONE = -1  # pods: leave them be
_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
_SLOT_S = 2

# Life.active, and of its False two reasons: NoTraffic and TimedOut. A change between them is a change.
UNKNOWN, ACTIVE, INACTIVE, TIMED_OUT = 0, 1, 2, 3

MEMORY = np.dtype(
    [
        *((f"{window}_{field}", np.int64) for window in ("stable", "panic") for field in ("first", "last")),
        ("stable_total", np.float64),
        ("panic_total", np.float64),
        ("panic_since", np.int64),
        ("panic_pods", np.int64),
        ("delay_head", np.int64),
        ("delay_count", np.int64),
        ("active", np.int64),
        ("active_since", np.int64),
        ("initialized", np.int64),
        # Of the last decision:
        ("valid", np.int64),
        ("desired", np.int64),
        ("excess_burst_capacity", np.int64),
        ("stable_average", np.float64),
        ("panic_average", np.float64),
        ("panicking", np.int64),
        # Of the last reconciliation:
        ("want", np.int64),
        ("pods", np.int64),
    ]
)


DERIVED = ("rps", "stable_broken", "panic_broken", "delay_slots")  # fields of Rules that are made of the spec's


class Rules(NamedTuple):
    """A `knative.autoscaler.Spec` in numbers; the fields of the same names."""

    rps: bool
    weighted: bool
    target_value: float
    total_value: float
    target_burst_capacity: float
    panic_threshold: float
    stable_window_ns: int
    stable_broken: bool
    panic_broken: bool
    delay_slots: int
    max_scale_up_rate: float
    max_scale_down_rate: float
    min_scale: int
    max_scale: int
    initial_scale: int
    activation_scale: int
    reachable: bool
    scale_to_zero: bool
    grace_period_ns: int
    pod_retention_ns: int
    progress_deadline_ns: int

    @classmethod
    def of(cls, spec: Spec) -> Rules:
        """The rules of a spec."""
        begun = autoscaler.start(spec, 0, 0.0)
        return cls(
            rps=spec.metric == autoscaler_settings.RPS,
            stable_broken=begun.stable.broken,
            panic_broken=begun.panic.broken,
            delay_slots=begun.delay_slots,
            **{name: type_(getattr(spec, name)) for name, type_ in _same_fields().items()},
        )


def _same_fields() -> dict[str, type]:
    """What Rules takes over from Spec, and its type: machine code is made for one set of types."""
    return {name: t for name, t in get_type_hints(Rules).items() if name not in DERIVED}


class Memory(NamedTuple):
    """What one decision hands on to the next: `knative.autoscaler.State` and `Life`, in arrays that are written in
    place.

    scalars: (1,) MEMORY. stable, panic: (seconds,) the rings. *_weights: (seconds + 1,) the newest second's weight
    after so many silent seconds, empty for linear averages. delay_*: (delay_slots + 1,) a ring.
    """

    scalars: NDArray[np.void]
    stable: Floats
    panic: Floats
    stable_weights: Floats
    panic_weights: Floats
    delay_slot: NDArray[np.int64]
    delay_pods: NDArray[np.int64]


def start(spec: Spec, ready: int, now_ns: int) -> Memory:
    """The memory of an autoscaler that starts now and sees `ready` pods, and of a revision whose life begins now."""
    begun = autoscaler.start(spec, ready, now_ns / SECOND)
    scalars = np.zeros(1, MEMORY)
    scalars["stable_last"] = scalars["panic_last"] = NEVER
    scalars["panic_since"] = NEVER if begun.panic_since_ns is None else now_ns
    scalars["panic_pods"] = begun.panic_pods
    scalars["active_since"] = now_ns
    return Memory(
        scalars=scalars,
        stable=np.zeros(len(begun.stable.buckets)),
        panic=np.zeros(len(begun.panic.buckets)),
        stable_weights=_weights(begun.stable),
        panic_weights=_weights(begun.panic),
        delay_slot=np.zeros(begun.delay_slots + 1, np.int64),
        delay_pods=np.zeros(begun.delay_slots + 1, np.int64),
    )


def _weights(window: Window) -> Floats:
    """Asked of the original: a window that holds a single 1 answers with that second's weight."""
    if not window.weighted:
        return np.zeros(0)
    one = window.record(0, 1.0)
    return np.array([one.average(silent) for silent in range(len(window.buckets))] + [0.0])


@compiled
def record(rules: Rules, memory: Memory, now_ns: int, concurrency: float, requests: float) -> None:
    """Put one scrape into both averages."""
    m = memory.scalars[0]
    value = requests if rules.rps else concurrency
    second = now_ns // 1_000_000_000
    m.stable_first, m.stable_last, m.stable_total = _recorded(
        memory.stable, m.stable_first, m.stable_last, m.stable_total, second, value
    )
    m.panic_first, m.panic_last, m.panic_total = _recorded(
        memory.panic, m.panic_first, m.panic_last, m.panic_total, second, value
    )


@inlined
def _recorded(
    buckets: Floats, first: int, last: int, total: float, second: int, value: float
) -> tuple[int, int, float]:
    size = buckets.size
    if last == NEVER or second - last >= size:
        buckets[:] = 0.0
        buckets[second % size] = value
        return second, second, value
    if second <= last - size:
        return first, last, total
    if second != last and second < first:
        first = second
    for skipped in range(last + 1, second + 1):
        total -= buckets[skipped % size]
        buckets[skipped % size] = 0.0
    buckets[second % size] += value
    return first, max(last, second), total + value


@inlined
def is_empty(last: int, second: int, size: int, broken: bool) -> bool:
    """Whether a window of `size` seconds, whose last write was at `last`, has nothing to say."""
    return last == NEVER or second - last > (size - 1 if broken else size)


@inlined
def _average(
    buckets: Floats, weights: Floats, first: int, last: int, total: float, second: int, weighted: bool, broken: bool
) -> float:
    size, silent = buckets.size, second - last
    if is_empty(last, second, size, broken):
        return 0.0
    if weighted:
        silent = max(0, silent)
        weight, left = weights[silent], 1 - weights[0]
        result = 0.0
        for age in range(size - silent):
            result += buckets[(last - age) % size] * weight
            weight *= left
        return result
    if silent >= size:
        return 0.0
    for skipped in range(last + 1, second + 1):
        total -= buckets[skipped % size]
    return _rounded(total / min(last - first + 1, size - max(0, silent)))


@inlined
def _rounded(value: float) -> float:
    scaled = value * 1e6
    if not np.isfinite(scaled):
        return value
    whole = np.floor(abs(scaled))
    if abs(scaled) - whole >= 0.5:
        whole += 1
    return float(np.copysign(whole / 1e6, scaled))


@compiled
def decide(rules: Rules, memory: Memory, ready: int, now_ns: int) -> bool:
    """One decision, left in the memory's scalars; False where it is not valid, for lack of data."""
    m = memory.scalars[0]
    second = now_ns // 1_000_000_000
    if is_empty(m.stable_last, second, memory.stable.size, rules.stable_broken):
        m.valid = 0
        m.panicking = 1 if m.panic_since != NEVER else 0
        return False
    stable = _average(
        memory.stable, memory.stable_weights, m.stable_first, m.stable_last, m.stable_total, second, rules.weighted,
        rules.stable_broken,
    )  # fmt: skip
    panic = _average(
        memory.panic, memory.panic_weights, m.panic_first, m.panic_last, m.panic_total, second, rules.weighted,
        rules.panic_broken,
    )  # fmt: skip
    pods = max(1, ready)
    most = float(np.ceil(rules.max_scale_up_rate * pods))
    least = float(np.floor(pods / rules.max_scale_down_rate)) if rules.reachable else 0.0
    # ceil and floor leave NaN and infinities what they are.
    stable_wish, panic_wish = float(np.ceil(stable / rules.target_value)), float(np.ceil(panic / rules.target_value))
    for_stable, for_panic = _held(stable_wish, least, most), _held(panic_wish, least, most)
    if rules.activation_scale > 1:
        if stable_wish > 0:
            for_stable = max(for_stable, rules.activation_scale)
        if panic_wish > 0:
            for_panic = max(for_panic, rules.activation_scale)

    if panic_wish / pods >= rules.panic_threshold:
        m.panic_since = now_ns
    elif m.panic_since != NEVER and m.panic_since + rules.stable_window_ns < now_ns:
        m.panic_since = NEVER
        m.panic_pods = 0

    wish = for_stable
    if m.panic_since != NEVER:
        wish = max(for_stable, for_panic, m.panic_pods)
        m.panic_pods = wish
    if rules.reachable and rules.delay_slots > 0:
        wish = _delay(memory, second // _SLOT_S, wish, rules.delay_slots)
    m.valid = 1
    m.desired = wish
    m.excess_burst_capacity = _excess_burst_capacity(rules, ready, panic)
    m.stable_average = stable
    m.panic_average = panic
    m.panicking = 1 if m.panic_since != NEVER else 0
    return True


@inlined
def _held(wish: float, least: float, most: float) -> int:
    if wish == np.inf or least == np.inf:
        held = np.inf
    elif np.isnan(wish) or np.isnan(least):
        held = np.nan
    else:
        held = max(wish, least)
    held = np.nan if np.isnan(most) else min(held, most)
    return int(held) if held <= _INT32_MAX else _INT32_MIN


@compiled
def _delay(memory: Memory, slot: int, pods: int, slots: int) -> int:
    """The largest wish of the last `slots` slots, this one included."""
    m, size = memory.scalars[0], memory.delay_slot.size
    head, count = m.delay_head, m.delay_count
    while count and slot - memory.delay_slot[head % size] >= slots:
        head, count = head + 1, count - 1
    while count and memory.delay_pods[(head + count - 1) % size] <= pods:
        count -= 1
    if not (count and memory.delay_slot[(head + count - 1) % size] == slot):
        memory.delay_slot[(head + count) % size] = slot
        memory.delay_pods[(head + count) % size] = pods
        count += 1
    m.delay_head = head % size
    m.delay_count = count
    return int(memory.delay_pods[head % size])


@inlined
def _excess_burst_capacity(rules: Rules, ready: int, panic: float) -> int:
    if rules.target_burst_capacity == 0:
        return 0
    if not rules.target_burst_capacity > 0:
        return -1
    excess = ready * rules.total_value - rules.target_burst_capacity - panic
    return int(np.floor(excess)) if np.isfinite(excess) and abs(excess) < 2.0**31 else _INT32_MIN


@compiled
def reconcile(
    rules: Rules, memory: Memory, desired_known: bool, desired: int, ready: int, now_ns: int, proxied_for_ns: int
) -> int:
    """The pods to set, NONE to leave them be; what is wanted stands in the memory's scalars, -1 while unknown."""
    m = memory.scalars[0]
    want = desired if desired_known else -1
    pods = NONE
    if want < 0 and m.active != UNKNOWN:
        want = -1
    else:
        low = max(0, rules.min_scale)
        if rules.initial_scale > 1 and not m.initialized and rules.reachable:
            low = max(low, rules.initial_scale)
        if want < low:
            want = low
        elif 0 < rules.max_scale < want:
            want = rules.max_scale
        pods = want
        if want == 0:
            want, pods = _to_zero(rules, m, now_ns, proxied_for_ns)
    _age(rules, m, want, ready, now_ns)
    m.want = want
    m.pods = pods
    return pods


@compiled
def _to_zero(rules: Rules, m: Record, now_ns: int, proxied_for_ns: int) -> tuple[int, int]:
    if not rules.scale_to_zero:
        return 1, 1
    age = now_ns - m.active_since
    if m.active == UNKNOWN:
        return (0, 0) if age > rules.progress_deadline_ns + 30 * 1_000_000_000 else (-1, NONE)
    if m.active == ACTIVE:
        return (0, NONE) if age >= rules.stable_window_ns else (1, 1)
    retention = rules.pod_retention_ns if rules.reachable else 0
    grace_over = proxied_for_ns > 0 and proxied_for_ns >= rules.grace_period_ns and age >= retention
    return (0, 0) if age >= max(rules.grace_period_ns, retention) or grace_over else (0, NONE)


@inlined
def _age(rules: Rules, m: Record, want: int, ready: int, now_ns: int) -> None:
    needed = max(rules.min_scale, 1 if m.initialized else rules.initial_scale)
    if ready >= needed:
        m.initialized = 1
    if want == 0 or needed == 0:
        after = TIMED_OUT if m.active == UNKNOWN and needed > 0 else INACTIVE
    elif want < 0 and m.active >= INACTIVE:
        after = INACTIVE if ready < needed else m.active
    elif ready < needed:
        after = UNKNOWN
    else:
        after = ACTIVE
    if after != m.active:
        m.active = after
        m.active_since = now_ns
