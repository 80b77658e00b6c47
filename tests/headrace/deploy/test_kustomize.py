"""deploy/kustomize: what `kubectl apply -k` applies is what `headrace deploy` does, and a cluster would take it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

from functions.predictor.statistics import PREDICTIONS
from functions.promoter import deployment
from headrace import manifests
from headrace.check import documents, judge
from headrace.deploy import plan
from knative import json_patch
from monitoring import predictions
from tests.manifests import published
from tests.manifests.kustomized import FOLDER, OVERLAYS, build, by_label, objects, rendered

Object = dict[str, Any]
# Knative takes a claim of a Service only where ops have said so; docs/ops.md tells how.
# Of these, what is Knative's is judged as everywhere; their other kinds the tests of an API server judge.
BEYOND_KNATIVE = ("overlays/plain", "overlays/keda", "overlays/trainjob")
ON_KNATIVE = [overlay for overlay in OVERLAYS if overlay not in ("overlays/plain", "overlays/keda")]
ASKS_FOR_A_FEATURE = {"overlays/store-pvc": "kubernetes.podspec-persistent-volume-claim"}


def test_the_base_is_the_rooms_manifests_and_nothing_else() -> None:
    assert objects("base") == by_label(manifests.read())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_cluster_would_take_what_is_rendered(overlay: str) -> None:
    found = judge.judge(documents.parse(overlay, rendered(overlay).encode()))
    feature = ASKS_FOR_A_FEATURE.get(overlay)
    unknown = overlay in BEYOND_KNATIVE
    assert [
        f
        for f in found
        if not (feature and feature in f.problem) and not (unknown and f.problem.startswith("not judged"))
    ] == []
    judged = list(objects(overlay).values())
    assert len(judged) > 15
    assert [fault for o in judged for fault in published.faults(o)] == []


@pytest.mark.parametrize(
    ("overlay", "broker_class"),
    [
        ("overlays/broker-mt-channel", "MTChannelBasedBroker"),
        ("overlays/broker-kafka", "Kafka"),
        ("overlays/broker-rabbitmq", "RabbitMQBroker"),
    ],
)
def test_a_class_of_broker_is_the_same_by_kustomize_and_by_deploy(overlay: str, broker_class: str) -> None:
    wishes = plan.Wishes(broker_class=broker_class)
    assert objects(overlay) == by_label(plan.objects(manifests.read(), wishes))


def test_there_is_an_overlay_for_each_class_of_broker_that_deploy_knows() -> None:
    classes = {
        o["Broker default"]["metadata"].get("annotations", {}).get(plan.BROKER_CLASS) for o in map(objects, ON_KNATIVE)
    }
    assert classes == {None, *plan.BROKER_CLASSES}


def test_a_claim_to_drop_into_is_the_same_by_kustomize_and_by_deploy() -> None:
    wishes = plan.Wishes(drop="claim/headrace-drop")
    assert objects("overlays/drop-pvc") == by_label(plan.objects(manifests.read(), wishes))


def test_a_bucket_needs_nothing_but_values_and_is_reached_where_they_say() -> None:
    base, found = objects("base"), objects("overlays/store-s3")
    assert {name for name in base if base[name] != found[name]} == {"ConfigMap headrace", "NetworkPolicy store"}
    data = found["ConfigMap headrace"]["data"]
    assert data["HEADRACE_STORE"].startswith("s3://")
    values = {key: data[key] for key in data.keys() - base["ConfigMap headrace"]["data"].keys()}
    assert set(values) == {"AWS_ENDPOINT_URL"}
    wishes = plan.Wishes(store=data["HEADRACE_STORE"], values=values)
    assert found["NetworkPolicy store"] == by_label(plan.objects(manifests.read(), wishes))["NetworkPolicy store"]


def test_a_claim_is_mounted_where_the_store_is_in_every_pod_and_in_the_models_to_come() -> None:
    found = objects("overlays/store-pvc")
    data = found["ConfigMap headrace"]["data"]
    where = data["HEADRACE_STORE"].removeprefix("file://")
    patch = json_patch.parse(data["HEADRACE_PREDICTOR_PATCH"])
    deployment.fits(patch)
    templates = [o for o in map(_template, found.values()) if o]
    templates += [_template(json_patch.apply(deployment.grpc_service(), patch))]
    assert len(templates) == 9
    assert found["NetworkPolicy store"]["spec"]["egress"] == []  # the kubelet mounts it, nothing is sent
    for template in templates:
        (claim,) = [v["name"] for v in template["volumes"] if _claims(v) == "headrace-store"]
        for container in template["containers"]:
            assert {m["mountPath"] for m in container["volumeMounts"] if m["name"] == claim} == {where}


def _template(o: Object) -> Object:
    spec = o.get("spec", {})
    inner = {"JobSink": "job", "CronJob": "jobTemplate"}.get(o["kind"], "")
    at = spec.get(inner, {}).get("spec", spec)
    return dict(at.get("template", {}).get("spec", {}))


def _claims(volume: Object) -> str | None:
    return (volume.get("persistentVolumeClaim") or {}).get("claimName")


# ---------------------------------------------------------------- without Knative


def test_without_knative_nothing_of_it_is_left() -> None:
    for overlay in ("overlays/plain", "overlays/keda"):
        assert [o["kind"] for o in objects(overlay).values() if "knative" in o["apiVersion"]] == []
        assert "knative" not in rendered(overlay)


def test_a_predictor_without_knative_is_the_same_container() -> None:
    """One truth: whatever functions/manifests/predictor.yaml says of the container holds here, but for its model."""
    manifest = (FOLDER.parents[1] / "functions" / "manifests" / "predictor.yaml").read_text(encoding="utf-8")
    knatives = next(yaml.safe_load_all(manifest))["spec"]["template"]["spec"]
    plain = objects("overlays/plain")["Deployment flights"]["spec"]["template"]["spec"]
    (theirs,), (ours,) = knatives["containers"], plain["containers"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert ours[probe]["httpGet"].pop("port") == theirs["ports"][0]["containerPort"]
    # Knative asks every 25 ms until a pod is ready; a kubelet's least is a second.
    assert ours["readinessProbe"].pop("periodSeconds") == 1
    assert {k: v for k, v in ours.items() if k != "env"} == {k: v for k, v in theirs.items() if k != "env"}
    assert plain["volumes"] == knatives["volumes"]
    assert plain["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("name", "room"),
    [
        ("Deployment drift-watch", "Service drift-watch"),
        ("Deployment promoter", "Service promoter"),
        ("Deployment folder", "ContainerSource folder"),
        ("CronJob random-forest", "JobSink random-forest"),
        ("CronJob neural-net", "JobSink neural-net"),
    ],
)
def test_what_a_room_says_of_security_and_resources_holds_without_knative(name: str, room: str) -> None:
    plain, base = _template(objects("overlays/plain")[name]), _template(objects("base")[room])
    (ours,), (theirs,) = plain["containers"], base["containers"]
    for key in ("image", "resources", "securityContext", "envFrom", "volumeMounts"):
        assert ours.get(key) == theirs.get(key), key
    for key in ("volumes", "securityContext", "automountServiceAccountToken", "serviceAccountName"):
        assert plain.get(key) == base.get(key), key


def test_a_service_without_knative_leads_to_the_pods_of_one_workload() -> None:
    found = objects("overlays/plain").values()
    templates = {o["metadata"]["name"]: o["spec"]["template"] for o in found if o["kind"] == "Deployment"}
    services = [o for o in found if o["kind"] == "Service"]
    assert {o["metadata"]["name"] for o in services} == {"drift-watch", "flights", "trainings"}
    for o in services:
        selector = o["spec"]["selector"].items()
        reached = [n for n, t in templates.items() if selector <= t["metadata"]["labels"].items()]
        assert reached == [o["metadata"]["name"]]
    for o in found:
        if o["kind"] == "Deployment":
            wanted = o["spec"]["selector"]["matchLabels"].items()
            assert [n for n, t in templates.items() if wanted <= t["metadata"]["labels"].items()] == [
                o["metadata"]["name"]
            ]


def test_a_model_without_knative_is_scaled_by_its_cpu_and_by_metrics_that_it_has() -> None:
    registry = prometheus_client.CollectorRegistry()
    predictions.expose(PREDICTIONS.metrics, registry)
    known = {metric.name for metric in registry.collect()}
    for overlay, kind in (("overlays/plain", "HorizontalPodAutoscaler"), ("overlays/keda", "ScaledObject")):
        found = [o for o in objects(overlay).values() if o["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")]
        assert [o["kind"] for o in found] == [kind]
        assert found[0]["spec"]["scaleTargetRef"]["name"] == "flights"
        said = str(found[0]["spec"])
        named = set(re.findall(r"headrace_[a-z_]+", said))
        assert "cpu" in said and "headrace_requests_in_progress" in named <= known


def test_a_query_that_finds_nothing_is_an_error_to_keda_which_then_falls_back() -> None:
    spec = objects("overlays/keda")["ScaledObject flights"]["spec"]
    (asked,) = [t["metadata"] for t in spec["triggers"] if t["type"] == "prometheus"]
    assert asked["ignoreNullValues"] == "false"
    assert spec["fallback"]["replicas"] > spec["minReplicaCount"] == 1


def test_a_trainer_of_kubeflow_runs_the_very_job_of_the_room() -> None:
    for name in ("random-forest", "neural-net"):
        runtime = objects("overlays/trainjob")[f"TrainingRuntime {name}"]["spec"]["template"]["spec"]
        (job,) = runtime["replicatedJobs"]
        assert job["template"]["metadata"]["labels"] == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
        theirs = objects("base")[f"JobSink {name}"]["spec"]["job"]["spec"]
        assert runtime["ttlSecondsAfterFinished"] == theirs.pop("ttlSecondsAfterFinished")
        theirs["template"]["spec"]["containers"][0]["name"] = "node"
        theirs["podFailurePolicy"]["rules"][0]["onExitCodes"]["containerName"] = "node"
        # A Job's own default, which is not a JobSet's.
        theirs["completionMode"] = "NonIndexed"
        assert job["template"]["spec"] == theirs
    for name in ("random-forest", "neural-net"):
        assert objects("overlays/trainjob")[f"Trigger {name}"]["spec"]["subscriber"]["ref"]["name"] == "trainings"
    assert [o["kind"] for o in objects("overlays/trainjob").values() if o["kind"] == "JobSink"] == []


def test_with_kubeflow_the_job_watch_is_the_same_and_may_less() -> None:
    base, found = objects("base"), objects("overlays/trainjob")
    (container,) = _template(found["Service job-watch"])["containers"]
    assert container.pop("env") == [{"name": "HEADRACE_TRAINING_KIND", "value": "TrainJob"}]
    for name in ("Service job-watch", "Trigger job-watch", "ServiceAccount job-watch", "RoleBinding job-watch"):
        assert found[name] == base[name]
    rights = {r: rule["verbs"] for rule in found["Role job-watch"]["rules"] for r in rule["resources"]}
    assert rights == {"jobs": ["get"], "pods": ["list"]}


def test_a_claim_is_mounted_where_the_store_is_without_knative_too(tmp_path: Path) -> None:
    plain = os.path.relpath(FOLDER / "overlays" / "plain", tmp_path.resolve())
    component = os.path.relpath(FOLDER / "components" / "store-pvc", tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{plain}]\ncomponents: [{component}]\n")
    found = by_label(yaml.safe_load_all(build(tmp_path)))
    mounted = {
        name for name, o in found.items() if "headrace-store" in {_claims(v) for v in _template(o).get("volumes", ())}
    }
    assert mounted == {
        "CronJob neural-net", "CronJob random-forest", "Deployment drift-watch", "Deployment flights",
        "Deployment folder", "Deployment promoter",
    }  # fmt: skip
    for name in mounted:
        (container,) = _template(found[name])["containers"]
        assert "/var/headrace/store" in {m["mountPath"] for m in container["volumeMounts"]}, name
        # Nothing that was mounted before is lost on the way.
        (before,) = _template(objects("overlays/plain")[name])["containers"]
        assert {m["mountPath"] for m in before.get("volumeMounts", ())} < {
            m["mountPath"] for m in container["volumeMounts"]
        }
