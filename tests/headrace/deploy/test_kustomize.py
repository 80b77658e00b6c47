"""deploy/kustomize: what `kubectl apply -k` applies is what `headrace deploy` does, and a cluster would take it."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.promoter import deployment
from headrace import manifests
from headrace.check import documents, judge
from headrace.deploy import plan
from knative import json_patch
from tests.manifests import published

Object = dict[str, Any]
FOLDER = Path(__file__).parents[3] / "deploy" / "kustomize"
OVERLAYS = ["base", *sorted(f"overlays/{each.name}" for each in (FOLDER / "overlays").iterdir())]
# Knative takes a claim of a Service only where ops have said so; docs/ops.md tells how.
ASKS_FOR_A_FEATURE = {"overlays/store-pvc": "kubernetes.podspec-persistent-volume-claim"}


@functools.cache
def rendered(overlay: str) -> str:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kustomize is part of kubectl, and there is no `kubectl` here")
    # As users call it: no --load-restrictor.
    done = subprocess.run([kubectl, "kustomize", str(FOLDER / overlay)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def objects(overlay: str) -> dict[str, Object]:
    return by_label(yaml.safe_load_all(rendered(overlay)))


def by_label(found: Any) -> dict[str, Object]:
    return {f"{o['kind']} {o['metadata']['name']}": o for o in found}


def test_the_base_is_the_rooms_manifests_and_nothing_else() -> None:
    assert objects("base") == by_label(manifests.read())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_cluster_would_take_what_is_rendered(overlay: str) -> None:
    found = judge.judge(documents.parse(overlay, rendered(overlay).encode()))
    feature = ASKS_FOR_A_FEATURE.get(overlay)
    assert [f for f in found if not (feature and feature in f.problem)] == []
    core = [o for o in objects(overlay).values() if published.group(o) not in published.MODULES]
    assert len(core) == 18
    assert [fault for o in core for fault in published.faults(o)] == []


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
        o["Broker default"]["metadata"].get("annotations", {}).get(plan.BROKER_CLASS) for o in map(objects, OVERLAYS)
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
    at = spec.get("job", {}).get("spec", spec) if o["kind"] == "JobSink" else spec
    return dict(at.get("template", {}).get("spec", {}))


def _claims(volume: Object) -> str | None:
    return (volume.get("persistentVolumeClaim") or {}).get("claimName")
