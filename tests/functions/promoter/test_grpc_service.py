"""A model's gRPC Service goes with the model's own, in each step of a rollout, and is made only where wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from eventing.contract import ModelPromoted, ModelRolledBack
from knative import companion, follow, rollout
from tests.functions.promoter import promoter_house
from tests.functions.promoter.promoter_house import LIMITS, V1, V2, V3, House, eventually, insist

NAME = "flights-grpc"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with promoter_house.built(tmp_path) as built:
        yield built


def test_without_the_wish_there_is_none(house: House) -> None:
    house.serve()
    assert house.cluster.get("Service", NAME) is None


def test_it_is_made_with_the_first_version_and_promoted_with_each_next_one(house: House) -> None:
    house.promoter(grpc=True).handle(house.train(V1))
    made = house.cluster.get("Service", NAME)
    assert made is not None
    assert made["spec"]["template"]["spec"]["containers"][0]["ports"][0]["name"] == "h2c"
    assert rollout.canary_of(made) is None
    said = ModelPromoted.from_event(house.promoter(grpc=True).handle(house.train(V2)))
    assert said.previous == V1
    assert house.knative.splits[NAME] == [{V1: 100}, {V1: 80, V2: 20}, {V2: 100}]
    targets = house.cluster.get("Service", NAME)["spec"]["traffic"]  # type: ignore[index]
    assert [t["revisionName"] for t in targets if t.get("tag") == "previous"] == [f"{NAME}-00001"]


def test_one_that_is_there_follows_though_nobody_wishes_for_new_ones(house: House) -> None:
    house.promoter(grpc=True).handle(house.train(V1))
    house.promoter().handle(house.train(V2))
    assert house.knative.splits[NAME][-1] == {V2: 100}


def test_wished_for_later_it_comes_with_the_next_promotion_and_as_the_champion_first(house: House) -> None:
    house.serve()
    house.promoter(grpc=True).handle(house.train(V2))
    assert house.knative.splits[NAME] == [{V1: 100}, {V1: 80, V2: 20}, {V2: 100}]


def test_a_canary_that_is_taken_back_is_taken_back_there_too(house: House) -> None:
    house.promoter(grpc=True).handle(house.train(V1))
    event = house.train(V2)
    house.knative.behave(V2).answers = [{"label": 9, "probabilities": [0, 1]}] * 5
    promoter = house.promoter(grpc=True, limits=replace(LIMITS, canary_s=3600))
    ModelRolledBack.from_event(promoter.handle(event))
    assert house.knative.splits[NAME][-1] == {V1: 100}
    template = house.cluster.get("Service", NAME)["spec"]["template"]  # type: ignore[index]
    assert rollout.version_of(template) == V1


def test_a_version_that_gets_ready_over_http_alone_is_not_promoted(house: House) -> None:
    house.promoter(grpc=True).handle(house.train(V1))
    house.knative.broken.add((NAME, V2))
    said = ModelRolledBack.from_event(house.promoter(grpc=True).handle(house.train(V2)))
    assert said.reason.startswith("its revision failed to start: over gRPC:")
    assert house.serves() == V1
    assert house.knative.splits[NAME] == [{V1: 100}]


def test_a_service_of_that_name_that_is_somebody_elses_is_left_alone(house: House) -> None:
    other = companion.first(
        {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {}, "spec": {"template": {"spec": {
            "containers": [{"image": "theirs"}]}}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "flights", "uid": "1"}},
        "v9",
    )  # fmt: skip
    other["metadata"] = {"name": NAME}
    house.cluster.create(other)
    house.promoter(grpc=True).handle(house.train(V1))
    assert house.serves() == V1
    found = house.cluster.get("Service", NAME)
    assert found is not None
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "theirs"


def test_it_goes_when_the_models_service_goes(house: House) -> None:
    house.promoter(grpc=True).handle(house.train(V1))
    house.cluster.delete("Service", "flights")
    eventually(lambda: house.cluster.get("Service", NAME) is None)


def test_a_hand_that_changes_it_meanwhile_is_no_end_of_the_rollout(house: House) -> None:
    house.promoter(grpc=True).handle(house.train(V1))
    ended = threading.Event()

    def meddle() -> None:
        number = 0
        while not ended.wait(0.01):
            number += 1
            house.cluster.patch("Service", NAME, {"metadata": {"annotations": {"meddled": str(number)}}})

    meddler = threading.Thread(target=meddle)
    meddler.start()
    try:
        for version in (V2, V3):
            ModelPromoted.from_event(house.promoter(grpc=True).handle(house.train(version)))
    finally:
        ended.set()
        meddler.join()
    assert house.knative.splits[NAME][-1] == {V3: 100}


def test_by_hand_it_follows_at_once(house: House) -> None:
    house.promoter(grpc=True).handle(house.train(V1))
    house.promoter(grpc=True).handle(house.train(V2))
    insist(house, lambda service: rollout.rollback_patch(service, V1, "flights-00001"))
    follow.follow(house.cluster, house.service())
    eventually(lambda: house.knative.splits[NAME][-1] == {V1: 100})
