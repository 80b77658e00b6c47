"""functions.tensors: what a JSON value means to a model, and what is said of one that means nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions import tensors
from functions.package import TensorSpec

ONNX_TYPES = {datatype: onnx_type for onnx_type, datatype in tensors.DATATYPES.items()}


def _spec(datatype: str, shape: tuple[int, ...] = (-1, 1)) -> TensorSpec:
    return TensorSpec("x", datatype, ONNX_TYPES[datatype], shape)


@pytest.mark.parametrize(
    ("datatype", "values", "expected"),
    [
        ("FP32", [1, 2.5, True], [1.0, 2.5, 1.0]),
        ("FP32", [None, 1.0], [math.nan, 1.0]),
        ("FP32", ["NaN", "Infinity", "-Infinity"], [math.nan, math.inf, -math.inf]),
        ("FP64", [0.1], [0.1]),
        ("FP16", [0.5, None], [0.5, math.nan]),
        ("INT64", [1, -(2**63)], [1, -(2**63)]),
        ("INT64", [3.0, True], [3, 1]),
        ("UINT64", [2**64 - 1], [2**64 - 1]),
        ("INT8", [-128, 127], [-128, 127]),
        ("UINT8", [0, 255], [0, 255]),
        ("BOOL", [True, False], [True, False]),
        ("BYTES", ["AA", None, 3, True], ["AA", "", "3", "True"]),
        ("BYTES", [{"b64": "w7w="}], ["ü"]),
        ("BYTES", ["ü"], ["ü"]),
        ("FP32", [3.4028235e38, -3.4028235e38, 1e-50], [3.4028235e38, -3.4028235e38, 0.0]),
        ("FP64", [1e308, 2**64], [1e308, 2.0**64]),
    ],
    ids=str,
)
def test_values_become_what_the_signature_says(datatype: str, values: list[object], expected: list[object]) -> None:
    faults: list[str] = []
    array = tensors.array(_spec(datatype), values, (len(values), 1), faults)
    assert faults == []
    assert array.dtype == tensors.DTYPES[datatype]
    np.testing.assert_array_equal(array.ravel(), np.array(expected, tensors.DTYPES[datatype]))


@pytest.mark.parametrize(
    ("datatype", "value", "said"),
    [
        ("FP32", "1.5", "seen '1.5'; expected a number (FP32)"),
        ("FP32", [1.0], "expected"),
        ("FP32", {"a": 1}, "seen an object with 'a'"),
        ("FP32", 3.5e38, "seen 3.5e+38, which is out of range; expected a number (FP32)"),
        ("FP32", 10**400, "which is out of range; expected a number (FP32)"),
        ("FP16", 70000, "seen 70000, which is out of range; expected a number (FP16)"),
        ("FP64", 10**400, "which is out of range; expected a number (FP64)"),
        ("INT64", 2**63, "from -9223372036854775808 to"),
        ("INT64", 10**400, "from -9223372036854775808 to"),
        ("INT64", math.inf, "seen inf; expected a whole number (INT64)"),
        ("INT64", 1.5, "seen 1.5; expected a whole number (INT64)"),
        ("INT64", None, "seen null"),
        ("INT8", 128, "from -128 to 127"),
        ("UINT8", -1, "from 0 to 255"),
        ("UINT64", 2**64, "from 0 to"),
        ("BOOL", 1, "expected true or false"),
        ("BYTES", ["a", "b"], "expected"),
        ("BYTES", {"b64": "/w=="}, "does not decode to text"),
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_is_named_with_what_was_expected(datatype: str, value: object, said: str) -> None:
    good = {"BOOL": True, "BYTES": "a"}.get(datatype, 1)
    faults: list[str] = []
    tensors.array(_spec(datatype), [good, value], (2, 1), faults)
    assert said in " ".join(faults)
    assert "'x'" in faults[0]


def test_many_broken_values_are_counted_not_listed() -> None:
    faults: list[str] = []
    tensors.array(_spec("FP32"), ["a"] * 1000, (1000, 1), faults)
    assert len(faults) == 6
    assert "995 more" in faults[-1]


def test_a_missing_number_hides_no_fault_beside_it() -> None:
    faults: list[str] = []
    tensors.array(_spec("FP32"), [None, 1.0, "x", None], (4, 1), faults)
    assert faults == ["input 'x' row 2: seen 'x'; expected a number (FP32)"]


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from(["NaN", "Infinity", {}, {"b64": "QUE="}]),
)


@given(
    datatype=st.sampled_from(list(tensors.DTYPES)),
    values=st.lists(_VALUES, min_size=4, max_size=4)
    | st.lists(st.integers(-2, 300) | st.booleans(), min_size=4, max_size=4),
    nested=st.booleans(),
)
def test_the_quick_way_and_the_one_value_by_value_agree(datatype: str, values: list[object], nested: bool) -> None:
    """For any values: the same array, or the same values are at fault."""
    spec = _spec(datatype, (-1, 2))
    faults: list[str] = []
    array = tensors.array(spec, [values[:2], values[2:]] if nested else values, (2, 2), faults)
    expected, wrong = [], []
    for position, value in enumerate(values):
        try:
            expected.append(tensors.value_of(spec, value))
        except ValueError:
            wrong.append(position)
    assert [f"input 'x' value {position}" for position in wrong] == [fault.partition(":")[0] for fault in faults]
    if not faults:
        assert (array.shape, array.dtype) == ((2, 2), tensors.DTYPES[datatype])
        np.testing.assert_array_equal(array.ravel(), np.array(expected, tensors.DTYPES[datatype]))


@pytest.mark.parametrize("values", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[1, 2], [3, None]]], ids=str)
def test_flat_and_nested_values_are_the_same_tensor(values: list[object]) -> None:
    faults: list[str] = []
    array = tensors.array(_spec("FP32", (-1, 2)), values, (2, 2), faults)
    assert faults == []
    assert array.shape == (2, 2)
    assert array[1, 0] == 3


@pytest.mark.parametrize(
    "values", [[1, 2, 3], [[1, 2], [3]], [[1, 2, 3], [4]], [[1, 2], 3], [[[1], [2]], [[3], [4]]]], ids=str
)
def test_a_tensor_of_another_shape_is_named(values: list[object]) -> None:
    faults: list[str] = []
    tensors.array(_spec("FP32", (-1, 2)), values, (2, 2), faults)
    assert faults
