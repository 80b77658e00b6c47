"""Where the traffic comes from: one file, several together, the laptop's own gateway, or a shape."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventing.errors import Misconfigured
from headrace.tune import recordings
from headrace.tune.recordings import Wanted
from headrace.tune.together import together
from headrace.tune.traffic import BadTraffic, Traffic


def csv(file: Path, hour: int, seconds: list[float]) -> Path:
    rows = [f"2026-11-25T{hour:02}:00:{second:06.3f}Z,50" for second in seconds]
    file.write_text("\n".join(["timestamp,duration_ms", *rows]))
    return file


def dated(hour: int, starts_s: list[float], service_s: float) -> Traffic:
    began = datetime(2026, 11, 25, hour, tzinfo=UTC)
    return Traffic(np.array(starts_s), np.full(len(starts_s), service_s), began, f"hour {hour}", np.empty(0), ("same",))


def test_files_of_two_hours_are_one_traffic(tmp_path: Path) -> None:
    files = (csv(tmp_path / "b.csv", 11, [5, 6]), csv(tmp_path / "a.csv", 10, [1, 2, 3]))
    read = recordings.traffic(Wanted(files=files))
    assert read.count == 5
    assert np.diff(read.starts_s).tolist() == pytest.approx([1, 1, 3602, 1])
    assert read.service_s.tolist() == pytest.approx([0.05] * 5)


def test_traffic_side_by_side_is_mixed_in_the_order_of_time() -> None:
    both = together([dated(11, [0, 7200], 2.0), dated(10, [3599, 3601], 1.0)])
    assert both.starts_s.tolist() == [3599, 3600, 3601, 10_800]
    assert both.service_s.tolist() == [1, 2, 1, 2]
    assert both.began == datetime(2026, 11, 25, 10, tzinfo=UTC)
    assert both.repairs == ("same",)


def test_what_does_not_say_when_it_began_stands_alone() -> None:
    undated = Traffic(np.zeros(1), np.ones(1), None, "without a date", np.empty(0), ())
    assert together([undated]) is undated
    with pytest.raises(BadTraffic, match="without a date"):
        together([dated(10, [1], 1.0), undated])


def test_the_gateways_journal_is_read_with_its_cold_starts(tmp_path: Path) -> None:
    folder = tmp_path / "requests"
    folder.mkdir()
    base: dict[str, Any] = {"namespace": "headrace", "revision": "flights-00001"}
    asked = [
        {**base, "at_s": 1e9 + n, "duration_s": 0.3, "queued_s": 0.1, "cold": False, "status": 200} for n in range(9)
    ]
    pods = [{**base, "at_s": 1e9, "pod": "p", "cold_start_s": 1.5, "pod_s": None}]
    (folder / "requests-00000001.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    (folder / "pods-00000001.jsonl").write_text("".join(json.dumps(line) + "\n" for line in pods))
    read = recordings.traffic(Wanted(home=tmp_path))
    assert read.count == 9
    assert read.service_s.tolist() == pytest.approx([0.2] * 9)
    assert read.cold_start_s.tolist() == [1.5]


def test_a_home_without_a_journal_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadTraffic, match="no journal"):
        recordings.traffic(Wanted(home=tmp_path))


@pytest.mark.parametrize(
    "wanted", [Wanted(), Wanted(shape="steady", home=Path("x")), Wanted(files=(Path("x"),), shape="s")]
)
def test_none_or_several_sources_are_refused(wanted: Wanted) -> None:
    with pytest.raises(Misconfigured, match="one of"):
        recordings.traffic(wanted)


def test_a_shape_is_drawn_as_it_is_asked_for() -> None:
    drawn = recordings.traffic(Wanted(shape="steady", peak_rps=20, length_s=100, service_s=0.5, seed=4))
    assert drawn.count == pytest.approx(2000, rel=0.1)
    assert drawn.service_s.mean() == pytest.approx(0.5, rel=0.1)
