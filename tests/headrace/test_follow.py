"""What a person is told of a dropped file, until there is nothing more to wait for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from eventing import contract
from eventing.errors import HeadraceError
from headrace import follow, reach
from headrace.journal import Journal
from headrace.screen import Output


def line(seq: int, id: str, cls: type[contract.Data], cause: str, **data: Any) -> dict[str, Any]:
    event = {"id": id, "type": cls.TYPE, "source": "/t", "subject": "flights", "causationid": cause, "data": data}
    return {"seq": seq, "received": "2026-11-26T02:00:00+00:00", "event": event, "deliveries": []}


@pytest.fixture
def journal() -> Iterator[tuple[list[dict[str, Any]], Any]]:
    """The lines that a journal tells, and a place that has it."""
    lines: list[dict[str, Any]] = []

    class Told(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write("".join(json.dumps(line) + "\n" for line in lines).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Told) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield lines, SimpleNamespace(journal=Journal(f"http://127.0.0.1:{server.server_port}/", reach.direct))
        server.shutdown()


def test_a_training_that_fails_and_is_tried_again_may_end_well(
    journal: tuple[list[dict[str, Any]], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    lines, place = journal
    lines += [
        line(1, "f1", contract.TrainingFailed, "d1", reason="out of memory", retryable=True),
        line(2, "t1", contract.ModelTrained, "d1", version="v1", scores={}),
        line(3, "m1", contract.ModelPromoted, "t1", version="v1", revision="flights-00001", reason="first"),
    ]
    assert follow.follow(place, "d1", 0, Output.text)
    assert [text.split()[1] for text in capsys.readouterr().out.splitlines()] == ["failure", "package", "promotion"]
    lines[0]["event"]["data"]["retryable"] = False
    assert not follow.follow(place, "d1", 0, Output.text)


def test_a_platform_that_stops_meanwhile_is_said_to_have_stopped(journal: tuple[list[dict[str, Any]], Any]) -> None:
    lines, place = journal
    lines.append(line(1, "p1", contract.TrainingProgressed, "d1", step="fit", what="100 trees", job="j", done=0.1))
    with pytest.raises(HeadraceError, match="headrace why d1"):
        follow.follow(place, "d1", 0, Output.text)


def test_a_file_that_is_rejected_is_called_as_whoever_dropped_it_calls_it(
    journal: tuple[list[dict[str, Any]], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    lines, place = journal
    uri = "file:///store/datasets/flights/abab.csv"
    reasons = [{"what": "too few rows"}]
    lines.append(line(1, "r1", contract.DatasetRejected, "d1", uri=uri, reasons=reasons, broken_rows=0))
    assert not follow.follow(place, "d1", 0, Output.text, names={"abab.csv": "january.csv"})
    assert "january.csv rejected: too few rows" in capsys.readouterr().out
