"""The suite's manifests: the same for every place, but for the image's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conformance.api import Object

PROGRAM = (Path(__file__).parent / "container.py").read_text(encoding="utf-8")
SECURE = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


# The least stable window that Knative allows; without excess burst capacity no request is left to the activator.
SOON_ZERO = {"autoscaling.knative.dev/window": "6s"}


def container(image: str, word: str, environment: dict[str, str] | None = None) -> Object:
    """A container that runs the suite's program as `word` says."""
    made: Object = {"image": image, "command": ["python", "-c", PROGRAM], "args": [word], "securityContext": SECURE}
    if environment:
        made["env"] = [{"name": name, "value": value} for name, value in environment.items()]
    return made


def namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def config_map(name: str, data: dict[str, str] | None = None, namespace: str | None = None, **meta: Any) -> Object:
    where = {"namespace": namespace} if namespace else {}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **where, **meta}, "data": data or {}}


def service(
    image: str,
    name: str,
    word: str = "serve",
    scale: tuple[int, int] | None = None,
    annotations: dict[str, str] | None = None,
    environment: dict[str, str] | None = None,
    revision: str | None = None,
    traffic: Sequence[Object] = (),
    **spec: Any,
) -> Object:
    """scale: least and most pods. revision: its name. spec: of the revision's template."""
    said = dict(annotations or {})
    if scale is not None:
        said |= {"autoscaling.knative.dev/min-scale": str(scale[0]), "autoscaling.knative.dev/max-scale": str(scale[1])}
    meta: Object = {"annotations": said}
    if revision:
        meta["name"] = revision
    template = {"metadata": meta, "spec": {"containers": [container(image, word, environment)], **spec}}
    made: Object = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"template": template},
    }
    if traffic:
        made["spec"]["traffic"] = list(traffic)
    return made


def broker(name: str, **spec: Any) -> Object:
    return {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": name}, "spec": spec}


def to_service(path: str | None = None, name: str = "sink") -> Object:
    """A destination: a path at a Service."""
    ref = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": name}
    return {"ref": ref, **({"uri": path} if path else {})}


SILENT = "silent"  # a Broker that nobody sends to, there or not


def trigger(name: str, sink: str | Object, broker: str = "default", **spec: Any) -> Object:
    """sink: a path at the Service `sink`, or a destination.

    One that gets what others send, and fails to deliver it, holds up everybody at an in-memory channel: such a one
    belongs to the Broker SILENT.
    """
    subscriber = to_service(sink) if isinstance(sink, str) else sink
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": name},
        "spec": {"broker": broker, "subscriber": subscriber, **spec},
    }


def job(image: str, name: str, environment: dict[str, str] | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": _job(image, environment, **spec),
    }


def job_sink(image: str, name: str, environment: dict[str, str] | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "sinks.knative.dev/v1alpha1",
        "kind": "JobSink",
        "metadata": {"name": name},
        "spec": {"job": {"spec": _job(image, environment, **spec)}},
    }


def _job(image: str, environment: dict[str, str] | None, **spec: Any) -> Object:
    main = {"name": "main", **container(image, "job", environment)}
    return {"backoffLimit": 0, **spec, "template": {"spec": {"restartPolicy": "Never", "containers": [main]}}}
