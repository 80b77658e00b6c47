"""Promises of admission: what a well-formed object may still not say."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.local.api import admission


def trigger(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": "t", "namespace": "n"},
        "spec": {"broker": "default", "subscriber": {"uri": "http://x"}, **spec},
    }


def job(**spec: Any) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "x"}]}
    template = {"spec": pod | spec.pop("pod", {})}
    meta = {"name": "j", "namespace": "n"}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": template, **spec}}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, None),
        ({"filters": [{"exact": {"type": "a"}}, {"not": {"any": [{"prefix": {"source": "/x"}}]}}]}, None),
        ({"filters": [{"exact": {"type": "a"}, "prefix": {"type": "a"}}]}, "only one dialect"),
        (
            {"filters": [{"all": [{"exact": {"Type": "a"}}]}]},
            "Invalid attribute name: Type: spec.filters[0].all[0].exact",
        ),
        ({"filters": [{"suffix": {"type": ""}}]}, "Invalid attribute value: type is empty"),
        ({"subscriber": {}}, "expected at least one, got none: spec.subscriber.ref, spec.subscriber.uri"),
        ({"delivery": {"backoffDelay": "PT1.5S", "timeout": "PT1M"}}, None),
        (
            {"delivery": {"backoffDelay": "2s"}},
            "expected an ISO 8601 duration such as PT2S: spec.delivery.backoffDelay",
        ),
        ({"delivery": {"timeout": "P"}}, "spec.delivery.timeout"),
        ({"delivery": {"timeout": "PT0S"}}, "expected more than nothing: spec.delivery.timeout"),
        ({"broker": ""}, "missing field(s): spec.broker"),
        ({"brokerRef": {"kind": "Broker", "name": "b"}}, "expected exactly one, got both: spec.broker, spec.brokerRef"),
        ({"subscriber": {"ref": {"kind": "Service", "name": "a"}}}, "missing field(s): spec.subscriber.ref.apiVersion"),
        (
            {"subscriber": {"ref": {"apiVersion": "v1", "kind": "Service", "name": "a", "group": "g"}}},
            "feature kreference-group of ConfigMap config-features is off",
        ),
        ({"subscriber": {"uri": "/path"}}, "Relative URI is not allowed"),
        (
            {"subscriber": {"uri": "http://a", "ref": {"apiVersion": "v1", "kind": "Service", "name": "a"}}},
            "Absolute URI is not allowed",
        ),
        ({"subscriber": {"uri": "/path", "ref": {"apiVersion": "v1", "kind": "Service", "name": "a"}}}, None),
        ({"filters": [{"exact": {"1a": "x"}}]}, "Invalid attribute name: 1a"),
        ({"delivery": {"deadLetterSink": {}}}, "spec.delivery.deadLetterSink.ref"),
    ],
)
def test_triggers_are_judged_as_the_webhook_does(spec: dict[str, Any], said: str | None) -> None:
    faults = admission.knative_faults(trigger(**spec), None)
    assert (said is None and faults == []) or (said is not None and said in faults[0])


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({}, None),
        ({"pod": {"restartPolicy": "Always"}}, "spec.template.spec.restartPolicy"),
        (
            {"pod": {"restartPolicy": "OnFailure"}, "podFailurePolicy": {"rules": []}},
            "spec.template.spec.restartPolicy",
        ),
        ({"podFailurePolicy": {"rules": [{"action": "FailJob"}]}}, "spec.podFailurePolicy.rules[0]"),
        (
            {"podFailurePolicy": {"rules": [{"action": "Count", "onExitCodes": {"operator": "In", "values": [0]}}]}},
            "spec.podFailurePolicy.rules[0].onExitCodes.values",
        ),
        ({"pod": {"containers": []}}, "spec.template.spec.containers"),
        ({"pod": {"containers": [{"name": "main"}]}}, "spec.template.spec.containers[0].image"),
        ({"pod": {"containers": [{"name": "Main", "image": "x"}]}}, "spec.template.spec.containers[0].name"),
    ],
)
def test_jobs_are_judged_as_the_api_server_does(spec: dict[str, Any], path: str | None) -> None:
    faults = admission.kubernetes_faults(job(**spec), None)
    assert [fault.path for fault in faults] == ([] if path is None else [path])


@pytest.mark.parametrize(
    ("name", "fits"), [("a", True), ("a.b-c", True), ("A", False), ("-a", False), ("a" * 254, False), ("", False)]
)
def test_names_are_dns_subdomains(name: str, fits: bool) -> None:
    named = job() | {"metadata": {"name": name, "namespace": "n"}}
    assert (admission.kubernetes_faults(named, None) == []) == fits


def test_a_revision_name_cannot_be_kept_when_its_template_changes() -> None:
    def service(image: str) -> dict[str, Any]:
        template = {"metadata": {"name": "hello-one"}, "spec": {"containers": [{"image": image}]}}
        meta = {"name": "hello", "namespace": "n"}
        return {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"template": template},
        }

    assert admission.knative_faults(service("a"), service("a")) == []
    assert "without a change of the name" in admission.knative_faults(service("b"), service("a"))[0]
