"""`headrace deploy` and `undeploy` where somebody was there before, comes in between, or may not do everything."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from headrace import manifests
from headrace.deploy import deployment, plan, undeployment
from knative.client import Cluster, NotFound
from tests.apiserver import controllers
from tests.apiserver.control_plane import ControlPlane

Object = dict[str, Any]


def objects(namespace: str, **values: str) -> list[Object]:
    wishes = plan.Wishes(namespace=namespace, store="s3://models", values=values)
    return plan.rolled(plan.objects(manifests.read(), wishes))


def deploy(cluster: Cluster, wanted: list[Object] | None = None, **options: Any) -> deployment.Report:
    chosen = objects(cluster.namespace) if wanted is None else wanted
    return deployment.deploy(cluster, chosen, deployment.Options(**{"timeout_s": 60, **options}), lambda *_: None)


def undeploy(cluster: Cluster, timeout_s: float = 1.0) -> undeployment.Report:
    return undeployment.undeploy(cluster, False, timeout_s, lambda *_: None)


def said(report: deployment.Report | undeployment.Report) -> str:
    return "\n".join(map(str, report.causes))


def later(seconds: float, do: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(seconds, do)
    timer.start()
    return timer


def finalise(api: ControlPlane, namespace: str) -> None:
    """What a cluster's own controller does with a namespace that is empty."""
    empty = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}, "spec": {"finalizers": []}}
    api.kubectl("replace", "--raw", f"/api/v1/namespaces/{namespace}/finalize", "-f", "-", input=json.dumps(empty))


def collect(cluster: Cluster) -> None:
    """What a cluster's own controller does with what has no owner any more."""
    for revision in cluster.list("Revision"):
        cluster.delete("Revision", revision["metadata"]["name"])


# ---------------------------------------------------------------- what is on its way out


def test_a_namespace_that_is_being_removed_is_told_as_that_and_not_as_a_lack_of_rights(
    api: ControlPlane, namespace: str
) -> None:
    api.kubectl("delete", "namespace", namespace, "--wait=false")
    for report in (deploy(api.connect(namespace), dry_run=True), deploy(api.connect(namespace), timeout_s=2)):
        assert said(report).startswith(f"Namespace {namespace}: is being removed")
    finalise(api, namespace)


def test_a_deploy_behind_an_undeploy_waits_until_the_namespace_is_gone(api: ControlPlane, namespace: str) -> None:
    api.kubectl("delete", "namespace", namespace, "--wait=false")
    timer = later(2.0, lambda: finalise(api, namespace))
    with controllers.running(api, namespace):
        report = deploy(api.connect(namespace))
    timer.join()
    assert said(report) == "" and all(report.ready.values())


def test_an_object_that_is_being_removed_is_waited_for_and_then_made(api: ControlPlane, namespace: str) -> None:
    """Applied to it at once, all would be well, and then gone."""
    cluster = api.connect(namespace)
    with controllers.running(api, namespace):
        assert said(deploy(cluster)) == ""
        held = {"metadata": {"finalizers": ["test.headrace.dev/held"]}}
        cluster.patch("Broker", "default", held)
        cluster.delete("Broker", "default")
        before = cluster.get("Broker", "default")
        timer = later(2.0, lambda: cluster.patch("Broker", "default", {"metadata": {"finalizers": None}}))
        assert said(deploy(cluster)) == ""
        timer.join()
        after = cluster.get("Broker", "default")
    assert before is not None and after is not None and before["metadata"]["uid"] != after["metadata"]["uid"]


# ---------------------------------------------------------------- what an earlier deployment has left


def test_the_fault_of_an_earlier_image_does_not_end_the_waiting_for_a_mended_one(
    api: ControlPlane, namespace: str
) -> None:
    cluster = api.connect(namespace)
    bad = {"status": "False", "reason": "ContainerMissing", "message": 'Unable to fetch image "reg.example/f:1": 404'}
    coming = {"status": "Unknown", "reason": "RevisionMissing", "message": "waiting for a Revision to become ready"}
    services = [o["metadata"]["name"] for o in objects(namespace) if o["kind"] == "Service"]
    with controllers.running(api, namespace) as knative:
        for name in services:
            knative.unready |= {f"Service {name}": bad, f"Revision {name}-00001": bad}
        assert "image reg.example/f:1 cannot be pulled" in said(deploy(cluster, final_s=1.0))
        for name in services:
            knative.unready |= {f"Service {name}": coming, f"Revision {name}-00002": coming}
        timer = later(6.0, knative.unready.clear)
        mended = objects(namespace)
        for container in (c for o in mended if o["kind"] == "Service" for c in plan.containers(o)):
            container["image"] = "reg.example/f:2"
        assert said(deploy(cluster, mended, final_s=1.0)) == ""
        timer.join()


def test_pods_that_stay_are_made_anew_when_the_values_that_they_read_change(api: ControlPlane, namespace: str) -> None:
    """The source's one pod would look at the old drop place for ever."""
    cluster = api.connect(namespace)

    def templates() -> dict[str, Object]:
        found = [o for kind in ("Service", "ContainerSource") for o in cluster.list(kind)]
        return {o["metadata"]["name"]: o["spec"]["template"] for o in found}

    with controllers.running(api, namespace):
        assert said(deploy(cluster)) == ""
        first = templates()
        assert {d.change for d in deploy(cluster).differences} == {"unchanged"}
        assert templates() == first
        assert said(deploy(cluster, objects(namespace, HEADRACE_POLL_S="30"))) == ""
        assert [name for name, template in templates().items() if template == first[name]] == []


def test_of_two_deployments_at_once_one_is_told_that_it_does_not_stand(api: ControlPlane, namespace: str) -> None:
    """Each has applied some of the objects last, so that neither stands whole."""
    cluster = api.connect(namespace)
    (theirs,) = (o for o in objects(namespace, HEADRACE_POLL_S="30") if o["kind"] == "ConfigMap")
    theirs["data"]["HEADRACE_STORE"] = "s3://theirs"

    def meanwhile(what: str, *_: int) -> None:
        if what.startswith("applying ContainerSource"):
            cluster.apply(theirs)

    options = deployment.Options(timeout_s=60)
    with controllers.running(api, namespace):
        found = said(deployment.deploy(cluster, objects(namespace), options, meanwhile))
    assert found.startswith("ConfigMap headrace: somebody else has deployed meanwhile, with another HEADRACE_STORE")


def test_who_has_rights_in_the_namespace_alone_and_not_over_pods_may_deploy_and_undeploy(
    api: ControlPlane, namespace: str
) -> None:
    """Pods and revisions only explain what is not Ready, and the namespace is somebody else's."""
    groups = ["", "rbac.authorization.k8s.io", "networking.k8s.io", "policy", "eventing.knative.dev"]
    rules = [
        {"apiGroups": [*groups, "sinks.knative.dev", "sources.knative.dev"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["serving.knative.dev"], "resources": ["services"], "verbs": ["*"]},
        # What the Roles to be made give.
        {"apiGroups": ["serving.knative.dev"], "resources": ["revisions"], "verbs": ["get"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "delete"]},
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "ops"}, "rules": rules}
    api.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(role))
    api.kubectl("create", "rolebinding", "ops", "--role=ops", "--user=ops", "-n", namespace)
    wanted = [o for o in objects(namespace) if o["kind"] not in ("Role", "RoleBinding")]
    unready: Mapping[str, str] = {"status": "False", "reason": "RevisionFailed", "message": "no luck"}
    with controllers.running(api, namespace) as knative:
        knative.unready["Service promoter"] = unready
        report = deploy(api.connect(namespace, "ops"), wanted, timeout_s=4)
        assert "Service promoter: not Ready: RevisionFailed: no luck" in said(report)
        knative.unready.clear()
        assert said(deploy(api.connect(namespace, "ops"), wanted)) == ""
        report = undeploy(api.connect(namespace, "ops"))
    assert said(report) == "" and "Broker default" in report.removed
    assert api.connect(namespace).list("Broker") == []


def test_a_folder_as_the_store_that_no_volume_is_mounted_at_is_told(api: ControlPlane, namespace: str) -> None:
    """All would be Ready, and every pod have a store of its own."""
    cluster = api.connect(namespace)
    folder = {"HEADRACE_STORE": "file:///var/headrace/store"}
    with controllers.running(api, namespace):
        told = [
            note for note in deploy(cluster, objects(namespace, **folder)).notes if "folder of each pod's own" in note
        ]
        assert len(told) == 1
        mounted = objects(namespace, **folder)
        for obj in (o for o in mounted if o["kind"] == "Service"):
            pod = obj["spec"]["template"]["spec"]
            pod["volumes"].append({"name": "store", "persistentVolumeClaim": {"claimName": "headrace-store"}})
            pod["containers"][0]["volumeMounts"].append({"name": "store", "mountPath": "/var/headrace/store"})
        assert not any("folder of each pod's own" in note for note in deploy(cluster, mounted).notes)


# ---------------------------------------------------------------- what stays when we go


def definition(kind: str, version: str) -> Object:
    """A CustomResourceDefinition of somebody else's, served in one version alone."""
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": kind, "plural": plural, "singular": kind.lower()}
    spec = {"group": "test.headrace.dev", "scope": "Namespaced", "names": names, "versions": [served]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.test.headrace.dev"},
        "spec": spec,
    }


def test_a_namespace_stays_for_an_object_of_a_kind_that_its_groups_preferred_version_lacks(api: ControlPlane) -> None:
    """As RabbitmqBrokerConfig and EventPolicy are in the group of Broker."""
    namespace = "theirs-too"
    cluster = api.connect(namespace)
    api.install([definition("Settled", "v1"), definition("Database", "v1alpha1")])
    with controllers.running(api, namespace):
        assert said(deploy(cluster)) == ""
        theirs = {"apiVersion": "test.headrace.dev/v1alpha1", "kind": "Database", "metadata": {"name": "all-there-is"}}
        api.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(theirs))
    undeploy(cluster)
    collect(cluster)
    report = undeploy(cluster)
    assert report.kept == (f"Namespace {namespace}: in it are Database all-there-is",)


@pytest.mark.parametrize("words", [("--field-manager", "argocd-controller"), ()])
def test_what_somebody_applies_from_the_clients_side_too_stays(
    api: ControlPlane, namespace: str, words: tuple[str, ...]
) -> None:
    """Argo CD applies so unless it is told otherwise, under a name of its own."""
    cluster = api.connect(namespace)
    with controllers.running(api, namespace):
        assert said(deploy(cluster)) == ""
        (broker,) = (o for o in objects(namespace) if o["kind"] == "Broker")
        api.kubectl("apply", *words, "-f", "-", input=json.dumps(broker))
    report = undeploy(cluster)
    assert cluster.get("Broker", "default") is not None
    assert [kept for kept in report.kept if kept.startswith("Broker default: ")] != []


def test_what_an_undeploy_that_was_cut_off_has_left_goes_with_the_next_one(api: ControlPlane) -> None:
    """It died behind the JobSinks, before their Jobs, and before the promoter's last Service was listed."""
    namespace = "cut-off"
    cluster = api.connect(namespace)
    with controllers.running(api, namespace):
        assert said(deploy(cluster)) == ""
    pod = {"restartPolicy": "Never", "containers": [{"name": "trainer", "image": "x"}]}
    labels = {"sinks.knative.dev/job-sink-name": "random-forest"}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "random-forest-1", "labels": labels}}
    cluster.create({**job, "spec": {"template": {"spec": pod}}})
    for kind in undeployment.KINDS:
        for obj in cluster.list(kind):
            cluster.delete(kind, obj["metadata"]["name"])
    of_promoter = {"app.kubernetes.io/part-of": "headrace", "app.kubernetes.io/component": "predictor"}
    spec = {"template": {"spec": {"containers": [{"image": "x"}]}}}
    model = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "m", "labels": of_promoter},
    }
    cluster.create({**model, "spec": spec})
    collect(cluster)
    report = undeploy(cluster)
    assert said(report) == ""
    assert cluster.get("Service", "m") is None and cluster.list("Job") == []


def test_nothing_is_asked_for_by_a_name_that_nothing_can_have(api: ControlPlane, namespace: str) -> None:
    """As part of a path it would lead to the list of all, and a delete to the end of all."""
    cluster = api.connect(namespace)
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
    for name in ("", ".", ".."):
        assert cluster.get("ConfigMap", name) is None
        with pytest.raises(NotFound, match="no ConfigMap can be called"):
            cluster.delete("ConfigMap", name)
    assert len(cluster.list("ConfigMap")) == 1
