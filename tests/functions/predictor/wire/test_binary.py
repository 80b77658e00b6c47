"""functions.predictor.wire.binary: tensors as the bytes that Triton's clients send, and every way they may lie."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions import tensors
from functions.package import TensorSpec
from functions.predictor.answers import Refusal
from functions.predictor.wire import binary

ONNX_TYPES = {datatype: onnx_type for onnx_type, datatype in tensors.DATATYPES.items()}
NUMBERS = [datatype for datatype in tensors.DTYPES if datatype != "BYTES"]


def _spec(datatype: str, name: str = "x") -> TensorSpec:
    return TensorSpec(name, datatype, ONNX_TYPES[datatype], (-1, 2))


def _take(datatype: str, content: bytes, shape: tuple[int, ...], size: Any = None) -> tuple[np.ndarray, list[str]]:
    faults: list[str] = []
    raw = binary.Raw(content)
    array = raw.take(_spec(datatype), len(content) if size is None else size, shape, faults)
    raw.end(faults)
    return array, faults


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_are_little_endian_and_row_major(datatype: str) -> None:
    dtype = tensors.DTYPES[datatype]
    values = np.array([[0, 1], [1, 0]], dtype)
    content = values.astype(dtype.newbyteorder("<")).tobytes()
    array, faults = _take(datatype, content, (2, 2))
    assert faults == []
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, values)
    assert binary.encoded(values) == content


@pytest.mark.parametrize("begin", range(1, 9))
def test_numbers_lie_where_a_processor_reads_them_wherever_the_json_ends(begin: int) -> None:
    values = np.array([[1.5, -2.5]], np.float64)
    array = binary.Raw(b" " * begin + values.tobytes(), begin).take(_spec("FP64"), 16, (1, 2), [])
    assert array.flags.aligned
    assert array.ctypes.data % array.itemsize == 0
    np.testing.assert_array_equal(array, values)


def test_numbers_that_lie_well_are_not_copied() -> None:
    body = b" " * 8 + bytes(16)
    array = binary.Raw(body, 8).take(_spec("FP64"), 16, (1, 2), [])
    assert array.base is body or array.base.obj is body


def test_text_is_prefixed_by_its_length_in_bytes() -> None:
    content = b"\x02\x00\x00\x00AA" + b"\x00\x00\x00\x00" + b"\x02\x00\x00\x00" + "ü".encode() + b"\x01\x00\x00\x00\x00"
    array, faults = _take("BYTES", content, (2, 2))
    assert faults == []
    assert array.tolist() == [["AA", ""], ["ü", "\x00"]]
    assert binary.encoded(array) == content


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), min_size=1, max_size=9))
def test_any_text_survives(texts: list[str]) -> None:
    content = binary.encoded(np.array(texts, object))
    array, faults = _take("BYTES", content, (len(texts),))
    assert (faults, array.tolist()) == ([], texts)


@pytest.mark.parametrize(
    ("datatype", "content", "shape", "size", "said"),
    [
        ("FP32", bytes(16), (2, 2), 12, "'x' has binary_data_size 12; FP32 [2, 2] takes 16"),
        ("FP32", bytes(15), (2, 2), 15, "takes 16"),
        ("FP32", bytes(16), (2, 2), 17, "has binary_data_size 17, but 16 bytes are left for it"),
        ("FP32", bytes(16), (2, 2), 10**30, "but 16 bytes are left for it"),
        ("FP32", bytes(16), (2, 2), -16, "binary_data_size -16; expected a number of bytes"),
        ("FP32", bytes(16), (2, 2), "16", "binary_data_size '16'; expected a number of bytes"),
        ("FP32", bytes(16), (2, 2), True, "binary_data_size True; expected a number of bytes"),
        ("FP32", bytes(16), (2, 2), 16.0, "binary_data_size 16.0; expected a number of bytes"),
        ("FP32", bytes(16), (1, 2), 8, "8 bytes follow the last binary tensor; expected none"),
        ("FP64", bytes(16), (10**12, 2), 16, "takes 16000000000000"),
        ("BOOL", b"\x01\x02", (1, 2), 2, "has a byte 2; expected 0 or 1 (BOOL)"),
        ("BYTES", b"\x01\x00\x00", (1, 1), 3, "element 0 is without a length of 4 bytes"),
        ("BYTES", b"\x05\x00\x00\x00abc", (1, 1), 7, "element 0 is 5 bytes long; 3 bytes are left"),
        ("BYTES", b"\xff\xff\xff\xffabc", (1, 1), 7, "element 0 is 4294967295 bytes long"),
        ("BYTES", b"\x01\x00\x00\x00a", (2, 1), 5, "has 1 elements; expected 2 for shape [2, 1]"),
        ("BYTES", b"\x01\x00\x00\x00a" * 3, (2, 1), 15, "has more than 2 elements; expected 2"),
        ("BYTES", b"\x01\x00\x00\x00\xff", (1, 1), 5, "element 0 is no UTF-8 text: invalid start byte"),
        ("BYTES", b"\x01\x00\x00\x00\xff" * 9, (9, 1), 45, "4 more elements are no UTF-8 text"),
    ],
    ids=str,
)
def test_what_does_not_add_up_is_named(
    datatype: str, content: bytes, shape: tuple[int, ...], size: Any, said: str
) -> None:
    _, faults = _take(datatype, content, shape, size)
    assert said in "; ".join(faults)
    assert len(faults) <= 6


def test_a_fault_of_one_tensor_leaves_the_next_readable() -> None:
    raw, faults = binary.Raw(bytes(8) + struct.pack("<2f", 1, 2)), list[str]()
    raw.take(_spec("FP32", "first"), 8, (5, 5), faults)
    second = raw.take(_spec("FP32", "second"), 8, (1, 2), faults)
    raw.end(faults)
    assert second.tolist() == [[1.0, 2.0]]
    assert len(faults) == 1
    assert "'first'" in faults[0]


def test_the_json_ends_where_the_header_says() -> None:
    head, raw = binary.split(b"{}" + bytes(8), "2")
    assert head == b"{}"
    assert raw.take(_spec("FP32"), 8, (1, 2), []).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("header", ["", "0", "-1", "+2", "1_0", "11", "9" * 50, "２", "2.0", "0x2", "two", " 2"])
def test_a_header_that_is_no_length_of_a_json_in_the_body_is_400(header: str) -> None:
    with pytest.raises(Refusal, match=r"Inference-Header-Content-Length is .*1 to the body's 10 bytes") as refusal:
        binary.split(b"{}" + bytes(8), header)
    assert refusal.value.status == 400


@given(
    content=st.binary(max_size=64),
    datatype=st.sampled_from(list(tensors.DTYPES)),
    shape=st.tuples(st.integers(0, 4), st.integers(0, 3)),
    size=st.integers(-2, 70),
)
def test_any_bytes_are_a_tensor_of_the_shape_or_a_fault(
    content: bytes, datatype: str, shape: tuple[int, int], size: int
) -> None:
    array, faults = _take(datatype, content, shape, size)
    if not faults:
        assert (array.shape, array.dtype) == (shape, tensors.DTYPES[datatype])
        assert binary.encoded(array) == content
