"""functions.predictor.protocols.v2: every datatype, as JSON and as raw bytes, there and back through a model.

The model gives each of its inputs back as it came: one of every datatype, of shape [-1, 2].
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from werkzeug.test import Client, TestResponse

from functions import tensors
from functions.predictor.wire import binary
from tests.functions import packages
from tests.functions.predictor import predictors

INFER = "/v2/models/flights/infer"
ROWS: dict[str, list[Any]] = {
    "BOOL": [[True, False], [False, True]],
    "UINT8": [[0, 255], [1, 2]],
    "UINT16": [[0, 2**16 - 1], [1, 2]],
    "UINT32": [[0, 2**32 - 1], [1, 2]],
    "UINT64": [[0, 2**64 - 1], [1, 2]],
    "INT8": [[-128, 127], [1, 2]],
    "INT16": [[-(2**15), 2**15 - 1], [1, 2]],
    "INT32": [[-(2**31), 2**31 - 1], [1, 2]],
    "INT64": [[-(2**63), 2**63 - 1], [1, 2]],
    "FP16": [[0.5, -65504.0], [1.0, 2.0]],
    "FP32": [[0.1, -3.5], [1.0, 2.0]],
    "FP64": [[0.1, -1e300], [1.0, 2.0]],
    "BYTES": [["AA", ""], ["ü", "long " * 100]],
}
ARRAYS = {datatype: np.array(rows, tensors.DTYPES[datatype]) for datatype, rows in ROWS.items()}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    folder = tmp_path_factory.mktemp("echo")
    (folder / "model.onnx").write_bytes(packages.datatypes())
    return predictors.serving(folder)[0]


def _as_json(datatype: str) -> dict[str, Any]:
    return {"name": datatype, "shape": [2, 2], "datatype": datatype, "data": ROWS[datatype]}


def _as_bytes(datatype: str) -> tuple[dict[str, Any], bytes]:
    content = binary.encoded(ARRAYS[datatype])
    tensor = {"name": datatype, "shape": [2, 2], "datatype": datatype}
    return tensor | {"parameters": {"binary_data_size": len(content)}}, content


def _body(raw: Sequence[str] = (), **request: Any) -> tuple[bytes, dict[str, str]]:
    """A request's body and headers; raw: the inputs that follow the JSON."""
    inputs, contents = [], []
    for datatype in ROWS:
        tensor, content = _as_bytes(datatype) if datatype in raw else (_as_json(datatype), b"")
        inputs.append(tensor)
        contents.append(content)
    head = json.dumps({"inputs": inputs, **request}).encode()
    return head + b"".join(contents), {"Inference-Header-Content-Length": str(len(head))} if raw else {}


def _answer(response: TestResponse) -> dict[str, np.ndarray]:
    """The outputs by name, read as tritonclient reads them."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get("Inference-Header-Content-Length", len(response.data)))
    assert (response.mimetype == "application/octet-stream") == ("Inference-Header-Content-Length" in response.headers)
    arrays, position = {}, length
    for output in orjson.loads(response.data[:length])["outputs"]:
        datatype, size = output["datatype"], output.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = np.array(output["data"], tensors.DTYPES[datatype])
        else:
            assert "data" not in output
            content = response.data[position : (position := position + size)]
            array = _text(content) if datatype == "BYTES" else np.frombuffer(content, tensors.DTYPES[datatype])
        arrays[output["name"]] = array.reshape(output["shape"])
    assert position == len(response.data)
    return arrays


def _text(content: bytes) -> np.ndarray:
    values, position = [], 0
    while position < len(content):
        length = int.from_bytes(content[position : position + 4], "little")
        values.append(content[position + 4 : position + 4 + length].decode())
        position += 4 + length
    return np.array(values, object)


def _assert_back(arrays: dict[str, np.ndarray], names: Sequence[str] = tuple(ROWS)) -> None:
    assert list(arrays) == [f"{name}_back" for name in names]
    for name in names:
        assert arrays[f"{name}_back"].dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(arrays[f"{name}_back"], ARRAYS[name])


@pytest.mark.parametrize("raw", [(), tuple(ROWS), tuple(ROWS)[::2], ("BYTES",)], ids=["JSON", "raw", "mixed", "text"])
@pytest.mark.parametrize("back", [False, True], ids=["as JSON", "as bytes"])
def test_every_datatype_goes_in_and_comes_back(client: Client, raw: Sequence[str], back: bool) -> None:
    body, headers = _body(raw, parameters={"binary_data_output": back})
    response = client.post(INFER, data=body, headers=headers)
    assert ("Inference-Header-Content-Length" in response.headers) == back
    _assert_back(_answer(response))


def test_flat_data_is_the_same(client: Client) -> None:
    inputs = [_as_json(name) | {"data": [value for row in ROWS[name] for value in row]} for name in ROWS]
    _assert_back(_answer(client.post(INFER, json={"inputs": inputs})))


def test_json_data_comes_back_flat_in_the_digits_it_was_sent_in(client: Client) -> None:
    outputs = {o["name"]: o for o in client.post(INFER, data=_body()[0]).json["outputs"]}
    for name, rows in ROWS.items():
        assert outputs[f"{name}_back"]["data"] == [value for row in rows for value in row]


@pytest.mark.parametrize("always", [None, True, False])
def test_an_outputs_own_wish_for_bytes_wins(client: Client, always: bool | None) -> None:
    names = ("INT64", "BYTES", "FP32")
    asked: list[dict[str, Any]] = [{"name": f"{name}_back"} for name in names]
    asked[0]["parameters"], asked[1]["parameters"] = {"binary_data": True}, {"binary_data": False}
    body, _ = _body(outputs=asked, **({} if always is None else {"parameters": {"binary_data_output": always}}))
    response = client.post(INFER, data=body)
    _assert_back(_answer(response), names)
    head = orjson.loads(response.data[: int(response.headers["Inference-Header-Content-Length"])])
    assert ["data" in output for output in head["outputs"]] == [False, True, not always]


def test_a_header_without_raw_tensors_is_borne(client: Client) -> None:
    body, _ = _body()
    _assert_back(_answer(client.post(INFER, data=body, headers={"Inference-Header-Content-Length": str(len(body))})))


def test_what_json_cannot_spell_is_null_in_json_and_itself_in_bytes(client: Client) -> None:
    odd = [[math.nan, math.inf], [-math.inf, 1.0]]
    body = json.dumps({"inputs": [_as_json(n) | ({"data": odd} if n.startswith("FP") else {}) for n in ROWS]}).encode()
    assert b"NaN" in body
    by_name = {o["name"]: o["data"] for o in orjson.loads(client.post(INFER, data=body).data)["outputs"]}
    names = ("FP16", "FP32", "FP64")
    assert [by_name[f"{n}_back"] for n in names] == [[None, None, None, 1.0]] * 3
    wish = orjson.dumps({"outputs": [{"name": f"{n}_back", "parameters": {"binary_data": True}} for n in names]})
    arrays = _answer(client.post(INFER, data=body[:-1] + b"," + wish[1:]))
    for name in names:
        np.testing.assert_array_equal(arrays[f"{name}_back"], np.array(odd, tensors.DTYPES[name]))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_packed_request_gets_a_packed_answer_whose_header_counts_what_is_inside(
    client: Client, encoding: str
) -> None:
    """As Triton counts, and its client reads: Inference-Header-Content-Length is a length before packing."""
    body, headers = _body(tuple(ROWS), parameters={"binary_data_output": True})
    pack, unpack = {"gzip": (gzip.compress, gzip.decompress), "deflate": (zlib.compress, zlib.decompress)}[encoding]
    headers |= {"Content-Encoding": encoding, "Accept-Encoding": encoding}
    response = client.post(INFER, data=pack(body), headers=headers)
    assert (response.status_code, response.headers["Content-Encoding"]) == (200, encoding)
    content = unpack(response.data)
    head = orjson.loads(content[: int(response.headers["Inference-Header-Content-Length"])])
    assert [output["name"] for output in head["outputs"]] == [f"{name}_back" for name in ROWS]
    response.set_data(content)
    _assert_back(_answer(response))


def test_every_fault_of_raw_and_other_tensors_is_named_at_once(client: Client) -> None:
    inputs = [_as_json(name) for name in ROWS]
    inputs[0] = {"name": "BOOL", "shape": [2, 2], "datatype": "BOOL", "parameters": {"binary_data_size": 4}}
    inputs[1] = {"name": "UINT8", "shape": [2, 2], "parameters": {"binary_data_size": 4}}
    inputs[2] = {"name": "UINT16", "shape": [2, 2], "datatype": "UINT16", "parameters": {"binary_data_size": 6}}
    inputs[3]["data"] = [[1, 2], [3, "x"]]
    inputs.append({"name": "stranger", "parameters": {"binary_data_size": 1}})
    head = json.dumps({"inputs": inputs}).encode()
    content = b"\x01\x00\x07\x01" + bytes(4) + bytes(6) + bytes(1) + b"and more"
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = client.post(INFER, data=head + content, headers=headers)
    assert response.status_code == 400
    for part in (
        "'BOOL' has a byte 7; expected 0 or 1",
        "'UINT8' has datatype null; the signature says 'UINT8'",
        "'UINT16' has binary_data_size 6; UINT16 [2, 2] takes 8",
        "'UINT32' value 3: seen 'x'",
        "'stranger' is not in the signature",
        "8 bytes follow the last binary tensor",
    ):
        assert part in response.json["error"]


@pytest.mark.parametrize("length", ["5", "100000", "-1", "x"])
def test_a_header_that_cuts_the_json_is_400(client: Client, length: str) -> None:
    body, headers = _body(("FP32",))
    response = client.post(INFER, data=body, headers=headers | {"Inference-Header-Content-Length": length})
    assert response.status_code == 400
    assert "not JSON" in response.json["error"] or "expected the JSON's length" in response.json["error"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_body_with_any_bytes_changed_is_answered_or_400(client: Client, data: st.DataObject) -> None:
    body, headers = _body(data.draw(st.sampled_from([tuple(ROWS), ("BYTES", "FP16"), ()])))
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
        changed = changed or bytearray(b" ")
    response = client.post(INFER, data=bytes(changed), headers=headers)
    assert response.status_code in (200, 400, 501), response.text
    assert response.status_code == 200 or response.json["error"]


def test_an_input_without_a_batch_counts_no_rows_and_open_axes_are_the_clients(tmp_path: Path) -> None:
    """A foreign graph: rows of any length, scaled by one number that all of them share."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["rows", "scale"], ["scaled"])],
        "scaled",
        [
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", "m"]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("scaled", TensorProto.FLOAT, ["n", "m"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    client, _ = predictors.serving(tmp_path)

    def ask(shape: list[int], scale: list[float]) -> TestResponse:
        rows = {"name": "rows", "shape": shape, "datatype": "FP32", "data": [1.0] * 6}
        factor = {"name": "scale", "shape": [len(scale)], "datatype": "FP32", "data": scale}
        return client.post(INFER, json={"inputs": [rows, factor]})

    for shape in ([2, 3], [3, 2], [6, 1]):
        (output,) = ask(shape, [2.0]).json["outputs"]
        assert (output["shape"], output["data"]) == (shape, [2.0] * 6)
    assert "'scale' has shape [2]; the signature says [1]" in ask([2, 3], [1.0, 2.0]).json["error"]
    for shape in ([2, -1], [-2, -3], [6]):
        assert "'rows' has shape" in ask(shape, [2.0]).json["error"]
