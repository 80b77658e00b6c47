"""The PodAutoscaler as an object: what it asks of the autoscaler, and what it is told of it. Pure.

Called by `headrace.local.gateway.scaler`.

Source: knative/serving pkg/apis/autoscaling/v1alpha1/pa_lifecycle.go and pkg/reconciler/autoscaling/kpa/kpa.go
(computeStatus).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headrace.local.objects.objects import Object, set_condition
from knative import settings
from knative.autoscaler import Decision, Life, Plan, Spec
from knative.literals import nanoseconds, parse_int

KIND = "PodAutoscaler"
REASON_ANNOTATION = "headrace.dev/decision"  # in status.annotations: the last change's reason, in words


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for one revision."""

    annotations: Mapping[str, str]
    container_concurrency: int
    reachable: bool

    @classmethod
    def of(cls, obj: Object) -> Wanted:
        spec = obj.get("spec") or {}
        annotations = obj["metadata"].get("annotations") or {}
        return cls(
            _never_at_zero(annotations) if settings.CLASS.read(annotations, str, "") == settings.HPA else annotations,
            int(spec.get("containerConcurrency") or 0),
            spec.get("reachability") != "Unreachable",
        )


def _never_at_zero(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """What class hpa is on a laptop: nobody measures CPU or memory here, so that metric and target say nothing, and
    requests in flight decide; it keeps a pod, as Kubernetes' autoscaler does.
    """
    without = {*settings.METRIC.names, *settings.TARGET.names, *settings.MIN_SCALE.names}
    kept = {key: value for key, value in annotations.items() if key not in without}
    return kept | {settings.MIN_SCALE.name: str(max(1, settings.MIN_SCALE.read(annotations, parse_int, 1)))}


def life_of(obj: Object, now_s: float) -> Life:
    """The life that a PodAutoscaler's status tells; a new one where it tells none."""
    conditions = {c["type"]: c for c in (obj.get("status") or {}).get("conditions") or ()}
    active = conditions.get("Active")
    if active is None or active["status"] not in ("True", "False", "Unknown"):
        return Life(since_ns=nanoseconds(now_s))
    try:
        since = datetime.fromisoformat(active["lastTransitionTime"]).timestamp()
    except (KeyError, ValueError):
        since = now_s
    initialized = conditions.get("ScaleTargetInitialized", {}).get("status") == "True"
    return Life(active["status"], nanoseconds(since), initialized, active.get("reason", ""), active.get("message", ""))


def told(obj: Object, life: Life, plan: Plan, ready: int, reason: str, now_s: float) -> Object | None:
    """The object with its status as it is now; None where nothing but the figures within the reason has changed."""
    status: dict[str, Any] = obj.get("status") or {}
    desired = status.get("desiredScale")
    wanted = plan.want if plan.want >= 0 else (desired if desired is not None else -1)
    initialized = "True" if life.initialized else "Unknown"
    overall = "Unknown" if life.active == "True" and not life.initialized else life.active
    generation = obj["metadata"].get("generation")
    before = (desired, status.get("actualScale"), status.get("observedGeneration"), *_conditions(status))
    if before == (wanted, ready, generation, life.active, overall, initialized):
        return None
    status |= {"desiredScale": wanted, "actualScale": ready, "observedGeneration": generation}
    at = datetime.fromtimestamp(now_s, UTC)
    set_condition(status, "Active", life.active, life.reason, life.message or reason, now=at)
    set_condition(status, "Ready", overall, life.reason, life.message, now=at)
    set_condition(status, "ScaleTargetInitialized", initialized, now=at)
    if reason:
        status.setdefault("annotations", {})[REASON_ANNOTATION] = reason
    return obj | {"status": status}


def report(spec: Spec, decision: Decision | None, plan: Plan | None, ready: int, proxied: bool, at_s: float) -> Object:
    """The last decision about a revision, in the words of its averages and as a sentence; for `headrace status`."""
    found: dict[str, Any] = {
        "metric": spec.metric,
        "target": spec.target_value,
        "desired": None if plan is None or plan.want < 0 else plan.want,
        "actual": ready,
        "activatorInPath": proxied,
        "reason": why(decision, plan),
    }
    if decision is None:
        return found
    found |= {
        "decidedAt": datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "mode": "panic" if decision.panicking else "stable",
    }
    if decision.valid:
        found |= {
            "stable": decision.stable,
            "panic": decision.panic,
            "excessBurstCapacity": decision.excess_burst_capacity,
        }
    return found


def why(decision: Decision | None, plan: Plan | None) -> str:
    """The reasons of the decision and of what was made of it, in one line."""
    parts = [decision.reason if decision else "", plan.reason if plan else ""]
    return "; ".join(part for part in parts if part)


def _conditions(status: Mapping[str, Any]) -> tuple[str | None, ...]:
    values = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    return values.get("Active"), values.get("Ready"), values.get("ScaleTargetInitialized")
