"""Knative Revision: its PodAutoscaler, its first Pods, and whether it can serve.

Source: knative/serving pkg/reconciler/revision (reconcile_resources.go, resources/pa.go) and pkg/apis/serving/v1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from headrace.local.controllers.controller import Context, condition, controlled_by
from headrace.local.controllers.replicas import Replicas
from headrace.local.controllers.services import ACTIVE, RESERVE, ROUTING_STATE, summary
from headrace.local.objects.objects import Object, set_condition
from headrace.local.pods import pod_status

INITIAL_SCALE = "autoscaling.knative.dev/initial-scale"
MIN_SCALE = "autoscaling.knative.dev/min-scale"
PROGRESS_DEADLINE = "serving.knative.dev/progress-deadline"
PROGRESS_DEADLINE_S = 600.0  # config-deployment: progress-deadline
DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
REACHABILITY = {ACTIVE: "Reachable", RESERVE: "Unreachable"}


@dataclass(frozen=True, slots=True)
class Health:
    """One of a Revision's conditions: its status ("True", "False", "Unknown"), reason and message."""

    status: str
    reason: str = ""
    message: str = ""


class Revisions:
    """Makes each Revision's PodAutoscaler, asks for its first Pods, replaces lost ones, and says how it is."""

    def __init__(self, context: Context, replicas: Replicas, progress_deadline_s: float = PROGRESS_DEADLINE_S) -> None:
        self._objects = context.objects
        self._clock = context.clock
        self._replicas = replicas
        self._progress_deadline_s = progress_deadline_s
        # When this platform first saw the Revision: time during which no platform ran is not held against it.
        self._seen: dict[tuple[str, str], datetime] = {}

    def reconcile(self, namespace: str, name: str) -> float | None:
        revision = self._objects.get("Revision", namespace, name)
        if revision is None:
            self._seen.pop((namespace, name), None)
            self._replicas.forget(namespace, name)
            return None
        if "deletionTimestamp" in revision["metadata"]:
            return None
        now = self._clock()
        autoscaler = self._autoscaler(revision)
        if self._replicas.desired(namespace, name) is None:
            self._replicas.scale(namespace, name, first_scale(revision, autoscaler))
        else:
            self._replicas.reconcile(namespace, name)
        waited_s = (now - self._seen.setdefault((namespace, name), now)).total_seconds()
        deadline_s = _duration_s(_annotation(revision, PROGRESS_DEADLINE)) or self._progress_deadline_s
        pods = self._replicas.pods(namespace, name)
        containers, resources = health(revision, pods, waited_s, deadline_s)
        self._set_status(revision, autoscaler, pods, containers, resources, now)
        waiting = containers.status == "Unknown" or resources.status == "Unknown"
        return max(deadline_s - waited_s, 0.0) + 0.01 if waiting else None

    def _autoscaler(self, revision: Object) -> Object:
        """The Revision's PodAutoscaler; its status is the scaler's."""
        meta = revision["metadata"]
        wanted: Object = {
            "apiVersion": "autoscaling.internal.knative.dev/v1alpha1",
            "kind": "PodAutoscaler",
            "metadata": {
                "name": meta["name"],
                "namespace": meta["namespace"],
                "labels": {**meta["labels"], "app": meta["name"]},
                "annotations": dict(meta.get("annotations") or {}),
                "ownerReferences": controlled_by(revision),
            },
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"{meta['name']}-deployment"},
                "protocolType": "http1",
                "reachability": REACHABILITY.get(meta["labels"].get(ROUTING_STATE, ""), "Unknown"),
                "containerConcurrency": revision["spec"]["containerConcurrency"],
            },
        }
        found = self._objects.get("PodAutoscaler", meta["namespace"], meta["name"])
        if found is None:
            return self._objects.create(wanted)
        wanted["metadata"] = {**found["metadata"], **wanted["metadata"]}
        return self._objects.update({**wanted, "status": found.get("status") or {}})

    def _set_status(
        self,
        revision: Object,
        autoscaler: Object,
        pods: list[Object],
        containers: Health,
        resources: Health,
        now: datetime,
    ) -> None:
        status: Object = revision.get("status") or {}
        found = {"ContainerHealthy": containers, "ResourcesAvailable": resources}
        for type, of in found.items():
            set_condition(status, type, of.status, of.reason, of.message, now=now)
        worst = summary([condition({"status": status}, type) for type in found])
        set_condition(status, "Ready", worst["status"], worst.get("reason", ""), worst.get("message", ""), now=now)
        active = condition(autoscaler, "Active")
        set_condition(status, "Active", active["status"], active.get("reason", ""), active.get("message", ""), now=now)
        status["actualReplicas"] = sum(pod_status.is_ready(pod) for pod in pods)
        status["desiredReplicas"] = self._replicas.desired(revision["metadata"]["namespace"], _name(revision)) or 0
        status["containerStatuses"] = [
            {"name": described.get("name", "")} for described in revision["spec"].get("containers") or []
        ]
        status["observedGeneration"] = revision["metadata"]["generation"]
        self._objects.update({**revision, "status": status}, subresource="status")


def first_scale(revision: Object, autoscaler: Object) -> int:
    """Pods to begin with: a new Revision proves that it starts; a known one goes on with what it last had. Pure."""
    routing = revision["metadata"]["labels"].get(ROUTING_STATE)
    if routing == RESERVE:
        return 0
    minimum = int(_annotation(revision, MIN_SCALE) or 0)
    if condition(revision, "Ready")["status"] != "True":
        return max(int(_annotation(revision, INITIAL_SCALE) or 1), minimum)
    last = (autoscaler.get("status") or {}).get("desiredScale") or 0
    return max(int(last), minimum)


def health(revision: Object, pods: list[Object], waited_s: float, deadline_s: float) -> tuple[Health, Health]:
    """(ContainerHealthy, ResourcesAvailable) of a Revision with these Pods. Pure.

    waited_s: since the platform first saw it. Once ready it stays so while its Pods come and go; it is not ready when
    they end again and again, or cannot be started.
    """
    if any(pod_status.is_ready(pod) for pod in pods):
        return Health("True"), Health("True")
    was = condition(revision, "Ready")
    for pod in pods:
        for container in pod_status.containers(pod):
            waiting = (container.get("state") or {}).get("waiting") or {}
            ended = (container.get("lastState") or {}).get("terminated")
            if waiting.get("reason") == pod_status.CRASH_LOOP and ended:
                said = ended.get("message") or ended["reason"]
                return Health("False", f"ExitCode{ended['exitCode']}", f"Container failed with: {said}"), Health("True")
            if waiting.get("reason") not in (None, "ContainerCreating", pod_status.CRASH_LOOP):
                return Health("Unknown"), Health("False", waiting["reason"], waiting.get("message", ""))
    if was["status"] != "Unknown":
        containers, resources = (condition(revision, type) for type in ("ContainerHealthy", "ResourcesAvailable"))
        return _kept(containers), _kept(resources)
    if int(_annotation(revision, INITIAL_SCALE) or 1) == 0 and not pods:
        return Health("True"), Health("True")
    if waited_s >= deadline_s:
        message = f"Initial scale was never achieved: no pod was ready within {deadline_s:g} s."
        return Health("Unknown"), Health("False", "ProgressDeadlineExceeded", message)
    return Health("Unknown", "Deploying"), Health("Unknown", "Deploying")


def _kept(found: Object) -> Health:
    return Health(found["status"], found.get("reason", ""), found.get("message", ""))


def _annotation(revision: Object, key: str) -> str | None:
    value = (revision["metadata"].get("annotations") or {}).get(key)
    return None if value is None else str(value)


def _duration_s(text: str | None) -> float | None:
    """Seconds of a Go duration such as `10m30s`; None for none."""
    parts = DURATION.findall(text or "")
    return sum(float(number) * UNIT_S[unit] for number, unit in parts) if parts else None


def _name(revision: Object) -> str:
    name: str = revision["metadata"]["name"]
    return name
