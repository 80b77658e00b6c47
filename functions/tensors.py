"""JSON values to arrays and back, as a signature says.

One place knows what a null, a flat list, a wrong type or a missing column means, so that every protocol and the
self-test mean the same. Arrays are what onnxruntime takes: numbers in their own dtype, text as an object array of str.
Source: Open Inference Protocol V2 (datatypes), TensorFlow Serving's REST API (bytes as {"b64": …}).
"""

from __future__ import annotations

import base64
import binascii
import functools
import itertools
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from functions.package import TensorSpec

Array = npt.NDArray[Any]

# V2 datatype, ONNX type and numpy dtype of each tensor that JSON can carry. Source: V2 "Tensor Data Types", onnx.proto.
_TYPES: tuple[tuple[str, str, type], ...] = (
    ("BOOL", "tensor(bool)", np.bool_),
    ("UINT8", "tensor(uint8)", np.uint8),
    ("UINT16", "tensor(uint16)", np.uint16),
    ("UINT32", "tensor(uint32)", np.uint32),
    ("UINT64", "tensor(uint64)", np.uint64),
    ("INT8", "tensor(int8)", np.int8),
    ("INT16", "tensor(int16)", np.int16),
    ("INT32", "tensor(int32)", np.int32),
    ("INT64", "tensor(int64)", np.int64),
    ("FP16", "tensor(float16)", np.float16),
    ("FP32", "tensor(float)", np.float32),
    ("FP64", "tensor(double)", np.float64),
    ("BYTES", "tensor(string)", np.object_),
)
DTYPES: dict[str, np.dtype[Any]] = {datatype: np.dtype(dtype) for datatype, _, dtype in _TYPES}
DATATYPES: dict[str, str] = {onnx_type: datatype for datatype, onnx_type, _ in _TYPES}

FLOATS = frozenset({"FP16", "FP32", "FP64"})
# Text that stands for a number JSON cannot spell. Source: TensorFlow Serving REST API, "NaN, Infinity, -Infinity".
_TOKENS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_WORDS = {"BOOL": "true or false", "BYTES": "text"}
# What `struct` packs a number of each datatype as. It takes what fits and nothing else, text, null and a number out of
# range being errors to it, at a quarter of what np.array needs to find out the type first.
_CODES = {
    "FP16": "e", "FP32": "f", "FP64": "d", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
    "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
}  # fmt: skip
_ONE = {datatype: struct.Struct(f"={code}").pack for datatype, code in _CODES.items()}
_MOST_PACKED = 2**32  # values: more than any body holds, and than `struct` can count is not far
_OBJECT = DTYPES["BYTES"]
_BOOL, _STR, _LIST = frozenset((bool,)), frozenset((str,)), frozenset((list,))

MAX_RANK = 32
MAX_NAMED_VALUES = 5  # of one input: enough to see the pattern, short enough to read


def expected(spec: TensorSpec) -> str:
    """What the signature says about one value of `spec`, in words for an error."""
    if spec.datatype in FLOATS:
        return f"a number ({spec.datatype})"
    return f"{_WORDS.get(spec.datatype, 'a whole number')} ({spec.datatype})"


def value_of(spec: TensorSpec, value: Any) -> Any:
    """One JSON value as `spec` takes it; null is missing: NaN for floats, "" for text.

    Raises ValueError saying what was seen and what the signature says. Numbers for text are taken as they read (a
    category such as 3 is a word to the model), and so is true for 1; text for numbers is refused unless it is NaN or an
    infinity.
    """
    datatype = spec.datatype
    if datatype in FLOATS:
        if type(value) in (float, int, bool):
            try:
                _ONE[datatype](value)
            except (struct.error, OverflowError):
                raise ValueError(f"seen {seen(value)}, which is out of range; expected {expected(spec)}") from None
            return value
        if value is None:
            return math.nan
        if isinstance(value, str) and value in _TOKENS:
            return _TOKENS[value]
    elif datatype == "BYTES":
        if isinstance(value, str):
            return value
        if value is None:
            return ""
        if isinstance(value, bool | int | float):
            return str(value)
        if isinstance(value, dict) and value.keys() == {"b64"}:
            try:
                return base64.b64decode(value["b64"], validate=True).decode()
            except (binascii.Error, TypeError, ValueError) as e:
                raise ValueError(f"seen base64 that does not decode to text: {e}; expected {expected(spec)}") from e
    elif datatype == "BOOL":
        if isinstance(value, bool):
            return value
    elif isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        limits = np.iinfo(DTYPES[datatype])
        if limits.min <= value <= limits.max:
            return int(value)
        raise ValueError(f"seen {seen(value)}; expected {expected(spec)} from {limits.min} to {limits.max}")
    raise ValueError(f"seen {seen(value)}; expected {expected(spec)}")


def seen(value: Any) -> str:
    """A JSON value in words for an error, cut where it is long."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with {', '.join(map(repr, list(value)[:5]))}" if value else "an empty object"
    return f"{value!r:.60}"


def row_shape(spec: TensorSpec, row: Any) -> tuple[int, ...]:
    """The sizes of one row of `spec`: the signature's, the open ones as the JSON value `row` is nested."""
    sizes = spec.shape[1:]
    if -1 not in sizes:
        return sizes
    shape = []
    for size in sizes:
        length = len(row) if isinstance(row, list) else 1
        shape.append(length if size == -1 else size)
        row = row[0] if isinstance(row, list) and row else None
    return tuple(shape)


def nesting(value: Any) -> tuple[int, ...]:
    """The shape that nested lists have, by the first of each; () of a value that is no list."""
    shape: list[int] = []
    while isinstance(value, list) and len(shape) < MAX_RANK:
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def array(spec: TensorSpec, values: Sequence[Any], shape: tuple[int, ...], faults: list[str]) -> Array:
    """`values` as an array of `shape` and of the signature's dtype; it may be read-only.

    values: flat in row-major order, or nested exactly as `shape` says.
    Each fault is a sentence in `faults`, of single values the first five; the array is then of no use.
    """
    flat = _unnested(values, shape) if values and type(values[0]) is list else values
    count, dtype, pack = _form(spec.datatype, shape)
    if flat is None or len(flat) != count:
        return _judged(spec, values, shape, faults)
    # Where every value fits, in passes that C makes; what does not is looked at one by one.
    if pack is not None:
        try:
            return np.ndarray(shape, dtype, pack(*flat))
        except (struct.error, OverflowError):
            # Missing numbers are common, and no reason to look at each value on its own.
            if spec.datatype in FLOATS and None in flat:
                return array(spec, [math.nan if value is None else value for value in flat], shape, faults)
    elif spec.datatype == "BYTES":
        if {*map(type, flat)} == _STR:
            if count != 1:
                return np.array(flat, _OBJECT).reshape(shape)
            only = np.empty(shape, _OBJECT)
            only.fill(flat[0])
            return only
    elif {*map(type, flat)} == _BOOL:
        return np.ndarray(shape, DTYPES["BOOL"], bytes(flat))
    return _judged(spec, values, shape, faults)


def _judged(spec: TensorSpec, values: Sequence[Any], shape: tuple[int, ...], faults: list[str]) -> Array:
    """As `array`, each value on its own."""
    dtype = DTYPES[spec.datatype]
    flat = _flatten(spec, values, shape, faults)
    out, broken = [], 0
    for position, value in enumerate(flat):
        try:
            out.append(value_of(spec, value))
        except ValueError as e:
            broken += 1
            if broken <= MAX_NAMED_VALUES:
                faults.append(f"input {spec.name!r} {'row' if spec.is_column else 'value'} {position}: {e}")
    if broken > MAX_NAMED_VALUES:
        faults.append(f"input {spec.name!r}: {broken - MAX_NAMED_VALUES} more values do not fit")
    if len(out) != math.prod(shape):
        return np.empty(0, dtype)
    return np.array(out, dtype=dtype).reshape(shape)


@functools.lru_cache(maxsize=1024)
def _form(datatype: str, shape: tuple[int, ...]) -> tuple[int, np.dtype[Any], Callable[..., bytes] | None]:
    """How many values a tensor has, of what dtype, and what packs them where they are numbers."""
    count, code = math.prod(shape), _CODES.get(datatype)
    if code is None or count > _MOST_PACKED:
        return count, DTYPES[datatype], None
    # "=": standard sizes, and with them a check that a number is in range, which native floats go without.
    return count, DTYPES[datatype], struct.Struct(f"={count}{code}").pack


def _unnested(values: Sequence[Any], shape: tuple[int, ...]) -> Sequence[Any] | None:
    """The values in row-major order; None where they are not nested exactly as `shape` says."""
    level = values
    if not shape or len(level) != shape[0]:
        return None
    for size in shape[1:]:
        if len(level) == 1:
            level = level[0]
            if type(level) is not list or len(level) != size:
                return None
        elif _LIST.issuperset(map(type, level)) and {size}.issuperset(map(len, level)):
            level = list(itertools.chain.from_iterable(level))
        else:
            return None
    return level


def _flatten(spec: TensorSpec, values: Sequence[Any], shape: tuple[int, ...], faults: list[str]) -> list[Any]:
    """The values in row-major order, or as many as there are with a fault for each list of a wrong length."""
    count = math.prod(shape)
    if not any(isinstance(value, list) for value in values):
        if len(values) != count:
            faults.append(f"input {spec.name!r} has {len(values)} values; expected {count} for shape {list(shape)}")
        return list(values)
    level: list[Any] = [values]
    for axis, size in enumerate(shape):
        for place, part in enumerate(level):
            if not isinstance(part, list) or len(part) != size:
                found = f"a list of {len(part)}" if isinstance(part, list) else seen(part)
                faults.append(f"input {spec.name!r} axis {axis}, place {place}: {found}; expected a list of {size}")
                return []
        level = [value for part in level for value in part]
    return level
