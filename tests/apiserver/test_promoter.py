"""The promoter against a real API server, as its own service account, with the rights of the manifest and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventing.contract import ModelPromoted, ModelRejected, ModelRolledBack
from functions.store import Store
from tests.apiserver import controllers
from tests.apiserver.control_plane import ControlPlane
from tests.functions.promoter.promoter_house import V1, V2, V3, House
from tests.test_manifests import HOUSE


def rbac() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((HOUSE / "knative" / "manifests" / "rbac.yaml").read_text(encoding="utf-8")))


@pytest.fixture
def house(api: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[House]:
    """All that a promoter needs; its API is the real one, and its Knative the test's."""
    for o in rbac():
        for subject in o.get("subjects") or ():
            subject["namespace"] = namespace
        o["metadata"]["namespace"] = namespace
        api.kubectl("apply", "-f", "-", input=json.dumps(o))
    token = api.kubectl("create", "token", "promoter", "-n", namespace).strip()
    with controllers.running(api, namespace) as knative:
        made: Any = {"api": api, "knative": knative}
        cluster = api.connect(namespace, "promoter", token)
        yield House(cluster=cluster, store=Store.open((tmp_path / "store").as_uri()), home=tmp_path, **made)


def test_a_first_version_gets_a_service_and_a_trigger_that_the_server_takes(house: House) -> None:
    house.serve(V1)
    assert house.serves() == V1
    trigger = house.cluster.get("Trigger", "flights-predictions")
    assert trigger is not None and trigger["spec"]["subscriber"]["ref"]["name"] == "flights"
    verdict = house.store.read_json(f"verdicts/flights/{V1}.json")
    assert verdict is not None and verdict["type"] == ModelPromoted.TYPE


def test_a_better_version_is_a_canary_first_and_what_ops_have_set_stays(house: House) -> None:
    house.serve(V1)
    window = {"autoscaling.knative.dev/window": "60s"}
    house.cluster.patch("Service", "flights", {"spec": {"template": {"metadata": {"annotations": window}}}})
    said = house.promoter().handle(house.train(V2))
    assert said.get_type() == ModelPromoted.TYPE, said.get_data()
    assert house.serves() == V2
    assert house.knative.splits == [{V1: 100}, {V1: 80, V2: 20}, {V2: 100}]
    template = house.service()["spec"]["template"]
    assert template["metadata"]["annotations"]["autoscaling.knative.dev/window"] == "60s"


def test_a_canary_that_answers_wrongly_is_rolled_back(house: House) -> None:
    house.serve(V1)
    event = house.train(V2)
    house.knative.behave(V2).answers = [[0.123]] * 5
    said = house.promoter().handle(event)
    assert said.get_type() == ModelRolledBack.TYPE, said.get_data()
    assert house.serves() == V1


def test_of_two_at_once_each_gets_its_verdict_and_the_newer_one_serves(house: House) -> None:
    """They read and write the same Service; whoever is told Conflict reads again."""
    house.serve(V1)
    events = [house.train(V2), house.train(V3)]
    with ThreadPoolExecutor(2) as pool:
        older, newer = pool.map(lambda event: house.promoter().handle(event).get_type(), events)
    assert newer == ModelPromoted.TYPE
    assert older in (ModelPromoted.TYPE, ModelRejected.TYPE)
    assert house.serves() == V3


def test_each_account_has_the_rights_of_its_role_and_no_others(house: House, api: ControlPlane, namespace: str) -> None:
    roles = {o["metadata"]["name"]: o["rules"] for o in rbac() if o["kind"] == "Role"}
    assert "promoter" in roles
    for name, rules in roles.items():
        told = {
            f"{resource}.{group}".rstrip("."): set(rule["verbs"])
            for rule in rules
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }
        assert api.rights(namespace, name) == told, name
        assert api.rights("default", name) == {}
        assert not any("secrets" in resource or "*" in verbs for resource, verbs in told.items())


def test_the_promoter_may_delete_nothing_and_patch_one_kind(house: House, api: ControlPlane, namespace: str) -> None:
    rights = api.rights(namespace, "promoter")
    assert [r for r, verbs in rights.items() if "patch" in verbs] == ["services.serving.knative.dev"]
    assert not any(verbs & {"delete", "deletecollection", "update"} for verbs in rights.values())
