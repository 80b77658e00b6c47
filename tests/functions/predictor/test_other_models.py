"""Graphs of other shapes than a trainer's: scalars, axes that are nobody's rows, several batches, rows of any size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper
from werkzeug.test import Client

from eventing.errors import Rejected
from functions.model import Model
from functions.predictor import batching
from functions.predictor.grpc_server import open_inference_pb2 as v2
from functions.predictor.outbox import made
from functions.predictor.query import Prediction, Query
from functions.predictor.served import Served
from tests.eventing import sinks
from tests.functions import packages
from tests.functions.predictor import predictors
from tests.functions.predictor.grpc_server import doors

V1, V2 = "/v1/models/flights:predict", "/v2/models/flights/infer"
Shape = list[str | int | None] | None


def graph(
    inputs: dict[str, Shape],
    nodes: dict[str, tuple[str, list[str], dict[str, Any]]],
    *ints: str,
    shapes: dict[str, Shape] | None = None,
) -> bytes:
    """ONNX of float inputs; every node's output is one of the graph's. ints: outputs that are int64; shapes: of outputs
    that tell theirs.
    """
    floats, whole = TensorProto.FLOAT, TensorProto.INT64
    made_of = helper.make_graph(
        [helper.make_node(op, of, [name], **more) for name, (op, of, more) in nodes.items()],
        "other",
        [helper.make_tensor_value_info(name, floats, shape) for name, shape in inputs.items()],
        [
            helper.make_tensor_value_info(name, whole if name in ints else floats, (shapes or {}).get(name))
            for name in nodes
        ],
    )
    model: ModelProto = helper.make_model(made_of, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


SUM = graph({"x": ["n", 2]}, {"y": ("ReduceSum", ["x"], {"keepdims": 0})})
TWICE = graph({"x": []}, {"y": ("Add", ["x", "x"], {})})
MIXED = graph(
    {"x": ["n", 2]},
    {"size": ("Shape", ["x"], {}), "y": ("Add", ["x", "x"], {})},
    "size",
    shapes={"size": [2], "y": ["n", 2]},
)
SIDE = graph({"x": ["n", 2], "weights": [2, 3]}, {"y": ("MatMul", ["x", "weights"], {})})
BATCHES = graph({"one": ["a", 1], "other": ["b", 1], "like": ["b", 1]}, {
    "y": ("Transpose", ["one"], {}), "z": ("Add", ["y", "other"], {}), "w": ("Add", ["z", "like"], {}),
})  # fmt: skip
TOKENS = graph({"x": ["n", "length"]}, {"y": ("ReduceSum", ["x"], {"keepdims": 0})})


def client_of(content: bytes, folder: Path) -> Client:
    (folder / "model.onnx").write_bytes(content)
    return predictors.serving(folder)[0]


def tensor(name: str, shape: list[int], data: list[float]) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": shape, "data": data}


@pytest.mark.parametrize(
    ("content", "request_", "expected"),
    [
        (SUM, {"inputs": [[1, 2], [3, 4]]}, {"outputs": 10.0}),
        (SUM, {"instances": [[0.1, 0]]}, {"predictions": 0.1}),
        (TWICE, {"inputs": 2.5}, {"outputs": 5.0}),
        (TWICE, {"inputs": {"x": 2.5}}, {"outputs": 5.0}),
        (MIXED, {"inputs": [[1, 2]]}, {"outputs": {"size": [1, 2], "y": [[2.0, 4.0]]}}),
        (
            SIDE,
            {"inputs": {"x": [[1, 2]], "weights": [[1, 2, 3], [4, 5, 6]]}},
            {"outputs": [[9.0, 12.0, 15.0]]},
        ),
        (
            BATCHES,
            {"inputs": {"one": [[1]], "other": [[10], [20]], "like": [[100], [200]]}},
            {"outputs": {"y": [[1.0]], "z": [[11.0], [21.0]], "w": [[111.0], [221.0]]}},
        ),
    ],
    ids=["scalar out", "its own digits", "scalar in", "by name", "no rows in common", "fixed beside rows", "batches"],
)
def test_v1_answers_graphs_whose_axes_are_not_all_rows(
    content: bytes, request_: Any, expected: Any, tmp_path: Path
) -> None:
    answer = client_of(content, tmp_path).post(V1, json=request_)
    assert (answer.status_code, answer.json) == (200, expected)


def test_one_number_for_all_rows_is_no_regression(tmp_path: Path) -> None:
    answer = client_of(SUM, tmp_path).post(
        "/v1/models/flights:regress", json={"examples": [{"x": [1, 2]}, {"x": [3, 4]}]}
    )
    assert (answer.status_code, "one number per row" in answer.json["error"]) == (501, True)


def test_an_infinite_scalar_is_a_token_to_whom_wrote_one(tmp_path: Path) -> None:
    answer = client_of(SUM, tmp_path).post(V1, data=b'{"inputs": [[Infinity, 1]]}')
    assert answer.data == b'{"outputs":Infinity}'


def test_v2_takes_inputs_of_several_batches_and_tells_those_of_one_that_differ(tmp_path: Path) -> None:
    client = client_of(BATCHES, tmp_path)
    one, other = tensor("one", [1, 1], [1]), tensor("other", [2, 1], [10, 20])
    answer = client.post(V2, json={"inputs": [one, other, tensor("like", [2, 1], [0, 0])]})
    assert answer.json["outputs"][2]["data"] == [11.0, 21.0]
    uneven = client.post(V2, json={"inputs": [one, other, tensor("like", [3, 1], [0, 0, 0])]})
    assert uneven.status_code == 400
    assert "differ in their number of rows: {'other': 2, 'like': 3}" in uneven.json["error"]


def test_axes_that_tf2onnx_numbers_are_one_batch(tmp_path: Path) -> None:
    content = graph({"x": ["unk__1", 1], "z": ["unk__2", 1]}, {"y": ("Add", ["x", "z"], {})})
    answer = client_of(content, tmp_path).post(V1, json={"inputs": {"x": [[1]], "z": [[1], [2]]}})
    assert (answer.status_code, "differ in their number of rows" in answer.json["error"]) == (400, True)


def test_a_graph_that_does_not_tell_its_shape_takes_any(tmp_path: Path) -> None:
    client = client_of(graph({"x": None}, {"y": ("Add", ["x", "x"], {})}), tmp_path)
    assert client.post(V2, json={"inputs": [tensor("x", [1, 2], [1, 2])]}).json["outputs"][0]["shape"] == [1, 2]
    assert client.post(V1, json={"instances": [[1, 2], [3, 4]]}).json == {"predictions": [[2.0, 4.0], [6.0, 8.0]]}
    ragged = client.post(V1, json={"instances": [[1, 2], [3]]})
    assert (ragged.status_code, "expected a list of 2" in ragged.json["error"]) == (400, True)
    deep = client.post(V1, data=b'{"instances": ' + b"[" * 100 + b"1" + b"]" * 100 + b"}")
    assert deep.status_code == 400


def test_a_shape_that_no_body_can_fill_is_told_as_that(tmp_path: Path) -> None:
    shape = [1, 2**62]
    answer = client_of(TOKENS, tmp_path).post(V2, json={"inputs": [tensor("x", shape, [1])]})
    assert (answer.status_code, f"has 1 values; expected {2**62}" in answer.json["error"]) == (400, True)


def test_a_graph_without_inputs_answers(tmp_path: Path) -> None:
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    client = client_of(graph({}, {"y": ("Constant", [], {"value": one})}), tmp_path)
    assert client.post(V1, json={"inputs": {}}).json == {"outputs": [1.0]}


@pytest.mark.parametrize("content", [SIDE, BATCHES], ids=["fixed beside rows", "batches"])
def test_grpc_takes_them_too(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    shapes = {"x": [1, 2], "weights": [2, 3]} if content is SIDE else {"one": [1, 1], "other": [2, 1], "like": [2, 1]}
    request = v2.ModelInferRequest(model_name=predictors.MODEL)
    for name, shape in shapes.items():
        added = request.inputs.add(name=name, datatype="FP32", shape=shape)
        added.contents.fp32_contents.extend([1.0] * (shape[0] * shape[1]))
    with doors.serving(tmp_path) as (door, _):
        assert door.call("ModelInfer", request).outputs


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (SUM, {"predictions": 2.0}),
        (TWICE, {"predictions": 2.0}),
        (MIXED, {"outputs": {"size": [1, 2], "y": [[2.0, 2.0]]}}),
    ],
    ids=["scalar out", "scalar in", "no rows in common"],
)
def test_a_prediction_without_rows_is_answered_and_told(content: bytes, told: Any) -> None:
    model = Model.from_onnx(content)
    shape = tuple(abs(size) for size in model.signature.inputs[0].shape)
    query = Query({"x": np.ones(shape, np.float32)}, 1)
    offered: list[tuple[Served, Prediction]] = []
    served = Served("flights", packages.VERSION, model, tell=lambda who, what: offered.append((who, what.head(256))))
    served.predict(query, 0.0)
    ((who, head),) = offered
    with sinks.sink() as sink:
        made.Teller(sink.url, "flights")(who, head)
        (event,) = sink.events
    assert event.get_data()["outputs"] == told


def test_an_event_that_asks_in_rows_for_outputs_without_is_final(tmp_path: Path) -> None:
    headers = {f"ce-{k}": v for k, v in {"specversion": "1.0", "id": "1", "source": "/x"}.items()}
    headers["ce-type"] = "dev.headrace.prediction.requested.v1"
    data = {"model": "flights", "inputs": {"instances": [[1, 2]]}}
    answer = client_of(MIXED, tmp_path).post("/", json=data, headers=headers)
    assert (answer.status_code, "ask in columns" in answer.json["error"]) == (422, True)


# ---------------------------------------------------------------- the self-test of such packages


def package_of(content: bytes, folder: Path, *requests: tuple[dict[str, Any], dict[str, Any]]) -> Path:
    package = packages.build_of(content, folder, "flights")
    told = [{"inputs": inputs, "outputs": outputs} for inputs, outputs in requests]
    (package / "sample.json").write_text(json.dumps({"requests": told}))
    return package


@pytest.mark.parametrize(
    ("content", "inputs", "outputs"),
    [
        (TOKENS, {"x": [1, 2, 3]}, {"y": 6.0}),
        (TOKENS, {"x": [[1, 2, 3]]}, {"y": 6.0}),
        (TWICE, {"x": 2}, {"y": 4.0}),
        (SIDE, {"x": [1, 2], "weights": [[1, 2, 3], [4, 5, 6]]}, {"y": [9, 12, 15]}),
        (MIXED, {"x": [1, 2]}, {"size": [1, 2], "y": [2, 4]}),
        (graph({"x": ["n", 2, 2]}, {"y": ("Add", ["x", "x"], {})}), {"x": [[1, 2], [3, 4]]}, {"y": [2, 4, 6, 8]}),
        (graph({"x": ["n", 2, 2]}, {"y": ("Add", ["x", "x"], {})}), {"x": [1, 2, 3, 4]}, {"y": [[2, 4], [6, 8]]}),
    ],
    ids=["any length", "with its batch", "scalar", "fixed", "no rows", "nested", "flat"],
)
def test_a_sample_of_any_shape_proves_its_package(
    content: bytes, inputs: dict[str, Any], outputs: dict[str, Any], tmp_path: Path
) -> None:
    package = package_of(content, tmp_path, (inputs, outputs))
    Model.load(package).self_test()
    wrong = {**outputs, "y": (np.asarray(outputs["y"]) + 1).tolist()}
    with pytest.raises(Rejected, match="self-test: request 0 gives y"):
        Model.load(package_of(content, tmp_path / "wrong", (inputs, wrong))).self_test()


@pytest.mark.parametrize(
    ("content", "requests"),
    [
        (TOKENS, [({"x": [1, 2]}, {"y": 3}), ({"x": [[1, 2, 3]]}, {"y": 6})]),
        (TWICE, [({"x": 2}, {"y": 4})]),
        (SIDE, [({"x": [1, 2], "weights": [[1, 2, 3], [4, 5, 6]]}, {"y": [9, 12, 15]})]),
        (graph({"x": ["n", "k", 2]}, {"y": ("Add", ["x", "x"], {})}), [({"x": [[1, 2], [3, 4]]}, {"y": [2, 4, 6, 8]})]),
        (MIXED, []),
    ],
    ids=["any length", "scalar", "fixed", "open and fixed", "no rows in common"],
)
def test_the_examples_of_its_document_work_as_they_stand(
    content: bytes, requests: list[tuple[dict[str, Any], dict[str, Any]]], tmp_path: Path
) -> None:
    client, _ = predictors.serving(package_of(content, tmp_path, *requests))
    asked = 0
    for path, operations in client.get("/openapi.json").json["paths"].items():
        body = operations.get("post", {}).get("requestBody", {"content": {}})
        for content_type, media in body["content"].items():
            for example in media["examples"].values():
                answer = client.post(path, json=example["value"], content_type=content_type)
                assert answer.status_code == 200, (path, example, answer.data)
                asked += 1
    assert asked >= 3


def test_samples_of_different_lengths_do_not_keep_a_model_from_starting(tmp_path: Path) -> None:
    package = package_of(TOKENS, tmp_path, ({"x": [1, 2]}, {"y": 3}), ({"x": [1, 2, 3]}, {"y": 6}))
    assert not batching.decide(Model.load(package), "on").on


def test_inputs_of_several_batches_are_never_joined(tmp_path: Path) -> None:
    content = graph({"one": ["a", 1], "other": ["b", 1]}, {
        "y": ("Add", ["one", "one"], {}), "z": ("Add", ["other", "other"], {}),
    })  # fmt: skip
    samples = [({"one": i, "other": i}, {"y": 2 * i, "z": 2 * i}) for i in range(3)]
    decision = batching.decide(Model.load(package_of(content, tmp_path, *samples)), "on")
    assert (decision.on, decision.reason) == (False, "inputs have rows of their own: one, other")
