"""headrace.serving: what `promote` and `rollback` do where somebody else, or the promoter, decides at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eventing.contract import ModelPromoted
from eventing.errors import HeadraceError
from headrace import serving
from headrace.local.objects.objects import set_condition
from headrace.place import Place
from knative import client, rollout
from knative.canary import Canary
from tests.functions import packages
from tests.functions.promoter import promoter_house
from tests.functions.promoter.promoter_house import V1, V2, V3, House, eventually, insist
from tests.trainers.conftest import Sink

Object = dict[str, Any]


class Meanwhile(client.Cluster):
    """A client in which somebody else acts right after its first write to the model's Service."""

    def __init__(self, cluster: client.Cluster, then: Callable[[], object]) -> None:
        super().__init__(cluster._api, cluster.namespace)
        self._then: Callable[[], object] | None = then

    def patch(self, kind: str, name: str, merge_patch: client.Object) -> client.Object:
        after = super().patch(kind, name, merge_patch)
        then, self._then = self._then, None
        if then is not None:
            then()
        return after


@dataclass(frozen=True)
class Rig:
    house: House
    sink: Sink

    def place(self, then: Callable[[], object] = lambda: None) -> Place:
        return Place(Meanwhile(self.house.cluster, then), None)

    def told(self) -> list[str]:
        return [event["type"] for event in self.sink.events]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    sink = Sink()
    with promoter_house.built(tmp_path) as house:
        data = {"HEADRACE_STORE": house.store.url, "K_SINK": sink.url}
        named = {"name": "headrace", "namespace": "headrace"}
        house.cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": data})
        broker = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "default"}}
        made = house.cluster.create({**broker, "spec": {}})
        status: Object = {"address": {"url": sink.url}}
        set_condition(status, "Ready", "True", "Stand-in", "", now=datetime.now(UTC))
        house.api.call(lambda: house.api.objects.update({**made, "status": status}, subresource="status"))
        house.serve(V1)
        for version in (V2, V3):
            house.train(version)
        yield Rig(house, sink)
    sink.close()


def test_a_version_is_promoted_and_told_of(rig: Rig) -> None:
    assert f"{V2} serves through flights-00002; before: {V1}" in serving.promote(rig.place(), "flights", V2)
    known = rig.house.store.serving("flights")
    assert known is not None and (known.version, known.previous) == (V2, V1)
    assert rig.told() == [ModelPromoted.TYPE]


@pytest.mark.parametrize("version", [V1, V3])
def test_of_two_people_at_once_the_later_one_decides_and_the_other_is_told_so(rig: Rig, version: str) -> None:
    """Nobody says of a version that it serves while another one does: not the store, no event, no sentence."""
    other = rig.place(lambda: insist(rig.house, lambda service: rollout.promotion_patch(service, version)))
    with pytest.raises(HeadraceError, match=f"somebody else decided for {version}"):
        serving.promote(other, "flights", V2)
    known = rig.house.store.serving("flights")
    assert known is not None and known.version == V1
    assert rig.told() == []
    assert rollout.version_of(rig.house.service()["spec"]["template"]) == version


def test_a_rollback_gives_no_canary_that_began_meanwhile_all_the_traffic(rig: Rig) -> None:
    serving.promote(rig.place(), "flights", V2)

    def begin(service: Object) -> Object:
        now, revision = time.time(), rollout.serving_revision(service)
        return rollout.start_patch(service, Canary(V3, V1, revision, now, "starting", now, "an-event"))

    with pytest.raises(HeadraceError, match=f"a canary of {V3} has begun meanwhile"):
        serving.rollback(rig.place(lambda: insist(rig.house, begin)), "flights", None)
    running = rollout.canary_of(rig.house.service())
    assert running is not None and running.version == V3
    assert not any(t.get("latestRevision") and t["percent"] for t in rig.house.service()["spec"]["traffic"])


def test_a_rollback_while_a_canary_runs_takes_that_back_and_not_the_champion(rig: Rig) -> None:
    serving.promote(rig.place(), "flights", V2)
    now = time.time()
    state = Canary(V3, V2, "flights-00002", now, "watching", now, "an-event")
    insist(rig.house, lambda service: rollout.start_patch(service, state))
    eventually(lambda: rollout.newest_revision(rig.house.service()) == "flights-00003")
    state = replace(state, revision="flights-00003")
    insist(rig.house, lambda service: rollout.shift_patch(service, state, 20))
    eventually(lambda: rig.house.knative.traffic[-1] == {V2: 80, V3: 20})
    assert serving.rollback(rig.place(), "flights", None).endswith(f"taken back: {V3}")
    assert rig.house.serves() == V2 and rollout.canary_of(rig.house.service()) is None
    known = rig.house.store.serving("flights")
    assert known is not None and (known.version, known.previous) == (V2, V1)
    assert rig.sink.events[-1]["data"]["version"] == V3
    assert "taken back: " + V2 in serving.rollback(rig.place(), "flights", None)
    assert rig.house.serves() == V1


@pytest.mark.parametrize("decide", [serving.promote, serving.rollback])
def test_a_service_of_the_models_name_that_is_somebody_elses_is_left_as_it_is(
    rig: Rig, decide: Callable[[Place, str, str | None], str]
) -> None:
    rig.house.store.publish(packages.build_package(rig.house.home / "theirs", name="orders", version=V1))
    spec = {"template": {"spec": {"containers": [{"name": "shop", "image": "shop:1"}]}}}
    theirs = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "orders"}, "spec": spec}
    rig.house.cluster.create(theirs)
    with pytest.raises(HeadraceError, match="a Service orders which does not serve this model"):
        decide(rig.place(), "orders", V1)
    after = rig.house.cluster.get("Service", "orders")
    assert after is not None and "env" not in after["spec"]["template"]["spec"]["containers"][0]


class Killed(BaseException):
    """Where a process would have ended; no Exception, so that nothing handles it."""


def test_a_rollback_that_was_cut_off_is_brought_to_its_end_by_the_next_one(rig: Rig) -> None:
    """Between its two steps the traffic is held by a revision's name, and no change of ops would take effect."""
    serving.promote(rig.place(), "flights", V2)

    def die() -> None:
        raise Killed

    with pytest.raises(Killed):
        serving.rollback(rig.place(die), "flights", None)
    assert rollout.is_held(rig.house.service())
    assert f"taken back: {V2}" in serving.rollback(rig.place(), "flights", None)
    assert not rollout.is_held(rig.house.service()) and rig.house.serves() == V1
    known = rig.house.store.serving("flights")
    assert known is not None and (known.version, known.previous) == (V1, V2)
    assert [event["data"]["version"] for event in rig.sink.events] == [V2, V2]
    assert serving.rollback(rig.place(), "flights", V1) == f"flights {V1} serves already"
