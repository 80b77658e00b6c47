"""Tables of requests, as people and clouds write them."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from headrace.tune import readers
from headrace.tune.readers.options import Options
from headrace.tune.traffic import BadTraffic, Traffic

AT = 1_767_225_600  # 2026-01-01T00:00:00Z


def read(tmp_path: Path, text: str | bytes, **options: object) -> Traffic:
    path = tmp_path / "trace.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return readers.read(path, Options(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "start,duration_ms\n1767225600.5,250\n1767225601,500\n",
        "start_time,latency_s\n1767225600500,0.25\n1767225601000,0.5\n",
        "Timestamp;Response Time (ms)\n2026-01-01T00:00:00.500Z;250\n2026-01-01T00:00:01Z;500\n",
        "ts\tduration\n1767225600500000\t250ms\n1767225601000000\t0.5s\n",
        "startTime,endTime\n2026-01-01 00:00:00.5,2026-01-01 00:00:00.75\n2026-01-01 00:00:01,2026-01-01 00:00:01.5\n",
        "end_time,durationMs\n1767225600.75,250\n1767225601.5,500\n",
        '\ufeff"start","elapsed_seconds","path"\r\n1767225600500000000,0.25,"/a,b"\r\n1767225601000000000,0.5,"/"\r\n',
        "at,took_us\n2026-01-01T01:00:00.5+01:00,250000\n2025-12-31T19:00:01-05:00,500000\n",
    ],
)
def test_columns_are_recognised_under_their_usual_names_with_their_units(tmp_path: Path, text: str) -> None:
    of = read(tmp_path, text)
    assert of.starts_s == pytest.approx([0, 0.5], abs=1e-6)
    assert of.service_s == pytest.approx([0.25, 0.5], abs=1e-6)
    assert of.began == datetime(2026, 1, 1, 0, 0, 0, 500_000, UTC)


def test_the_same_packed_with_gzip_is_the_same(tmp_path: Path) -> None:
    of = read(tmp_path, gzip.compress(b"start,duration_ms\n1767225600.5,250\n1767225601,500\n"))
    assert of.service_s.tolist() == [0.25, 0.5]


def test_parquet_is_read_with_the_types_that_it_has(tmp_path: Path) -> None:
    at = pa.array([AT * 1000 + 500, AT * 1000], pa.timestamp("ms", "UTC"))
    took = pa.array([250_000_000, 500_000_000], pa.duration("ns"))
    path = tmp_path / "requests"
    pyarrow.parquet.write_table(pa.table({"arrival": at, "duration": took, "path": ["/a", "/b"]}), path)
    of = readers.read(path)
    assert of.starts_s.tolist() == [0, 0.5] and of.service_s.tolist() == [0.5, 0.25]
    assert any("1 of 2 requests" in r and "sorted" in r for r in of.repairs)


def test_unsorted_times_are_sorted_with_their_durations_and_told(tmp_path: Path) -> None:
    of = read(tmp_path, "start,duration_ms\n1767225603,3\n1767225601,1\n1767225602,2\n")
    assert of.starts_s.tolist() == [0, 1, 2] and of.service_s.tolist() == pytest.approx([0.001, 0.002, 0.003])
    assert any("1 of 3 requests have an earlier time" in r for r in of.repairs)


def test_times_without_a_zone_are_in_the_given_one_and_told(tmp_path: Path) -> None:
    text = "start,duration_ms\n2026-07-01 12:00:00,5\n2026-07-01 12:00:01,5\n"
    of = read(tmp_path, text, time_zone="Europe/Berlin")
    assert of.began == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert any("2 times in 'start' have no zone: taken as Europe/Berlin" in r for r in of.repairs)


def test_mixed_zones_are_heeded_and_told(tmp_path: Path) -> None:
    of = read(
        tmp_path, "start,duration_ms\n2026-07-01T12:00:00Z,5\n2026-07-01T14:00:01+02:00,5\n2026-07-01T12:00:02,5\n"
    )
    assert of.starts_s.tolist() == [0, 1, 2]
    assert any("2 zones, +02:00, Z" in r for r in of.repairs)
    assert any("1 times in 'start' have no zone" in r for r in of.repairs)


def test_an_hour_that_a_zone_has_twice_is_told(tmp_path: Path) -> None:
    text = "start,duration_ms\n2026-10-25 02:30:00,5\n2026-10-25 04:30:00,5\n"
    of = read(tmp_path, text, time_zone="Europe/Berlin")
    assert of.span_s == 3 * 3600
    assert any("the hour that Europe/Berlin has twice" in r for r in of.repairs)


def test_durations_without_a_unit_are_refused_unless_only_seconds_can_be_meant(tmp_path: Path) -> None:
    with pytest.raises(BadTraffic, match=r"'duration' does not say its unit, and 250 could be in any.*duration_unit"):
        read(tmp_path, "start,duration\n1767225600,250\n1767225601,250\n")
    assert read(tmp_path, "start,duration\n0,250\n1,250\n", duration_unit="ms").service_s.tolist() == [0.25, 0.25]
    of = read(tmp_path, "start,duration\n0,0.05\n1,0.07\n")
    assert of.service_s.tolist() == [0.05, 0.07] and any("taken as seconds" in r for r in of.repairs)


def test_a_missing_duration_among_many_is_drawn_from_the_others_and_told(tmp_path: Path) -> None:
    rows = [f"{i},{10 + i % 3}" for i in range(300)]
    rows[7], rows[9], rows[11] = "7,", "9,-4", "11,NaN"
    of = read(tmp_path, "start,duration_ms\n" + "\n".join(rows))
    assert of.count == 300 and set(np.round(of.service_s, 3)) == {0.010, 0.011, 0.012}
    assert any("3 durations were missing or negative (1 negative): drawn from the others" in r for r in of.repairs)


def test_many_broken_durations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTraffic, match=r"2 durations that are missing or negative \(1 negative\) in 10 requests"):
        read(
            tmp_path,
            "start,duration_ms\n" + "\n".join(f"{i},{-1 if i == 4 else '' if i == 5 else 9}" for i in range(10)),
        )


def test_unreadable_times_are_left_out_and_told_or_refused(tmp_path: Path) -> None:
    rows = [f"{AT + i},5" for i in range(300)]
    rows[13] = "yesterday,5"
    of = read(tmp_path, "start,duration_ms\n" + "\n".join(rows))
    assert of.count == 299 and "1 rows without a readable time were left out" in of.repairs
    with pytest.raises(BadTraffic, match="1 times that cannot be read in 3 requests, the first in number 2"):
        read(tmp_path, "start,duration_ms\n1767225600,5\nyesterday,5\n1767225602,5\n")


def test_whole_seconds_are_spread_over_their_second_and_told(tmp_path: Path) -> None:
    of = read(tmp_path, "start,duration_ms\n" + "\n".join(f"{AT + i // 100},5" for i in range(1000)))
    assert of.count == 1000 and np.unique(of.starts_s).size == 1000
    assert (np.histogram(of.starts_s + of.starts_s[0], bins=10, range=(0, 10))[0] > 80).all()
    assert any("whole seconds" in r for r in of.repairs)


def test_a_million_requests_in_one_second_are_taken_and_told(tmp_path: Path) -> None:
    of = read(tmp_path, "start,duration_ms\n" + "1.5,5\n" * 1_000_000 + "2.5,5\n3.5,5\n")
    assert of.count == 1_000_002 and of.span_s == 2
    assert any("1,000,000 requests came within one second" in r for r in of.repairs)
    assert any("999,999 of 1,000,002 requests came at the very moment" in r for r in of.repairs)


def test_a_silence_is_told_and_one_of_weeks_refused(tmp_path: Path) -> None:
    of = read(tmp_path, "start,duration_ms\n0,5\n10,5\n5000,5\n5001,5\n")
    assert any("no request came for 4,990 s, from second 10" in r for r in of.repairs)
    with pytest.raises(BadTraffic, match=r"no request for 31 days from 2025-12-01T00:00:00Z, after 1 of 3 requests"):
        read(tmp_path, "start,duration_ms\n2025-12-01T00:00:00Z,5\n2026-01-01T00:00:00Z,5\n2026-01-01T00:00:01Z,5\n")


def test_mixed_units_of_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTraffic, match="'start' mixes units"):
        read(tmp_path, f"start,duration_ms\n{AT},5\n{AT + 1},5\n{AT * 1000},5\n")
    with pytest.raises(BadTraffic, match="'start_ms' says ms by its name, but its numbers"):
        read(tmp_path, f"start_ms,duration_ms\n{AT},5\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("start,duration_ms\n", r"holds no request: it has a header \(start, duration_ms\) and no rows"),
        ("start,start,duration_ms\n1,2,3\n", "more than one column called 'start'"),
        ("duration_ms,code\n1,200\n", "no column says when requests came: there are 'duration_ms', 'code'"),
        ("1767225600,250\n1767225601,250\n", "a header line must name the columns"),
        ("start,duration_ms\n1,2\n3\n", "is no whole table.*was it cut off"),
        ("start\n1767225600\n", "has no durations; give the mean service time"),
        ("start,duration_ms\nsoon,5\n", "'start' holds 'soon'; expected times such as"),
        ("start,duration_ms\n,5\n,6\n", "column 'start' holds no time at all"),
        ("start,duration_ms\n1,quick\n", "'duration_ms' holds 'quick'; expected durations as numbers"),
        ("start,duration_ms\n2026-02-31T00:00:00Z,5\n", "impossible date"),
        ("date,duration_ms\n2026-02-03,5\n", "'date' holds '2026-02-03'; expected times such as"),
    ],
)
def test_what_does_not_say_enough_is_refused_with_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadTraffic, match=said):
        read(tmp_path, text)


def test_of_many_functions_one_can_be_taken_and_all_are_told(tmp_path: Path) -> None:
    text = "start,duration_ms,function\n0,1,resize\n1,2,classify\n2,3,classify\n"
    of = read(tmp_path, text, only="cla")
    assert of.service_s.tolist() == [0.002, 0.003]
    assert any("of 3 requests the 2 of function classify were taken" in r for r in of.repairs)
    assert any("names 2 of them: all were taken together" in r for r in read(tmp_path, text).repairs)
    with pytest.raises(BadTraffic, match=r"'train' is the name of no function.*classify \(2 requests\), resize"):
        read(tmp_path, text, only="train")


def test_recorded_cold_starts_are_taken_off_their_requests(tmp_path: Path) -> None:
    of = read(tmp_path, "start,duration_ms,cold_start_ms\n0,2100,2000\n5,100,0\n9,120,\n")
    assert of.cold_start_s.tolist() == [2.0] and of.service_s == pytest.approx([0.1, 0.1, 0.12])


def test_requests_that_are_flagged_cold_tell_what_a_cold_start_takes(tmp_path: Path) -> None:
    rows = [f"{i},{100},{'false'}" for i in range(100)]
    rows[0], rows[50] = "0,2100,true", "50,1600,true"
    of = read(tmp_path, "start,duration_ms,cold\n" + "\n".join(rows))
    assert of.cold_start_s == pytest.approx([2.0, 1.5])
    assert of.service_s == pytest.approx(np.full(100, 0.1))


def test_slow_requests_after_a_silence_tell_the_cold_start_where_it_is_looked_for(tmp_path: Path) -> None:
    at = [*np.arange(0, 50, 0.5), *np.arange(200, 250, 0.5)]
    text = "start,duration_ms\n" + "\n".join(f"{t},{3100 if t == 200 else 100}" for t in at)
    of = read(tmp_path, text, cold_after_s=60.0)
    assert of.cold_start_s == pytest.approx([3.0]) and of.service_s == pytest.approx(np.full(200, 0.1))
    assert read(tmp_path, text).cold_start_s.size == 0


def test_waiting_in_a_pod_is_told_from_service_where_its_places_are_known(tmp_path: Path) -> None:
    # One place: three come at once and are served one after the other.
    text = "start,duration_ms,pod\n0,100,a\n0.001,199,a\n0.002,298,a\n0,100,b\n"
    of = read(tmp_path, text, container_concurrency=1)
    assert of.service_s == pytest.approx(np.full(4, 0.1))
    assert any("latency is taken as service time" in r for r in read(tmp_path, text).repairs)


def test_given_times_stand_instead_of_the_recorded(tmp_path: Path) -> None:
    text = "start,duration_ms,cold_start_ms\n" + "\n".join(f"{i},100,50" for i in range(2000))
    of = read(tmp_path, text, service_s=0.3, cold_start_s=1.5)
    assert of.service_s.mean() == pytest.approx(0.3, rel=0.1) and of.cold_start_s.tolist() == [1.5]
    assert any("instead of the recorded durations" in r for r in of.repairs)
    assert any("takes the given 1.5 s, instead of the 2,000 recorded" in r for r in of.repairs)


def test_an_hour_that_a_zone_leaves_out_is_told(tmp_path: Path) -> None:
    text = "start,duration_ms\n2026-03-29 01:59:59,5\n2026-03-29 02:30:00,5\n2026-03-29 03:00:01,5\n"
    of = read(tmp_path, text, time_zone="Europe/Berlin")
    assert any("1 of them lie in the hour that Europe/Berlin leaves out" in r for r in of.repairs)
    assert of.starts_s == pytest.approx([0, 1, 2], abs=1e-6)


AZURE_2021 = """app,func,end_timestamp,duration
734272c01926d19690e5ec308bab64ef,313c03f53a0d31f70aec25f62efb33e7,5160.142570018768,0.134
17c37a0fdd5d1932b755c0e6447137bc,c9f8e30e36d1aef62c10b3cfca6e289a,5161.280997037888,0.013
734272c01926d19690e5ec308bab64ef,313c03f53a0d31f70aec25f62efb33e7,5241.567729949951,42.356
"""


def test_the_azure_trace_of_2021_gives_one_function(tmp_path: Path) -> None:
    with pytest.raises(BadTraffic, match=r"holds 2 functions.*734272c0\S+---313c03f5\S+ \(2 requests\)"):
        read(tmp_path, AZURE_2021)
    of = read(tmp_path, AZURE_2021, only="734272c0")
    assert of.service_s.tolist() == [0.134, 42.356] and of.began is None
    assert of.span_s == pytest.approx((5241.567729949951 - 42.356) - (5160.142570018768 - 0.134))


HUAWEI_2025 = """time_worker,time_frontend,requestID,clusterName,funcName,podID,userID,totalCost_worker,workerCost,runtimeCost,totalCost_frontend,frontendCost,busCost,readBodyCost,writeRspCost,cpu_usage,memory_usage,requestBodySize
2600186.994,2600186.995,763ff09a,1,296,pool22-300-128-0000618412,224,0.023749,0.000112,0.023637,0.026421,0.000364,0.001994,0.000016,0.000006,0.291506,32.308594,1018
2600187.994,2600187.995,863ff09a,1,296,pool22-300-128-0000618412,224,0.033749,0.000112,0.023637,0.026421,0.000364,0.001994,0.000016,0.000006,0.291506,32.308594,1018
2600187.999,2600188.995,963ff09a,1,296,pool22-300-128-0000618412,225,0.043749,0.000112,0.023637,0.026421,0.000364,0.001994,0.000016,0.000006,0.291506,32.308594,1018
"""  # noqa: E501


def test_huaweis_request_tables_of_2025_give_one_function(tmp_path: Path) -> None:
    of = read(tmp_path, HUAWEI_2025, only="296---224")
    assert of.service_s.tolist() == [0.023749, 0.033749]
    assert of.span_s == pytest.approx(1 - 0.01) and "Huawei request table of 2025" in of.source
