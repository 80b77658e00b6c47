"""functions.promoter.promotion: a trained version on its way to a verdict, each canary to its end, whatever happens."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cloudevents.core.v1.event import CloudEvent

from eventing.contract import ModelPromoted, ModelRejected, ModelRolledBack
from eventing.errors import RetryLater
from knative import client, rollout
from knative.canary import Canary
from tests.functions import packages
from tests.functions.promoter import promoter_house
from tests.functions.promoter.promoter_house import LIMITS, V1, V2, V3, House, eventually, insist, trained


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with promoter_house.built(tmp_path) as built:
        yield built


# A first version


def test_a_first_version_becomes_a_service_with_its_trigger(house: House) -> None:
    reply = house.promoter().handle(house.train(V1))
    said = ModelPromoted.from_event(reply)
    assert (said.version, said.previous, said.revision) == (V1, None, "flights-00001")
    assert said.evidence is not None
    assert said.evidence["parity"]["label_flips"] == 0
    assert (house.serves(), rollout.canary_of(house.service())) == (V1, None)
    trigger = house.cluster.get("Trigger", "flights-predictions")
    assert trigger is not None
    assert trigger["spec"]["subscriber"]["ref"]["name"] == "flights"
    assert '"subject": "flights"' in json.dumps(trigger["spec"])
    serving = house.store.serving("flights")
    assert serving is not None
    assert serving.version == V1


def test_the_reply_names_its_cause_and_comes_from_the_promoter(house: House) -> None:
    reply = house.promoter().handle(house.train(V1))
    assert reply.get_source() == "/headrace/functions/promoter"
    assert reply.get_extension("causationid") == f"trained-{V1}"
    assert reply.get_subject() == "flights"


def test_a_first_version_that_never_gets_ready_is_taken_back_with_knatives_reason(house: House) -> None:
    house.knative.behave(V1).ready = "False"
    said = ModelRolledBack.from_event(house.promoter().handle(house.train(V1)))
    assert said.reason == "its revision failed to start: Stand-in: as the test says"
    assert house.store.serving("flights") is None


def test_after_a_first_version_that_failed_the_next_one_is_the_first(house: House) -> None:
    house.knative.behave(V1).ready = "False"
    house.promoter().handle(house.train(V1))
    said = ModelPromoted.from_event(house.promoter().handle(house.train(V2)))
    assert (said.previous, house.serves()) == (None, V2)


def test_a_name_that_kubernetes_does_not_take_is_a_verdict(house: House) -> None:
    folder = packages.build_package(house.home / "packages", name="My_Flights", version=V1)
    published = house.store.publish(folder)
    said = ModelRejected.from_event(house.promoter().handle(trained(V1, published.sha256, "My_Flights")))
    assert said.reason.startswith("Kubernetes takes no Service of this name")


# The canary


def test_a_good_challenger_gets_a_share_first_and_then_everything(house: House) -> None:
    house.serve()
    said = ModelPromoted.from_event(house.promoter().handle(house.train(V2)))
    assert house.knative.traffic == [{V1: 100}, {V1: 80, V2: 20}, {V2: 100}]
    assert (said.previous, said.revision, house.serves()) == (V1, "flights-00002", V2)
    assert said.evidence is not None
    watch = said.evidence["watch"]
    assert watch["probes"]["ok"] >= 3
    assert watch["canary"]["requests"] > 0
    assert watch["canary"]["errors"] == 0
    targets = house.service()["spec"]["traffic"]
    assert targets[0] == {"latestRevision": True, "percent": 100}
    assert [t["revisionName"] for t in targets if t.get("tag") == "previous"] == ["flights-00001"]


def test_what_ops_set_outlives_a_promotion(house: House) -> None:
    house.serve()
    theirs = {"autoscaling.knative.dev/target": "7"}
    patch = {"metadata": {"annotations": {"team": "blue"}}, "spec": {"template": {"metadata": {"annotations": theirs}}}}
    house.cluster.patch("Service", "flights", patch)
    house.promoter().handle(house.train(V2))
    service = house.service()
    assert service["metadata"]["annotations"]["team"] == "blue"
    assert theirs.items() <= service["spec"]["template"]["metadata"]["annotations"].items()


def test_a_canary_that_answers_wrongly_is_taken_back_at_once(house: House) -> None:
    house.serve()
    event = house.train(V2)
    house.knative.behave(V2).answers = [{"label": 9, "probabilities": [0, 1]}] * 5
    said = ModelRolledBack.from_event(house.promoter(limits=replace(LIMITS, canary_s=3600)).handle(event))
    assert said.reason.startswith("a probe was answered wrongly: sample row 0: label is 9")
    assert (said.previous, house.serves()) == (V1, V1)
    assert house.service()["spec"]["traffic"] == [{"latestRevision": True, "percent": 100}]
    assert rollout.version_of(house.service()["spec"]["template"]) == V1


def test_a_canary_that_fails_is_taken_back_with_the_figures_of_both(house: House) -> None:
    house.serve()
    event = house.train(V2)
    house.knative.behave(V2).status = 500
    limits = replace(LIMITS, canary_s=3600, max_probes_failed=10_000)
    said = ModelRolledBack.from_event(house.promoter(limits=limits).handle(event))
    assert "requests failed (100.0%); the champion's share is 0.0%" in said.reason


def test_a_canary_that_is_slow_is_taken_back_with_the_figures_of_both(house: House) -> None:
    house.serve()
    event = house.train(V2)
    house.knative.behave(V2).seconds = 0.5
    said = ModelRolledBack.from_event(house.promoter(limits=replace(LIMITS, canary_s=3600)).handle(event))
    assert "95 % of its answers took up to" in said.reason
    assert said.evidence is not None
    assert said.evidence["watch"]["canary"]["p95_ms"] > said.evidence["watch"]["champion"]["p95_ms"]


def test_a_canary_that_never_gets_ready_gets_no_traffic(house: House) -> None:
    house.serve()
    house.knative.behave(V2).ready = "False"
    said = ModelRolledBack.from_event(house.promoter().handle(house.train(V2)))
    assert said.reason.startswith("its revision failed to start")
    assert house.knative.traffic == [{V1: 100}]


# Deliveries that come twice, late, or into a running canary


def test_a_redelivery_gets_the_same_reply_again(house: House) -> None:
    house.serve()
    event = house.train(V2)
    first, second = house.promoter().handle(event), house.promoter().handle(event)
    assert (first.get_id(), first.get_data(), first.get_time()) == (
        second.get_id(),
        second.get_data(),
        second.get_time(),
    )
    assert len(house.knative.traffic) == 3


def test_a_version_taken_back_is_not_tried_again_by_a_redelivery(house: House) -> None:
    house.serve()
    event = house.train(V2)
    house.knative.behave(V2).ready = "False"
    first = house.promoter().handle(event)
    house.knative.behave(V2).ready = "True"
    assert house.promoter().handle(event).get_data() == first.get_data()


def test_a_delivery_is_held_for_its_time_and_the_next_one_goes_on_with_the_same_canary(house: House) -> None:
    house.serve()
    event = house.train(V2)
    long = replace(LIMITS, canary_s=1.0)
    with pytest.raises(RetryLater, match="not decided yet"):
        house.promoter(limits=long, hold_s=0.2).handle(event)
    running = rollout.canary_of(house.service())
    assert running is not None
    assert ModelPromoted.from_event(house.promoter(limits=long).handle(event)).version == V2
    assert house.knative.traffic == [{V1: 100}, {V1: 80, V2: 20}, {V2: 100}]


def test_a_newer_version_waits_until_the_canary_has_ended(house: House) -> None:
    house.serve()
    second, third = house.train(V2), house.train(V3)
    with ThreadPoolExecutor() as threads:
        promotion = threads.submit(house.promoter(limits=replace(LIMITS, canary_s=1.0)).handle, second)
        eventually(lambda: rollout.canary_of(house.service()) is not None)
        with pytest.raises(RetryLater):
            house.promoter(hold_s=0.1).handle(third)
        follower = threads.submit(house.promoter().handle, third)
        assert promotion.result(60).get_type() == ModelPromoted.TYPE
        assert ModelPromoted.from_event(follower.result(60)).previous == V2
    assert house.knative.traffic == [{V1: 100}, {V1: 80, V2: 20}, {V2: 100}, {V2: 80, V3: 20}, {V3: 100}]


def test_a_verdict_is_told_again_though_the_next_canary_runs_already(house: House) -> None:
    first = house.train(V1)
    told = house.promoter().handle(first)
    with pytest.raises(RetryLater):
        house.promoter(limits=replace(LIMITS, canary_s=3600), hold_s=0.2).handle(house.train(V2))
    assert house.promoter(hold_s=0.1).handle(first).get_data() == told.get_data()


def test_the_same_event_delivered_five_times_at_once_is_one_promotion(house: House) -> None:
    house.serve()
    event = house.train(V2)
    with ThreadPoolExecutor(5) as threads:
        replies = [f.result(60) for f in [threads.submit(house.promoter().handle, event) for _ in range(5)]]
    assert len({(reply.get_id(), json.dumps(reply.get_data())) for reply in replies}) == 1
    assert house.knative.traffic == [{V1: 100}, {V1: 80, V2: 20}, {V2: 100}]


def test_a_canary_whose_watcher_died_for_good_is_brought_to_its_end_by_whoever_comes(house: House) -> None:
    house.serve()
    second, third = house.train(V2), house.train(V3)
    with pytest.raises(RetryLater):
        house.promoter(limits=replace(LIMITS, canary_s=3600), hold_s=0.2).handle(second)
    # Two hours later, nobody having come back for it.
    late = house.promoter(clock=lambda: time.time() + 7200, limits=replace(LIMITS, canary_s=1))
    house.knative.traffic.clear()
    assert late.handle(third).get_type() == ModelPromoted.TYPE
    assert house.serves() == V3
    assert house.store.read_json(f"verdicts/flights/{V2}.json") is not None


def _told_of_a_canary_that_ends_by_hand(house: House, version: str) -> CloudEvent:
    """What the promoter says when, in the middle of a canary of V2, somebody gives all the traffic to `version`."""
    house.serve()
    event = house.train(V2)
    with ThreadPoolExecutor() as threads:
        promotion = threads.submit(house.promoter(limits=replace(LIMITS, canary_s=3600)).handle, event)
        eventually(lambda: house.knative.traffic[-1] == {V1: 80, V2: 20})
        insist(house, lambda service: rollout.promotion_patch(service, version))
        return promotion.result(60)


def test_a_person_who_changes_the_service_by_hand_has_the_last_word(house: House) -> None:
    said = ModelRolledBack.from_event(_told_of_a_canary_that_ends_by_hand(house, V1))
    assert "by hand" in said.reason
    assert rollout.version_of(house.service()["spec"]["template"]) == V1


def test_a_person_who_promotes_the_canary_is_told_of_as_having_promoted_it(house: House) -> None:
    """The event and the store say what serves."""
    said = ModelPromoted.from_event(_told_of_a_canary_that_ends_by_hand(house, V2))
    assert "by hand" in said.reason
    serving = house.store.serving("flights")
    assert house.serves() == V2 and serving is not None and serving.version == V2


@pytest.mark.parametrize("phase", ["starting", "watching", "promoting", "reverting"])
def test_a_promoter_that_died_in_any_phase_is_gone_on_for(house: House, phase: str) -> None:
    """Each phase is entered by one write to the Service; a process that dies after it leaves exactly that behind."""
    house.serve()
    event = house.train(V2)
    if phase == "reverting":
        house.knative.behave(V2).answers = []
    entered = _DiesAfter(house.cluster, phase)
    with pytest.raises(_Killed):
        house.promoter(cluster=entered).handle(event)
    running = rollout.canary_of(house.service())
    assert running is not None
    assert running.phase == phase
    reply = house.promoter().handle(event)
    assert reply.get_type() == (ModelRolledBack if phase == "reverting" else ModelPromoted).TYPE
    assert house.serves() == (V1 if phase == "reverting" else V2)
    assert rollout.canary_of(house.service()) is None


def test_a_promoter_that_died_before_it_replied_is_repaired_by_the_redelivery(house: House) -> None:
    event = house.train(V1)
    house.promoter().handle(event)
    # As if it had died between the Service and what follows from it.
    house.cluster.delete("Trigger", "flights-predictions")
    for path in (f"verdicts/flights/{V1}.json", "models/flights/serving.json"):
        house.store.delete(path)
    said = ModelPromoted.from_event(house.promoter().handle(event))
    assert said.reason == "it serves already"
    assert house.cluster.get("Trigger", "flights-predictions") is not None
    serving = house.store.serving("flights")
    assert serving is not None
    assert serving.version == V1


class _Killed(BaseException):
    """Where a process would have ended; no Exception, so that nothing handles it."""


class _DiesAfter(client.Cluster):
    """A Cluster whose process ends right after the write that enters `phase`."""

    def __init__(self, cluster: client.Cluster, phase: str) -> None:
        super().__init__(cluster._api, cluster.namespace)
        self._phase = phase

    def patch(self, kind: str, name: str, merge_patch: client.Object) -> client.Object:
        after = super().patch(kind, name, merge_patch)
        running: Canary | None = rollout.canary_of(after)
        if running is not None and running.phase == self._phase:
            raise _Killed
        return after
