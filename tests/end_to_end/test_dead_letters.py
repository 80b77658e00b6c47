"""An event that nobody takes is kept, shown, and can be sent on its way again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.end_to_end.conftest import MODEL
from tests.end_to_end.house import House, prediction_requested, until

TRIGGER = """
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: stubborn}}
spec:
  broker: default
  filter: {{attributes: {{type: dev.example.parcel.posted.v1}}}}
  subscriber: {{uri: "http://127.0.0.1:{port}/"}}
"""


class Stubborn:
    """A subscriber that refuses for good what it is sent, until it is told not to."""

    def __init__(self) -> None:
        self.status = 422
        self.taken: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                if outer.status == 200:
                    outer.taken.append(self.headers["ce-id"])
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@pytest.fixture
def stubborn(house: House) -> Iterator[Stubborn]:
    subscriber = Stubborn()
    threading.Thread(target=subscriber.server.serve_forever, daemon=True).start()
    house.kubectl("apply", "-f", "-", given=TRIGGER.format(port=subscriber.port))
    house.kubectl("wait", "--for=condition=Ready", "trigger/stubborn", "--timeout=60s")
    yield subscriber
    house.kubectl("delete", "trigger", "stubborn")
    subscriber.server.shutdown()
    subscriber.server.server_close()


def test_what_nobody_takes_is_listed_shown_and_replayed(house: House, stubborn: Stubborn) -> None:
    parcel = {
        "specversion": "1.0",
        "id": "parcel-1",
        "source": "/tests/end-to-end",
        "type": "dev.example.parcel.posted.v1",
        "datacontenttype": "application/json",
        "data": {"größe": 3},
    }
    assert house.send(parcel) == 202
    until("a dead letter", lambda: "parcel-1" in _listed(house))
    shown = json.loads(house.headrace("dead-letters", "show", "parcel-1"))
    assert shown["data"] == parcel["data"]
    assert shown["knativeerrorcode"] in (422, "422")
    assert f":{stubborn.port}" in shown["knativeerrordest"]
    stubborn.status = 200
    assert "parcel-1" in house.headrace("dead-letters", "replay", "parcel-1")
    until("its arrival", lambda: stubborn.taken)
    assert stubborn.taken == ["parcel-1"]
    assert "parcel-1" not in _listed(house)


def test_a_question_that_no_model_can_answer_is_kept_with_what_was_said(house: House) -> None:
    """Final at once: the predictor says that it will never fit, so it is not asked again."""
    assert house.send(prediction_requested("hopeless", MODEL, {"no such column": 1})) == 202
    until("a dead letter", lambda: "hopeless" in _listed(house))
    shown = json.loads(house.headrace("dead-letters", "show", "hopeless"))
    assert "no such column" in json.dumps(shown["knativeerrordata"], ensure_ascii=False) or shown["knativeerrordata"]
    (entry,) = house.entries(id="hopeless")
    assert [d["attempts"] for d in entry.deliveries] == [1]


def test_an_unknown_letter_is_refused_naming_those_that_are_there(house: House) -> None:
    done = house.run("dead-letters", "show", "no-such-letter")
    assert done.returncode == 1
    assert "no-such-letter" in done.stderr


def _listed(house: House) -> list[str]:
    return [event["id"] for event in json.loads(house.headrace("dead-letters", "list", "-o", "json"))]
