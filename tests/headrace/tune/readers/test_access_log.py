"""Access logs as Envoy, Istio's sidecars and nginx write them, and what collectors add."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from headrace.tune import readers
from headrace.tune.readers.options import Options
from headrace.tune.traffic import BadTraffic, Traffic

ENVOY = (
    '[2016-04-15T20:17:00.310Z] "POST /api/v1/locations HTTP/2" 204 - 154 0 226 100 "10.0.35.28" "nsq2http" '
    '"cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2" "locations" "tcp://10.0.2.1:80"\n'
    '[2016-04-15T20:17:01.310Z] "GET /?q=\\"a\\" HTTP/1.1" 503 UH 0 19 3 - "-" "curl/7.64.0" "id" "orders" "-"\n'
)
ISTIO = (
    '[2026-01-31T12:00:00.250Z] "GET /status/418 HTTP/1.1" 418 - via_upstream - "-" 0 135 4 3 "-" "curl/7.73.0" '
    '"84961386-6d84-929d-98bd-c5aee93b5c88" "httpbin:8000" "127.0.0.1:80" inbound|8000|| 127.0.0.1:41854 '
    "10.44.1.27:80 10.44.1.23:37652 outbound_.8000_._.httpbin.foo.svc.cluster.local default\n"
)
NGINX = (
    '10.1.0.7 - - [31/Jan/2026:13:00:05 +0100] "POST /predict HTTP/1.1" 200 812 "-" "python-requests/2.31" 1.250\n'
    '10.1.0.7 - ann o [31/Jan/2026:12:00:09 +0000] "GET /\\x22 HTTP/1.1" 499 0 "http://a/" "Mozilla/5.0 (X11)" 0.500\n'
)
INGRESS = (
    '10.1.0.7 - - [31/Jan/2026:12:00:05 +0000] "POST /predict HTTP/1.1" 200 812 "-" "curl/8" 431 0.250 '
    "[default-flights-80] [] 10.42.0.34:8012 812 0.249 200 4b7\n"
)


def read(tmp_path: Path, text: str, **options: object) -> Traffic:
    path = tmp_path / "access.log"
    path.write_text(text)
    return readers.read(path, Options(**options))  # type: ignore[arg-type]


def test_envoys_default_format_gives_the_time_of_the_upstream(tmp_path: Path) -> None:
    of = read(tmp_path, ENVOY)
    assert of.starts_s == pytest.approx([0, 1]) and of.began == datetime(2016, 4, 15, 20, 17, 0, 310_000, UTC)
    assert of.service_s == pytest.approx([0.100, 0.003])
    assert any("for 1 requests that no upstream answered it is the whole duration" in r for r in of.repairs)
    assert any("2 hosts or revisions: all were taken" in r for r in of.repairs)


def test_envoys_host_is_selected_by_its_authority(tmp_path: Path) -> None:
    assert read(tmp_path, ENVOY, only="locations").service_s.tolist() == [0.1]
    with pytest.raises(BadTraffic, match="'payments' is the name of no host or revision"):
        read(tmp_path, ENVOY, only="payments")


def test_istios_longer_line_is_read_alike(tmp_path: Path) -> None:
    of = read(tmp_path, ISTIO)
    assert of.service_s.tolist() == [0.003] and of.began == datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC)


@pytest.mark.parametrize("collector", ["2026-01-31T12:00:01.123456789Z ", "2026-01-31T12:00:01.123456789Z stdout F "])
def test_what_a_collector_puts_before_a_line_does_no_harm(tmp_path: Path, collector: str) -> None:
    of = read(tmp_path, "".join(collector + line for line in ISTIO.splitlines(keepends=True)))
    assert of.count == 1 and of.began == datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC)


def test_lines_that_are_no_requests_and_probes_are_passed_over_and_told(tmp_path: Path) -> None:
    probe = ISTIO.replace("curl/7.73.0", "kube-probe/1.31")
    of = read(tmp_path, "2026-01-31T11:59:59Z info Envoy proxy is ready\n\n" + ISTIO + probe + ISTIO[:60] + "\n")
    assert of.count == 1
    assert any(
        "2 lines are no requests and were passed over, the first: '2026-01-31T11:59:59Z info" in r for r in of.repairs
    )
    assert "1 requests of probes were passed over" in of.repairs
    with pytest.raises(BadTraffic, match="holds 1 probes and no request"):
        read(tmp_path, probe)


def test_nginx_writes_when_a_request_ends_and_in_whole_seconds(tmp_path: Path) -> None:
    of = read(tmp_path, NGINX)
    assert of.service_s.tolist() == [1.25, 0.5] and of.span_s == pytest.approx(4.75)
    assert of.began == datetime(2026, 1, 31, 12, 0, 3, 750_000, UTC)
    assert any("times of the answers" in r or "times are those of the answers" in r for r in of.repairs)


def test_many_in_one_second_of_nginx_are_spread_over_it(tmp_path: Path) -> None:
    of = read(tmp_path, NGINX.splitlines(keepends=True)[0] * 100)
    assert of.span_s == pytest.approx(1, abs=0.2) and np.unique(of.starts_s).size == 100
    assert any("whole seconds: each of 100 requests" in r for r in of.repairs)


@pytest.mark.parametrize("rest", [" rt=0.250 uct=0.001", ' request_time="0.250"', " 0.250 0.249 ."])
def test_request_time_is_found_where_people_put_it(tmp_path: Path, rest: str) -> None:
    combined = NGINX.splitlines()[0].rsplit(" ", 1)[0]
    assert read(tmp_path, combined + rest + "\n").service_s.tolist() == [0.25]


def test_the_ingress_controllers_longer_line_is_read_alike(tmp_path: Path) -> None:
    assert read(tmp_path, INGRESS).service_s.tolist() == [0.25]


def test_nginx_without_request_time_says_what_to_add_or_takes_a_given_time(tmp_path: Path) -> None:
    combined = "\n".join(line.rsplit(" ", 1)[0] for line in NGINX.splitlines())
    with pytest.raises(BadTraffic, match=r"add \$request_time to nginx's log_format"):
        read(tmp_path, combined)
    of = read(tmp_path, combined, service_s=0.2)
    assert of.count == 2 and any("given mean 0.2 s" in r for r in of.repairs)
