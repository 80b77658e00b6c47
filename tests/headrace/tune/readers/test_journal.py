"""The gateway's own journal of requests."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headrace.tune import readers
from headrace.tune.readers.options import Options
from headrace.tune.traffic import BadTraffic, Traffic

AT = 1_767_225_600.0


def request(
    after_s: float, duration_s: float, queued_s: float = 0.0, cold: bool = False, revision: str = "flights-00001"
) -> str:
    return json.dumps(
        {
            "at_s": AT + after_s,
            "revision": revision,
            "namespace": "default",
            "duration_s": duration_s,
            "queued_s": queued_s,
            "cold": cold,
            "status": 200,
        }
    )


def read(tmp_path: Path, *lines: str, **options: object) -> Traffic:
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return readers.read(path, Options(**options))  # type: ignore[arg-type]


def test_service_is_what_is_left_of_the_duration_without_the_wait(tmp_path: Path) -> None:
    of = read(tmp_path, request(0, 0.3, 0.2), request(1, 0.1))
    assert of.service_s == pytest.approx([0.1, 0.1]) and of.starts_s.tolist() == [0, 1]
    assert of.began == datetime(2026, 1, 1, tzinfo=UTC) and of.cold_start_s.size == 0


def test_a_cold_start_lasts_as_long_as_the_first_that_waited_for_it(tmp_path: Path) -> None:
    of = read(
        tmp_path,
        request(0, 2.1, 2.0, cold=True),
        request(1.5, 0.6, 0.5, cold=True),
        request(300, 1.6, 1.5, cold=True),
        request(301, 0.6, 0.5),
    )
    assert of.cold_start_s == pytest.approx([2.0, 1.5])


def test_it_is_in_the_order_of_the_answers_and_sorted_by_arrival(tmp_path: Path) -> None:
    of = read(tmp_path, request(1, 0.1), request(0, 5.0))
    assert of.service_s.tolist() == [5.0, 0.1] and any("sorted by time" in r for r in of.repairs)


def test_all_revisions_of_a_service_are_its_traffic_and_one_can_be_named(tmp_path: Path) -> None:
    lines = (request(0, 0.1), request(1, 0.2, revision="flights-00002"), request(2, 0.3, revision="promoter-00001"))
    for only in ("flights", "default/flights", "default/fl"):
        assert read(tmp_path, *lines, only=only).service_s.tolist() == [0.1, 0.2]
    assert read(tmp_path, *lines, only="flights-00002").service_s.tolist() == [0.2]
    with pytest.raises(BadTraffic, match=r"holds 2 services.*default/flights \(2 requests\), default/promoter"):
        read(tmp_path, *lines)


def test_a_line_that_a_kill_cut_off_is_passed_over_and_told(tmp_path: Path) -> None:
    of = read(tmp_path, request(0, 0.1), request(1, 0.1)[:40])
    assert of.count == 1 and any("1 lines are no requests" in r for r in of.repairs)


def test_a_wait_longer_than_the_duration_by_more_than_rounding_is_a_broken_row(tmp_path: Path) -> None:
    assert read(tmp_path, request(0, 0.1, 0.1004)).service_s.tolist() == [0.0]
    with pytest.raises(BadTraffic, match="missing or negative"):
        read(tmp_path, request(0, 0.1, 0.5), request(1, 0.1))


def pod(name: str, cold_start_s: float | None, pod_s: float | None, revision: str = "flights-00001") -> str:
    line = {"at_s": AT, "namespace": "default", "revision": revision, "pod": name}
    return json.dumps({**line, "cold_start_s": cold_start_s, "pod_s": pod_s})


def test_a_journals_folder_is_one_journal_and_its_pods_tell_the_cold_starts(tmp_path: Path) -> None:
    files = {
        "requests-00000001.jsonl": [request(0, 2.1, 2.0, cold=True), request(9, 0.3, revision="promoter-00001")],
        "requests-00000002.jsonl": [request(20, 0.2, 0.1)],
        "pods-00000001.jsonl": [pod("a", 1.5, None), pod("b", None, 9.0), pod("x", 7.0, None, "promoter-00001")],
        "pods-00000002.jsonl": [pod("a", 1.5, 90.0), pod("c", 1.25, None)],
    }
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    of = readers.read(tmp_path, Options(only="flights"))
    assert of.starts_s.tolist() == [0, 20] and of.service_s == pytest.approx([0.1, 0.1])
    assert of.cold_start_s.tolist() == [1.5, 1.25]
    assert any("2 cold starts are those of the pods" in r for r in of.repairs)
    assert readers.read(tmp_path, Options(only="flights", cold_start_s=3.0)).cold_start_s.tolist() == [3.0]
