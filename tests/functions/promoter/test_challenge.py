"""functions.promoter.challenge: what stops a version before any traffic reaches it, as the promoter tells it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.v1.event import CloudEvent

from eventing.contract import ModelPromoted, ModelRejected
from eventing.errors import Rejected, RetryLater
from functions.package import SUMS_FILE, sha256_of, write_sums
from knative import rollout
from tests.functions.promoter import promoter_house
from tests.functions.promoter.promoter_house import V1, V2, V3, House, insist, trained


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with promoter_house.built(tmp_path) as built:
        yield built


# The gate


def test_a_challenger_that_is_worse_on_the_same_rows_is_rejected_with_both_scores(house: House) -> None:
    house.serve()
    said = ModelRejected.from_event(house.promoter().handle(house.train(V2, trees=1)))
    assert said.reason.startswith("worse than the champion: roc_auc ")
    assert "`headrace promote flights " + V2 in said.reason
    assert said.evidence is not None
    gate = said.evidence["gate"]
    assert gate["challenger"]["roc_auc"] < gate["champion"]["roc_auc"]
    assert set(gate["champion"]) == {"roc_auc", "log_loss", "accuracy"}
    assert (said.previous, house.serves(), len(house.knative.traffic)) == (V1, V1, 1)


def test_a_worse_challenger_passes_where_that_is_allowed(house: House) -> None:
    house.serve()
    reply = house.promoter(max_regression=0.5).handle(house.train(V2, trees=1))
    assert reply.get_type() == ModelPromoted.TYPE


@pytest.mark.parametrize(
    ("parity", "words"),
    [
        ({"rows": 60, "largest_difference": 0.5, "label_flips": 0, "tolerance": 1e-5}, "largest difference"),
        ({"rows": 60, "largest_difference": 0.0, "label_flips": 1, "tolerance": 1e-5}, "1 of 60 labels differ"),
    ],
)
def test_a_package_that_is_not_proven_equal_is_rejected(house: House, parity: dict[str, Any], words: str) -> None:
    said = ModelRejected.from_event(house.promoter().handle(house.train(V1, parity=parity)))
    assert words in said.reason
    assert house.cluster.get("Service", "flights") is None


def test_a_package_with_another_digest_than_the_event_says_is_rejected(house: House) -> None:
    house.train(V1)
    said = ModelRejected.from_event(house.promoter().handle(trained(V1, "f" * 64)))
    assert f"the event says {'f' * 64}" in said.reason


def test_a_package_that_is_broken_in_the_store_is_rejected(house: House) -> None:
    event = house.train(V1)
    (house.home / "store" / "models" / "flights" / V1 / "model.onnx").write_bytes(b"no model")
    said = ModelRejected.from_event(house.promoter().handle(event))
    assert said.reason.startswith("its package cannot serve")


def test_a_challenger_with_other_columns_is_rejected_naming_each(house: House) -> None:
    house.serve()
    event = house.train(V2)
    # The champion's package, as it would look had it been trained on other columns.
    champion = house.home / "store" / "models" / "flights" / V1
    manifest = json.loads((champion / "model.json").read_text())
    manifest["signature"]["classes"] = [0, 1, 2]
    (champion / "model.json").write_text(json.dumps(manifest))
    _sign_again(house, champion)
    said = ModelRejected.from_event(house.promoter().handle(event))
    assert said.reason.startswith("the champion cannot answer its rows: class 2 was removed")
    assert f"`headrace promote flights {V2}`" in said.reason


def test_more_changes_than_an_event_can_carry_are_a_verdict_all_the_same(house: House) -> None:
    """A table of thousands of columns, or classes, that are not those of the champion."""
    house.serve()
    event = house.train(V2)
    champion = house.home / "store" / "models" / "flights" / V1
    manifest = json.loads((champion / "model.json").read_text())
    manifest["signature"]["classes"] = list(range(5000))
    (champion / "model.json").write_text(json.dumps(manifest))
    _sign_again(house, champion)
    said = ModelRejected.from_event(house.promoter().handle(event))
    assert said.reason.startswith("the champion cannot answer its rows: class 2 was removed; class 3 was removed")
    assert len(said.reason) < 5000 and said.reason.endswith("…")


def test_a_version_older_than_the_one_that_serves_is_superseded(house: House) -> None:
    house.serve(V2)
    said = ModelRejected.from_event(house.promoter().handle(house.train(V1)))
    assert said.reason.startswith(f"superseded: {V2} was trained later")


def test_a_package_that_is_not_in_the_store_yet_is_tried_again(house: House) -> None:
    with pytest.raises(RetryLater):
        house.promoter().handle(trained(V1, "0" * 64))


def test_a_service_that_serves_no_model_is_left_alone(house: House) -> None:
    container = {"image": "shop:1", "ports": [{"containerPort": 8080}]}
    house.cluster.create(
        {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": "flights"},
            "spec": {"template": {"spec": {"containers": [container]}}},
        }
    )
    said = ModelRejected.from_event(house.promoter().handle(house.train(V1)))
    assert said.reason == "there is a Service flights which does not serve this model"


def test_traffic_that_ops_have_split_is_left_alone(house: House) -> None:
    house.serve()
    half = [{"revisionName": "flights-00001", "percent": 50}, {"latestRevision": True, "percent": 50}]
    house.cluster.patch("Service", "flights", {"spec": {"traffic": half}})
    said = ModelRejected.from_event(house.promoter().handle(house.train(V2)))
    assert said.reason.startswith("its traffic is split by hand")
    assert house.service()["spec"]["traffic"][0]["percent"] == 50


def test_a_promotion_by_hand_that_is_under_way_is_waited_for(house: House) -> None:
    house.serve()
    house.train(V2)
    house.knative.behave(V2).ready = "Unknown"
    insist(house, lambda service: rollout.promotion_patch(service, V2))
    event = house.train(V3)
    with ThreadPoolExecutor() as threads:
        with pytest.raises(RetryLater):
            house.promoter(hold_s=0.2).handle(event)
        promotion = threads.submit(house.promoter().handle, event)
        house.knative.behave(V2).ready = "True"
        house.knative.settle()
        assert ModelPromoted.from_event(promotion.result(60)).previous == V2


def test_an_event_that_breaks_the_contract_is_rejected(house: House) -> None:
    event = house.train(V1)
    attributes = dict(event.get_attributes())
    with pytest.raises(Rejected, match="sha256"):
        house.promoter().handle(CloudEvent(attributes, {"model": "flights", "version": V1}))


def _sign_again(house: House, package: Path) -> None:
    """SHA256SUMS and the store's pointer for a package that was changed."""
    digest = write_sums(package)
    house.store.write_json(f"models/flights/{package.name}.json", {"sha256": digest, "at": "2026-01-01T00:00:00+00:00"})
    assert sha256_of(package / SUMS_FILE) == digest
