"""What an object means when it does not say: the defaults of Kubernetes and of Knative's webhooks.

`headrace.local.objects.objects` fills them in on every write, so that no reader needs a second copy of a default. Only
what the laptop acts on or shows is filled in, and nothing inside lists that kubectl replaces whole (Knative's
containers): there a real cluster's `kubectl apply` says "configured" for ever, and here it says "unchanged". Sources:
kubernetes pkg/apis/{batch,core,networking}/v1/defaults.go and pkg/registry/batch/job/strategy.go; knative/serving
pkg/apis/serving/v1/*_defaults.go; knative/eventing pkg/apis/*/v1*/*_defaults.go.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

Object = dict[str, Any]

TIMEOUT_S = 300  # config-defaults: revision-timeout-seconds
BACKOFF_LIMIT = 6
BROKER_CLASS = "MTChannelBasedBroker"


def apply(obj: Object) -> None:
    """Fill in the defaults, in place. The object has its metadata already: name, namespace and uid."""
    fill = _OF_KIND.get(obj["kind"])
    if fill is not None:
        fill(obj)


def _namespace(obj: Object) -> None:
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
    obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    obj.setdefault("status", {}).setdefault("phase", "Active")


def _secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")
    for key, value in obj.pop("stringData", {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(str(value).encode()).decode()


def _pod(obj: Object) -> None:
    obj.setdefault("spec", {}).setdefault("restartPolicy", "Always")
    obj["spec"].setdefault("terminationGracePeriodSeconds", 30)
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def _job(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", BACKOFF_LIMIT)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("manualSelector", False)
    uid, name = obj["metadata"]["uid"], obj["metadata"]["name"]
    spec.setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
    meta = spec.setdefault("template", {}).setdefault("metadata", {})
    labels = {"controller-uid": uid, "job-name": name}
    meta["labels"] = {**meta.get("labels", {}), **{f"batch.kubernetes.io/{k}": v for k, v in labels.items()}, **labels}


def _network_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def _revision_spec(spec: Object) -> None:
    spec.setdefault("containerConcurrency", 0)
    spec.setdefault("timeoutSeconds", TIMEOUT_S)
    spec.setdefault("enableServiceLinks", False)


def _template(obj: Object) -> None:
    template = obj.setdefault("spec", {}).setdefault("template", {})
    _revision_spec(template.setdefault("spec", {}))


def _service(obj: Object) -> None:
    _template(obj)
    if not obj["spec"].get("traffic"):
        obj["spec"]["traffic"] = [{"latestRevision": True, "percent": 100}]


def _revision(obj: Object) -> None:
    _revision_spec(obj.setdefault("spec", {}))


def _destination(obj: Object, destination: Object | None) -> None:
    """A reference without a namespace means the object's own."""
    reference = (destination or {}).get("ref")
    if isinstance(reference, dict):
        reference.setdefault("namespace", obj["metadata"]["namespace"])


def _delivery(obj: Object) -> None:
    _destination(obj, (obj["spec"].get("delivery") or {}).get("deadLetterSink"))


def _broker(obj: Object) -> None:
    obj["metadata"].setdefault("annotations", {}).setdefault("eventing.knative.dev/broker.class", BROKER_CLASS)
    obj.setdefault("spec", {})
    _delivery(obj)


def _trigger(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("broker"):
        obj["metadata"].setdefault("labels", {})["eventing.knative.dev/broker"] = spec["broker"]
    _destination(obj, spec.get("subscriber"))
    _delivery(obj)


def _container_source(obj: Object) -> None:
    _destination(obj, obj.setdefault("spec", {}).get("sink"))


_OF_KIND: Mapping[str, Callable[[Object], None]] = {
    "Namespace": _namespace,
    "Secret": _secret,
    "Pod": _pod,
    "Job": _job,
    "NetworkPolicy": _network_policy,
    "Service": _service,
    "Configuration": _template,
    "Revision": _revision,
    "Broker": _broker,
    "Trigger": _trigger,
    "ContainerSource": _container_source,
}
