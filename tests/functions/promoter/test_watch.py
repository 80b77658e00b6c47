"""functions.promoter.watch: what two revisions answer, seen from outside, over real HTTP."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from functions.promoter import watch
from functions.promoter.watch import Meter, Reading, Watch

SAMPLES = [{"inputs": {"distance": 1.0}, "outputs": {"label": 1, "probabilities": [0.25, 0.75]}}]
RIGHT = {"predictions": [{"label": 1, "probabilities": [0.25, 0.75]}]}


def metrics_text(process: float, version: str, done: int, failed: int, buckets: dict[str, int]) -> str:
    """What a predictor's /metrics says, as prometheus_client writes it."""
    lines = [f"process_start_time_seconds {process}"]
    lines += [f'headrace_model_info{{model="flights",version="{version}",revision="r"}} 1.0']
    lines += [f'headrace_requests_total{{model="flights",protocol="v1",outcome="done"}} {done}']
    lines += [f'headrace_requests_total{{model="flights",protocol="v2",outcome="failed"}} {failed}']
    lines += ['headrace_requests_total{model="flights",protocol="v2",outcome="rejected"} 3']
    lines += ['headrace_requests_total{model="other",protocol="v1",outcome="done"} 999']
    lines += [
        f'headrace_request_duration_seconds_bucket{{model="flights",protocol="{p}",le="{le}"}} {n}'
        for p in ("v1", "v2")
        for le, n in buckets.items()
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def answering(predictions: Any, status: int = 200, metrics: str = "") -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server in a revision's place: its URL, and the headers of each request it got."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._say(status, json.dumps(predictions))

        def do_GET(self) -> None:
            self._say(200, metrics)

        def _say(self, code: int, text: str) -> None:
            seen.append(dict(self.headers))
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "sample.json").write_text(json.dumps({"requests": SAMPLES}))
    return tmp_path


def test_a_probe_answered_as_expected_counts_and_says_who_asks(package: Path) -> None:
    looking = Watch("flights", "v2", "v1", package)
    with answering(RIGHT) as (url, seen):
        looking.look(url, url)
    assert (looking.probes_ok, looking.probes_failed, looking.mismatch) == (1, 0, "")
    assert all(headers["Headrace-Probe"] == "promoter" for headers in seen)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"predictions": [{"label": 0, "probabilities": [0.25, 0.75]}]}, "sample row 0: label is 0; expected 1"),
        ({"predictions": [{"label": 1, "probabilities": [0.24, 0.76]}]}, "probabilities is [0.24, 0.76]"),
        ({"predictions": [{"label": 1}]}, "probabilities is None"),
        ({"predictions": []}, '1 rows were answered with {"predictions": []}'),
        ({"error": "?"}, '1 rows were answered with {"error": "?"}'),
    ],
)
def test_a_wrong_answer_is_kept_in_words(package: Path, answer: Any, words: str) -> None:
    looking = Watch("flights", "v2", "v1", package)
    with answering(answer) as (wrong, _), answering(RIGHT) as (right, _):
        looking.look(wrong, right)
        looking.look(right, right)
    assert words in looking.mismatch


def test_a_canary_that_refuses_its_own_sample_rows_is_wrong(package: Path) -> None:
    looking = Watch("flights", "v2", "v1", package)
    with answering({"error": "no input"}, status=400) as (url, _):
        looking.look(url, url)
    assert looking.mismatch == 'HTTP 400 to its own sample rows: {"error": "no input"}'


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_what_speaks_of_the_way_and_not_of_the_model_is_no_answer(package: Path, status: int) -> None:
    looking = Watch("flights", "v2", "v1", package)
    with answering({}, status=status) as (bad, _), answering(RIGHT) as (good, _):
        looking.look(bad, good)
        looking.look("http://127.0.0.1:1", good)
    assert (looking.probes_ok, looking.probes_failed, looking.mismatch) == (0, 2, "")


def test_a_name_under_localhost_is_the_loopback_with_its_host_kept(package: Path) -> None:
    looking = Watch("flights", "v2", "v1", package)
    with answering(RIGHT) as (url, seen):
        port = url.rpartition(":")[2]
        named = f"http://canary-flights.headrace.localhost:{port}"
        looking.look(named, named)
    assert looking.probes_ok == 1
    assert seen[0]["Host"] == f"canary-flights.headrace.localhost:{port}"


def test_counters_are_read_per_process_and_over_all_protocols() -> None:
    found = watch.read_metrics(metrics_text(5.5, "v2", 10, 2, {"0.1": 4, "+Inf": 6}), "flights")
    assert found == Reading("5.5", "v2", 15, 2, {0.1: 8, math.inf: 12})


def test_probes_are_no_requests_of_anybody_and_their_failures_no_errors_but_they_are_timed() -> None:
    text = metrics_text(5.5, "v2", 10, 4, {"0.1": 4, "+Inf": 6})
    text += 'headrace_probes_total{model="flights",outcome="done"} 7\n'
    text += 'headrace_probes_total{model="flights",outcome="failed"} 2\n'
    text += 'headrace_probes_total{model="other",outcome="done"} 999\n'
    found = watch.read_metrics(text, "flights")
    assert found == Reading("5.5", "v2", 17 - 9, 4 - 2, {0.1: 8, math.inf: 12}, 9)
    meter = Meter("v2")
    meter.add(Reading("5.5", "v2", 0, 0, {}))
    meter.add(found)
    assert (meter.tally().requests, meter.tally().errors, meter.tally().probes) == (8, 2, 9)


def test_a_process_that_serves_no_such_model_has_no_counters() -> None:
    assert watch.read_metrics(metrics_text(5.5, "v2", 1, 0, {}), "weather") is None


def test_pods_met_in_turn_are_added_up_and_what_came_before_the_watch_is_not_counted() -> None:
    meter = Meter("v2")
    for process, requests, errors in ((1.0, 100, 1), (2.0, 50, 0), (1.0, 110, 3), (2.0, 55, 0)):
        meter.add(watch.read_metrics(metrics_text(process, "v2", requests, errors, {"0.1": 1, "+Inf": 1}), "flights"))
    tally = meter.tally()
    assert (tally.requests, tally.errors) == (10 + 2 + 5, 2)


def test_a_reading_of_another_version_is_passed_over() -> None:
    meter = Meter("v2")
    meter.add(watch.read_metrics(metrics_text(1.0, "v1", 100, 100, {}), "flights"))
    meter.add(watch.read_metrics(metrics_text(1.0, "v1", 200, 200, {}), "flights"))
    assert meter.tally().requests == 0


@pytest.mark.parametrize(
    ("seconds", "share", "expected"),
    [
        ({}, 0.5, None),
        ({0.1: 0, math.inf: 0}, 0.5, None),
        ({0.1: 10, math.inf: 10}, 0.5, 50.0),  # halfway up the first bucket
        ({0.1: 5, 0.2: 10, math.inf: 10}, 0.95, 190.0),  # nine tenths up the second
        ({0.1: 5, 0.2: 5, math.inf: 10}, 0.95, 200.0),  # beyond the last bound nothing is known
        ({0.1: 0, 0.2: 10, math.inf: 10}, 0.5, 150.0),
    ],
)
def test_a_percentile_is_drawn_straight_within_its_bucket(
    seconds: dict[float, float], share: float, expected: float | None
) -> None:
    assert watch.quantile_ms(seconds, share) == (None if expected is None else pytest.approx(expected))
