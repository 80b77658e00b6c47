"""What is applied: the manifests with one place's wishes put in, and nothing else changed."""

from __future__ import annotations

from typing import Any

import pytest

from eventing.errors import HeadraceError, Misconfigured
from functions.promoter import deployment
from headrace import manifests
from headrace.deploy import plan
from headrace.deploy.plan import Wishes
from knative import json_patch
from knative.canary import Canary

Object = dict[str, Any]


def planned(**wishes: Any) -> dict[str, Object]:
    return {f"{o['kind']} {o['metadata']['name']}": o for o in plan.objects(manifests.read(), Wishes(**wishes))}


def test_without_wishes_the_manifests_are_applied_as_they_are() -> None:
    assert plan.objects(manifests.read(), Wishes()) == manifests.read()


def test_what_others_need_comes_first() -> None:
    kinds = [o["kind"] for o in manifests.read()]
    order = ["Namespace", "ConfigMap", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "PodDisruptionBudget"]
    assert list(dict.fromkeys(kinds)) == [*order, "Broker", "JobSink", "Service", "Trigger", "ContainerSource"]


def test_the_templates_of_models_are_not_applied() -> None:
    assert not any(
        "predictor" in o["metadata"]["name"] for o in manifests.read() if o["kind"] in ("Service", "Trigger")
    )


def test_another_namespace_takes_everything_along_and_leaves_no_reference_behind() -> None:
    found = planned(namespace="team-a")
    assert "Namespace team-a" in found
    assert {o["metadata"].get("namespace") for o in found.values()} == {None, "team-a"}
    broker = found["Broker default"]["spec"]["delivery"]["deadLetterSink"]["ref"]
    assert broker["namespace"] == "team-a"
    assert found["RoleBinding promoter"]["subjects"][0]["namespace"] == "team-a"
    assert found["ConfigMap headrace"]["data"]["K_SINK"].endswith("/team-a/default")
    assert found["ContainerSource folder"]["spec"]["sink"]["ref"]["namespace"] == "team-a"


@pytest.mark.parametrize(
    ("broker_class", "sink", "config"),
    [
        (None, "http://broker-ingress.knative-eventing.svc.cluster.local/a/default", None),
        ("MTChannelBasedBroker", "http://broker-ingress.knative-eventing.svc.cluster.local/a/default", None),
        ("Kafka", "http://kafka-broker-ingress.knative-eventing.svc.cluster.local/a/default", "kafka-broker-config"),
        ("RabbitMQBroker", "http://default-broker-ingress.a.svc.cluster.local", "headrace"),
    ],
)
def test_a_class_of_broker_brings_its_ingress_and_its_configuration(
    broker_class: str | None, sink: str, config: str | None
) -> None:
    found = planned(namespace="a", broker_class=broker_class)
    broker = found["Broker default"]
    assert found["ConfigMap headrace"]["data"]["K_SINK"] == sink
    assert (broker["metadata"].get("annotations") or {}).get(plan.BROKER_CLASS) == broker_class
    assert (broker["spec"].get("config") or {}).get("name") == config


def test_an_image_for_all_and_one_for_the_trainers_alone() -> None:
    found = planned(image="reg:5000/all:1", images={"trainers": "reg:5000/t@sha256:12"})
    images = {name: {c["image"] for c in plan.containers(o)} for name, o in found.items()}
    assert images["JobSink random-forest"] == {"reg:5000/t@sha256:12"}
    assert images["Service promoter"] == images["ContainerSource folder"] == {"reg:5000/all:1"}


def test_the_models_services_that_the_promoter_makes_get_the_image_too() -> None:
    data = planned(images={"predictor": "reg/f:2", "functions": "reg/g:2"})["ConfigMap headrace"]["data"]
    patch = json_patch.parse(data["HEADRACE_PREDICTOR_PATCH"])
    state = Canary("v1", None, None, since=1.0, phase="starting", phase_since=1.0, event="e-1")
    made = [deployment.service("flights", state, patch), deployment.grpc_service(patch)]
    assert [c["image"] for o in made for c in plan.containers(o)] == ["reg/f:2", "reg/f:2"]
    assert (
        "HEADRACE_PREDICTOR_PATCH"
        not in planned(images={"functions": "f", "trainers": "t"})["ConfigMap headrace"]["data"]
    )


def test_an_image_and_a_patch_of_somebodys_own_both_reach_the_models_to_come() -> None:
    """The later option would have unsaid the earlier one."""
    theirs = '[{"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"disk": "fast"}}]'
    wishes = {"images": {"predictor": "reg/p:2"}, "values": {"HEADRACE_PREDICTOR_PATCH": theirs}}
    patch = json_patch.parse(planned(**wishes)["ConfigMap headrace"]["data"]["HEADRACE_PREDICTOR_PATCH"])
    assert [(step.op, step.path[-1]) for step in patch] == [("replace", "image"), ("add", "nodeSelector")]
    alone = planned(values={"HEADRACE_PREDICTOR_PATCH": theirs})["ConfigMap headrace"]["data"]
    assert alone["HEADRACE_PREDICTOR_PATCH"] == theirs


def test_the_store_and_further_keys_are_values_of_the_config_map() -> None:
    data = planned(store="s3://models", values={"HEADRACE_CANARY_S": "5", "K_SINK": "http://b"})["ConfigMap headrace"]
    assert data["data"]["HEADRACE_STORE"] == "s3://models"
    assert data["data"]["HEADRACE_CANARY_S"] == "5"
    assert data["data"]["K_SINK"] == "http://b"


@pytest.mark.parametrize(
    ("wishes", "seen"),
    [
        ({"store": "models"}, "models"),
        ({"store": "memory://x"}, "memory"),
        ({"images": {"predictors": "x"}}, "predictor=REF"),
        ({"image": ""}, "--image"),
        ({"values": {"HEADRACE_PREDICTOR_PATCH": '{"op": "add"}'}}, "a JSON patch is a list of operations"),
        ({"values": {"HEADRACE_PREDICTOR_PATCH": '[{"op": "remove", "path": "/spec/x"}]'}}, "HEADRACE_PREDICTOR_PATCH"),
        ({"values": {"K_SINK": ""}}, "K_SINK is ''"),
        ({"values": {"K_SINK": "broker:80/x"}}, "K_SINK"),
        ({"store": "s3://"}, "--store is 's3://'; expected the bucket's name"),
        ({"store": "s3:/models"}, "--store"),
        ({"images": {"functions": ""}}, "--image"),
        ({"image": "reg.example/a:1 reg.example/b:1"}, "--image"),
        ({"broker_class": "kafka"}, "meant Kafka"),
        ({"broker_class": "Nats"}, "K_SINK"),
        ({"values": {"HEADRACE_TRAINING_KIND": "TrainJob"}}, "overlays/trainjob"),
    ],
)
def test_a_wish_that_cannot_work_is_refused_with_what_is_expected(wishes: dict[str, Any], seen: str) -> None:
    with pytest.raises(Misconfigured, match=seen):
        Wishes(**wishes)


def test_what_is_secret_is_put_into_no_config_map_and_into_no_message() -> None:
    with pytest.raises(Misconfigured, match=r"AWS_SECRET_ACCESS_KEY.*Secret headrace-store") as refused:
        plan.Wishes(values={"AWS_SECRET_ACCESS_KEY": "hush"})
    assert "hush" not in str(refused.value)
    plan.Wishes(values={"AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token"})


def test_all_wishes_that_cannot_work_are_named_at_once() -> None:
    with pytest.raises(HeadraceError, match=r"models.*Nats"):
        Wishes(store="models", broker_class="Nats")


def test_a_class_that_is_not_known_works_where_its_sink_is_told() -> None:
    found = planned(broker_class="Nats", values={"K_SINK": "http://nats"})
    assert found["Broker default"]["metadata"]["annotations"][plan.BROKER_CLASS] == "Nats"
    assert found["ConfigMap headrace"]["data"]["K_SINK"] == "http://nats"


def test_files_are_dropped_into_the_store_unless_a_place_is_named() -> None:
    assert "HEADRACE_DROP" not in planned(store="s3://b")["ConfigMap headrace"]["data"]
    found = planned(store="s3://b", drop="s3://inbox/flights")
    assert found["ConfigMap headrace"]["data"]["HEADRACE_DROP"] == "s3://inbox/flights"
    assert found["ContainerSource folder"] == planned()["ContainerSource folder"]


def test_a_claim_is_mounted_where_the_source_looks_and_nowhere_else() -> None:
    found, plain = planned(drop="claim/inbox"), planned()
    where = found["ConfigMap headrace"]["data"]["HEADRACE_DROP"]
    pod = found["ContainerSource folder"]["spec"]["template"]["spec"]
    (volume,) = [v for v in pod["volumes"] if v.get("persistentVolumeClaim", {}).get("claimName") == "inbox"]
    mounts = [m for c in pod["containers"] for m in c["volumeMounts"] if m["name"] == volume["name"]]
    assert [(m["mountPath"], m["readOnly"]) for m in mounts] == [(where, True)]
    assert {name for name in plain if plain[name] != found[name]} == {"ConfigMap headrace", "ContainerSource folder"}


def test_nothing_is_watched_where_nobody_wants_it() -> None:
    assert planned().keys() - planned(drop="none").keys() == {"ContainerSource folder"}


@pytest.mark.parametrize(
    "drop", ["", "/var/drop", "file:///var/drop", "memory://x", "claim/", "claim/Not A Name", "s3://"]
)
def test_a_place_that_no_pod_reaches_is_refused(drop: str) -> None:
    with pytest.raises(Misconfigured, match="--drop"):
        Wishes(drop=drop)
