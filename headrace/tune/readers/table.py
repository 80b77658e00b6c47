"""Tables of requests, CSV or Parquet: a row for each, with when it came and how long it took.

Also the tables of `headrace.tune.readers.published`. Only the columns that are needed are read, and none row by row.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.tune.readers import columns, durations, instants, published, recording, selection, source, tabular
from headrace.tune.readers.columns import Column, Columns
from headrace.tune.readers.options import Options
from headrace.tune.readers.recording import Recording
from headrace.tune.traffic import BadTraffic, Traffic

# Between the parts of a function's name, as Huawei writes it.
SEPARATOR = "---"


def read(path: Path, options: Options) -> Traffic:
    """The requests of a CSV or Parquet file. Raises BadTraffic where its columns do not say enough."""
    head = source.head(path)
    names = tabular.header(path, head)
    known = published.recognise(names)
    roles = columns.recognise(names) if known is None else known.columns
    key = known.function if known else (roles.which.name,) if roles.which else ()
    table = tabular.load(path, list(dict.fromkeys((*roles.names, *key))), names)
    kind = known.kind if known else "Parquet" if head.startswith(source.PARQUET) else "CSV"
    return requests(table, roles, key, known is not None, path, kind, options)


def requests(
    table: pa.Table,
    roles: Columns,
    key: tuple[str, ...],
    must: bool,
    path: Path,
    kind: str,
    options: Options,
    notes: tuple[str, ...] = (),
) -> Traffic:
    """The rows as traffic. key: the columns that name a function together; must: the options must name one of many."""
    table, taken = _selected(table, key, options, must)
    return recording.traffic(_recording(table, roles, options, (*notes, *taken)), path, kind, options)


def _selected(table: pa.Table, key: tuple[str, ...], options: Options, must: bool) -> tuple[pa.Table, tuple[str, ...]]:
    """The rows of the one that is asked for. must: a table of many is refused unless one is named."""
    if not key:
        if options.only is not None:
            raise BadTraffic(
                f"there is no column to find {options.only!r} in; expected one called function, service, revision or "
                "host"
            )
        return table, ()
    parts = [table.column(k).cast(pa.string()) for k in key]
    which = pc.binary_join_element_wise(*parts, SEPARATOR, null_handling="replace", null_replacement="")
    counted = {str(c["values"]): int(c["counts"]) for c in pc.value_counts(which).to_pylist()}
    what = key[0] if len(key) == 1 else "function"
    if options.only is None and not must:
        if len(counted) < 2:
            return table, ()
        return table, (f"the column {what} names {len(counted):,} of them: all were taken together",)
    name = selection.choose(counted, options.only, what)
    kept = table.filter(pc.equal(which, name))
    return kept, (f"of {table.num_rows:,} requests the {kept.num_rows:,} of {what} {name} were taken",)


def _recording(table: pa.Table, known: Columns, options: Options, notes: tuple[str, ...]) -> Recording:
    duration = known.service or known.latency
    at_end = known.start is None
    stamp = cast(Column, known.end if at_end else known.start)  # recognise() found one of the two
    at = instants.read(table.column(stamp.name), stamp.name, stamp.unit, options)
    notes += at.notes
    duration_s: NDArray[np.float64] | None = None
    if duration is not None:
        duration_s, said = durations.read(table.column(duration.name), duration, options)
        notes += said
    elif known.end is not None and not at_end:
        end = instants.read(table.column(known.end.name), known.end.name, known.end.unit, options)
        duration_s, notes = end.at_s - at.at_s, notes + end.notes
    cold_s, is_cold, said = _cold(table, known.cold, options)
    notes += said
    whole = bool(at.absolute and (np.nan_to_num(at.at_s) % 1 == 0).all())
    return Recording(
        at.at_s,
        duration_s,
        at.absolute,
        at_end=at_end,
        is_service=known.service is not None,
        cold_s=cold_s,
        is_cold=is_cold,
        pods=tabular.codes(table.column(known.pod.name)) if known.pod else None,
        whole_seconds=whole,
        notes=notes,
    )


def _cold(
    table: pa.Table, column: Column | None, options: Options
) -> tuple[NDArray[np.float64] | None, NDArray[np.bool_] | None, tuple[str, ...]]:
    """The column of cold starts: seconds of each, or which requests met one."""
    if column is None:
        return None, None, ()
    values = table.column(column.name)
    if pa.types.is_string(values.type):
        words = pc.utf8_lower(pc.utf8_trim_whitespace(values))
        if pc.all(pc.is_in(words.drop_null(), pa.array(["true", "false", "yes", "no"]))).as_py():
            values = pc.is_in(words, pa.array(["true", "yes"]))
        elif column.unit is None and pc.all(pc.is_in(words.drop_null(), pa.array(["0", "1"]))).as_py():
            values = pc.equal(words, "1")
    if pa.types.is_boolean(values.type):
        return None, np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), dtype=np.bool_), ()
    cold_s, said = durations.read(values, column, options)
    return cold_s, None, said
