"""Manifests judged as a strict API server and Knative's webhooks would judge them, all at once and without a cluster.

The rules are those of the laptop's API (`headrace.local.api`) and of `knative.annotations`: laptop, check and cluster
agree. Called by `headrace check`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from headrace.check import scaling
from headrace.check.documents import Document
from headrace.check.findings import Finder, Finding
from headrace.local.api import admission, schema
from headrace.local.objects import defaults, kinds
from knative import annotations as verdicts
from knative import vocabulary
from knative.settings import Config

CONFIG_MAP = "config-autoscaler"
CONFIG_NAMESPACE = "knative-serving"
_JUDGED = {row.kind: (row.api_version, row.namespaced) for row in kinds.KINDS} | {
    # Of a cluster alone: one namespace's rights are all that the laptop gives.
    "ClusterRole": ("rbac.authorization.k8s.io/v1", False),
    "ClusterRoleBinding": ("rbac.authorization.k8s.io/v1", False),
}
_UNQUOTED = re.compile(r"must be of type string: seen (integer|number|boolean)")
_OTHER_SERVICE = "v1"  # Kubernetes' own Service shares its name with Knative's


def judge(documents: Iterable[Document]) -> list[Finding]:
    """Everything found, file by file and line by line.

    A ConfigMap config-autoscaler among the documents holds for the annotations in the others, and a config-features for
    their fields, as they would in a cluster.
    """
    documents = list(documents)
    config = next(filter(None, (_config(document.value) for document in documents)), Config())
    maps = (document.value for document in documents if _is_map(document.value, admission.FEATURES_NAME))
    features = admission.features_on(next(maps, None))
    found = [finding for document in documents for finding in _judged(document, config, features)]
    order = {document.file: number for number, document in enumerate(documents)}
    return sorted(found, key=lambda finding: (order[finding.file], finding.line))


def _config(value: Any) -> Config | None:
    if not _is_config(value):
        return None
    data = value.get("data")
    texts = {key: text for key, text in data.items() if isinstance(text, str)} if isinstance(data, dict) else {}
    config, faults = Config.judged(texts)
    return None if faults else config


def _is_config(value: Any) -> bool:
    return _is_map(value, CONFIG_MAP)


def _is_map(value: Any, name: str) -> bool:
    """Whether it is a ConfigMap of this name, with data that may be read."""
    if not isinstance(value, dict) or (value.get("apiVersion"), value.get("kind")) != ("v1", "ConfigMap"):
        return False
    meta = value.get("metadata")
    return isinstance(meta, dict) and meta.get("name") == name


def _judged(document: Document, config: Config, features: Collection[str]) -> Iterator[Finding]:
    find, value = Finder(document), document.value
    if document.broken:
        yield find.fault("", document.broken, "YAML or JSON, as the API server reads it")
        return
    if not isinstance(value, dict):
        yield find.fault("", "no object", "an object with apiVersion, kind and metadata")
        return
    yield from (find.fault(path, "given twice; the last one would count") for path in document.twice)
    missing = [name for name in ("apiVersion", "kind") if not isinstance(value.get(name), str) or not value[name]]
    if missing:
        yield from (find.fault(name, "Required value", "a text") for name in missing)
        return
    unknown = list(_kind(find, value))
    yield from unknown
    if not unknown:
        told: set[str] = set()  # paths
        for finding in (*_refused(find, value, config), *_malformed(find, value, features)):
            # A field of the wrong type is refused twice; the first to say so knows more of it.
            if finding.path not in told:
                told.add(finding.path)
                yield finding
        yield from scaling.warnings(find, value, config)
        if _is_config(value):
            yield from _config_map(find, value)


def _kind(find: Finder, value: Mapping[str, Any]) -> Iterator[Finding]:
    """What keeps an object from being judged at all."""
    kind, version = value["kind"], value["apiVersion"]
    known, _ = _JUDGED.get(kind, ("", True))
    if known == version:
        return
    group, ours = version.rpartition("/")[0], known.rpartition("/")[0]
    if known and group == ours and not (kind == "Service" and version == _OTHER_SERVICE):
        yield find.fault("apiVersion", f'no matches for kind "{kind}" in version "{version}"', known)
        return
    close = vocabulary.closest(kind, (k for k, (v, _) in _JUDGED.items() if v == version))
    if close and close != kind:
        yield find.fault("kind", f'no matches for kind "{kind}" in version "{version}"', meant=close)
        return
    domain = vocabulary.closest(version, {v for k, (v, _) in _JUDGED.items() if k == kind and v != version})
    if known and domain and not (kind == "Service" and version == _OTHER_SERVICE):
        yield find.fault("apiVersion", f'no matches for kind "{kind}" in version "{version}"', meant=domain)
        return
    yield find.warning("kind", f"not judged: {kind} of {version} is none of the kinds that are known here")


# ---------------------------------------------------------------- the API server


def _malformed(find: Finder, value: dict[str, Any], features: Collection[str]) -> Iterator[Finding]:
    """What the object's schema refuses, and then what the server and the webhooks refuse in a well-formed object."""
    faults = schema.check(value)
    meta = value.get("metadata")
    if not (isinstance(meta, dict) and (meta.get("name") or meta.get("generateName"))):
        yield find.fault("metadata.name", "Required value: name or generateName is required")
        meta = None
    for fault in faults:
        if fault.unknown:
            near = vocabulary.closest(fault.path.rpartition(".")[2], _siblings(value["kind"], fault.path))
            yield find.fault(fault.path, fault.message, meant=near or "")
        elif _UNQUOTED.search(fault.message):
            yield find.fault(fault.path, fault.message, "a text: put it in quotes")
        else:
            yield find.fault(fault.path, fault.message)
    # The rest is judged without what is malformed, where what is left is well formed.
    rest = schema.pruned(value, {fault.path for fault in faults})
    if meta is None or (faults and schema.check(rest)):
        return
    stored = _stored(copy.deepcopy(rest))
    for wrong in admission.kubernetes_faults(stored, None):
        yield find.fault(wrong.path, wrong.message)
    for sentence in admission.knative_faults(stored, None, features):
        problem, _, path = sentence.rpartition(": ")
        yield find.fault(path, problem)


def _stored(value: dict[str, Any]) -> dict[str, Any]:
    """The object as the server would keep it: a name, a namespace, the defaults."""
    meta = value["metadata"]
    meta.setdefault("name", f"{meta.get('generateName', '')}x")
    meta["uid"] = "unknown"
    if _JUDGED[value["kind"]][1]:
        meta.setdefault("namespace", "default")
    defaults.apply(value)
    return value


def _siblings(kind: str, path: str) -> list[str]:
    """The fields that there are where `path`, which is none of them, was found."""
    parent = schema.merge_type(kind)
    at: schema.Type | None = parent
    steps = path.split(".")[:-1]
    for step in steps:
        name, _, index = step.partition("[")
        at = schema.child(at, name)
        if index and at is not None:
            at = at.of
    if at is None:
        return []
    definition = schema.of_kind(kind) if at is parent else schema.definitions().get(at.name)
    return list(definition.fields) if definition else []


# ---------------------------------------------------------------- Knative's annotations and ConfigMap


def _refused(find: Finder, value: Mapping[str, Any], config: Config) -> Iterator[Finding]:
    for fault in verdicts.manifest_faults(value, config):
        for path in fault.paths:
            key = path.partition("annotations.")[2]
            allowed = vocabulary.allowed(key)
            yield find.fault(path, fault.message, allowed if "annotations must be put" not in fault.message else "")


def _config_map(find: Finder, value: Mapping[str, Any]) -> Iterator[Finding]:
    namespace = value["metadata"].get("namespace", "default")
    if namespace != CONFIG_NAMESPACE:
        said = f"no effect: Knative reads {CONFIG_MAP} in namespace {CONFIG_NAMESPACE} alone"
        yield find.warning("metadata.namespace", said, meant=CONFIG_NAMESPACE)
    data = value.get("data")
    texts = {key: text for key, text in data.items() if isinstance(text, str)} if isinstance(data, dict) else {}
    for fault in Config.judged(texts)[1]:
        key = fault.key.rpartition(" ")[2]
        yield find.fault(f"data.{key}", f"Knative keeps its old settings: {fault.seen!r} does not work", fault.expected)
    known = Config.keys()
    for key in texts:
        if key not in known and not key.startswith("_"):
            near = vocabulary.closest(vocabulary.kebab(key), known)
            yield find.warning(f"data.{key}", "passed over: Knative reads no such key", meant=near or "")
