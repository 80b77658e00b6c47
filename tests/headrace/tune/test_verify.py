"""Recorded decisions made again: agreement, each kind of difference, and files that are no recording."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventing.errors import Misconfigured
from headrace.tune import verify
from knative import autoscaler
from knative.autoscaler import Config, Observation, Scrape

TRACES = Path(__file__).parents[3].parent / "shared" / "kpa" / "traces.jsonl.gz"
GROUP = "autoscaling.knative.dev"

STAT: dict[str, Any] = {"stat": {"t": 0.5, "concurrency": 20, "requests": 5}}
TICK: dict[str, Any] = {
    "tick": {
        "t": 1.9, "ready": 1, "valid": True, "stable": 20, "panic": 20, "desired": 3, "excess_burst_capacity": -221,
    }
}  # fmt: skip
CASE: dict[str, Any] = {
    "name": "one", "annotations": {f"{GROUP}/target": "10"}, "config_autoscaler": {}, "container_concurrency": 0,
    "reachable": True, "derived": {"target_value": 7, "starts_ready": 1}, "events": [STAT, TICK],
}  # fmt: skip


def written(path: Path, *cases: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(case)}\n" for case in cases), encoding="utf-8")
    return path


@pytest.mark.skipif(not TRACES.exists(), reason=f"no recorded decisions at {TRACES}")
def test_every_recorded_decision_and_setting_is_ours_to_the_last_bit() -> None:
    report = verify.verify(TRACES)
    assert (report.cases, report.decisions, report.differ) == (24, 4136, 0)
    assert report.derived == ()


@pytest.mark.skipif(not TRACES.exists(), reason=f"no recorded decisions at {TRACES}")
@pytest.mark.parametrize("field", ["valid", "stable", "panic", "desired", "excess_burst_capacity"])
def test_a_recorded_result_that_is_changed_is_told_once_per_case(tmp_path: Path, field: str) -> None:
    with gzip.open(TRACES, "rt") as lines:
        case = json.loads(next(lines))
    ticks = [event["tick"] for event in case["events"] if "tick" in event]
    for tick in ticks[7:10]:
        tick[field] = not tick[field] if field == "valid" else tick[field] + 1
    report = verify.verify(written(tmp_path / "changed.jsonl", case))
    assert (report.decisions, report.differ) == (len(ticks), 3)
    (first,) = report.first
    assert (first.case, first.number, first.at_s) == (case["name"], 8, ticks[7]["t"])
    assert first.recorded[field] != first.ours.get(field)


def test_what_knative_derived_and_decided_is_compared_and_never_read(tmp_path: Path) -> None:
    """With all of it wrong, or none of it there, our decisions are the same."""
    wrong = {**CASE, "derived": {"target_value": 1, "starts_ready": 99, "stable_window_s": 1, "weighted": True}}
    bare = {key: value for key, value in CASE.items() if key != "derived"}
    report = verify.verify(written(tmp_path / "cases.jsonl", wrong, bare))
    assert (report.decisions, report.differ) == (2, 0)
    (settings_,) = report.derived
    assert settings_.recorded == wrong["derived"]
    assert settings_.ours == {"target_value": 7.0, "starts_ready": 1, "stable_window_s": 60.0, "weighted": False}
    assert not report.agrees


def test_a_number_is_the_same_however_json_writes_it(tmp_path: Path) -> None:
    case = {**CASE, "annotations": {f"{GROUP}/panic-threshold-percentage": "12345678901234567890"}}
    case |= {"derived": {"panic_threshold": 123456789012345660}, "events": []}
    assert verify.verify(written(tmp_path / "large.jsonl", case)).agrees


def test_gzip_is_known_by_what_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "recorded.jsonl"
    path.write_bytes(gzip.compress(json.dumps(CASE).encode()))
    assert verify.verify(path).decisions == 1


def changed(**changes: Any) -> bytes:
    return json.dumps({**CASE, **changes}).encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "an empty file"),
        (b"\n\n", "an empty file"),
        (b'{"a": ', "line 1 is '{\"a\":'; expected one JSON object"),
        (b"[1]", "line 1 is [1]; expected one JSON object"),
        (changed() + b"\n" + changed(events=3), "line 2: events is 3; expected a list"),
        (b'{"annotations": {}}', "line 1: events is 'missing'; expected a list"),
        (changed(annotations={"a": 1}), "annotations[a] is 1; expected a text"),
        (changed(reachable="yes"), "reachable is 'yes'; expected true or false"),
        (changed(container_concurrency=-1), "container_concurrency is -1; expected a whole number, at least 0"),
        (changed(config_autoscaler={"stable-window": "1s"}), "line 1: config_autoscaler is"),
        (changed(annotations={f"{GROUP}/window": "0s"}), "stable and panic windows above 0s"),
        (changed(annotations={f"{GROUP}/window": "1000h"}), "stable and panic windows above 0s"),
        (changed(events=[7]), "events[0] is 7; expected an object"),
        (changed(events=[{"tack": {}}]), "events[0] is ['tack']; expected either stat or tick"),
        (changed(events=[{**STAT, **TICK}]), "expected either stat or tick"),
        (changed(events=[{"stat": {"t": "now"}}]), "events[0]: stat: t is 'now'; expected a number"),
        (changed(events=[{"stat": {"t": 1e300}}]), "expected seconds since the case began"),
        (changed(events=[{"tick": {"t": 1, "ready": -1, "valid": False}}]), "ready is -1; expected a whole number"),
        (changed(events=[{"tick": {"t": 1, "ready": 1, "valid": True}}]), "tick: stable is 'missing'"),
        (gzip.compress(changed())[:-9], "expected JSON lines, plain or gzipped"),
        (b"\x1f\x8bnothing of the kind", "expected JSON lines, plain or gzipped"),
        (b"\xff\xfe\x00", "expected one JSON object"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_with_line_and_field(tmp_path: Path, body: bytes, said: str) -> None:
    path = tmp_path / "recorded.jsonl"
    path.write_bytes(body)
    with pytest.raises(Misconfigured) as refusal:
        verify.verify(path)
    assert said in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(Misconfigured):
            verify.verify(path)


# ---------------------------------------------------------------- what our own autoscaler says

values = st.sampled_from(["0", "1", "2", "5", "0.5", "7", "70", "100", "-1", "10s", "1m", "25s", "x", "Inf", "1e3", ""])
annotation_sets = st.dictionaries(
    st.sampled_from([f"{GROUP}/{key}" for key in (
        "target", "min-scale", "max-scale", "initial-scale", "activation-scale", "scale-down-delay", "window",
        "panic-window-percentage", "panic-threshold-percentage", "target-utilization-percentage",
        "target-burst-capacity",
    )]),
    values,
) | st.just({f"{GROUP}/metric-aggregation-algorithm": "weighted-exponential", f"{GROUP}/metric": "rps"})  # fmt: skip
seconds_ = st.lists(
    st.tuples(st.floats(0, 1e6), st.floats(0, 1), st.integers(0, 50), st.booleans()), min_size=1, max_size=25
)


@settings(max_examples=100, deadline=None)
@given(annotations=annotation_sets, concurrency=st.integers(0, 100), reachable=st.booleans(), seen=seconds_)
def test_what_our_own_autoscaler_decided_is_decided_again(
    tmp_path_factory: pytest.TempPathFactory,
    annotations: dict[str, str],
    concurrency: int,
    reachable: bool,
    seen: list[tuple[float, float, int, bool]],
) -> None:
    spec = autoscaler.resolve(annotations, Config(), concurrency, reachable)
    if spec.stable_window_ns <= 0:
        return
    state = autoscaler.start(spec, seen[0][2], 0.0)
    events: list[dict[str, Any]] = []
    for number, (load, proxied, ready, scraped) in enumerate(seen):
        stat = {
            "t": number * 2 + 1.3, "concurrency": load, "requests": load / 3,
            "proxied_concurrency": load * proxied, "proxied_requests": 0.0,
        }  # fmt: skip
        scrapes = (Scrape(*stat.values()),) if scraped else ()
        state, decision = autoscaler.decide(state, Observation(ready, scrapes), number * 2 + 1.9)
        events += [{"stat": stat}] if scraped else []
        tick = {"t": number * 2 + 1.9, "ready": ready, "valid": decision.valid}
        figures = ("stable", "panic", "desired", "excess_burst_capacity")
        events.append({"tick": {**tick, **{name: getattr(decision, name) for name in figures}}})
    case = {**CASE, "annotations": annotations, "container_concurrency": concurrency, "reachable": reachable}
    path = written(tmp_path_factory.mktemp("own") / "own.jsonl", {**case, "derived": {}, "events": events})
    report = verify.verify(path)
    assert (report.decisions, report.differ) == (len(seen), 0)
