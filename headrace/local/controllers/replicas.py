"""The Pods of a Revision: as many as were asked for. The laptop's Deployment.

Source: kubernetes pkg/controller (which Pods go first); knative/serving pkg/reconciler/revision/resources/deploy.go.
"""

from __future__ import annotations

import copy
import logging

from headrace.local.controllers.controller import Context, child_name, controlled_by, random_suffix
from headrace.local.controllers.services import CONFIGURATION, REVISION, SERVICE
from headrace.local.objects.objects import NotFound, Object
from headrace.local.pods import pod_status
from headrace.local.pods.process import FINALIZER

log = logging.getLogger(__name__)


class Replicas:
    """How many Pods each Revision is to have, and the making of them.

    The numbers are in memory alone: after a restart the Revision controller sets them anew from what the autoscaler
    had written into the PodAutoscaler's status.
    """

    def __init__(self, context: Context) -> None:
        self._objects = context.objects
        self._recorder = context.recorder
        self._desired: dict[tuple[str, str], int] = {}

    def desired(self, namespace: str, revision: str) -> int | None:
        """None until somebody has asked for a number."""
        return self._desired.get((namespace, revision))

    def scale(self, namespace: str, revision: str, pods: int) -> None:
        """Ask for so many Pods, and make or delete them at once; what ends is out of the endpoints on return."""
        if self._objects.get("Revision", namespace, revision) is None:
            self.forget(namespace, revision)
            return
        if self._desired.get((namespace, revision)) != pods:
            log.info("revision %s/%s: %d pods wanted", namespace, revision, pods)
        self._desired[namespace, revision] = pods
        self.reconcile(namespace, revision)

    def forget(self, namespace: str, revision: str) -> None:
        self._desired.pop((namespace, revision), None)

    def pods(self, namespace: str, revision: str) -> list[Object]:
        """The Revision's Pods, without those on their way out."""
        found = self._objects.list("Pod", namespace, {REVISION: revision})
        return [pod for pod in found if not pod_status.is_terminating(pod)]

    def reconcile(self, namespace: str, name: str) -> None:
        """Make the Pods that are missing, delete those too many."""
        revision = self._objects.get("Revision", namespace, name)
        wanted = self._desired.get((namespace, name))
        if revision is None or wanted is None:
            return
        pods = self.pods(namespace, name)
        for _ in range(wanted - len(pods)):
            self._objects.create(pod_of(revision, random_suffix()))
        for pod in by_worth(pods)[wanted:]:
            self._recorder.normal(revision, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")
            try:
                self._objects.delete("Pod", namespace, pod["metadata"]["name"])
            except NotFound:
                log.debug("pod %s/%s was gone already", namespace, pod["metadata"]["name"])


def by_worth(pods: list[Object]) -> list[Object]:
    """Those to keep first: ready before not ready, then the older, whose caches are warm."""
    return sorted(pods, key=lambda pod: (not pod_status.is_ready(pod), pod["metadata"]["creationTimestamp"]))


def pod_of(revision: Object, suffix: str) -> Object:
    """A Pod of the Revision, as Knative's Deployment would make it. Pure."""
    meta = revision["metadata"]
    spec = copy.deepcopy(revision["spec"])
    for field in ("containerConcurrency", "idleTimeoutSeconds", "responseStartTimeoutSeconds"):
        spec.pop(field, None)
    spec["terminationGracePeriodSeconds"] = spec.pop("timeoutSeconds")
    spec["restartPolicy"] = "Always"
    knative = {
        "K_REVISION": meta["name"],
        "K_CONFIGURATION": meta["labels"].get(CONFIGURATION, ""),
        "K_SERVICE": meta["labels"].get(SERVICE, ""),
    }
    for described in spec.get("containers") or []:
        described["env"] = [
            *(described.get("env") or []),
            *({"name": name, "value": value} for name, value in knative.items()),
        ]
        described["terminationMessagePolicy"] = "FallbackToLogsOnError"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": child_name(meta["name"], f"-deployment-{suffix}"),
            "namespace": meta["namespace"],
            "labels": {**meta["labels"], REVISION: meta["name"], "app": meta["name"]},
            "annotations": dict(meta.get("annotations") or {}),
            "ownerReferences": controlled_by(revision),
            "finalizers": [FINALIZER],
        },
        "spec": spec,
    }
