"""Verdicts become statuses, in one place, in every mode."""

from __future__ import annotations

import json
import logging
from typing import Any

import flask.testing
import pytest

from eventing import binding, receiver
from monitoring import metrics
from tests.eventing import serving

OBJECT: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/tests", "type": "echo", "data": {"a": 1}}


@pytest.fixture
def client() -> flask.testing.FlaskClient:
    return receiver.create_app(serving.handle, "echo", max_body_bytes=1000).test_client()


def binary(type: str) -> dict[str, str]:
    return {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/tests", "ce-type": type}


def batch(*types: str) -> dict[str, Any]:
    body = json.dumps([OBJECT | {"type": t, "id": str(i)} for i, t in enumerate(types)])
    return {"data": body, "headers": {"content-type": binding.BATCHED}}


def test_a_reply_comes_in_the_mode_of_the_request(client: flask.testing.FlaskClient) -> None:
    seen = client.post("/", headers=binary("echo"), data=b'{"a": 1}', content_type="application/json")
    assert (seen.status_code, seen.headers["ce-id"], seen.json) == (200, "re-1", {"a": 1})
    seen = client.post("/", data=json.dumps(OBJECT), content_type=binding.STRUCTURED)
    assert (seen.status_code, seen.content_type) == (200, binding.STRUCTURED)
    assert json.loads(seen.data)["id"] == "re-1"
    seen = client.post("/", **batch("echo", "quiet", "echo"))
    assert seen.content_type == binding.BATCHED
    assert [e["id"] for e in json.loads(seen.data)] == ["re-0", "re-2"]


def test_success_without_a_reply_is_an_empty_2xx(client: flask.testing.FlaskClient) -> None:
    for seen in (
        client.post("/", headers=binary("quiet")),
        client.post("/", **batch("quiet")),
        client.post("/", **batch()),
    ):
        assert (seen.status_code, seen.data) == (204, b"")
        assert "ce-id" not in seen.headers


def test_a_reply_without_data_is_not_declared_text(client: flask.testing.FlaskClient) -> None:
    seen = client.post("/", headers=binary("echo"))
    assert (seen.status_code, seen.headers.get("content-type"), seen.data) == (200, None, b"")


@pytest.mark.parametrize(("type", "status"), [("reject", 422), ("later", 503), ("fault", 500)])
def test_a_verdict_becomes_its_status(client: flask.testing.FlaskClient, type: str, status: int) -> None:
    assert client.post("/", headers=binary(type)).status_code == status


def test_rejected_tells_every_fault(client: flask.testing.FlaskClient) -> None:
    seen = client.post("/", headers=binary("reject")).json
    assert seen is not None and seen["faults"] == ["one is 1; expected 2", "two is 2; expected 3"]
    assert seen["error"].startswith("it can never be")


def test_retry_later_says_after_how_many_whole_seconds(client: flask.testing.FlaskClient) -> None:
    assert client.post("/", headers=binary("later")).headers["Retry-After"] == "7"


def test_an_unknown_fault_is_traced_in_the_log_and_not_in_the_answer(
    client: flask.testing.FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        seen = client.post("/", headers=binary("fault"))
    assert seen.is_json and b"secret" not in seen.data
    assert "Traceback" in caplog.text and "a secret" in caplog.text


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "application/json"}, b"{}", 400),
        ({"content-type": "application/cloudevents+protobuf"}, b"{}", 415),
        ({"content-type": binding.STRUCTURED}, b"{", 422),
        ({"content-type": binding.STRUCTURED}, b"{}", 422),
        ({**binary("echo"), "content-type": "application/json"}, b"{", 422),
        ({**binary("echo"), "ce-time": "x"}, b"", 422),
    ],
)
def test_what_is_no_valid_event_is_refused_for_good(
    client: flask.testing.FlaskClient, headers: dict[str, str], body: bytes, status: int
) -> None:
    seen = client.post("/", headers=headers, data=body)
    assert seen.status_code == status
    assert seen.json is not None and seen.json["error"]


@pytest.mark.parametrize(
    ("types", "status"),
    [
        (("echo", "reject"), 422),
        (("reject", "later", "echo"), 503),
        (("later", "fault", "reject"), 500),
    ],
)
def test_the_heaviest_verdict_speaks_for_a_batch(
    client: flask.testing.FlaskClient, types: tuple[str, ...], status: int
) -> None:
    seen = client.post("/", **batch(*types))
    assert seen.status_code == status
    assert seen.json is not None and len(seen.json["batch"]) == len([t for t in types if t != "echo"])


def test_a_body_over_the_limit_is_told_its_limit(client: flask.testing.FlaskClient) -> None:
    seen = client.post("/", headers=binary("echo"), data=b"x" * 1001)
    assert seen.status_code == 413
    assert seen.json is not None and "1000 bytes" in seen.json["error"]


def test_health_and_metrics_answer(client: flask.testing.FlaskClient) -> None:
    assert client.get("/health/liveness").status_code == 200
    assert client.get("/health/readiness").json == {"status": "ok", "name": "echo"}
    assert b"headrace_events_received_total" in client.get("/metrics").data
    assert client.get("/").status_code == 405
    assert client.get("/nowhere").is_json


def test_an_unknown_type_makes_no_series_of_its_own(client: flask.testing.FlaskClient) -> None:
    counter = metrics.EVENTS_RECEIVED.labels(metrics.OTHER, metrics.DONE)
    before = counter._value.get()
    client.post("/", headers=binary("quiet"))
    assert counter._value.get() == before + 1
    assert b'type="quiet"' not in client.get("/metrics").data
