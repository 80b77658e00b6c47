"""The predictor's metrics: as they are scraped from real processes, in Headrace's names and in others'."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from functions.predictor import other_names
from functions.predictor.settings import Settings
from functions.predictor.statistics import Predictions
from functions.predictor.tallies import MAX_SIZES, Batches
from functions.store import Store
from monitoring import predictions
from tests import documents
from tests.functions import packages
from tests.functions.predictor import predictors
from tests.functions.predictor.grpc_server import doors
from tests.processes import SAMPLES

BIN = Path(sys.executable).parent
PREDICT = "/v1/models/flights:predict"
ROW = [300, 45, "AA"]
ASKED = (1, 1, 3, 8)  # rows of each request that is answered
OTHERS = ",".join(predictions.OTHER_NAMES)
LABELS = {"model": "flights", "version": packages.VERSION}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("store")
    store = Store.open((folder / "store").as_uri())
    store.publish(packages.build_package(folder / "built"))
    return store.url


@pytest.fixture(scope="module")
def scraped(store: str) -> Iterator[str]:
    """What a process shows that has answered ASKED by V1 and one by V2, and refused one; an event of each besides."""
    with predictors.running(store, HEADRACE_METRICS_NAMES=OTHERS, HEADRACE_BATCHING="off") as predictor:
        predictor.until_ready()
        for rows in ASKED:
            assert predictor.ask(PREDICT, {"instances": [ROW] * rows})[0] == 200
        assert predictor.ask(PREDICT, {"instances": [[1]]})[0] == 400
        tensors = [
            {"name": name, "shape": [2, 1], "datatype": datatype, "data": data}
            for name, datatype, data in (
                ("distance", "FP32", [1, 2]), ("delay", "FP32", [1, 2]), ("carrier", "BYTES", ["AA", "DL"]),
            )
        ]  # fmt: skip
        assert predictor.ask("/v2/models/flights/infer", {"inputs": tensors})[0] == 200
        event = {"specversion": "1.0", "id": "1", "source": "/me", "type": "asked"}
        for data, status in (({"instances": [ROW]}, 200), ({"instances": []}, 422)):
            told = predictor.ask("/", event | {"data": data}, {"Content-Type": "application/cloudevents+json"})
            assert told[0] == status
        yield predictor.ask("/metrics")[1]


@pytest.fixture(scope="module")
def families(scraped: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(scraped)}


def _value(family: Metric, sample: str, **labels: str) -> float:
    (found,) = (s.value for s in family.samples if s.name == sample and labels.items() <= s.labels.items())
    return found


def test_rate_errors_and_durations_are_told_by_model_and_protocol(families: dict[str, Metric]) -> None:
    requests, durations = families["headrace_requests"], families["headrace_request_duration_seconds"]
    for protocol, outcome, count in (
        ("v1", "done", 4), ("v1", "rejected", 1), ("v2", "done", 1), ("v2", "failed", 0),
        ("cloudevents", "done", 1), ("cloudevents", "rejected", 1),
    ):  # fmt: skip
        told = {"model": "flights", "protocol": protocol}
        assert _value(requests, "headrace_requests_total", outcome=outcome, **told) == count
    for protocol, count in (("v1", 5), ("v2", 1), ("cloudevents", 2)):
        assert _value(durations, "headrace_request_duration_seconds_count", protocol=protocol) == count


def test_every_histogram_adds_up(families: dict[str, Metric]) -> None:
    found = [family for family in families.values() if family.type == "histogram" and family.samples]
    names = {family.name for family in found}
    assert names >= {
        "headrace_request_duration_seconds", "headrace_queue_duration_seconds", "headrace_inference_duration_seconds",
        "headrace_batch_rows", "request_preprocess_seconds", "request_predict_seconds", "request_postprocess_seconds",
    }  # fmt: skip
    for family in found:
        series: dict[str, dict[str, float]] = {}
        for sample in family.samples:
            labels = dict(sample.labels)
            bound = labels.pop("le", sample.name.removeprefix(family.name))
            series.setdefault(json.dumps(labels, sort_keys=True), {})[bound] = sample.value
        for values in series.values():
            counts = [values[bound] for bound in values if not bound.startswith("_")]
            assert counts == sorted(counts), family.name
            assert values["+Inf"] == values["_count"], family.name
            assert (values["_sum"] > 0) == (values["_count"] > 0) or family.name == "headrace_queue_duration_seconds"


def test_a_batch_is_the_rows_of_one_run(families: dict[str, Metric]) -> None:
    batches = families["headrace_batch_rows"]
    assert _value(batches, "headrace_batch_rows_sum") == sum(ASKED) + 2 + 1
    for bound, count in (("1.0", 3), ("2.0", 4), ("4.0", 5), ("8.0", 6), ("+Inf", 6)):
        assert _value(batches, "headrace_batch_rows_bucket", le=bound) == count


def test_the_start_is_told_by_phase_and_the_model_by_its_version(families: dict[str, Metric]) -> None:
    phases = {sample.labels["phase"] for sample in families["headrace_start_seconds"].samples}
    assert phases >= {"interpreter", "imports", "load", "self_test", "ready", "first_answer"}
    assert _value(families["headrace_model_info"], "headrace_model_info", **LABELS) == 1


def test_tritons_counters_count_as_tritons_do(families: dict[str, Metric]) -> None:
    for name, value in (
        ("nv_inference_request_success", 6), ("nv_inference_request_failure", 2), ("nv_inference_count", 16),
        ("nv_inference_exec_count", 6), ("nv_inference_pending_request_count", 0), ("nv_cache_num_hits_per_model", 0),
    ):  # fmt: skip
        assert _value(families[name], name, **LABELS) == value, name
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    told = {part: _value(families[name], name) for part in parts for name in [f"nv_inference_{part}_duration_us"]}
    whole = _value(families["nv_inference_request_duration_us"], "nv_inference_request_duration_us")
    assert told["compute_infer"] > 0 and told["compute_input"] > 0 and told["compute_output"] > 0
    assert sum(told.values()) <= whole + len(told), "parts of a time are no longer than it, but for rounding"


def test_kserves_histograms_count_each_request(families: dict[str, Metric]) -> None:
    for stage in ("preprocess", "predict", "postprocess"):
        name = f"request_{stage}_seconds"
        assert _value(families[name], f"{name}_count", model_name="flights") == 6, stage
    assert families["request_explain_seconds"].samples == []


def test_nobody_elses_name_is_shown_unless_it_is_asked_for(store: str) -> None:
    with predictors.running(store) as predictor:
        predictor.until_ready()
        shown = {family.name for family in text_string_to_metric_families(predictor.ask("/metrics")[1])}
    assert [name for name in shown if name.startswith(("nv_", "request_"))] == []


def test_the_grpc_door_shows_the_same_names(store: str) -> None:
    with doors.running(store, HEADRACE_METRICS_NAMES="triton") as door:
        door.until_ready()
        door.call("ModelInfer", doors.question())
        shown = {family.name: family for family in text_string_to_metric_families(door.metrics())}
    assert _value(shown["nv_inference_request_success"], "nv_inference_request_success", **LABELS) == 1
    assert _value(shown["headrace_requests"], "headrace_requests_total", protocol="grpc", outcome="done") == 1
    assert "request_predict_seconds" not in shown


def test_promtool_finds_nothing_wrong(scraped: str) -> None:
    promtool = shutil.which("promtool") or shutil.which("promtool", path=BIN)
    if promtool is None:
        pytest.skip("no promtool here: `make promtool` fetches Debian's, where it can")
    done = subprocess.run([promtool, "check", "metrics"], input=scraped, capture_output=True, text=True, check=False)
    # Triton's own names, which promtool would have otherwise.
    told = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("nv_")]
    assert told == []
    ours = "".join(line for line in scraped.splitlines(keepends=True) if "nv_" not in line)
    assert subprocess.run([promtool, "check", "metrics"], input=ours, text=True, check=False).returncode == 0


def test_the_names_that_a_setting_may_hold_are_those_there_are() -> None:
    assert set(predictions.OTHER_NAMES) == set(other_names.SYSTEMS)
    environ = {**SAMPLES, "HEADRACE_METRICS_NAMES": " triton, kserve,triton"}
    assert Settings.from_environment(environ).metrics_names == ("triton", "kserve")


def test_every_name_of_others_stands_in_the_ops_page_and_no_other() -> None:
    numbers = Predictions()
    numbers.names = predictions.OTHER_NAMES
    shown = {family.name for family in numbers.metrics()}
    cells = [row[0].strip("`") for row in documents.cells(documents.HOUSE / "docs" / "ops.md")]
    told = {cell for cell in cells if cell.startswith(("nv_", "request_"))}
    assert told == {name for name in shown if not name.startswith("headrace_")}


def test_runs_that_were_joined_are_batches_of_their_rows(store: str, tmp_path: Path) -> None:
    """Many at once: fewer runs than requests, each told with its rows, and V2's statistics say the same."""
    with predictors.running(store, HEADRACE_BATCHING="on", HEADRACE_METRICS_NAMES="triton") as predictor:
        predictor.until_ready()
        with ThreadPoolExecutor(16) as pool:
            asked = [pool.submit(predictor.ask, PREDICT, {"instances": [ROW] * 3}) for _ in range(300)]
            assert {ask.result()[0] for ask in asked} == {200}
        shown = {family.name: family for family in text_string_to_metric_families(predictor.ask("/metrics")[1])}
        (told,) = predictor.ask("/v2/models/flights/stats")[1]["model_stats"]
    runs = _value(shown["headrace_batch_rows"], "headrace_batch_rows_count")
    assert runs < 300
    assert _value(shown["headrace_batch_rows"], "headrace_batch_rows_sum") == 900
    assert _value(shown["nv_inference_exec_count"], "nv_inference_exec_count") == runs
    assert _value(shown["headrace_requests_waiting"], "headrace_requests_waiting") == 0
    sizes = {batch["batch_size"]: batch["compute_infer"]["count"] for batch in told["batch_stats"]}
    assert sum(sizes.values()) == runs == told["execution_count"]
    assert sum(size * count for size, count in sizes.items()) == told["inference_count"] == 900
    assert all(size % 3 == 0 for size in sizes)
    joined = next(batch for batch in told["batch_stats"] if batch["batch_size"] > 3)
    assert all(joined[part]["ns"] > 0 for part in ("compute_input", "compute_infer", "compute_output"))


def test_sizes_of_runs_that_clients_think_of_are_bounded() -> None:
    batches = Batches()
    batches.count_all((rows, 0.0, 1.0, 0.0) for rows in range(1, 3000))
    assert len(batches.sizes) <= MAX_SIZES + 20
    assert batches.count == 2999
    assert batches.cumulated()[0][-1] == ("+Inf", 2999.0)
