"""ContainerSource: one process that makes events and posts them to its sink, started again whenever it ends.

Source: knative/eventing pkg/reconciler/containersource and pkg/reconciler/sinkbinding (K_SINK, K_CE_OVERRIDES).
"""

from __future__ import annotations

import copy
import hashlib
from datetime import datetime

import orjson

from headrace.local.controllers.controller import Context, child_name, controlled_by, is_controlled_by, random_suffix
from headrace.local.objects.objects import Object, set_condition
from headrace.local.pods import pod_status
from headrace.local.pods.process import FINALIZER

SOURCE = "sources.knative.dev/source"
NAME = "sources.knative.dev/containerSource"
TEMPLATE = "headrace.dev/template"  # digest of what the Pod was made from


class ContainerSources:
    """Keeps one Pod per ContainerSource, of its present template."""

    def __init__(self, context: Context) -> None:
        self._objects = context.objects
        self._addresses = context.addresses
        self._clock = context.clock

    def reconcile(self, namespace: str, name: str) -> float | None:
        source = self._objects.get("ContainerSource", namespace, name)
        if source is None or "deletionTimestamp" in source["metadata"]:
            return None
        status: Object = source.get("status") or {}
        now = self._clock()
        try:
            sink = self._addresses.destination(source["spec"].get("sink") or {}, namespace)
        except ValueError as e:
            status.pop("sinkUri", None)
            set_condition(status, "SinkBindingReady", "False", "SinkNotFound", str(e), now=now)
            set_condition(status, "Ready", "False", "SinkNotFound", str(e), now=now)
            self._write(source, status)
            return None
        status["sinkUri"] = sink
        set_condition(status, "SinkBindingReady", "True", now=now)
        self._set_ready(status, self._pod(source, sink), now)
        self._write(source, status)
        return None

    def _pod(self, source: Object, sink: str) -> Object:
        """The source's Pod, made where it is missing; one of an older template is on its way out."""
        meta = source["metadata"]
        wanted = pod_of(source, sink, random_suffix())
        current: Object | None = None
        for pod in self._objects.list("Pod", meta["namespace"], {NAME: meta["name"]}):
            if pod_status.is_terminating(pod) or not is_controlled_by(pod, source):
                continue
            same = pod["metadata"]["annotations"].get(TEMPLATE) == wanted["metadata"]["annotations"][TEMPLATE]
            if same and current is None and not pod_status.is_over(pod):
                current = pod
            else:
                self._objects.delete("Pod", meta["namespace"], pod["metadata"]["name"])
        return current or self._objects.create(wanted)

    def _set_ready(self, status: Object, pod: Object, now: datetime) -> None:
        reason, message = "Deploying", ""
        for container in pod_status.containers(pod):
            waiting = (container.get("state") or {}).get("waiting") or {}
            ended = (container.get("lastState") or {}).get("terminated") or {}
            if waiting.get("reason") not in (None, "ContainerCreating"):
                reason = waiting["reason"]
                message = ended.get("message") or waiting.get("message", "")
        ready = pod_status.is_ready(pod)
        value = "True" if ready else ("Unknown" if reason == "Deploying" else "False")
        for type in ("ReceiveAdapterReady", "Ready"):
            set_condition(status, type, value, "" if ready else reason, "" if ready else message, now=now)

    def _write(self, source: Object, status: Object) -> None:
        status["observedGeneration"] = source["metadata"]["generation"]
        self._objects.update({**source, "status": status}, subresource="status")


def pod_of(source: Object, sink: str, suffix: str) -> Object:
    """The Pod of a ContainerSource that posts to `sink`. Pure."""
    meta, template = source["metadata"], source["spec"]["template"]
    template_meta = template.get("metadata") or {}
    spec = copy.deepcopy(template["spec"])
    spec["restartPolicy"] = "Always"
    overrides = orjson.dumps(source["spec"].get("ceOverrides") or {}).decode()
    for described in spec.get("containers") or []:
        described["env"] = [
            *(described.get("env") or []),
            {"name": "K_SINK", "value": sink},
            {"name": "K_CE_OVERRIDES", "value": overrides},
        ]
    digest = hashlib.sha256(orjson.dumps([spec, template_meta], option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    labels = {SOURCE: "container-source-controller", NAME: meta["name"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": child_name(meta["name"], f"-containersource-{suffix}"),
            "namespace": meta["namespace"],
            "labels": {**(template_meta.get("labels") or {}), **labels},
            "annotations": {**(template_meta.get("annotations") or {}), TEMPLATE: digest},
            "ownerReferences": controlled_by(source),
            "finalizers": [FINALIZER],
        },
        "spec": spec,
    }
