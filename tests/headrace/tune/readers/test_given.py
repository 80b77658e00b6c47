"""Service times and cold starts that come from elsewhere than the recording: histograms, percentiles, other tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from headrace.tune import readers
from headrace.tune.readers import given
from headrace.tune.readers.options import UNTOLD, Options
from headrace.tune.traffic import BadTraffic

PAGE = """# HELP revision_app_request_latencies The response time in millisecond
# TYPE revision_app_request_latencies histogram
revision_app_request_latencies_bucket{revision_name="a-1",le="100"} 50
revision_app_request_latencies_bucket{revision_name="a-1",le="200"} 100
revision_app_request_latencies_bucket{revision_name="a-1",le="+Inf"} 100
revision_app_request_latencies_sum{revision_name="a-1"} 9123.5
revision_app_request_latencies_count{revision_name="a-1"} 100
"""
INSTANT = json.dumps(
    {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [
                {
                    "metric": {"__name__": "http_request_duration_seconds_bucket", "le": le},
                    "value": [1767225600, str(n)],
                }
                for le, n in (("+Inf", 100), ("0.1", 50), ("0.2", 100))
            ],
        },
    }
)
AZURE = (
    "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,percentile_Average_1,"
    "percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,percentile_Average_100\n"
    "o,a,f,100,9,0,200,0,2,50,100,150,198,200\n"
)
HUAWEI = (
    "day,time,clusterName,funcName,userID,requestID,totalCost_cold_start,podAllocationCost,deployCodeCost,"
    "deployDependencyCost,schedulingCost,podID\n"
    + "".join(f"0,{i},1,332,439,5d99,{i / 500},0.0,0.0,0.0,0.0,pool22-300-128-00063\n" for i in range(101))
)


@pytest.mark.parametrize(
    "text", [PAGE, INSTANT, AZURE, HUAWEI, "duration_ms\n" + "\n".join(str(i) for i in range(201))]
)
def test_a_distribution_is_read_from_what_people_have(tmp_path: Path, text: str) -> None:
    path = tmp_path / "times"
    path.write_text(text)
    known = given.read(path, UNTOLD)
    assert known.mean_s == pytest.approx(0.1, abs=0.001)
    drawn = known.draw(20_000, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(0.1, abs=0.002) and drawn.min() >= 0 and drawn.max() <= 0.2 + 1e-9


def test_a_recording_without_durations_takes_its_service_times_and_cold_starts_from_files(tmp_path: Path) -> None:
    (tmp_path / "page").write_text(PAGE)
    (tmp_path / "cold").write_text(HUAWEI)
    (tmp_path / "starts.csv").write_text("start\n" + "\n".join(f"{i}.5" for i in range(5000)))
    options = Options(service_from=tmp_path / "page", cold_start_from=tmp_path / "cold")
    of = readers.read(tmp_path / "starts.csv", options)
    assert of.service_s.mean() == pytest.approx(0.1, abs=0.01) and of.cold_start_s.mean() == pytest.approx(
        0.1, abs=0.01
    )
    assert any("evenly within each of its buckets" in r for r in of.repairs)
    assert any("cold starts are drawn from cold" in r for r in of.repairs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,code\n/,200\n", "no column of durations: there are 'path', 'code'"),
        ("duration_ms\n1\n-2\n", "1 durations in 'duration_ms' that are missing or negative"),
        ('x_bucket{le="0.1"} 0\nx_bucket{le="+Inf"} 0\n', "does not say its unit"),
        ('x_seconds_bucket{le="0.1"} 0\nx_seconds_bucket{le="+Inf"} 0\n', "holds no observation"),
        ('x_seconds_bucket{le="+Inf"} 3\n', "no finite bucket"),
        ('{"data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[0,"1"]}]}}', "none with the label le"),
    ],
)
def test_a_file_without_a_distribution_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "times"
    path.write_text(text)
    with pytest.raises(BadTraffic, match=said):
        given.read(path, UNTOLD)
