"""Times as people write them, as seconds: ISO 8601 with and without zones, access-log dates, numbers since the epoch.

Vectorised on Arrow arrays. A time that cannot be read is NaN, and the caller says what becomes of its row; a whole
column that cannot be understood raises BadTraffic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.tune.readers.options import UNITS, Options
from headrace.tune.traffic import BadTraffic

# Years 2001 to 2128 in seconds. The ranges of the four units do not touch, so a number says its own unit.
EPOCH_S = (1e9, 5e9)

_DATE = r"^\d{4}-\d\d-\d\d"
_CLOCK = r"[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?"
_ZONE = r"(?:Z|[+-]\d\d(?::?\d\d)?)"
_LOG_DATE = r"^(?P<day>\d\d)/(?P<month>[A-Z][a-z][a-z])/(?P<year>\d{4}):(?P<clock>\d\d:\d\d:\d\d) ?(?P<zone>[+-]\d{4})$"
_MONTHS = pa.array(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"])
_MONTH_NUMBERS = pa.array([f"{m:02d}" for m in range(1, 13)])


@dataclass(frozen=True, slots=True)
class Instants:
    """(n,) seconds: since the epoch where `absolute`, otherwise since a moment that nobody names. NaN: unreadable."""

    at_s: NDArray[np.float64]
    absolute: bool
    notes: tuple[str, ...] = ()


def read(column: pa.ChunkedArray, name: str, unit: str | None, options: Options) -> Instants:
    """The column's times, whatever its type. unit: of numbers, where the column's name says it."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type):
        if column.type.tz is not None:
            return Instants(_epoch_s(column), absolute=True)
        return _local(column, name, options)
    if pa.types.is_date(column.type):
        raise BadTraffic(f"column {name!r} holds days without a time of day; expected when each request came")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        text = pc.utf8_trim_whitespace(column)
        numbers = _as_numbers(text)
        return of_text(text, name, options) if numbers is None else of_numbers(numbers, name, unit, options)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        return of_numbers(column, name, unit, options)
    raise BadTraffic(f"column {name!r} is of type {column.type}; expected times, as ISO 8601 or as numbers")


def of_numbers(column: pa.ChunkedArray, name: str, unit: str | None, options: Options) -> Instants:
    """Numbers since the epoch, or, when they are too small for that, since the recording's own beginning."""
    raw = column.to_numpy(zero_copy_only=False)
    values = raw.astype(np.float64)
    present = values[np.isfinite(values)]
    if not present.size:
        raise BadTraffic(f"column {name!r} holds no time at all")
    middle = float(np.quantile(present, 0.5, method="lower"))
    seen = next((u for u, s in UNITS.items() if EPOCH_S[0] <= middle * s < EPOCH_S[1]), None)
    told = options.time_unit or unit
    if seen is not None and told is not None and seen != told and options.time_unit is None:
        raise BadTraffic(
            f"column {name!r} says {told} by its name, but its numbers ({middle:.0f}) are times of these years only in "
            f"{seen}; say which it is with the time unit"
        )
    factor = UNITS[told or seen or "s"]
    low, high = EPOCH_S
    if seen is not None and told is None and not ((present * factor >= low) & (present * factor < high)).all():
        odd = present[~((present * factor >= low) & (present * factor < high))][0]
        raise BadTraffic(
            f"column {name!r} mixes units: {middle:.0f} is a time in {seen}, {odd:.0f} is not; expected one unit "
            "throughout"
        )
    absolute = low <= middle * factor < high
    notes: tuple[str, ...] = ()
    if not absolute and told is None:
        notes = (f"the numbers in {name!r} are too small for dates: taken as seconds since the recording's beginning",)
    if np.issubdtype(raw.dtype, np.integer) and factor < 1:
        # Whole seconds and their rest apart: 1.7e18 ns have no exact place in a float.
        per_s = round(1 / factor)
        return Instants((raw // per_s).astype(np.float64) + (raw % per_s) / per_s, absolute, notes)
    return Instants(values * factor, absolute, notes)


def of_text(text: pa.ChunkedArray | pa.Array, name: str, options: Options) -> Instants:
    """ISO 8601 and access-log dates, `31/Jan/2026:12:00:00 +0100`; zones may differ by row, and a note says so.

    Without a zone, that of the options is meant.
    """
    text = pc.replace_substring(text, ",", ".")
    text = pc.replace_substring_regex(text, r" ?(?:UTC|GMT|[Zz])$", "Z")
    text = pc.replace_substring_regex(text, r" ([+-]\d\d(?::?\d\d)?)$", r"\1")
    zoned = pc.fill_null(pc.match_substring_regex(text, f"{_DATE}{_CLOCK}{_ZONE}$"), False)
    local = pc.fill_null(pc.match_substring_regex(text, f"{_DATE}{_CLOCK}$"), False)
    notes: tuple[str, ...] = ()
    at_s = np.full(len(text), np.nan)
    dated = pc.fill_null(pc.match_substring_regex(text, _LOG_DATE), False)
    try:
        if pc.any(dated).as_py():
            at_s[_mask(dated)] = _of_log_dates(pc.filter(text, dated))
        if pc.any(zoned).as_py():
            at_s[_mask(zoned)] = _epoch_s(pc.cast(pc.filter(text, zoned), pa.timestamp("ns", "UTC")))
        if pc.any(local).as_py():
            told = _local(pc.cast(pc.filter(text, local), pa.timestamp("ns")), name, options)
            at_s[_mask(local)], notes = told.at_s, told.notes
    except pa.ArrowInvalid as e:
        raise BadTraffic(f"{name!r} holds an impossible date: {e}") from e
    if pc.any(zoned).as_py():
        zones = pc.unique(
            pc.struct_field(pc.extract_regex(pc.filter(text, zoned), f"(?P<zone>{_ZONE})$"), "zone")
        ).to_pylist()
        if len(zones) > 1:
            notes += (
                f"the times in {name!r} are in {len(zones)} zones, {', '.join(sorted(zones)[:4])}: each was heeded",
            )
    if np.isnan(at_s).all():
        example = next((t for t in text.to_pylist() if t), None)
        if example is None:
            raise BadTraffic(f"column {name!r} holds no time at all")
        raise BadTraffic(
            f"{name!r} holds {example!r}; expected times such as 2026-01-31T12:00:00.250Z or numbers since the epoch"
        )
    return Instants(at_s, absolute=True, notes=notes)


def _of_log_dates(text: pa.ChunkedArray | pa.Array) -> NDArray[np.float64]:
    parts = pc.extract_regex(text, _LOG_DATE)
    month = pc.take(_MONTH_NUMBERS, pc.index_in(pc.struct_field(parts, "month"), _MONTHS))
    day = pc.binary_join_element_wise(pc.struct_field(parts, "year"), month, pc.struct_field(parts, "day"), "-")
    clock = pc.binary_join_element_wise(pc.struct_field(parts, "clock"), pc.struct_field(parts, "zone"), "")
    return _epoch_s(pc.cast(pc.binary_join_element_wise(day, clock, "T"), pa.timestamp("ns", "UTC")))


def _local(column: pa.ChunkedArray | pa.Array, name: str, options: Options) -> Instants:
    """Times without a zone, in the zone that the options name."""
    zone, count = options.time_zone, len(column) - column.null_count
    early = pc.assume_timezone(column, zone, ambiguous="earliest", nonexistent="latest")
    late = pc.assume_timezone(column, zone, ambiguous="latest", nonexistent="latest")
    twice = pc.sum(pc.not_equal(early, late)).as_py() or 0
    notes: tuple[str, ...] = (f"{count:,} times in {name!r} have no zone: taken as {zone}",)
    skipped = pc.sum(pc.not_equal(pc.local_timestamp(early), column)).as_py() or 0
    if skipped:
        notes += (f"{skipped:,} of them lie in the hour that {zone} leaves out: the hour's end was taken",)
    if twice:
        notes += (f"{twice:,} of them lie in the hour that {zone} has twice: the first of the two was taken",)
    return Instants(_epoch_s(early), absolute=True, notes=notes)


def _epoch_s(column: pa.ChunkedArray | pa.Array) -> NDArray[np.float64]:
    per_s = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[column.type.unit]
    ticks = pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    at_s = ticks // per_s + (ticks % per_s) / per_s
    if column.null_count:
        at_s[_mask(column.is_null())] = np.nan
    return np.asarray(at_s, dtype=np.float64)


def _as_numbers(text: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The same as integers or floats; None where most of it is no number."""
    whole = pc.fill_null(pc.match_substring_regex(text, r"^-?\d{1,18}$"), False)
    number = pc.fill_null(pc.match_substring_regex(text, r"^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?$"), False)
    if 2 * (pc.sum(number).as_py() or 0) <= len(text) - text.null_count:
        return None
    if pc.all(whole).as_py():
        return text.cast(pa.int64())
    return pc.if_else(number, text, None).cast(pa.float64())


def _mask(column: pa.ChunkedArray | pa.Array) -> NDArray[np.bool_]:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.bool_)
