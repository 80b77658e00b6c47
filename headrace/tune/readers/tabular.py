"""People's tables, CSV or Parquet: their header, and of their columns those that are needed.

A CSV's columns are read as text, for what is in one is decided on all of its rows, not on the first block.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from headrace.tune.readers import source
from headrace.tune.traffic import BadTraffic

_NOTHING = ["", "NaN", "nan", "NULL", "null", "None", "NA", "N/A", "-"]


def header(path: Path, head: bytes) -> list[str]:
    """The columns' names in the file that begins with `head`; empty for what is no text. Raises BadTraffic for Parquet
    that is none."""
    if head.startswith(source.PARQUET):
        try:
            return list(pyarrow.parquet.read_schema(path).names)
        except (pa.ArrowException, OSError) as e:
            raise BadTraffic(f"{path} begins like Parquet and is not: {e}; was it cut off?") from e
    try:
        line = _first_line(head).decode("utf-8-sig")
        return next(csv.reader([line], delimiter=_delimiter(head)), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def load(path: Path, wanted: Sequence[str], names: Sequence[str]) -> pa.Table:
    """The wanted of the columns `names`; a CSV's as strings. Raises BadTraffic for what is broken and for no rows."""
    doubled = [n for n in wanted if list(names).count(n) > 1]
    if doubled:
        raise BadTraffic(f"{path} has more than one column called {doubled[0]!r}; expected one of each name")
    head = source.head(path)
    table = _parquet(path, wanted) if head.startswith(source.PARQUET) else _csv(path, wanted, _delimiter(head))
    if not table.num_rows:
        raise BadTraffic(f"{path} holds no request: it has a header ({', '.join(names[:8])}) and no rows")
    return table


def codes(values: pa.ChunkedArray) -> NDArray[np.int64]:
    """(n,) a number for each different text."""
    encoded = pc.fill_null(values.cast(pa.string()), "").combine_chunks().dictionary_encode()
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _parquet(path: Path, wanted: Sequence[str]) -> pa.Table:
    try:
        return pyarrow.parquet.read_table(path, columns=list(wanted))
    except (pa.ArrowException, OSError) as e:
        raise BadTraffic(f"{path} cannot be read as Parquet: {e}; was it cut off?") from e


def _csv(path: Path, wanted: Sequence[str], delimiter: str) -> pa.Table:
    convert = pyarrow.csv.ConvertOptions(
        include_columns=list(wanted),
        column_types=dict.fromkeys(wanted, pa.string()),
        null_values=_NOTHING,
        strings_can_be_null=True,
    )
    # A block must hold the longest line: a header of thousands of functions is one.
    read = pyarrow.csv.ReadOptions(block_size=4 * source.HEAD_BYTES)
    try:
        with source.opened(path) as file:
            parse = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=False)
            return pyarrow.csv.read_csv(file, read, parse, convert)
    except pa.ArrowException as e:
        raise BadTraffic(f"{path} is no whole table: {e}; was it cut off, or is it another format?") from e


def _first_line(head: bytes) -> bytes:
    return head.split(b"\n", 1)[0].rstrip(b"\r")


def _delimiter(head: bytes) -> str:
    """The character between the columns: whichever of the usual ones the first line has most of."""
    return max(",;\t|", key=lambda c: _first_line(head).count(c.encode()))
