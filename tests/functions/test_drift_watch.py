"""One drift makes one event, whatever is delivered twice, killed or promoted in between."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.v1.event import CloudEvent

from eventing import binding, contract, sender
from eventing.errors import Misconfigured, Rejected, RetryLater
from functions import drift_watch
from functions.store import Serving, Store
from tests.eventing import serving

V1, V2 = "v20130201-000000-aaaaaa", "v20130301-000000-bbbbbb"
EDGES = [float(i) for i in range(1, 10)]
ENVIRON = {
    "HEADRACE_DRIFT_WINDOW_ROWS": "200",
    "HEADRACE_DRIFT_MIN_ROWS": "100",
    "HEADRACE_DRIFT_COOL_DOWN_S": "1000",
}


def manifest(version: str, edges: Sequence[float] = EDGES, columns: Sequence[str] = ("delay",)) -> dict[str, Any]:
    """A package's model.json, as far as the drift watch reads it, and whole, for the store refuses another."""
    tensor = {"name": "delay", "datatype": "FP32", "onnx_type": "tensor(float)", "shape": [-1, 1]}
    label = {"name": "label", "datatype": "INT64", "onnx_type": "tensor(int64)", "shape": [-1]}
    numeric = {"kind": "numeric", "edges": list(edges), "shares": [1 / (len(edges) + 1)] * (len(edges) + 1)}
    return {
        "name": "flights",
        "version": version,
        "trainer": "neural_net",
        "signature": {"inputs": [tensor], "outputs": [label], "classes": [0, 1]},
        "opset": 20,
        "producer": "tests",
        "libraries": {},
        "dataset": {"uri": "file:///jan.csv", "sha256": "a" * 64, "rows": 10_000},
        "parameters": {},
        "seed": 42,
        "scores": {},
        "parity": {"rows": 1, "largest_difference": 0.0, "label_flips": 0, "tolerance": 1e-5},
        "baseline": {"rows": 10_000, "features": dict.fromkeys(columns, numeric), "outputs": {}},
        "parent": None,
        "created": "2013-02-01T00:00:00+00:00",
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(tmp_path.as_uri())
    publish(store, V1)
    return store


def publish(store: Store, version: str, edges: Sequence[float] = EDGES, columns: Sequence[str] = ("delay",)) -> None:
    """The version, promoted."""
    store.write_json(f"models/flights/{version}/model.json", manifest(version, edges, columns))
    store.write_json(f"models/flights/{version}.json", {"sha256": "b" * 64, "at": "2013-02-01T00:00:00+00:00"})
    store.set_serving("flights", Serving(version, None, "2013-02-01T00:00:00+00:00", "tests"))


class Clock:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def watch(store: Store, clock: Clock | None = None, **environ: str) -> drift_watch.DriftWatch:
    its = drift_watch.Settings.from_environment({"HEADRACE_STORE": store.url, **ENVIRON, **environ})
    return drift_watch.DriftWatch(store, its, clock or Clock())


def made(id: str, delays: Sequence[float], version: str = V1, model: str = "flights") -> CloudEvent:
    data = contract.PredictionMade(
        model=model, version=version, outputs=[], latency_ms=1.0, features={"delay": tuple(delays)}
    )
    return sender.stamp(data, "/headrace/functions/predictor", id=id)


USUAL = [i / 10 + 0.05 for i in range(100)]
LATE = [8 + i / 50 for i in range(100)]


def test_usual_rows_tell_nothing(store: Store) -> None:
    assert watch(store).handle(made("1", USUAL)) is None


def test_a_drift_is_the_reply_with_its_trainer_and_its_cause(store: Store) -> None:
    reply = watch(store).handle(made("1", LATE))
    assert reply is not None
    data = contract.DriftDetected.from_event(reply)
    assert (data.model, data.feature, data.statistic, data.window, data.version) == ("flights", "delay", "psi", 100, V1)
    assert data.value > data.threshold
    assert reply.get_extension("trainer") == data.trainer == "neural_net"
    assert reply.get_extension("causationid") == "1"


def test_a_drift_of_more_columns_than_an_event_can_carry_is_told(store: Store) -> None:
    columns = [str(i) for i in range(3900)]  # of which a prediction of one row still tells all
    publish(store, V2, columns=columns)
    data = {"model": "flights", "version": V2, "outputs": [], "latency_ms": 1.0}
    features = dict.fromkeys(columns, LATE)
    reply = watch(store).handle(CloudEvent(dict(made("1", LATE).get_attributes()), {**data, "features": features}))
    assert reply is not None
    told = contract.DriftDetected.from_event(reply)
    assert told.others is not None and len(told.others) == drift_watch.OTHERS_TOLD


def test_one_drift_makes_one_event(store: Store) -> None:
    its = watch(store)
    replies = [its.handle(made(str(i), LATE)) for i in range(20)]
    assert [r is not None for r in replies] == [True] + [False] * 19


def test_a_redelivered_event_counts_once_and_gets_the_same_answer(store: Store) -> None:
    its = watch(store)
    for _ in range(5):
        assert its.handle(made("1", LATE[:60])) is None
    told = its.handle(made("2", LATE[60:]))
    assert told is not None
    for again in (its, watch(store)):
        reply = again.handle(made("2", LATE[60:]))
        assert reply is not None
        assert binding.to_json(reply) == binding.to_json(told)


def test_a_new_process_goes_on_where_the_last_one_was(store: Store) -> None:
    assert watch(store).handle(made("1", LATE[:60])) is None
    assert watch(store).handle(made("2", LATE[60:])) is not None
    assert watch(store).handle(made("3", LATE)) is None


def test_a_new_champion_begins_with_an_empty_window_and_its_own_baseline(store: Store) -> None:
    clock = Clock()
    its = watch(store, clock)
    assert its.handle(made("1", LATE)) is not None
    publish(store, V2, [8 + i / 5 for i in range(1, 10)])
    clock.now_s += drift_watch.SERVING_KNOWN_S
    assert its.handle(made("2", LATE, V2)) is None
    kept = store.read_json("drift/flights.json")
    assert kept is not None and (kept["version"], len(kept["rows"]), kept["drifting"]) == (V2, 100, False)
    assert its.handle(made("3", USUAL * 2, V2)) is None, "the cool-down outlives the version"
    clock.now_s += 1000
    assert its.handle(made("4", USUAL, V2)) is not None


def test_answers_of_a_canary_are_not_counted(store: Store) -> None:
    assert watch(store).handle(made("1", LATE, V2)) is None
    assert store.read_json("drift/flights.json") is None


def test_a_state_that_cannot_be_kept_is_no_answer_and_counts_nothing(store: Store, tmp_path: Path) -> None:
    its = watch(store)
    (tmp_path / "drift").write_text("in the way")
    with pytest.raises(RetryLater):
        its.handle(made("1", LATE))
    (tmp_path / "drift").unlink()
    assert its.handle(made("1", LATE)) is not None


def test_events_that_come_at_once_share_their_writes_and_all_count(store: Store) -> None:
    its = watch(store)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: its.handle(made(str(i), USUAL[i : i + 1])), range(100)))
    kept = store.read_json("drift/flights.json")
    assert kept is not None and (len(kept["rows"]), len(kept["seen"])) == (100, 100)


@pytest.mark.parametrize("model", ["../flights", "a/b", "Flights"])
def test_a_model_name_that_is_no_name_is_rejected(store: Store, model: str) -> None:
    with pytest.raises(Rejected):
        watch(store).handle(made("1", LATE, model=model))


def test_a_broken_event_is_rejected_alone(store: Store) -> None:
    its = watch(store)
    data = {"model": "flights", "version": V1, "outputs": [], "latency_ms": 1.0}
    ragged = made("1", LATE)
    broken = CloudEvent(
        dict(ragged.get_attributes()), {**data, "features": {"delay": [1]}, "answers": {"label": [1, 0]}}
    )
    with pytest.raises(Rejected, match="1, 2 rows"):
        its.handle(broken)
    assert its.handle(made("2", LATE)) is not None


def test_an_unknown_package_is_asked_for_again_later(store: Store) -> None:
    with pytest.raises(RetryLater, match="not in the store"):
        watch(store).handle(made("1", LATE, model="unknown"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("MIN_ROWS", "201"), ("THRESHOLD", "0"), ("CLEAR", "0.3"), ("WINDOW_ROWS", "many"), ("COOL_DOWN_S", "-1")],
)
def test_a_setting_that_cannot_work_is_refused_with_its_key(store: Store, key: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"HEADRACE_DRIFT_{key}"):
        watch(store, None, **{f"HEADRACE_DRIFT_{key}": value})


def test_an_acknowledged_event_survives_a_kill(store: Store, tmp_path: Path) -> None:
    environ = {**ENVIRON, "HEADRACE_STORE": store.url, "PATH": os.environ["PATH"]}

    def post(url: str, event: CloudEvent) -> tuple[int, dict[str, str], bytes]:
        message = binding.to_structured(event)
        return serving.post(url, {"Content-Type": message.headers["content-type"]}, message.body)

    with serving.process("functions.drift_watch", environ) as (child, url):
        assert post(url, made("1", LATE[:60]))[0] == 204
        child.kill()
        child.wait()
    with serving.process("functions.drift_watch", environ) as (child, url):
        status, headers, body = post(url, made("2", LATE[60:]))
        assert (status, headers["content-type"]) == (200, binding.STRUCTURED)
        child.kill()
        child.wait()
    with serving.process("functions.drift_watch", environ) as (_, url):
        assert post(url, made("1", LATE[:60]))[0] == 204
        again = post(url, made("2", LATE[60:]))
        assert (again[0], json.loads(again[2])) == (200, json.loads(body))
        assert post(url, made("3", LATE))[0] == 204
