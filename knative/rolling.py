"""The model's Deployment, read and changed, in clusters without Knative: which version it serves, how far it is. Pure.

Used by `functions.promoter.plain`. A version lies in an annotation of the pod template, so that each ReplicaSet has its
exact one, as a Revision has, and a re-applied manifest, which does not name the annotation, leaves it as it is.

Source: kubernetes/kubectl pkg/polymorphichelpers/rollout_status.go (when a rolling update is done).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Object = dict[str, Any]

MODEL_LABEL = "headrace.dev/model"
PINNED = "headrace.dev/pinned"
"""Of the pod template: `@VERSION`, as HEADRACE_MODELS takes it behind the model's name."""

Progress = Literal["rolling", "done", "failed"]


class Rollout(NamedTuple):
    """How far a rolling update is, and in whose words."""

    progress: Progress
    reason: str


def model_of(deployment: Object) -> str | None:
    """The model that a Deployment serves; None: it is no predictor of ours."""
    name: str | None = (deployment["metadata"].get("labels") or {}).get(MODEL_LABEL)
    return name


def version_of(deployment: Object) -> str | None:
    """The version that its template names; None before the first promotion."""
    pinned = (deployment["spec"]["template"]["metadata"].get("annotations") or {}).get(PINNED)
    return str(pinned).removeprefix("@") or None if pinned else None


def rollout_of(deployment: Object) -> Rollout:
    """How far the update to the newest template is. Without replicas, as an autoscaler may want it, it is done."""
    metadata, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        return Rollout("rolling", "its newest template has not been seen yet")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return Rollout("failed", str(condition.get("message") or "its pods did not become ready in time"))
    wanted, updated = spec.get("replicas", 1), status.get("updatedReplicas", 0)
    if updated < wanted:
        return Rollout("rolling", f"{updated} of {wanted} pods are new")
    if (old := status.get("replicas", 0) - updated) > 0:
        return Rollout("rolling", f"{old} old pods are still there")
    if (ready := status.get("availableReplicas", 0)) < updated:
        return Rollout("rolling", f"{ready} of {updated} new pods are available")
    return Rollout("done", f"{updated} pods are new and available")


def pin_patch(deployment: Object, version: str | None) -> Object:
    """The merge patch that rolls out `version`, None: whichever the store says serves; takes on this very one alone."""
    pinned = None if version is None else f"@{version}"
    return {
        "metadata": {"resourceVersion": deployment["metadata"]["resourceVersion"]},
        "spec": {"template": {"metadata": {"annotations": {PINNED: pinned}}}},
    }
