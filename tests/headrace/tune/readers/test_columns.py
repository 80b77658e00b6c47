"""Names of columns, as people spell them."""

from __future__ import annotations

import pytest

from headrace.tune.readers import columns
from headrace.tune.readers.columns import Column
from headrace.tune.traffic import BadTraffic


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("start", None),
        ("startTime", None),
        ("Start Time", None),
        ("START_TIME_MS", "ms"),
        ("timestamp (ns)", "ns"),
        ("epoch_ms", "ms"),
        ("time_in_seconds", "s"),
        ("@timestamp", None),
        ("request.start.us", "us"),
        ("arrivalTimeMillis", "ms"),
    ],
)
def test_a_start_is_recognised_with_its_unit(name: str, unit: str | None) -> None:
    assert columns.recognise(["id", name, "path"]).start == Column(name, unit)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("duration", None),
        ("durationMs", "ms"),
        ("request_time", None),
        ("Latency (µs)", "us"),
        ("elapsed-seconds", "s"),
    ],
)
def test_a_latency_is_recognised_with_its_unit(name: str, unit: str | None) -> None:
    assert columns.recognise(["ts", name]).latency == Column(name, unit)


def test_what_a_pod_spent_goes_beside_what_a_caller_saw() -> None:
    found = columns.recognise(["ts", "latency_ms", "service_time_ms", "podName", "is_cold", "revision"])
    assert found.service == Column("service_time_ms", "ms") and found.latency == Column("latency_ms", "ms")
    assert (found.pod, found.cold, found.which) == (
        Column("podName", None),
        Column("is_cold", None),
        Column("revision", None),
    )


def test_a_table_without_times_is_refused_with_its_names() -> None:
    with pytest.raises(BadTraffic, match=r"there are 'c0', .* and 4 more; expected one called start"):
        columns.recognise([f"c{i}" for i in range(12)])
