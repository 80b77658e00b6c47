"""Counts per minute and second, in the formats that clouds published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from headrace.tune import readers
from headrace.tune.readers.options import Options
from headrace.tune.traffic import BadTraffic, Traffic

PERCENTILES = "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum," + ",".join(
    f"percentile_Average_{p}" for p in (0, 1, 25, 50, 75, 99, 100)
)


def azure(folder: Path, rows: Mapping[str, Mapping[int, int]], durations: bool = True) -> Path:
    """The published file of a day: a function's hash to its invocations by minute (1 to 1440)."""
    lines = ["HashOwner,HashApp,HashFunction,Trigger," + ",".join(str(m) for m in range(1, 1441))]
    for function, by_minute in rows.items():
        name, _, trigger = function.partition("/")
        lines.append(f"o1,a1,{name},{trigger or 'http'}," + ",".join(str(by_minute.get(m, 0)) for m in range(1, 1441)))
    path = folder / "invocations_per_function_md.anon.d01.csv"
    path.write_text("\n".join(lines) + "\n")
    if durations:
        names = dict.fromkeys(f.partition("/")[0] for f in rows)
        text = PERCENTILES + "\n" + "".join(f"o1,a1,{n},120,9,10,400,10,20,80,100,150,390,400\n" for n in names)
        (folder / "function_durations_percentiles.anon.d01.csv").write_text(text)
    return path


def per_step(of: Traffic, steps: int, step_s: float) -> list[int]:
    return [int(c) for c in np.histogram(of.starts_s, bins=steps, range=(0, steps * step_s))[0]]


def test_azures_day_of_2019_gives_one_functions_minutes_and_its_published_percentiles(tmp_path: Path) -> None:
    path = azure(tmp_path, {"f0a1": {1: 30, 3: 12, 1440: 5}, "c9": {2: 7}})
    of = readers.read(path, Options(only="f0"))
    found = per_step(of, 1440, 60)
    assert (found[0], found[1], found[2], found[1439], of.count) == (30, 0, 12, 5, 47) and of.began is None
    assert of.service_s.min() >= 0.010 and of.service_s.max() <= 0.400
    assert np.median(of.service_s) == pytest.approx(0.1, abs=0.03)
    assert any("published percentiles in function_durations_percentiles.anon.d01.csv" in r for r in of.repairs)
    with pytest.raises(BadTraffic, match=r"holds 2 functions.*f0a1 \(47 requests\), c9 \(7 requests\)"):
        readers.read(path)


def test_a_function_with_several_triggers_is_one_function(tmp_path: Path) -> None:
    of = readers.read(azure(tmp_path, {"f0/http": {1: 3}, "f0/timer": {1: 4}}))
    assert of.count == 7 and any("2 of 2 rows" in r for r in of.repairs)


def test_azures_minutes_without_durations_need_a_service_time(tmp_path: Path) -> None:
    path = azure(tmp_path, {"f0": {1: 3}}, durations=False)
    with pytest.raises(BadTraffic, match="has no durations; give the mean service time"):
        readers.read(path)
    assert readers.read(path, Options(service_s=0.2)).count == 3


def test_azures_durations_alone_are_no_traffic(tmp_path: Path) -> None:
    path = azure(tmp_path, {"f0": {1: 3}}).with_name("function_durations_percentiles.anon.d01.csv")
    with pytest.raises(BadTraffic, match="durations without requests; give the invocations_per_function_md"):
        readers.read(path)


def huawei(path: Path, names: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(",".join(map(str, r)) for r in [("day", "time", *names), *rows]) + "\n")
    return path


def test_huaweis_minutes_of_2023_give_one_functions_requests(tmp_path: Path) -> None:
    names = [str(n) for n in range(5093)]
    rows = [[0, 60 * m, *["" if n % 2 else m + n for n in range(5093)]] for m in range(3)]
    path = huawei(tmp_path / "requests_minute" / "day_00.csv", names, rows)
    of = readers.read(path, Options(only="4", service_s=0.1))
    assert per_step(of, 3, 60) == [4, 5, 6] and of.source == "Huawei trace requests_minute/day_00.csv"
    with pytest.raises(BadTraffic, match=r"holds 5,093 functions.*5092 \("):
        readers.read(path, Options(service_s=0.1))


def test_huaweis_seconds_have_steps_of_a_second_and_their_gaps_are_told(tmp_path: Path) -> None:
    rows = [[7, 604800, 816.0, ""], [7, 604801, 960.0, 3], [7, 604803, "NaN", 4], [7, 604804, 2, 4]]
    path = huawei(tmp_path / "requests_second" / "day_007.csv", ["28", "33"], rows)
    of = readers.read(path, Options(only="28", service_s=0.1))
    assert per_step(of, 5, 1) == [816, 960, 0, 0, 2]
    assert any("in 1 of 4 steps it was not seen" in r for r in of.repairs)
    assert any("1 steps have no row" in r for r in of.repairs)


def test_huaweis_minutes_of_2025_name_functions_by_their_pool(tmp_path: Path) -> None:
    names = ["400---418---pool22-300-128", "1531---418---pool22-300-128"]
    path = huawei(tmp_path / "requests" / "day_00.csv", names, [[0, 0, "1.0", ""], [0, 60, 2, 1]])
    assert readers.read(path, Options(only="400---", service_s=0.1)).count == 3


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[0, 0, 0.25], [0, 60, 0.5]], "holds 0.25; expected whole numbers of requests"),
        ([[0, 60, 1], [0, 0, 1]], "times that do not ascend"),
        ([[0, 0, 1], [0, 60, 1], [0, 90, 1], [0, 140, 1]], "has steps of 30 s and of 50 s"),
        ([[0, 0, 1], [0, 60, -1]], "has -1 requests"),
        ([[0, 0, 1], [0, 60, "x"]], "column '28' holds 'x'; expected numbers"),
        ([[0, 0, 0], [0, 60, 0]], "holds no request"),
    ],
)
def test_what_holds_no_counts_is_refused(tmp_path: Path, rows: Sequence[Sequence[object]], said: str) -> None:
    with pytest.raises(BadTraffic, match=said):
        readers.read(huawei(tmp_path / "x" / "day_00.csv", ["28"], rows), Options(service_s=0.1))
