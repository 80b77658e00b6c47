"""Parquet to columns: numbers as they are typed, text as it is packed, the rest as pandas would write it into a CSV.

Called by `trainers.data_file`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from trainers import table
from trainers.table import Faults, Numbers, Table, Text, shown

# Parquet packs what repeats itself: a file of a few KiB may unpack to more than a trainer has memory for. So many cells
# take some 1.5 GB while they are read; a larger file may hold as many as a CSV of its size could.
LEAST_MAX_CELLS = 1 << 25
_INDEX = re.compile(r"__index_level_\d+__")  # how pandas calls an index that has no name


def read(file: Path, name: str) -> Table:
    """The table in `file`, called `name`. Raises BrokenDataset when it has no form to read rows from."""
    if file.stat().st_size == 0:
        raise table.refuse("empty file", "the file is empty; expected Parquet")
    try:
        with pyarrow.parquet.ParquetFile(file) as source:
            schema, rows = source.schema_arrow, source.metadata.num_rows
        table.check_names(schema.names)
        _check_cells(rows, len(schema.names), file.stat().st_size)
        # Text as it is packed, each different word once.
        texts = [each.name for each in schema if pa.types.is_string(each.type) or pa.types.is_large_string(each.type)]
        with pyarrow.parquet.ParquetFile(file, read_dictionary=texts) as source:
            unpacked = source.read()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as e:
        raise table.refuse("unreadable file", f"the file cannot be read as Parquet: {e}") from e
    faults = Faults()
    columns: dict[str, Text | Numbers] = {}
    index = [title for title in unpacked.column_names if _INDEX.fullmatch(title)]
    for title in unpacked.column_names:
        if title in index:
            continue
        if not _is_sound(title, unpacked.column(title), faults):
            continue
        column = _typed(title, unpacked.column(title), faults)
        if column is not None:
            columns[title] = column
    if faults:
        raise faults.error()
    notes = tuple(f"{shown(title)} was left out: it is the index that pandas writes into its files" for title in index)
    return Table(name, columns, np.arange(1, unpacked.num_rows + 1), unpacked.num_rows, notes=notes)


def _check_cells(rows: int, columns: int, file_bytes: int) -> None:
    allowed = max(LEAST_MAX_CELLS, file_bytes // 2)
    if rows * columns > allowed:
        what = f"the file unpacks to {rows * columns:,} cells, {rows:,} rows of {columns:,} columns"
        raise table.refuse("file too large", f"{what}; at most {allowed:,} are taken at once: split it")


def _typed(name: str, column: pa.ChunkedArray, faults: Faults) -> Text | Numbers | None:
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        if pa.types.is_string(kind) and not any(chunk.dictionary.null_count for chunk in column.chunks):
            return table.encoded(column)
        column = column.cast(kind)
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        return Numbers(_by_its_digits(column), False)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return Numbers(np.where(np.asarray(pc.is_null(column)), np.nan, values), pa.types.is_integer(kind))
    if pa.types.is_null(kind):
        return Numbers(np.full(len(column), np.nan), False)
    # True, False, dates and times as text, as the same table written as CSV by pandas would hold them.
    if pa.types.is_boolean(kind):
        return table.encoded(pc.if_else(column, "True", "False"))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return table.encoded(column.cast(pa.string()))
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        return _as_pandas_writes(table.encoded(column.cast(pa.string())))
    faults.of_file(
        "column of an unusable type",
        f"column {shown(name)} is of type {kind}; expected numbers, text, true/false, dates or times",
        column=name,
    )
    return None


def _is_sound(name: str, column: pa.ChunkedArray, faults: Faults) -> bool:
    """Whether each cell is what the file says: text in UTF-8, which not every writer sees to; a word that is there."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as e:
        if "UTF8" in str(e):
            what = f"column {shown(name)} holds text that is not UTF-8; write it as UTF-8"
            faults.of_file("not UTF-8", what, name)
        else:
            faults.of_file("unreadable file", f"column {shown(name)} cannot be read as Parquet: {e}", name)
        return False
    return True


def _by_its_digits(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Half and single precision as the numbers that they are read as: 0.1, and not 0.10000000149011612."""
    values, places = np.unique(column.to_numpy(), return_inverse=True)  # a null is NaN there
    return values.astype("U32").astype(np.float64)[places]


def _as_pandas_writes(text: Text) -> Text:
    """Dates and times as `to_csv` spells them, not as Arrow does: no fraction and no midnight that says nothing."""
    words = text.words
    for seen, written in ((r"\.0+(Z|[+-]\d{4})?$", r"\1"), (r"Z$", "+00:00"), (r"([+-]\d\d)(\d\d)$", r"\1:\2")):
        words = pc.replace_substring_regex(words, seen, written)
    if len(words) and pc.all(pc.match_substring_regex(words, r"^\d+-\d\d-\d\d 00:00:00$")).as_py():
        words = pc.replace_substring(words, " 00:00:00", "")
    return Text(text.codes, words)
