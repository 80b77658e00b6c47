"""What Kubernetes and Knative say a manifest may hold: the schemas that they publish, as strict as can be.

Kubernetes' own kinds come from the package kubernetes-validate. Knative's come from its CRDs, which lie in its Go
modules; a field that a CRD does not name, and does not preserve, would be pruned by a cluster without a word, so here
it is a fault.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

Object = dict[str, Any]

KUBERNETES = kubernetes_validate.latest_version()
MODULES = {
    "serving.knative.dev": ("knative.dev/serving@v0.42.2", "config/core/300-resources"),
    "eventing.knative.dev": ("knative.dev/eventing@v0.50.0", "config/core/resources"),
    "sinks.knative.dev": ("knative.dev/eventing@v0.50.0", "config/core/resources"),
    "sources.knative.dev": ("knative.dev/eventing@v0.50.0", "config/core/resources"),
    "keda.sh": ("github.com/kedacore/keda/v2@v2.21.0", "config/crd/bases"),
    "trainer.kubeflow.org": ("github.com/kubeflow/trainer/v2@v2.0.0", "manifests/base/crds"),
}
DOWNLOAD_S = 180


def faults(obj: Object) -> list[str]:
    """Everything that the published schemas refuse in `obj`, each with its path."""
    if group(obj) in MODULES:
        return [*_custom_faults(obj), *(f for each in _embedded(obj) for f in _kubernetes_faults(each))]
    return _kubernetes_faults(obj)


def group(obj: Object) -> str:
    return str(obj["apiVersion"]).rpartition("/")[0]


def definitions(group: str) -> list[Object]:
    """Every CustomResourceDefinition beside those of `group`, of which it is one: the module's whole folder."""
    name, folder = MODULES[group]
    texts = (file.read_text(encoding="utf-8") for file in sorted((module(name) / folder).glob("*.yaml")))
    found = (each for text in texts for each in yaml.load_all(text, Loader=yaml.CSafeLoader))
    return [each for each in found if each and each["kind"] == "CustomResourceDefinition"]


def properties_at(obj: Object, path: tuple[str | int, ...]) -> set[str] | None:
    """The fields that the CRD of a Knative kind names where `path` leads; None where it names none."""
    at = crd(obj)
    for step in path:
        at = at["items"] if isinstance(step, int) else at.get("properties", {}).get(step, {})
        if not at:
            return None
    return set(at["properties"]) if "properties" in at else None


def crd(obj: Object) -> Object:
    """The schema of a Knative object's kind and version, from its CRD. Skips the test where that cannot be had."""
    return _crd(group(obj), str(obj["apiVersion"]).rpartition("/")[2], str(obj["kind"]))


@functools.cache
def _crd(group: str, version: str, kind: str) -> Object:
    name, folder = MODULES[group]
    for file in sorted((module(name) / folder).glob("*.yaml")):
        for definition in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            spec = (definition or {}).get("spec", {})
            if spec.get("group") == group and spec["names"]["kind"] == kind:
                (schema,) = (v["schema"]["openAPIV3Schema"] for v in spec["versions"] if v["name"] == version)
                assert isinstance(schema, dict)
                return schema
    raise LookupError(f"{name} has no CRD of {group} {kind}")


@functools.cache
def module(name: str) -> Path:
    """The folder of a Go module, from the module cache or, the first time, from the proxy."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("what Kubernetes and Knative publish lies in Go modules, and there is no `go` here")
    try:
        done = subprocess.run(
            [go, "mod", "download", "-json", name], capture_output=True, text=True, timeout=DOWNLOAD_S, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"the Go module {name} was not to be had within {DOWNLOAD_S} s")
    if done.returncode:
        pytest.skip(f"the Go module {name} is not to be had: {(done.stderr or done.stdout).strip():.300}")
    return Path(json.loads(done.stdout)["Dir"])


def _custom_faults(obj: Object) -> list[str]:
    text, any_object = {"type": "string"}, {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    head = {"apiVersion": text, "kind": text, "metadata": any_object}  # metadata is judged by _embedded
    schema = crd(obj)
    whole = _strict({**schema, "properties": {**schema["properties"], **head}})
    found = jsonschema.Draft202012Validator(whole).iter_errors(obj)
    return [f"{'.'.join(map(str, e.absolute_path))}: {e.message:.200}" for e in found]


def _strict(schema: Any) -> Any:
    """A CRD's schema as JSON Schema that refuses what the API server would prune."""
    if isinstance(schema, list):
        return [_strict(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {k: _strict(v) for k, v in schema.items() if k not in ("properties", "description", "format", "default")}
    if "properties" in schema:
        strict["properties"] = {name: _strict(s) for name, s in schema["properties"].items()}
    if schema.get("x-kubernetes-int-or-string"):
        strict |= {"type": ["integer", "string"]}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and not open_ended:
        strict["additionalProperties"] = False
    return strict


def _embedded(obj: Object) -> Iterator[Object]:
    """The Kubernetes objects that a CRD leaves open: a JobSink's Job, a ContainerSource's Pod, everyone's metadata."""
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": obj["metadata"]}
    if obj["kind"] == "JobSink":
        yield {"apiVersion": "batch/v1", "kind": "Job", **obj["spec"]["job"]}
    if obj["kind"] == "ContainerSource":
        yield {"apiVersion": "v1", "kind": "Pod", **obj["spec"]["template"]}


def _kubernetes_faults(obj: Object) -> list[str]:
    try:
        kubernetes_validate.validate(obj, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as e:
        return [f"{'.'.join(map(str, e.absolute_path))}: {e.message:.200}"]
    return []
