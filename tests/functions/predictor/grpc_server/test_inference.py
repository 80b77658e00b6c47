"""Requests to queries and predictions to answers: every datatype in both forms, every fault at once."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.package import Signature, TensorSpec
from functions.predictor.answers import Refusal
from functions.predictor.grpc_server import inference
from functions.predictor.grpc_server import open_inference_pb2 as v2
from functions.predictor.query import Prediction, Query
from functions.tensors import DATATYPES, DTYPES

VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False], "INT8": [-128, 127], "INT16": [-(2**15), 2**15 - 1], "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1], "UINT8": [0, 255], "UINT16": [0, 2**16 - 1], "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1], "FP16": [-1.5, 0.25], "FP32": [-1.5, 2.0**127], "FP64": [-1.5, 1e300],
    "BYTES": ["", "Zürich ✈"],
}  # fmt: skip
ONNX_TYPES = {datatype: onnx_type for onnx_type, datatype in DATATYPES.items()}


def _signature(datatype: str, shape: tuple[int, ...] = (-1, 2)) -> Signature:
    spec = TensorSpec("x", datatype, ONNX_TYPES[datatype], shape)
    return Signature((spec,), (TensorSpec("y", datatype, ONNX_TYPES[datatype], shape),))


def _request(datatype: str, shape: tuple[int, ...] = (1, 2), **more: Any) -> v2.ModelInferRequest:
    request = v2.ModelInferRequest(model_name="m", **more)
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    return request


def _raw(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)
    return np.array(values, DTYPES[datatype]).tobytes()


def _answer(signature: Signature, values: np.ndarray, request: v2.ModelInferRequest) -> v2.ModelInferResponse:
    served: Any = SimpleNamespace(name="m", version="1", signature=signature)
    return inference.encode(served, Prediction(Query({}, len(values)), {"y": values}, 0.0), request)


def _refused(signature: Signature, request: v2.ModelInferRequest) -> str:
    with pytest.raises(Refusal) as refusal:
        inference.decode(signature, request)
    assert refusal.value.status == 400
    return str(refusal.value)


@pytest.mark.parametrize("datatype", VALUES)
def test_raw_contents_come_and_go_raw(datatype: str) -> None:
    signature, request = _signature(datatype), _request(datatype, id="7")
    request.raw_input_contents.append(_raw(datatype, VALUES[datatype]))
    query = inference.decode(signature, request)
    assert query.inputs["x"].dtype == DTYPES[datatype]
    assert query.inputs["x"].tolist() == [VALUES[datatype]]
    answer = _answer(signature, query.inputs["x"], request)
    assert list(answer.raw_output_contents) == list(request.raw_input_contents)
    assert (answer.id, answer.outputs[0].datatype, list(answer.outputs[0].shape)) == ("7", datatype, [1, 2])
    assert not answer.outputs[0].HasField("contents")


@pytest.mark.parametrize("datatype", [d for d in VALUES if d != "FP16"])
def test_typed_contents_come_and_go_typed(datatype: str) -> None:
    signature, request = _signature(datatype), _request(datatype)
    sent = [v.encode() if isinstance(v, str) else v for v in VALUES[datatype]]
    getattr(request.inputs[0].contents, inference.FIELDS[datatype]).extend(sent)
    query = inference.decode(signature, request)
    assert query.inputs["x"].dtype == DTYPES[datatype]
    assert query.inputs["x"].tolist() == [np.array(VALUES[datatype], DTYPES[datatype]).tolist()]
    answer = _answer(signature, query.inputs["x"], request)
    assert not answer.raw_output_contents
    assert answer.outputs[0].contents == request.inputs[0].contents


def test_halves_travel_raw_alone_and_take_the_others_with_them() -> None:
    request = _request("FP16")
    assert "raw_input_contents alone" in _refused(_signature("FP16"), request)
    request = _request("FP32")
    request.inputs[0].contents.fp32_contents.extend([1, 2])
    answer = _answer(_signature("FP16"), np.array([[1, 2]], np.float16), request)
    assert answer.raw_output_contents[0] == np.array([1, 2], np.float16).tobytes()


def test_a_parameter_asks_for_the_other_kind_of_answer() -> None:
    values = np.array([[1, 2]], np.float32)
    request = _request("FP32")
    request.parameters["binary_data_output"].bool_param = True
    assert _answer(_signature("FP32"), values, request).raw_output_contents[0] == values.tobytes()
    request.raw_input_contents.append(b"")
    request.parameters["binary_data_output"].bool_param = False
    assert list(_answer(_signature("FP32"), values, request).outputs[0].contents.fp32_contents) == [1, 2]


def test_one_value_per_row_may_come_without_its_second_axis() -> None:
    request = _request("FP32", (3,))
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3])
    query = inference.decode(_signature("FP32", (-1, 1)), request)
    assert (query.rows, query.inputs["x"].shape) == (3, (3, 1))


SPECS = tuple(TensorSpec(name, "FP32", "tensor(float)", (-1, 1)) for name in ("a", "b", "c", "d"))
OUTPUTS = (TensorSpec("y", "FP32", "tensor(float)", (-1,)),)


def test_every_fault_is_named_at_once() -> None:
    request = v2.ModelInferRequest()
    request.inputs.add(name="a", datatype="INT64", shape=[2, 1]).contents.int64_contents.extend([1, 2])
    request.inputs.add(name="b", datatype="FP32", shape=[2, 3]).contents.fp32_contents.extend([1, 2])
    request.inputs.add(name="c", datatype="FP32", shape=[2, 1]).contents.fp32_contents.extend([1, 2, 3])
    request.inputs.add(name="z", datatype="FP32", shape=[2, 1])
    request.outputs.add(name="w")
    for _ in range(2):
        request.outputs.add(name="y")
    said = _refused(Signature(SPECS, OUTPUTS), request)
    for fault in (
        "whose inputs are a, b, c, d",
        "input 'a' has datatype 'INT64'; the signature says 'FP32'",
        "input 'b' has shape [2, 3]; the signature says [-1, 1]",
        "input 'c' has 3 values; expected 2 for shape [2, 1]",
        "input 'd' is missing; the signature says FP32 [-1, 1]",
        "input 'z' is not in the signature",
        "output 'w' is not in the signature; it has y",
        "output 'y' is asked for twice",
    ):
        assert fault in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.raw_input_contents.extend([b"", b""]), "raw_input_contents has 2 tensors; expected 1"),
        (lambda r: r.raw_input_contents.append(b"12345678"), "has contents beside raw_input_contents"),
        (lambda r: r.inputs[0].ClearField("contents"), "has no contents; expected FP32 in fp32_contents"),
        (lambda r: r.inputs[0].contents.int_contents.append(1), "has int_contents and fp32_contents; expected FP32 in"),
        (lambda r: r.inputs.add(name="x"), "input 'x' is given twice"),
        (lambda r: r.inputs[0].shape.__setitem__(0, -1), "has shape [-1, 2]; expected a list of whole numbers"),
        (lambda r: r.inputs[0].shape.__setitem__(0, 0), "has shape [0, 2], which holds no value"),
        (lambda r: r.inputs[0].shape.extend([1] * 50), "the signature says [-1, 2]"),
        (lambda r: r.inputs[0].shape.__setitem__(0, 10**7), "at most 1000000 rows are taken at once"),
    ],
)  # fmt: skip
def test_what_a_request_says_twice_or_not_at_all_is_named(change: Any, said: str) -> None:
    request = _request("FP32")
    request.inputs[0].contents.fp32_contents.extend([1, 2])
    inference.decode(_signature("FP32"), request)
    change(request)
    assert said in _refused(_signature("FP32"), request)


@pytest.mark.parametrize("parameter", ["shared_memory_region", "classification"])
@pytest.mark.parametrize("of", ["inputs", "outputs"])
def test_what_a_client_would_wait_for_in_vain_is_unsupported(parameter: str, of: str) -> None:
    request = _request("FP32")
    request.outputs.add(name="y")
    getattr(request, of)[0].parameters[parameter].string_param = "somewhere"
    with pytest.raises(Refusal) as refusal:
        inference.decode(_signature("FP32"), request)
    assert refusal.value.status == 501
    assert f"has the parameter '{parameter}', which is not supported" in str(refusal.value)


@pytest.mark.parametrize(
    ("datatype", "contents", "said"),
    [
        ("FP32", b"1234567", "7"),
        ("BOOL", b"\x01\x07", "7; expected 0 or 1 (BOOL)"),
        ("BYTES", b"\x01\x00\x00\x00a\x01\x00", "element 1"),
        ("BYTES", b"\x01\x00\x00\x00a\xff\xff\xff\xffb", "element 1 is 4294967295 bytes long"),
        ("BYTES", b"\x01\x00\x00\x00a", "has 1 elements; expected 2"),
        ("BYTES", b"\x00\x00\x00\x00" * 3, "has more than 2 elements; expected 2"),
        ("BYTES", b"\x01\x00\x00\x00\xff\x00\x00\x00\x00", "element 0 is no UTF-8"),
    ],
)
def test_raw_bytes_that_are_no_such_tensor_are_named(datatype: str, contents: bytes, said: str) -> None:
    request = _request(datatype)
    request.raw_input_contents.append(contents)
    assert said in _refused(_signature(datatype), request)


@pytest.mark.parametrize(
    ("datatype", "field", "values", "said"),
    [
        ("INT8", "int_contents", [1, 300], "value 1: seen 300; expected a whole number (INT8) from -128 to 127"),
        (
            "UINT16",
            "uint_contents",
            [70000, 1],
            "value 0: seen 70000; expected a whole number (UINT16) from 0 to 65535",
        ),
        ("BYTES", "bytes_contents", [b"\xff", b"a"], "element 0 is no UTF-8 text"),
    ],
)
def test_typed_values_that_do_not_fit_are_named(datatype: str, field: str, values: list[Any], said: str) -> None:
    request = _request(datatype)
    getattr(request.inputs[0].contents, field).extend(values)
    assert said in _refused(_signature(datatype), request)


@settings(max_examples=300, deadline=None)
@given(
    datatype=st.sampled_from(sorted(VALUES)),
    said=st.sampled_from([*sorted(VALUES), "BF16", ""]),
    shape=st.lists(st.integers(-2, 4) | st.sampled_from([2**31, 2**62, -(2**63)]), max_size=4),
    raws=st.lists(st.binary(max_size=40), max_size=2),
    contents=st.none() | st.lists(st.integers(0, 1), max_size=5),
    field=st.sampled_from(sorted(set(inference.FIELDS.values()) - {"bytes_contents"})),
)
def test_whatever_comes_is_a_tensor_of_the_signature_or_refused(
    datatype: str, said: str, shape: list[int], raws: list[bytes], contents: list[int] | None, field: str
) -> None:
    request = v2.ModelInferRequest(raw_input_contents=raws)
    tensor = request.inputs.add(name="x", datatype=said, shape=shape)
    if contents is not None:
        getattr(tensor.contents, field).extend([bool(v) for v in contents] if field == "bool_contents" else contents)
    try:
        query = inference.decode(_signature(datatype), request)
    except Refusal as e:
        assert e.status == 400
    else:
        values = query.inputs["x"]
        assert (values.dtype, values.shape[1:], len(values)) == (DTYPES[datatype], (2,), query.rows)
