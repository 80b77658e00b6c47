"""functions.predictor.protocols.triton: the repository, the statistics and the configuration, as Triton tells them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from functions.store import Store
from tests.functions import packages
from tests.functions.predictor import predictors

INFER = "/v2/models/flights/infer"
INDEX, LOAD, UNLOAD = (
    "/v2/repository/index",
    "/v2/repository/models/flights/load",
    "/v2/repository/models/flights/unload",
)
OLD, NEW = packages.VERSION, packages.OTHER_VERSION
ROW = {
    "inputs": [
        {"name": name, "shape": [3, 1], "datatype": datatype, "data": data}
        for name, datatype, data in (
            ("distance", "FP32", [1.0, 2.0, 3.0]),
            ("delay", "FP32", [1.0, 2.0, 3.0]),
            ("carrier", "BYTES", ["AA", "DL", "UA"]),
        )
    ]
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with two versions, of which no process serves the second from its start."""
    folder = tmp_path_factory.mktemp("store")
    store = Store.open((folder / "store").as_uri())
    for version, seed in ((OLD, 42), (NEW, 7)):
        store.publish(packages.build_package(folder / "built", version=version, seed=seed))
    return store.url


@pytest.fixture
def predictor(store: str) -> Iterator[predictors.Predictor]:
    with predictors.running(store, HEADRACE_MODEL_CONTROL="on") as running:
        running.until_ready()
        yield running


def _state(version: str, state: str = "READY", reason: str = "") -> dict[str, str]:
    return {"name": "flights", "version": version, "state": state, "reason": reason}


def test_the_index_has_what_answers_and_what_could(predictor: predictors.Predictor) -> None:
    everything = [_state(OLD), _state(NEW, "UNAVAILABLE", "not loaded")]
    for body in (b"", b" ", {}, {"ready": False}):
        assert predictor.ask(INDEX, body) == (200, everything)
    assert predictor.ask(INDEX, {"ready": True}) == (200, [_state(OLD)])
    status, body = predictor.ask(INDEX, {"ready": "yes"})
    assert (status, body) == (400, {"error": "'ready' is 'yes'; expected true or false"})


def test_a_version_is_loaded_beside_the_other_and_unloaded(predictor: predictors.Predictor) -> None:
    wish = {"parameters": {"version": NEW}}
    assert predictor.ask(LOAD, wish) == (200, {"name": "flights", "version": NEW, "load": True})
    assert predictor.ask(INDEX, {"ready": True}) == (200, [_state(OLD), _state(NEW)])
    assert predictor.ask(INFER, ROW)[1]["model_version"] == NEW
    assert predictor.ask("/v2/models/flights")[1]["versions"] == [OLD, NEW]
    assert predictor.ask(UNLOAD, wish) == (200, {"name": "flights", "unload": True})
    assert predictor.ask(INFER, ROW)[1]["model_version"] == OLD
    assert predictor.ask(f"/v2/models/flights/versions/{NEW}/infer", ROW)[0] == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        (LOAD, {"parameters": {"version": "v0"}}, 404, "v0"),
        (LOAD, {"parameters": {"version": ""}}, 400, "the parameter 'version' is ''"),
        (LOAD, {"parameters": {"version": [OLD]}}, 400, "the parameter 'version' is a list of 1"),
        (LOAD, {"parameters": 5}, 400, "'parameters' is 5; expected an object"),
        (LOAD, b"[]", 400, "expected an object"),
        (LOAD, b"{", 400, "not JSON"),
        (LOAD, {"parameters": {"config": "{}"}}, 501, "'config' is not supported"),
        (LOAD, {"parameters": {"file:1/model.onnx": "QUE="}}, 501, "'file:1/model.onnx' is not supported"),
        (UNLOAD, {"parameters": {"version": "v0"}}, 404, "v0"),
        (UNLOAD.replace("flights", "nobody"), b"", 404, "nobody"),
        (LOAD.replace("flights", "nobody"), b"", 404, "nobody"),
    ],
    ids=str,
)
def test_a_wish_that_cannot_be_granted_says_why_and_changes_nothing(
    asked: predictors.Predictor, path: str, body: Any, status: int, said: str
) -> None:
    seen, answer = asked.ask(path, body)
    assert seen == status
    assert said in answer["error"]
    assert asked.ask(INDEX, {"ready": True}) == (200, [_state(OLD)])


@pytest.fixture(scope="module")
def asked(store: str) -> Iterator[predictors.Predictor]:
    """A process of which the tests only ask."""
    with predictors.running(store, HEADRACE_MODEL_CONTROL="on") as running:
        running.until_ready()
        yield running


def test_what_triton_knows_of_an_unload_is_borne(predictor: predictors.Predictor) -> None:
    assert predictor.ask(UNLOAD, {"parameters": {"unload_dependents": True}})[0] == 200
    assert predictor.ask("/v2/models/flights/stats") == (200, {"model_stats": []})
    assert predictor.ask("/v2/models/flights/ready")[0] in (404, 503)
    assert predictor.ask("/v2/health/ready")[0] == 200


def _counted(predictor: predictors.Predictor) -> dict[str, int]:
    """The counts of the old version, flat."""
    status, body = predictor.ask(f"/v2/models/flights/versions/{OLD}/stats")
    assert (status, len(body["model_stats"])) == (200, 1)
    (told,) = body["model_stats"]
    assert (told["name"], told["version"]) == ("flights", OLD)
    counts = {name: told[name] for name in ("inference_count", "execution_count", "last_inference")}
    for name, times in told["inference_stats"].items():
        counts |= {name: times["count"], f"{name}_ns": times["ns"]}
    return counts


def test_the_statistics_count_rows_executions_and_failures_of_each_version(predictor: predictors.Predictor) -> None:
    # The first requests after a start may find the table of paths not made yet, and are not counted as requests.
    predictors.until(lambda: predictor.ask(INFER, ROW)[0] == 200 and _counted(predictor)["success"])
    before = _counted(predictor)
    for _ in range(2):
        assert predictor.ask(INFER, ROW)[0] == 200
    assert predictor.ask(INFER, {"inputs": []})[0] == 400
    after = _counted(predictor)
    more = {name: after[name] - before[name] for name in after}
    assert (more["inference_count"], more["execution_count"]) == (6, 2)
    assert (more["success"], more["fail"], more["compute_infer"], more["cache_hit"]) == (2, 1, 2, 0)
    assert more["success_ns"] > more["compute_infer_ns"] > 0
    assert after["last_inference"] > 0
    (batch,) = predictor.ask("/v2/models/flights/stats")[1]["model_stats"][0]["batch_stats"]
    assert batch["batch_size"] == 3
    infer = batch["compute_infer"]
    assert (infer["count"], infer["ns"]) == (after["execution_count"], after["compute_infer_ns"])
    assert predictor.ask(LOAD, {"parameters": {"version": NEW}})[0] == 200
    for path in ("/v2/models/stats", "/v2/models/flights/stats"):
        told = predictor.ask(path)[1]["model_stats"]
        assert [(t["version"], t["inference_count"]) for t in told] == [(OLD, after["inference_count"]), (NEW, 0)]
    assert predictor.ask("/v2/models/nobody/stats")[0] == 404
    assert predictor.ask("/v2/models/flights/versions/v0/stats")[0] == 404


def test_the_configuration_says_names_types_and_shapes_in_tritons_words(tmp_path: Path) -> None:
    client, _ = predictors.serving(packages.build_package(tmp_path))
    body = client.get("/v2/models/flights/config").json
    assert (body["name"], body["platform"], body["max_batch_size"]) == ("flights", "onnxruntime_onnx", 0)
    assert body["input"][0] == {"name": "distance", "data_type": "TYPE_FP32", "dims": [-1, 1]}
    assert body["input"][2]["data_type"] == "TYPE_STRING"
    assert [output["data_type"] for output in body["output"]] == ["TYPE_INT64", "TYPE_FP32"]
    assert client.get(f"/v2/models/flights/versions/{OLD}/config").json == body
    assert client.get("/v2/models/nobody/config").status_code == 404


def test_a_server_that_may_not_change_its_models_says_so(tmp_path: Path) -> None:
    client, _ = predictors.serving(packages.build_package(tmp_path))
    for path in (LOAD, UNLOAD):
        response = client.post(path)
        assert (response.status_code, "no repository" in response.json["error"]) == (501, True)
