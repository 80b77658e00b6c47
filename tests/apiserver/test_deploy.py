"""`headrace deploy`, `status` and `undeploy` against a real API server; Knative's controllers are the test's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace import manifests
from headrace.deploy import deployment, plan
from knative.client import Cluster
from tests.apiserver import control_plane, controllers
from tests.apiserver.conftest import definitions
from tests.apiserver.control_plane import ControlPlane

Object = dict[str, Any]

KNATIVE = ("serving", "eventing", "sinks", "sources")
QUOTA: Object = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "small"},
    "spec": {"hard": {"count/jobsinks.sinks.knative.dev": "0"}},
}


def headrace(api: ControlPlane, namespace: str, command: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`headrace COMMAND` as a process, talking to the API server as its admin."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "KUBECONFIG"))}
    kubeconfig = str(api.kubeconfig(namespace))
    place = () if command == "status" else ("--namespace", namespace)
    return subprocess.run(
        [sys.executable, "-m", "headrace.cli", command, "--kubeconfig", kubeconfig, *place, *words],
        env=clean, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


def deploy(cluster: Cluster, objects: Sequence[Object] | None = None, **options: Any) -> deployment.Report:
    """A deployment from within this process."""
    wishes = plan.Wishes(namespace=cluster.namespace, store="s3://models")
    chosen = plan.objects(manifests.read(), wishes) if objects is None else objects
    return deployment.deploy(cluster, chosen, deployment.Options(**{"timeout_s": 60, **options}), lambda *_: None)


def said(report: deployment.Report) -> str:
    return "\n".join(map(str, report.causes))


def versions(api: ControlPlane, namespace: str) -> dict[str, str]:
    """The resourceVersion of everything that bears our label."""
    kinds = "configmaps,serviceaccounts,roles,rolebindings,brokers,triggers,jobsinks,ksvc,containersources"
    shown = api.kubectl(
        "get", kinds, "-n", namespace, "-l", "app.kubernetes.io/part-of=headrace", "-o", "json", namespace=namespace
    )
    return {f"{o['kind']} {o['metadata']['name']}": o["metadata"]["generation" if "spec" in o else "resourceVersion"]
            for o in json.loads(shown)["items"]}  # fmt: skip


def test_all_is_applied_becomes_ready_is_shown_stays_the_same_and_goes(api: ControlPlane) -> None:
    namespace = "deployed"
    tried = headrace(api, namespace, "deploy", "--store", "s3://models", "--dry-run", "-o", "json")
    assert tried.returncode == 0, tried.stderr
    assert {d["change"] for d in json.loads(tried.stdout)["differences"]} == {"created"}
    assert api.call_kubectl("get", "namespace", namespace).returncode == 1

    with controllers.running(api, namespace) as knative:
        first = headrace(api, namespace, "deploy", "--store", "s3://models", "-o", "json")
        assert first.returncode == 0, first.stderr
        told = json.loads(first.stdout)
        assert told["healthy"] and all(told["ready"].values())
        assert len(told["ready"]) == sum(o["kind"] in controllers.KINDS for o in manifests.read())
        # The controllers' Broker answers elsewhere than the manifest's K_SINK says.
        assert "deploy with --set K_SINK=" in told["notes"][0]

        before = versions(api, namespace)
        again = json.loads(headrace(api, namespace, "deploy", "-o", "json").stdout)
        assert {d["change"] for d in again["differences"]} == {"unchanged"}
        assert versions(api, namespace) == before

        assert headrace(api, namespace, "status").returncode == 0
        knative.unready["Service promoter"] = {"status": "False", "reason": "RevisionFailed", "message": "no luck"}
        api.kubectl("patch", "ksvc", "promoter", "-n", namespace, "--type", "merge", "-p", '{"spec":{"traffic":[]}}')
        knative.look()
        ill = headrace(api, namespace, "status", "-o", "json")
        assert ill.returncode == 1
        (part,) = (p for p in json.loads(ill.stdout)["parts"] if p["ready"] != "True")
        assert (part["name"], part["reason"]) == ("promoter", "RevisionFailed: no luck")

        gone = headrace(api, namespace, "undeploy", "--timeout", "1s")
    assert gone.returncode == 0, gone.stderr
    assert versions(api, namespace) == {}


def test_a_field_of_another_manager_is_told_and_nothing_is_applied(api: ControlPlane, namespace: str) -> None:
    with controllers.running(api, namespace):
        cluster = api.connect(namespace)
        assert said(deploy(cluster)) == ""
        slower = '{"spec":{"template":{"spec":{"timeoutSeconds":200}}}}'
        api.kubectl("patch", "ksvc", "promoter", "-n", namespace, "--type", "merge", "-p", slower)
        api.kubectl("annotate", "ksvc", "promoter", "-n", namespace, "ops.example.com/owner=me")
        wishes = plan.Wishes(namespace=namespace, store="s3://others")
        others = plan.objects(manifests.read(), wishes)
        assert "spec.template.spec.timeoutSeconds is kubectl-patch's" in said(deploy(cluster, others))
        kept = cluster.get("ConfigMap", "headrace")
        assert kept is not None and kept["data"]["HEADRACE_STORE"] == "s3://models"

        assert said(deploy(cluster, others, force_conflicts=True)) == ""
        service = cluster.get("Service", "promoter")
        assert service is not None and service["spec"]["template"]["spec"]["timeoutSeconds"] == 300
        assert service["metadata"]["annotations"]["ops.example.com/owner"] == "me"


def test_a_quota_is_the_cause_that_is_told(api: ControlPlane, namespace: str) -> None:
    api.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(QUOTA))
    # What a controller would count.
    counted = {"status": {"hard": QUOTA["spec"]["hard"], "used": {"count/jobsinks.sinks.knative.dev": "0"}}}
    counted_by = ("--subresource", "status", "--type", "merge", "-p", json.dumps(counted))
    api.kubectl("patch", "resourcequota", "small", "-n", namespace, *counted_by)
    report = deploy(api.connect(namespace))
    assert {c.object for c in report.causes} == {"JobSink random-forest", "JobSink neural-net"}
    assert all(c.what.startswith("quota: ") and "exceeded quota: small" in c.what for c in report.causes)
    assert versions(api, namespace) == {}


def test_who_may_not_is_told_what_and_who_could(api: ControlPlane, namespace: str) -> None:
    """Somebody with all rights in the namespace but over Roles, as many clusters give them."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "ops", "namespace": namespace},
        "rules": [
            {"apiGroups": [""], "resources": ["configmaps", "serviceaccounts"], "verbs": ["*"]},
            {"apiGroups": ["networking.k8s.io", "policy"], "resources": ["*"], "verbs": ["*"]},
            *({"apiGroups": [f"{part}.knative.dev"], "resources": ["*"], "verbs": ["*"]} for part in KNATIVE),
        ],
    }
    api.kubectl("apply", "-f", "-", input=json.dumps(role))
    api.kubectl("create", "rolebinding", "ops", "--role=ops", "--user=ops", "-n", namespace)
    report = deploy(api.connect(namespace, "ops"))
    roles = [f"{o['kind']} {o['metadata']['name']}" for o in manifests.read() if o["kind"] in ("Role", "RoleBinding")]
    assert sorted(c.object for c in report.causes) == sorted(roles)
    assert all("no rights: " in c.what and 'User "ops" cannot' in c.what for c in report.causes)
    assert versions(api, namespace) == {}


def test_a_field_that_the_cluster_does_not_know_is_refused_at_once(api: ControlPlane, namespace: str) -> None:
    objects = plan.objects(manifests.read(), plan.Wishes(namespace=namespace))
    (broker,) = (o for o in objects if o["kind"] == "Broker")
    broker["spec"]["brokerClass"] = "Kafka"
    (cause,) = deploy(api.connect(namespace), objects).causes
    assert cause.object == "Broker default" and cause.final
    assert ".spec.brokerClass: field not declared in schema" in cause.what


def test_an_object_of_somebody_else_is_left_alone(api: ControlPlane, namespace: str) -> None:
    api.kubectl("create", "configmap", "headrace", "--from-literal", "theirs=1", "-n", namespace)
    assert said(deploy(api.connect(namespace))).startswith("ConfigMap headrace: is there already and is not Headrace's")


def test_a_cluster_without_what_is_needed_is_told_what_to_install(tmp_path: Path) -> None:
    """An API server of its own, to which one part of Knative after the other is added."""
    if why := control_plane.absent():
        pytest.skip(why)
    with control_plane.running(tmp_path) as bare:
        cluster = bare.connect("headrace")
        found = said(deploy(cluster))
        assert "Knative Serving is absent" in found and "Knative Eventing is absent" in found
        bare.install(definitions("serving.knative.dev"))
        assert said(deploy(cluster)) == (
            "cluster: Knative Eventing is absent: the cluster does not know Broker, Trigger, ContainerSource; "
            "install Knative Eventing 1.15 or newer"
        )
        bare.install(definitions("eventing.knative.dev", "JobSink"))
        assert said(deploy(cluster)).startswith(
            "cluster: Knative Eventing is too old: the cluster does not know JobSink"
        )
        assert "1.15" in said(deploy(cluster))
        bare.install(definitions("eventing.knative.dev"))
        assert said(deploy(cluster, dry_run=True)) == ""
