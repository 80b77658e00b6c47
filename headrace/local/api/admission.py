"""What a well-formed object may still not say: names, immutable fields, and the rules of Knative's webhooks. All pure.

Every fault of an object is found at once, worded as the real server or webhook words it. Used by
`headrace.local.api.api`. Sources: kubernetes pkg/apis/{core,batch}/validation; knative/serving
pkg/apis/serving/v1/*_validation.go and cmd/webhook; knative/eventing pkg/apis/*/v1*/*_validation.go and knative/pkg
apis/duck/v1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from headrace.local.api import policy_admission, revision_admission
from headrace.local.api.policy_admission import LABEL_VALUE, QUALIFIED_NAME
from headrace.local.api.schema import Fault
from headrace.local.events import cesql
from knative.settings import Config

Object = dict[str, Any]

DNS_1123_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
DNS_1123_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
DNS_1035_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
EVENT_ATTRIBUTE = re.compile(r"[a-z][a-z0-9]*")
URI_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
ISO_8601_DURATION = re.compile(r"P(?=.)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")

CONFIG_NAMESPACE, CONFIG_NAME, FEATURES_NAME = "knative-serving", "config-autoscaler", "config-features"
DIALECTS = ("exact", "prefix", "suffix", "all", "any", "not", "cesql")
SERVING = frozenset({"Service", "Configuration", "Revision", "Route"})
TEMPLATED = frozenset({"Service", "Configuration"})


def kubernetes_faults(new: Object, old: Object | None) -> list[Fault]:
    """What the API server itself refuses with 422, in an object that fits its schema. old: None at its creation."""
    return [*_names(new), *_pods(new), *_policies(new), *(_immutable(new, old) if old else ())]


def knative_faults(new: Object, old: Object | None, features: Collection[str] = ()) -> list[str]:
    """What Knative's webhooks refuse with 400; each a sentence that ends with the path. features: see `features_on`."""
    kind, spec = new["kind"], new.get("spec") or {}
    if kind in SERVING:
        return list(_serving(new, old, features))
    if kind == "Trigger":
        return [*_trigger(new, old), *_delivery(spec.get("delivery"))]
    if kind == "Broker":
        config = spec.get("config")
        return [*(_reference(config, "spec.config") if config is not None else ()), *_delivery(spec.get("delivery"))]
    if kind == "ContainerSource":
        return list(_destination(spec.get("sink"), "spec.sink"))
    if kind == "JobSink" and "job" not in spec:
        return ["missing field(s): spec.job"]
    return []


def config_faults(new: Object) -> list[str]:
    """What Knative's other webhook refuses: values of its own ConfigMap that the autoscaler would not take."""
    meta = new["metadata"]
    if (new["kind"], meta.get("namespace"), meta["name"]) != ("ConfigMap", CONFIG_NAMESPACE, CONFIG_NAME):
        return []
    return [f"validation failed: {fault}" for fault in Config.judged(new.get("data") or {})[1]]


def features_on(config_features: Object | None) -> frozenset[str]:
    """The features that the ConfigMap `config-features` has on. Source: knative/serving pkg/apis/config/features.go."""
    data = (config_features or {}).get("data")
    found = data.items() if isinstance(data, dict) else ()
    return frozenset(key for key, value in found if str(value).lower() in ("enabled", "allowed"))


def _names(new: Object) -> Iterator[Fault]:
    meta, kind = new["metadata"], new["kind"]
    name = meta.get("name") or ""
    label = kind == "Namespace"
    pattern, most = (DNS_1123_LABEL, 63) if label else (DNS_1123_SUBDOMAIN, 253)
    if kind not in ("Role", "RoleBinding") and (not pattern.fullmatch(name) or len(name) > most):
        rule = "RFC 1123 label" if label else "RFC 1123 subdomain"
        allowed = "'-'" if label else "'-' or '.'"
        yield Fault(
            "metadata.name",
            f'Invalid value: "{name}": a lowercase {rule} must consist of lower case alphanumeric characters,'
            f" {allowed}, and must start and end with an alphanumeric character, {most} characters at most"
            f" (regex used for validation is '{pattern.pattern}')",
        )
    for key, value in (meta.get("labels") or {}).items():
        if not QUALIFIED_NAME.fullmatch(key):
            yield Fault("metadata.labels", f'Invalid value: "{key}": a qualified name must be [prefix/]name')
        if len(value) > 63 or not LABEL_VALUE.fullmatch(value):
            yield Fault(
                "metadata.labels",
                f'Invalid value: "{value}": a valid label must be an empty string or consist of alphanumeric'
                " characters, '-', '_' or '.', and must start and end with an alphanumeric character, 63 at most",
            )


def _pods(new: Object) -> Iterator[Fault]:
    spec = new.get("spec") or {}
    if new["kind"] == "Pod":
        yield from _containers(spec, "spec")
    elif new["kind"] == "Job":
        yield from _job(spec, "spec")
    elif new["kind"] == "JobSink" and "job" in spec:
        yield from _job(spec["job"]["spec"], "spec.job.spec")
    elif new["kind"] == "ContainerSource":
        yield from _containers(spec["template"]["spec"], "spec.template.spec")


def _policies(new: Object) -> Iterator[Fault]:
    if new["kind"] == "NetworkPolicy":
        yield from policy_admission.network_policy_faults(new.get("spec") or {})
    elif new["kind"] == "PodDisruptionBudget":
        yield from policy_admission.disruption_budget_faults(new.get("spec") or {})


def _job(spec: Object, path: str) -> Iterator[Fault]:
    pod, at = spec["template"]["spec"], f"{path}.template.spec"
    yield from _containers(pod, at)
    if spec.get("completionMode") == "Indexed" and "completions" not in spec and "parallelism" in spec:
        message = "Required value: when completion mode is Indexed"
        yield Fault(f"{path}.completions", message, "FieldValueRequired")
    restart = pod.get("restartPolicy")
    if restart not in ("OnFailure", "Never"):
        message = f'Unsupported value: "{restart}"' if restart else "Required value"
        yield Fault(
            f"{at}.restartPolicy", f'{message}: supported values: "OnFailure", "Never"', "FieldValueNotSupported"
        )
    elif "podFailurePolicy" in spec and restart != "Never":
        yield Fault(
            f"{at}.restartPolicy",
            f'Invalid value: "{restart}": only "Never" is supported when podFailurePolicy is specified',
        )
    for index, rule in enumerate((spec.get("podFailurePolicy") or {}).get("rules", ())):
        here = f"{path}.podFailurePolicy.rules[{index}]"
        if ("onExitCodes" in rule) == ("onPodConditions" in rule):
            yield Fault(here, "Invalid value: specifying one of OnExitCodes and OnPodConditions is required")
        codes = rule.get("onExitCodes")
        if codes and codes["operator"] == "In" and 0 in codes["values"]:
            yield Fault(f"{here}.onExitCodes.values", "Invalid value: 0: must not be 0 for the In operator")


def _containers(pod: Object, path: str) -> Iterator[Fault]:
    if not pod.get("containers"):
        yield Fault(f"{path}.containers", "Required value", "FieldValueRequired")
    for index, container in enumerate(pod.get("containers", ())):
        here = f"{path}.containers[{index}]"
        if not container.get("image"):
            yield Fault(f"{here}.image", "Required value", "FieldValueRequired")
        if not DNS_1123_LABEL.fullmatch(container["name"]):
            yield Fault(f"{here}.name", f'Invalid value: "{container["name"]}": must be a lowercase RFC 1123 label')


def _immutable(new: Object, old: Object) -> Iterator[Fault]:
    frozen = {
        "Job": ("template", "selector", "completions", "completionMode", "podFailurePolicy"),
        "Pod": ("containers", "initContainers", "volumes", "restartPolicy"),
    }.get(new["kind"], ())
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    for field in frozen:
        if spec.get(field) != before.get(field):
            yield Fault(f"spec.{field}", "Invalid value: field is immutable")
    if new["kind"] == "RoleBinding" and new["roleRef"] != old["roleRef"]:
        yield Fault("roleRef", "Invalid value: cannot change roleRef")


def _serving(new: Object, old: Object | None, features: Collection[str]) -> Iterator[str]:
    kind, name, spec = new["kind"], new["metadata"]["name"], new.get("spec") or {}
    if len(name) > 63 or not DNS_1035_LABEL.fullmatch(name):
        yield (
            "not a DNS 1035 label: [a DNS-1035 label must consist of lower case alphanumeric characters or '-', start"
            " with an alphabetic character, and end with an alphanumeric character, 63 characters at most]:"
            " metadata.name"
        )
    if kind in TEMPLATED:
        yield from _template(spec.get("template") or {}, name, old, features)
    elif kind == "Revision":
        yield from revision_admission.faults(spec, "spec", features)
        if old and old.get("spec") != spec:
            yield "Immutable fields changed (-old +new): spec"
    if kind in ("Service", "Route"):
        yield from _traffic(spec.get("traffic") or [], of_service=kind == "Service")


def _template(template: Object, name: str, old: Object | None, features: Collection[str]) -> Iterator[str]:
    yield from revision_admission.faults(template.get("spec") or {}, "spec.template.spec", features)
    meta = template.get("metadata") or {}
    prefix, revision = meta.get("generateName"), meta.get("name")
    if prefix and not DNS_1035_LABEL.fullmatch(f"{prefix.rstrip('-')}"):
        yield f'invalid value: not a DNS 1035 label prefix: "{prefix}": spec.template.metadata.generateName'
    if not revision:
        return
    if len(revision) > 63 or not DNS_1035_LABEL.fullmatch(revision):
        yield f'invalid value: not a DNS 1035 label: "{revision}": spec.template.metadata.name'
    if not revision.startswith(f"{name}-"):
        yield f'invalid value: "{revision}" must have prefix "{name}-": spec.template.metadata.name'
    before = ((old or {}).get("spec") or {}).get("template") or {}
    if (before.get("metadata") or {}).get("name") == revision and before != template:
        yield "Saw changes of the template without a change of the name: spec.template.metadata.name"


def _traffic(targets: Sequence[Mapping[str, Any]], of_service: bool) -> Iterator[str]:
    """of_service: the Configuration is the Service's own, and may not be named."""
    total = sum(target.get("percent", 0) for target in targets)
    if targets and total != 100:
        yield f"Traffic targets sum to {total}, want 100: spec.traffic"
    for index, target in enumerate(targets):
        here = f"spec.traffic[{index}]"
        latest, revision = target.get("latestRevision"), target.get("revisionName") or ""
        # Left out, it follows from the name.
        if latest is not None and bool(revision) == latest:
            said = str(latest).lower()
            yield f"may not set revisionName {revision!r} when latestRevision is {said}: {here}.latestRevision"
        configuration = target.get("configurationName")
        if configuration and of_service:
            yield f"must not set the field(s): {here}.configurationName"
        elif configuration and revision:
            yield f"expected exactly one, got both: {here}.configurationName, {here}.revisionName"
        elif not (configuration or revision or of_service):
            yield f"expected exactly one, got neither: {here}.configurationName, {here}.revisionName"
        if target.get("url"):
            yield f"must not set the field(s): {here}.url"
        tag = target.get("tag")
        if tag and (len(tag) > 63 or not DNS_1035_LABEL.fullmatch(tag)):
            yield f"invalid value: {tag}: {here}.tag"
    for tag, times in Counter(target["tag"] for target in targets if target.get("tag")).items():
        if times > 1:
            where = ", ".join(f"spec.traffic[{i}].tag" for i, each in enumerate(targets) if each.get("tag") == tag)
            yield f'Multiple definitions for "{tag}": {where}'


def _trigger(new: Object, old: Object | None) -> Iterator[str]:
    spec = new["spec"]
    if old and old["spec"].get("broker") != spec.get("broker"):
        yield "Immutable fields changed (-old +new): broker, spec"
    if spec.get("broker") and "brokerRef" in spec:
        yield "expected exactly one, got both: spec.broker, spec.brokerRef"
    elif not spec.get("broker") and "brokerRef" not in spec:
        yield "missing field(s): spec.broker"
    yield from _destination(spec["subscriber"], "spec.subscriber")
    for attribute in (spec.get("filter") or {}).get("attributes") or {}:
        if not EVENT_ATTRIBUTE.fullmatch(attribute):
            yield f"Invalid attribute name: {attribute}: spec.filter.attributes"
    yield from _filters(spec.get("filters") or [], "spec.filters")


def _filters(filters: Sequence[Mapping[str, Any]], path: str) -> Iterator[str]:
    for index, each in enumerate(filters):
        here = f"{path}[{index}]"
        dialects = [dialect for dialect in DIALECTS if each.get(dialect) or (dialect == "not" and dialect in each)]
        if len(dialects) > 1:
            yield f"multiple dialects found, filters can have only one dialect set: {here}"
        if len(dialects) != 1:
            continue
        dialect = dialects[0]
        value = each[dialect]
        if dialect in ("all", "any"):
            yield from _filters(value, f"{here}.{dialect}")
        elif dialect == "not":
            yield from _filters([value], f"{here}.not")
        elif dialect == "cesql":
            try:
                cesql.matcher(value)
            except cesql.InvalidExpression as e:
                yield f"invalid value: {value}, {e}: {here}.cesql"
        else:
            for attribute, wanted in value.items():
                if not EVENT_ATTRIBUTE.fullmatch(attribute):
                    yield f"Invalid attribute name: {attribute}: {here}.{dialect}"
                if wanted == "":
                    yield f"Invalid attribute value: {attribute} is empty: {here}.{dialect}"


def _destination(destination: Mapping[str, Any] | None, path: str) -> Iterator[str]:
    destination = destination or {}
    reference, uri = destination.get("ref"), destination.get("uri")
    if reference is None and uri is None:
        yield f"expected at least one, got none: {path}.ref, {path}.uri"
        return
    absolute = uri is not None and URI_SCHEME.match(uri) is not None
    if reference is None:
        if not absolute or not urlsplit(uri).netloc:
            why = "Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent"
            yield f"invalid value: {uri}, {why}: {path}.uri"
    elif absolute:
        yield f"Absolute URI is not allowed when Ref or [apiVersion, kind, name] is present: {path}.ref, {path}.uri"
    elif uri is None:
        yield from _reference(reference, f"{path}.ref")


def _reference(reference: Mapping[str, Any], path: str) -> Iterator[str]:
    for field in ("name", "apiVersion", "kind"):
        if not reference.get(field):
            yield f"missing field(s): {path}.{field}"
    if reference.get("group"):
        why = "feature kreference-group of ConfigMap config-features is off, as it is by default"
        yield f"must not set the field(s) while {why}: {path}.group"


def _delivery(delivery: Mapping[str, Any] | None) -> Iterator[str]:
    delivery = delivery or {}
    for field in ("timeout", "backoffDelay", "retryAfterMax"):
        value = delivery.get(field)
        if value is not None and not ISO_8601_DURATION.fullmatch(value):
            yield f"invalid value: {value}, expected an ISO 8601 duration such as PT2S: spec.delivery.{field}"
    timeout = delivery.get("timeout")
    if timeout is not None and ISO_8601_DURATION.fullmatch(timeout) and not re.search("[1-9]", timeout):
        yield f"invalid value: {timeout}, expected more than nothing: spec.delivery.timeout"
    if "deadLetterSink" in delivery:
        yield from _destination(delivery["deadLetterSink"], "spec.delivery.deadLetterSink")
