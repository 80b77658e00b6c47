"""How an event reaches a Trigger's subscriber, and how a reply comes back."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance import manifests
from tests.conformance.api import until
from tests.conformance.differences import differs
from tests.conformance.place import Place
from tests.conformance.test_broker_ingress import STRUCTURED, structured
from tests.conformance.wire import Seen, binary


def ids(seen: list[Seen]) -> list[str]:
    return [request.headers["ce-id"] for request in seen]


def test_an_event_arrives_in_binary_mode_byte_for_byte(place: Place) -> None:
    place.trigger("binary")
    body = b'{"n" :  1.0}'
    place.send(binary("b-1", type="test.binary", subject="a b", dataschema="https://example.test/schema"), body)
    (seen,) = place.until_box("binary")
    assert seen.method == "POST"
    assert seen.body == body
    assert seen.headers["content-type"] == "application/json"
    told = {name: value for name, value in seen.headers.items() if name.startswith("ce-")}
    assert told.pop("ce-knativearrivaltime")
    assert told == {
        "ce-specversion": "1.0",
        "ce-id": "b-1",
        "ce-source": "/conformance",
        "ce-type": "test.binary",
        "ce-subject": told["ce-subject"],
        "ce-dataschema": "https://example.test/schema",
    }
    assert told["ce-subject"] in ("a b", "a%20b")  # both are the same subject, by the HTTP binding


def test_a_structured_event_arrives_in_binary_mode(place: Place) -> None:
    place.trigger("unpacked")
    event = structured("s-1", type="test.unpacked", datacontenttype="application/json", data={"a": [1, None, "ü"]})
    place.send(STRUCTURED, event)
    (seen,) = place.until_box("unpacked")
    assert json.loads(seen.body) == {"a": [1, None, "ü"]}
    assert (seen.headers["ce-id"], seen.headers["content-type"]) == ("s-1", "application/json")


def test_structured_data_that_is_base64_arrives_as_bytes(place: Place) -> None:
    place.trigger("base64")
    event = structured("s-2", type="test.base64", datacontenttype="application/octet-stream", data_base64="AAEC/w==")
    place.send(STRUCTURED, event)
    (seen,) = place.until_box("base64")
    assert (seen.body, seen.headers["content-type"]) == (b"\x00\x01\x02\xff", "application/octet-stream")


def test_a_trigger_may_ask_for_structured_events(place: Place) -> None:
    place.trigger("packed", delivery={"format": "json"})
    place.send(binary("p-1", type="test.packed", region="eu"), b'{"n":1}')
    (seen,) = place.until_box("packed")
    assert seen.headers["content-type"].startswith("application/cloudevents+json")
    event = json.loads(seen.body)
    assert (event["id"], event["region"], event["data"]) == ("p-1", "eu", {"n": 1})


def test_extension_attributes_are_kept(place: Place) -> None:
    place.trigger("extended")
    event = structured("x-1", type="test.extended", region="eu", amount=12, sampled=True, causationid="c-0")
    place.send(STRUCTURED, event)
    (seen,) = place.until_box("extended")
    told = [seen.headers[f"ce-{name}"] for name in ("region", "amount", "sampled", "causationid")]
    assert told == ["eu", "12", "true", "c-0"]


def test_the_time_of_an_event_is_the_senders(place: Place) -> None:
    place.trigger("timed")
    place.send(binary("t-1", type="test.timed", time="2026-01-02T03:04:05.678Z"))
    (seen,) = place.until_box("timed")
    assert seen.headers["ce-time"] == "2026-01-02T03:04:05.678Z"


def test_a_subscriber_is_told_whose_event_it_is_and_that_it_may_reply(place: Place) -> None:
    place.trigger("told")
    place.send(binary("h-1", type="test.told"))
    (seen,) = place.until_box("told")
    assert seen.headers["prefer"] == "reply"
    assert seen.headers["kn-namespace"] == place.api.namespace


def test_the_count_of_rounds_is_the_brokers_own_affair(place: Place) -> None:
    place.trigger("counted")
    place.send(binary("c-1", type="test.counted", knativebrokerttl="9"))
    (seen,) = place.until_box("counted")
    assert "ce-knativebrokerttl" not in seen.headers


def test_every_trigger_that_wants_an_event_gets_it(place: Place) -> None:
    wanted = [{"exact": {"type": "test.shared"}}]
    for name in ("shared-a", "shared-b", "shared-c"):
        place.trigger(name, filters=wanted)
    place.send(binary("shared-1", type="test.shared"))
    for name in ("shared-a", "shared-b", "shared-c"):
        assert ids(place.until_box(name)) == ["shared-1"]


def test_all_of_fifty_events_arrive(place: Place) -> None:
    place.trigger("fifty")
    sent = {f"fifty-{number}" for number in range(50)}
    assert {place.send(binary(id, type="test.fifty")).status for id in sent} == {202}
    seen = until("fifty events", lambda: seen if len(seen := set(ids(place.box("fifty")))) >= 50 else None)
    assert seen == sent  # at least once, in any order


def test_the_same_event_twice_is_delivered_twice(place: Place) -> None:
    place.trigger("twice")
    for _ in range(2):
        place.send(binary("same", type="test.twice"))
    assert ids(place.until_box("twice", 2)) == ["same", "same"]


def test_a_reply_goes_back_into_the_broker(place: Place) -> None:
    place.trigger("answered")
    place.trigger("asked", "/box/asked?reply=test.answered")
    place.send(binary("q-1", type="test.asked", causationid="c-1"))
    (seen,) = place.until_box("answered")
    assert (seen.headers["ce-id"], seen.headers["ce-source"]) == ("q-1+", "/replier")
    assert seen.headers["ce-causationid"] == "c-1"
    assert json.loads(seen.body) == {"replied": True}
    assert ids(place.box("asked")) == ["q-1"]


def test_a_reply_that_replies_to_itself_ends(place: Place) -> None:
    place.trigger("loop-end", filters=[{"exact": {"type": "test.loop-end"}}])
    delivery = {"retry": 0, "deadLetterSink": manifests.to_service("/box/loop-dead")}
    place.trigger("loop", "/box/loop?reply=test.loop", delivery=delivery)
    place.send(binary("l", type="test.loop", knativebrokerttl="4"))
    (dead,) = place.until_box("loop-dead")
    assert ids(place.box("loop")) == ["l", "l+", "l++"]
    assert dead.headers["ce-id"] == "l++"
    assert dead.headers["ce-knativeerrorcode"] == "400"


@pytest.mark.parametrize("status", ["200", "202", "204"])
def test_an_empty_answer_is_no_reply(place: Place, status: str) -> None:
    place.trigger(f"empty{status}", f"/box/empty{status}?answers={status}", delivery={"retry": 3})
    for id in ("e-1", "e-2"):
        place.send(binary(id, type=f"test.empty{status}"))
    assert sorted(ids(place.until_box(f"empty{status}", 2))) == ["e-1", "e-2"]


def test_a_changed_filter_takes_hold(place: Place) -> None:
    place.trigger("changing", filters=[{"exact": {"type": "test.before"}}])
    place.send(binary("ch-1", type="test.before"))
    place.until_box("changing")
    place.api.merge("Trigger", "changing", {"spec": {"filters": [{"exact": {"type": "test.after"}}]}})

    def taken() -> bool:
        place.send(binary("ch-2", type="test.after"))
        return "ch-2" in ids(place.box("changing"))

    until("a changed filter", taken)


def test_a_changed_subscriber_takes_hold(place: Place) -> None:
    place.trigger("moving", "/box/moving-old")
    place.send(binary("m-1", type="test.moving"))
    place.until_box("moving-old")
    place.api.merge("Trigger", "moving", {"spec": {"subscriber": manifests.to_service("/box/moving-new")}})

    def taken() -> bool:
        place.send(binary("m-2", type="test.moving"))
        return "m-2" in ids(place.box("moving-new"))

    until("a changed subscriber", taken)


def test_a_deleted_trigger_gets_nothing_more(place: Place) -> None:
    place.trigger("witness", filters=[{"exact": {"type": "test.deleted"}}])
    place.trigger("deleted")
    place.send(binary("d-1", type="test.deleted"))
    place.until_box("deleted")
    place.api.delete("Trigger", "deleted")

    def quiet() -> bool:
        """An event that the witness has got and the deleted one has not."""
        before = len(place.box("witness"))
        place.send(binary("d-2", type="test.deleted"))
        place.until_box("witness", before + 1)
        missed = before + 1 - len(place.box("deleted"))
        return missed > 0

    until("the end of a deleted Trigger", quiet)


def test_a_slow_subscriber_holds_up_no_other_subscriber(place: Place) -> None:
    wanted = [{"exact": {"type": "test.unequal"}}]
    place.trigger("fast", filters=wanted)
    place.trigger("slow", "/box/slow?answers=sleep&seconds=10", filters=wanted)
    # Who sends may be held up: a cluster's in-memory channel answers when every Trigger is done.
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda number: place.send(binary(f"u-{number}", type="test.unequal")), range(5)))
    last_fast = max(seen.at for seen in place.until_box("fast", 5))
    first_slow = min(seen.at for seen in place.until_box("slow", 1))
    assert last_fast < first_slow + 10


def test_a_trigger_tells_where_it_delivers_to(place: Place) -> None:
    made = place.trigger("status")
    told = {c["type"]: c["status"] for c in made["status"]["conditions"]}
    expected = {"BrokerReady", "SubscriptionReady", "SubscriberResolved", "DeadLetterSinkResolved", "DependencyReady"}
    assert told.keys() >= expected
    assert {told[type] for type in expected} == {"True"}
    assert made["status"]["subscriberUri"].endswith("/box/status")


def test_a_trigger_of_no_broker_is_not_ready(place: Place) -> None:
    """In a cluster its Broker's class alone would say who is to look at it, so that nobody does."""
    place.api.apply(manifests.trigger("brokerless", {"uri": "http://example.test/"}, broker="absent"))
    place.trigger("looked-at-later")
    told = place.api.condition("Trigger", "brokerless", "BrokerReady").get("reason")
    assert told == ("BrokerDoesNotExist" if differs(place, "a Trigger of no Broker") else None)
    assert place.api.condition("Trigger", "brokerless").get("status", "Unknown") != "True"


def test_a_trigger_for_a_subscriber_that_is_not_there_is_not_ready(place: Place) -> None:
    place.broker()
    place.api.apply(manifests.trigger("unresolved", manifests.to_service(name="absent")))
    place.api.until_condition("Trigger", "unresolved", "SubscriberResolved", "False")
    assert place.api.condition("Trigger", "unresolved")["status"] == "False"


def test_an_event_wakes_a_service_from_zero(place: Place) -> None:
    place.service("dozer", annotations=manifests.SOON_ZERO)
    wanted = [{"exact": {"type": "test.waking"}}]
    place.broker()
    place.api.apply(manifests.trigger("waking", manifests.to_service("/box/waking", "dozer"), filters=wanted))
    place.api.until_condition("Trigger", "waking")
    place.until_zero("dozer")
    place.send(binary("w-1", type="test.waking"))
    place.until_pods("dozer")  # nobody else asks it
    until("the event", lambda: ids(place.box("waking", "dozer")) == ["w-1"])


def test_an_event_becomes_a_job_by_trigger_and_job_sink(place: Place) -> None:
    place.job_sink()
    place.broker()
    ref = {"apiVersion": "sinks.knative.dev/v1alpha1", "kind": "JobSink", "name": "train"}
    wanted = [{"exact": {"type": "test.to-job"}}]
    place.api.apply(manifests.trigger("to-job", {"ref": ref}, filters=wanted))
    place.api.until_condition("Trigger", "to-job")

    def came() -> bool:
        # Sent again and again: a Trigger that is Ready may lose events for a while yet. The same event is one Job.
        place.send(binary("j-1", type="test.to-job", source="/to-job"), b"{}")
        return any(told["event"]["id"] == "j-1" for told in place.jobs_told())

    until("the event's Job", came)
