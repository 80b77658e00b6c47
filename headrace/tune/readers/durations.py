"""Durations as people write them, as seconds: numbers in a unit, or text such as 12.5ms. Vectorised on Arrow arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.tune.readers.columns import Column
from headrace.tune.readers.options import UNITS, Options
from headrace.tune.traffic import BadTraffic

_TEXT = r"^(?P<number>[0-9.]+(?:[eE][-+]?\d+)?) ?(?P<unit>ns|us|µs|ms|s)$"  # as Go prints them: 12.5ms
_NUMBER = r"^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?$"

# A median below it is no number of ms: a proxy alone takes as long. Above it, seconds and ms are both usual.
SECONDS_BELOW = 0.5


def read(values: pa.ChunkedArray, column: Column, options: Options) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """(n,) seconds, NaN for what cannot be read, and what was assumed of them.

    The unit is said by type, by text, by the options or by the column's name, in this order.
    Raises BadTraffic for a column that holds no durations, and for one that says no unit and could be in any.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    if pa.types.is_duration(kind):
        return _floats(values.cast(pa.duration("ns")).cast(pa.int64()).cast(pa.float64())) * UNITS["ns"], ()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = pc.utf8_trim_whitespace(values)
        parts = pc.extract_regex(text, _TEXT)
        if parts.null_count < len(values):
            factors = pc.take(
                pa.array([*UNITS.values(), UNITS["us"]]),
                pc.index_in(pc.struct_field(parts, "unit"), pa.array([*UNITS, "µs"])),
            )
            return _floats(pc.multiply(pc.struct_field(parts, "number").cast(pa.float64()), factors)), ()
        number = pc.match_substring_regex(text, _NUMBER)
        if not pc.any(number).as_py():
            seen = next((v for v in values.to_pylist() if v), "nothing")
            raise BadTraffic(f"column {column.name!r} holds {seen!r}; expected durations as numbers, or such as 12.5ms")
        values = pc.if_else(number, text, None).cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise BadTraffic(f"column {column.name!r} is of type {kind}; expected durations")
    found = _floats(values.cast(pa.float64()))
    unit = options.duration_unit or column.unit
    if unit is not None:
        return found * UNITS[unit], ()
    middle = float(np.median(found[np.isfinite(found)])) if np.isfinite(found).any() else 0.0
    if not 0 < middle < SECONDS_BELOW:
        raise BadTraffic(
            f"column {column.name!r} does not say its unit, and {middle:g} could be in any; call it {column.name}_ms "
            f"or {column.name}_s, or give the duration unit (duration_unit)"
        )
    return found, (
        f"column {column.name!r} says no unit: taken as seconds, for in ms half would take under {middle:g} ms",
    )


def _floats(values: pa.ChunkedArray | pa.Array) -> NDArray[np.float64]:
    return np.asarray(pc.fill_null(values, float("nan")).to_numpy(zero_copy_only=False), dtype=np.float64)


def numbers(values: pa.ChunkedArray, name: str) -> NDArray[np.float64]:
    """(n,) the column as plain numbers, NaN where there is none. Raises BadTraffic for text that is no number."""
    if pa.types.is_string(values.type):
        text = pc.utf8_trim_whitespace(values)
        odd = pc.fill_null(pc.invert(pc.match_substring_regex(text, _NUMBER)), False)
        if pc.any(odd).as_py():
            raise BadTraffic(f"column {name!r} holds {text.filter(odd)[0].as_py()!r}; expected numbers")
        values = text
    return _floats(values.cast(pa.float64()))
