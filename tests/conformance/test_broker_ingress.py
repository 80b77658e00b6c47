"""What a Broker takes, and what it answers to the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.differences import differs
from tests.conformance.place import Place
from tests.conformance.wire import binary

STRUCTURED = {"content-type": "application/cloudevents+json"}
MEBIBYTE = 1024 * 1024


def structured(id: str, type: str = "test.structured", **attributes: Any) -> bytes:
    return json.dumps({"specversion": "1.0", "id": id, "source": "/conformance", "type": type, **attributes}).encode()


def test_a_broker_is_ready_and_tells_its_address(place: Place) -> None:
    place.broker()
    broker = place.api.get("Broker", "default")
    assert broker is not None
    told = {c["type"]: c["status"] for c in broker["status"]["conditions"]}
    expected = {"Ready", "Addressable", "IngressReady", "FilterReady", "TriggerChannelReady", "DeadLetterSinkResolved"}
    assert told.keys() >= expected
    assert {told[type] for type in expected} == {"True"}
    assert broker["status"]["address"]["url"].startswith("http://")
    assert broker["metadata"]["annotations"]["eventing.knative.dev/broker.class"]


def test_an_event_in_binary_mode_is_taken_with_202_and_no_body(place: Place) -> None:
    answer = place.send(binary("taken-1"))
    assert (answer.status, answer.body) == (202, b"")


@pytest.mark.parametrize("type", ["application/cloudevents+json", "application/cloudevents+json; charset=utf-8"])
def test_an_event_in_structured_mode_is_taken(place: Place, type: str) -> None:
    assert place.send({"content-type": type}, structured("taken-2", data={"n": 1})).status == 202


def test_an_event_without_data_is_taken(place: Place) -> None:
    headers = binary("taken-3")
    del headers["content-type"]
    assert place.send(headers, b"").status == 202


@pytest.mark.parametrize("missing", ["specversion", "id", "source", "type"])
def test_an_event_that_lacks_a_required_attribute_is_refused(place: Place, missing: str) -> None:
    headers = binary("refused")
    del headers[f"ce-{missing}"]
    assert place.send(headers).status == 400
    event = json.loads(structured("refused"))
    del event[missing]
    assert place.send(STRUCTURED, json.dumps(event).encode()).status == 400


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "application/json"}, b'{"n":1}'),
        ({"content-type": "text/plain"}, b"hello"),
        (STRUCTURED, b"{"),
        (STRUCTURED, b"[]"),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]"),
        (binary("refused", specversion="7.0"), b"{}"),
        (binary(""), b"{}"),
    ],
    ids=["plain-json", "plain-text", "broken-json", "no-object", "batch", "unknown-version", "empty-id"],
)
def test_what_is_no_event_is_refused(place: Place, headers: dict[str, str], body: bytes) -> None:
    assert place.send(headers, body).status == 400


def test_a_time_that_is_none_is_refused(place: Place) -> None:
    assert place.send(binary("refused", time="yesterday")).status == 400


def test_a_broker_that_is_not_there_answers_404(place: Place) -> None:
    url = place.broker().replace("/default", "/absent")
    assert place.ask(url, "", "POST", binary("lost"), b"{}").status == 404


def test_a_path_that_names_no_broker_is_refused(place: Place) -> None:
    assert place.ask(place.broker(), "/more", "POST", binary("lost"), b"{}").status == 400


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_broker_knows_no_other_method(place: Place, method: str) -> None:
    assert place.ask(place.broker(), "", method).status == 405


def test_the_webhook_handshake_is_answered(place: Place) -> None:
    answer = place.ask(place.broker(), "", "OPTIONS", {"WebHook-Request-Origin": "sender.example"})
    assert (answer.status, answer.headers["webhook-allowed-origin"]) == (200, "*")
    assert "POST" in answer.headers["allow"]


def test_an_event_that_has_gone_round_as_often_as_it_may_is_refused(place: Place) -> None:
    assert place.send(binary("spent", knativebrokerttl="1")).status == 400
    assert place.send(binary("spent", knativebrokerttl="0")).status == 400
    assert place.send(binary("round", knativebrokerttl="2")).status == 202


def test_an_event_of_nearly_a_mebibyte_arrives_whole(place: Place) -> None:
    place.trigger("large")
    body = bytes(range(256)) * (MEBIBYTE // 256 - 8)
    headers = {**binary("large", type="test.large"), "content-type": "application/octet-stream"}
    assert place.send(headers, body).status == 202
    (seen,) = place.until_box("large")
    assert seen.body == body


def test_an_event_of_more_than_a_mebibyte(place: Place) -> None:
    """A Broker in a cluster takes what its memory holds; what a JobSink would refuse is refused on a laptop."""
    headers = {**binary("larger"), "content-type": "application/octet-stream"}
    expected = 413 if differs(place, "an event over 1 MiB") else 202
    assert place.send(headers, b"x" * (MEBIBYTE + 1)).status == expected
