"""From the autoscaler's wish to pods: bounds, initial scale, and the long way to zero. Pure.

Called through `knative.autoscaler` by `headrace.local.gateway.scaler` and by whatever replays traffic; what it hands on
from one call to the next is a `Life`, which is also what a PodAutoscaler's condition Active tells.

Source: knative/serving pkg/reconciler/autoscaling/kpa/scaler.go (handleScaleToZero) and kpa.go
(computeActiveCondition).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from knative.literals import SECOND, format_duration, nanoseconds
from knative.settings import Spec

Active = Literal["Unknown", "True", "False"]

# Knative's reason and message of condition Active, word for word: people and tools search for them.
QUEUED = ("Queued", "Requests to the target are being buffered as resources are provisioned.")
NO_TRAFFIC = ("NoTraffic", "The target is not receiving traffic.")
TIMED_OUT = ("TimedOut", "The target could not be activated.")


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
    """What to do now. want: the desired scale to publish, -1 while unknown; pods: set so many, None: leave them be."""

    want: int
    pods: int | None
    reason: str


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
        after = inactive if ready < needed else (life.active, life.reason, life.message)
    elif ready < needed:
        after = ("Unknown", *QUEUED)
    else:
        after = ("True", "", "")
    active, reason, message = after
    # A condition dates from its last change in anything, its reason too: from a timeout, grace is counted anew.
    same = after == (life.active, life.reason, life.message)
    return Life(_ACTIVE[active], life.since_ns if same else now_ns, initialized, reason, message)


_ACTIVE: dict[str, Active] = {"Unknown": "Unknown", "True": "True", "False": "False"}
