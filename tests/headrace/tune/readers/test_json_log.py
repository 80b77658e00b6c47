"""Logs of JSON objects, as queue-proxy, Envoy, nginx and collectors write them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headrace.tune import readers
from headrace.tune.readers.options import Options
from headrace.tune.traffic import BadTraffic, Traffic


def queue_proxy(latency: str, agent: str = "curl/8.4.0", pod: str = "10.42.0.34") -> str:
    """A line of Knative's default template."""
    return (
        '{"httpRequest": {"requestMethod": "GET", "requestUrl": "/it\\\'s?a\\u003D1", "requestSize": "0", '
        '"status": 200, '
        f'"responseSize": "53", "userAgent": "{agent}", "remoteIp": "10.42.0.20:52782", "serverIp": "{pod}", '
        f'"referer": "", "latency": "{latency}", "protocol": "HTTP/1.1"}}, "traceId": "]"}}'
    )


STARTED = (
    '{"severity":"INFO","timestamp":"2026-01-31T11:59:58.1Z","logger":"queueproxy","message":"Starting queue-proxy"}'
)
AT = ("2026-01-31T12:00:01.500000000Z", "2026-01-31T12:00:02.000000000Z")


def read(tmp_path: Path, *lines: str, **options: object) -> Traffic:
    path = tmp_path / "requests.log"
    path.write_text("\n".join(lines) + "\n")
    return readers.read(path, Options(**options))  # type: ignore[arg-type]


def collected(kind: str, at: str, line: str) -> str:
    wrapped = {
        "kubectl --timestamps": f"{at} {line}",
        "kubectl --timestamps --prefix": f"[pod/flights-00001-deployment-7/queue-proxy] {at} {line}",
        "CRI": f"{at} stdout F {line}",
        "Docker": json.dumps({"log": line + "\n", "stream": "stdout", "time": at}),
    }
    return wrapped[kind]


@pytest.mark.parametrize("kind", ["kubectl --timestamps", "kubectl --timestamps --prefix", "CRI", "Docker"])
def test_queue_proxys_log_is_read_with_its_collectors_times(tmp_path: Path, kind: str) -> None:
    of = read(
        tmp_path,
        collected(kind, AT[0], STARTED),
        collected(kind, AT[0], queue_proxy("0.5s")),
        collected(kind, AT[1], queue_proxy("9.8765e-05s")),
        collected(kind, AT[1], queue_proxy("0.2s", agent="kube-probe/1.31")),
    )
    assert of.began == datetime(2026, 1, 31, 12, 0, 1, tzinfo=UTC)
    assert of.service_s.tolist() == [0.5, 9.8765e-05] and of.span_s == pytest.approx(1, abs=1e-3)
    assert any("1 lines are no requests" in r for r in of.repairs)
    assert "1 requests of probes were passed over" in of.repairs


def test_a_log_entry_of_google_cloud_holds_the_same_object(tmp_path: Path) -> None:
    entry = {"httpRequest": {"latency": "0.25s", "status": 200}, "timestamp": AT[0], "severity": "INFO"}
    assert read(tmp_path, json.dumps(entry)).service_s.tolist() == [0.25]


def test_queue_proxys_log_without_times_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(BadTraffic, match=r"Knative's template writes no time.*--timestamps"):
        read(tmp_path, queue_proxy("0.5s"))


def test_the_pods_of_queue_proxys_log_tell_waiting_from_service(tmp_path: Path) -> None:
    lines = [f"2026-01-31T12:00:0{i}Z {queue_proxy(f'{i}.0s')}" for i in (1, 2, 3)]
    of = read(tmp_path, *lines, container_concurrency=1)
    assert of.service_s == pytest.approx([1, 1, 1])


ISTIO = {
    "start_time": "2026-01-31T12:00:00.250Z",
    "method": "GET",
    "path": "/",
    "protocol": "HTTP/1.1",
    "response_code": 200,
    "response_flags": "-",
    "bytes_received": 0,
    "bytes_sent": 1234,
    "duration": 45,
    "upstream_service_time": "43",
    "authority": "flights.default.example.com",
    "user_agent": "curl/8.4.0",
    "upstream_host": "10.244.1.5:8080",
}


@pytest.mark.parametrize(
    ("changes", "service_s"),
    [
        ({}, 0.043),
        ({"duration": "45", "upstream_service_time": None}, 0.045),
        ({"upstream_service_time": "-"}, 0.045),
        ({"upstream_service_time": 43}, 0.043),
    ],
)
def test_istios_objects_are_read_with_typed_values_or_without(
    tmp_path: Path, changes: dict[str, object], service_s: float
) -> None:
    of = read(tmp_path, json.dumps({**ISTIO, **changes}))
    assert of.service_s.tolist() == [service_s] and of.began == datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC)


def test_a_broken_line_among_istios_is_passed_over_and_told(tmp_path: Path) -> None:
    of = read(tmp_path, json.dumps(ISTIO), json.dumps({**ISTIO, "authority": "other"}), json.dumps(ISTIO)[:70])
    assert of.count == 2 and any("1 lines are no requests" in r for r in of.repairs)
    assert read(tmp_path, json.dumps(ISTIO), json.dumps({**ISTIO, "authority": "other"}), only="other").count == 1


def test_nginxs_objects_end_at_their_time(tmp_path: Path) -> None:
    of = read(tmp_path, '{"time_iso8601":"2026-01-31T13:00:05+01:00","status":"200","request_time":"1.250","host":"a"}')
    assert of.service_s.tolist() == [1.25] and of.began == datetime(2026, 1, 31, 12, 0, 3, 750_000, UTC)
    of = read(tmp_path, '{"msec":"1769860805.250","request_time":0.25}')
    assert of.began == datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC)


def test_anybodys_objects_are_read_like_a_table(tmp_path: Path) -> None:
    of = read(
        tmp_path, '{"ts":1769860805.25,"duration_ms":250,"revision":"a-1"}', '{"ts":1769860806,"duration_ms":300.5}'
    )
    assert of.service_s.tolist() == [0.25, 0.3005] and of.span_s == 0.75


def test_objects_that_say_no_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTraffic, match=r"no column says when requests came: there are 'user', 'path'"):
        read(tmp_path, '{"user":"ann","path":"/"}')
