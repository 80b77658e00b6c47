"""Rows and columns of JSON to a model's inputs, as V1 spells them.

A row is an object by input name or, bare, the values in the signature's order; of a model with one input, its value.
Both may stand in one request. Pure; called by the V1 protocol. What single values mean, `functions.tensors` knows.
Source: tensorflow.org/tfx/serving/api_rest, "Specifying input tensors".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from functions import tensors
from functions.package import Signature, TensorSpec
from functions.predictor.answers import ranges
from functions.predictor.wire.infer_request import MAX_ROWS
from functions.tensors import Array

# Rows that do not fit, and kinds of misfit, after which nobody looks for more: a million `{}` would take 12 s.
MAX_BROKEN, MAX_MISFITS = 10_000, 100
_TABLE = TensorSpec("table", "FP32", "tensor(float)", (-1, -1, 1))  # columns of numbers, read as one tensor
_BASE64 = {"b64"}  # the keys of an object that is a value: bytes, and no row


def from_rows(signature: Signature, rows: Any, key: str, faults: list[str]) -> tuple[dict[str, Array], int]:
    """Every input of `rows`, a list of rows, and how many they are.

    key: what the request calls them. Each fault is a sentence in `faults`; the arrays are then of no use.
    """
    if not isinstance(rows, list) or not rows:
        faults.append(f"{key!r} is {tensors.seen(rows)}; expected a list of rows")
        return {}, 0
    if len(rows) > MAX_ROWS:
        faults.append(_too_many(len(rows)))
        return {}, 0
    specs = signature.inputs
    if len(specs) == 1 and (dict not in map(type, rows) or _values(rows)):
        return {specs[0].name: _array(specs[0], rows, faults)}, len(rows)
    columns = _columns_of(rows, [spec.name for spec in specs], faults)
    return (_arrays(specs, columns, faults) if columns else {}), len(rows)


def from_columns(signature: Signature, columns: Any, faults: list[str]) -> tuple[dict[str, Array], int]:
    """Every input of `columns`, an object with a list for each or the list of the one there is, and how many rows."""
    specs = signature.inputs
    if len(specs) == 1 and not (isinstance(columns, dict) and columns.keys() != _BASE64):
        columns = {specs[0].name: columns}
    if not isinstance(columns, dict):
        faults.append(f"'inputs' is {tensors.seen(columns)}; expected an object with a list for each input")
        return {}, 0
    names = [spec.name for spec in specs]
    faults += dict.fromkeys(_misfits(columns, names))
    scalars = {spec.name for spec in specs if not spec.shape}
    for name in names:
        if name in columns and name not in scalars and not (isinstance(columns[name], list) and columns[name]):
            faults.append(f"input {name!r} is {tensors.seen(columns[name])}; expected a list with a value for each row")
    if faults:
        return {}, 0
    # Columns are for inputs that need not share their first axis, too: those that do are told by the signature.
    lengths = {name: len(columns[name]) for name in names if isinstance(columns[name], list)}
    if uneven := signature.uneven(lengths):
        faults.append(f"the inputs differ in their number of rows: {uneven!s:.300}")
    elif max(lengths.values(), default=0) > MAX_ROWS:
        faults.append(_too_many(max(lengths.values())))
    if faults:
        return {}, 0
    return _arrays(specs, [columns[name] for name in names], faults), signature.rows(lengths)


def _too_many(count: int) -> str:
    return f"{count} rows; at most {MAX_ROWS} are taken at once"


def _values(rows: Sequence[Any]) -> bool:
    """Whether each row of a model with one input is its value; no object but bytes is one."""
    return all(type(row) is not dict or row.keys() == _BASE64 for row in rows)


def _columns_of(rows: list[Any], names: list[str], faults: list[str]) -> list[list[Any]]:
    """The values of each name, row by row; nothing, and a fault for each kind of misfit, where a row is no such row."""
    kinds = set(map(type, rows))
    if kinds == {list} and set(map(len, rows)) == {len(names)}:
        return [list(column) for column in zip(*rows, strict=True)]
    if kinds == {dict} and all(row.keys() == rows[0].keys() for row in rows) and rows[0].keys() == set(names):
        return [[row[name] for row in rows] for name in names]
    columns: list[list[Any]] = [[] for _ in names]
    misfits: dict[str, list[int]] = {}  # a table's fault is in every row of it: told once, with the rows
    broken, unseen = 0, []
    for number, row in enumerate(rows):
        if broken == MAX_BROKEN or len(misfits) > MAX_MISFITS:
            unseen = [f"rows {number}-{len(rows) - 1} were not looked at"]
            break
        if isinstance(row, dict) and (len(names) > 1 or row.keys() != _BASE64):
            wrong = dict.fromkeys(_misfits(row, names))  # two long names may read alike
            values: Sequence[Any] = [row.get(name) for name in names]
        elif len(names) == 1:
            wrong, values = {}, [row]
        elif isinstance(row, list) and len(row) == len(names):
            wrong, values = {}, row
        else:
            wrong, values = {f"a row is {tensors.seen(row)}, not an object or a list of {len(names)}": None}, ()
        if wrong:
            broken += 1
            for fault in wrong:
                misfits.setdefault(fault, []).append(number)
        else:
            for column, value in zip(columns, values, strict=True):
                column.append(value)
    # First of all, for only so many faults are told.
    faults += [*unseen, *(f"{fault} ({ranges(numbers)})" for fault, numbers in misfits.items())]
    return [] if misfits else columns


def _misfits(given: Mapping[str, Any], names: Collection[str]) -> Iterator[str]:
    """What is wrong with the names that are given: one sentence for each."""
    yield from (f"{name!r} is missing; null says that a value is" for name in names if name not in given)
    yield from (f"{name!r:.60} is no input of this model" for name in given if name not in names)


def _arrays(specs: Sequence[TensorSpec], columns: Sequence[Any], faults: list[str]) -> dict[str, Array]:
    """One array for each input, in the signature's order."""
    numbers = _numbers(specs, columns)
    return {
        spec.name: numbers[spec.name] if spec.name in numbers else _array(spec, values, faults)
        for spec, values in zip(specs, columns, strict=True)
    }


def _array(spec: TensorSpec, values: Any, faults: list[str]) -> Array:
    """One input; `values` is no list where it is one value without an axis."""
    return tensors.array(spec, values if isinstance(values, list) else [values], _shape(spec, values), faults)


def _numbers(specs: Sequence[TensorSpec], columns: Sequence[Any]) -> dict[str, Array]:
    """The columns of FP32 numbers, read as the one table they are: a row of thirty takes 22 µs so, else 52.

    Nothing where one of them does not fit: then each is looked at by itself, and the fault has its column's name.
    """
    plain = [i for i, spec in enumerate(specs) if spec.shape == (-1, 1) and spec.datatype == "FP32"]
    if len(plain) < 2:
        return {}
    if len({len(columns[i]) for i in plain}) > 1:
        return {}
    shape = (len(plain), len(columns[plain[0]]), 1)
    misfits: list[str] = []
    table = tensors.array(_TABLE, list(chain.from_iterable([columns[i] for i in plain])), shape, misfits)
    return {} if misfits else {specs[i].name: column for i, column in zip(plain, table, strict=True)}


def _shape(spec: TensorSpec, values: Any) -> tuple[int, ...]:
    """The shape that `values`, one per row, should have: the signature's, its open axes filled from the first row."""
    if not spec.shape:
        return tensors.nesting(values)
    return (len(values), *tensors.row_shape(spec, values[0]))
