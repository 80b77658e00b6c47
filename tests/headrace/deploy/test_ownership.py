"""Whose an object is: what `undeploy` may take."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.deploy import ownership

Object = dict[str, Any]
LABEL = {"app.kubernetes.io/part-of": "headrace"}
MODEL = {**LABEL, "app.kubernetes.io/component": "predictor"}
APPLIED, ARGO = ("headrace", "Apply"), ("argocd-controller", "Apply")
KUBECTL = ("kubectl-client-side-apply", "Update")


KEPT = {"f:metadata": {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {}}}}


def obj(labels: Object, *managers: tuple[str, str], kind: str = "Service") -> Object:
    managed = [{"manager": manager, "operation": operation} for manager, operation in managers]
    return {"kind": kind, "metadata": {"name": "x", "labels": labels, "managedFields": managed}}


@pytest.mark.parametrize(
    ("o", "ours", "others", "of_model"),
    [
        (obj(LABEL, APPLIED), True, [], False),
        (obj(LABEL, APPLIED, ("controller", "Update")), True, [], False),
        (obj(LABEL, APPLIED, ARGO), True, ["argocd-controller"], False),
        (obj(LABEL, APPLIED, KUBECTL), True, ["kubectl-client-side-apply"], False),
        (obj(LABEL, ARGO), False, ["argocd-controller"], False),
        (obj(LABEL, ("headrace", "Update")), False, [], False),
        (obj(LABEL, ("headrace-up", "Apply")), False, ["headrace-up"], False),
        (obj({}, APPLIED), False, [], False),
        (obj(MODEL, ("OpenAPI-Generator", "Update")), False, [], True),
        (obj(MODEL, KUBECTL), False, ["kubectl-client-side-apply"], False),
        (obj(MODEL, ("x", "Update"), kind="ConfigMap"), False, [], False),
        (obj({"app.kubernetes.io/component": "predictor"}, ("x", "Update")), False, [], False),
    ],
)
def test_ours_is_what_bears_our_label_and_was_applied_by_us(
    o: Object, ours: bool, others: list[str], of_model: bool
) -> None:
    assert (ownership.ours(o), ownership.others(o), ownership.made_for_a_model(o)) == (ours, others, of_model)


def test_a_manager_that_keeps_its_manifest_in_the_object_applies_it_whatever_it_is_called() -> None:
    o = obj(MODEL, APPLIED, ("argocd-controller", "Update"), ("controller", "Update"))
    assert ownership.others(o) == []
    o["metadata"]["managedFields"][1]["fieldsV1"] = KEPT
    assert ownership.others(o) == ["argocd-controller"]
    del o["metadata"]["managedFields"][0]
    assert not ownership.made_for_a_model(o)


def test_what_is_of_a_helm_release_is_its_too() -> None:
    o = obj(LABEL, APPLIED, ("helm", "Update"))
    o["metadata"]["annotations"] = {"meta.helm.sh/release-name": "house"}
    assert ownership.ours(o) and ownership.others(o) == ["Helm release house"]


def test_jobs_are_known_by_the_job_sink_that_made_them() -> None:
    job = {"kind": "Job", "metadata": {"name": "a-1", "labels": {"sinks.knative.dev/job-sink-name": "random-forest"}}}
    assert ownership.made_of_an_event(job, {"random-forest", "neural-net"})
    assert not ownership.made_of_an_event(job, {"theirs"})
    assert not ownership.made_of_an_event({"kind": "Job", "metadata": {"name": "b"}}, {"random-forest"})
