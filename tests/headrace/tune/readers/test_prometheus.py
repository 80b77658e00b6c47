"""Ranges of rates and counters, as Prometheus's API and promtool write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from headrace.tune import readers
from headrace.tune.readers.options import Options
from headrace.tune.traffic import BadTraffic, Traffic

AT = 1_767_225_600
STEP_S = 60


def matrix(*series: tuple[Mapping[str, str], Sequence[object]], step_s: float = STEP_S) -> str:
    """The answer of /api/v1/query_range; None in the values leaves a sample out."""
    result = [
        {"metric": labels, "values": [[AT + i * step_s, str(v)] for i, v in enumerate(values) if v is not None]}
        for labels, values in series
    ]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}})


def read(tmp_path: Path, text: str, **options: object) -> Traffic:
    path = tmp_path / "rates.json"
    path.write_text(text)
    return readers.read(path, Options(**{"service_s": 0.1, **options}))  # type: ignore[arg-type]


def counts(of: Traffic, steps: int, step_s: float = STEP_S) -> list[int]:
    return [int(c) for c in np.histogram(of.starts_s, bins=steps, range=(0, steps * step_s))[0]]


def test_arrivals_are_drawn_from_rates_and_every_series_counts(tmp_path: Path) -> None:
    of = read(tmp_path, matrix(({"revision_name": "a-1"}, [10, 0, 40]), ({"revision_name": "a-2"}, [10, 0, 10])))
    found = counts(of, 3)
    assert found[1] == 0
    assert abs(found[0] - 1200) < 5 * np.sqrt(1200) and abs(found[2] - 3000) < 5 * np.sqrt(3000)
    # A rate holds for the step before its sample.
    assert of.began == datetime(2025, 12, 31, 23, 59, tzinfo=UTC)
    assert any("Poisson process within each step of 60 s" in r for r in of.repairs)
    assert any("2 series were summed" in r for r in of.repairs)


def test_the_seed_decides_what_is_drawn(tmp_path: Path) -> None:
    text = matrix(({}, [3, 4, 5]))
    one, same, other = (read(tmp_path, text, seed=seed).starts_s for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_one_series_is_taken_by_any_of_its_labels(tmp_path: Path) -> None:
    text = matrix(({"revision_name": "a-1", "job": "x"}, [10, 10]), ({"revision_name": "b-1", "job": "x"}, [1, 1]))
    of = read(tmp_path, text, only="b-1")
    assert of.count < 200 and any("of 2 series the 1 of b-1 were taken" in r for r in of.repairs)
    with pytest.raises(BadTraffic, match="'c-1' is the name of no series"):
        read(tmp_path, text, only="c-1")


def test_what_has_no_sample_is_no_request_and_told(tmp_path: Path) -> None:
    of = read(tmp_path, matrix(({"a": "1"}, [10, None, "NaN", 10]), ({"a": "2"}, [10, None, 5, 10])))
    assert counts(of, 4)[1] == 0
    assert any("1 of 4 steps have no sample in any series" in r for r in of.repairs)
    assert any("1 samples are missing in some" in r for r in of.repairs)


def test_a_counter_without_rate_is_counted_exactly_over_its_resets(tmp_path: Path) -> None:
    of = read(tmp_path, matrix(({"__name__": "revision_request_count"}, [100, 130, 20, 20, 21])))
    assert counts(of, 4) == [30, 20, 0, 1]
    assert of.began == datetime(2026, 1, 1, tzinfo=UTC)
    assert any("counters began anew 1 times" in r for r in of.repairs)


def test_a_counter_that_begins_within_the_range_was_a_new_pods(tmp_path: Path) -> None:
    labels = {"__name__": "http_requests_total"}
    of = read(tmp_path, matrix(({**labels, "pod": "a"}, [5, 6, 7, 8]), ({**labels, "pod": "b"}, [None, None, 9, 12])))
    assert counts(of, 3) == [1, 1 + 9, 1 + 3]
    assert any("1 series begin within the range" in r for r in of.repairs)


def test_a_counters_rise_over_a_gap_is_spread_over_it(tmp_path: Path) -> None:
    of = read(tmp_path, matrix(({"__name__": "http_requests_total"}, [0, None, None, 30, 31])))
    assert counts(of, 4) == [10, 10, 10, 1]


def test_buckets_beside_the_rates_give_the_service_times(tmp_path: Path) -> None:
    buckets = [({"le": le}, [rate, rate]) for le, rate in (("0.1", 5), ("0.2", 10), ("+Inf", 10))]
    of = read(tmp_path, matrix(({}, [10, 10]), *buckets), service_s=None, duration_unit="s")
    assert of.service_s.max() <= 0.2 and (of.service_s < 0.1).mean() == pytest.approx(0.5, abs=0.07)
    with pytest.raises(BadTraffic, match="does not say its unit, s or ms"):
        read(tmp_path, matrix(({}, [10, 10]), *buckets), service_s=None)


def test_buckets_alone_count_requests_too(tmp_path: Path) -> None:
    name = {"__name__": "revision_app_request_latencies_bucket"}
    buckets = [({**name, "le": le}, [0, n]) for le, n in (("50", 0), ("100", 60), ("250", 80), ("+Inf", 100))]
    of = read(tmp_path, matrix(*buckets), service_s=None)
    assert of.count == 100 and of.service_s.min() >= 0.05 and of.service_s.max() == 0.25
    assert any("20.00% of them are longer than its last bound" in r for r in of.repairs)


PROMTOOL = """{revision_name="a-1"} =>
10 @[1767225600]
20 @[1767225660]
{revision_name="a-2"} =>
1.5 @[1767225600]
NaN @[1767225660]
"""


def test_what_promtool_prints_is_read_alike(tmp_path: Path) -> None:
    of = read(tmp_path, PROMTOOL, only="a-1")
    assert of.began == datetime(2025, 12, 31, 23, 59, tzinfo=UTC)
    assert abs(counts(of, 2)[1] - 1200) < 5 * np.sqrt(1200)
    of = read(tmp_path, 'http_requests_total{pod="a"} =>\n3 @[1767225600.5]\n7 @[1767225660.5]\n')
    assert of.count == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (matrix(), "the query found nothing"),
        (matrix(({}, [1])), r"1 time\(s\) in its samples; expected a range"),
        (matrix(({}, [1, -1])), "has -60 requests; expected 0 or more"),
        (matrix(({}, [1, "+Inf"])), "has inf requests"),
        (matrix(({"quantile": "0.5"}, [1, 2])), "holds quantiles"),
        (matrix(({}, [0, 0])), "holds no request"),
        (matrix(({}, [1e9, 1e9])), "expected at most 200,000,000"),
        (matrix(({}, ["x", 1])), "'x' where a number is expected"),
        (matrix(({}, [1, 2]))[:-20], "begins like JSON and is not"),
        (matrix(({"__name__": "a_total"}, [1, 2]), ({}, [1, 2])), "mixes counters and rates"),
        (
            '{"status":"error","errorType":"bad_data","error":"unknown function","metric":{}}',
            "refusal: unknown function",
        ),
        ('{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}', "resultType of 'scalar'"),
        ('{"data":{"resultType":"matrix","result":[{"metric":{},"histograms":[]}]}}', "native histogram"),
        (
            '{"data":{"resultType":"matrix","result":[{"metric":{},"values":[[0,"1"],[60,"1"],[75.5,"1"]]}]}}',
            "do not lie 15.5 s apart",
        ),
        (PROMTOOL + "and so on\n", "holds 'and so on' between its samples"),
    ],
)
def test_what_is_no_range_of_rates_is_refused_with_a_reason(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadTraffic, match=said):
        read(tmp_path, text)
