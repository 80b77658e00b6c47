"""A CSV file as a `Table`.

It is read as text, whatever its cells look like: a type guessed from the first block of a file would fail on a later
one without saying where. Called by `trainers.data_file`.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from eventing.contract import MAX_REASONS
from trainers.table import Faults, Numbers, Table, Text, check_names, encoded, refuse

DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(r"sep=([,;\t|])\r?\n", re.IGNORECASE)
_HEAD_CHARACTERS = 1 << 16  # in which the delimiter is looked for
_LONGEST_HEADER = 8 << 20  # characters
_BLOCK_BYTES = 8 << 20  # pyarrow wants each record whole inside one block; a longer record is refused with its line

_MAGIC: dict[bytes, str] = {
    b"PK\x03\x04": "a ZIP or Excel (.xlsx) file",
    b"\x1f\x8b": "a gzip file",
    b"\xd0\xcf\x11\xe0": "an old Excel (.xls) file",
    b"%PDF": "a PDF",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x7fELF": "a program",
    codecs.BOM_UTF16_LE: "UTF-16 text",
    codecs.BOM_UTF16_BE: "UTF-16 text",
}


def read(file: Path, name: str) -> Table:
    """The table in `file`, which a person calls `name`. Raises BrokenDataset when it has no form to read rows from."""
    text = _decoded(file.read_bytes())
    if not text.strip():
        raise refuse("empty file", "the file is empty; expected a header line with the names of the columns, then rows")
    delimiter, names, header_lines, body = _header(text)
    check_names(names)
    if not body.strip():
        raise refuse("no rows", "the file has a header but no rows; expected at least 20")
    ragged: list[tuple[int, int, int]] = []  # record, cells, line breaks inside it

    def skip(row: Any) -> str:
        ragged.append((row.number, row.actual_columns, row.text.strip("\r\n").count("\n")))
        return "skip"

    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(body.encode()),
            # Row numbers of ragged rows are known only when one thread reads the blocks in order.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, column_names=names),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, invalid_row_handler=skip, newlines_in_values=True, ignore_empty_lines=False
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={title: pa.string() for title in names}, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as e:
        raise refuse("unreadable file", f"the file cannot be read as CSV: {e}") from e
    columns = {title: encoded(table.column(title)) for title in names}
    good = np.setdiff1d(np.arange(1, table.num_rows + len(ragged) + 1), [number for number, _, _ in ragged])
    lines = header_lines + _line_of_records(columns, good, ragged)
    filled, good_lines = _without_blank_lines(columns, lines[good])
    faults = Faults()
    cells = f"{len(names)} cells, as the header has"
    faults.of_rows(
        "wrong number of cells",
        [int(lines[number]) for number, _, _ in ragged],
        None,
        lambda i: f"row has {ragged[i][1]} cell{'s' * (ragged[i][1] != 1)}; expected {cells}",
    )
    return Table(name, filled, good_lines, len(good_lines) + len(ragged), faults, delimiter)


def _line_of_records(
    columns: dict[str, Text], good: npt.NDArray[np.int64], ragged: Sequence[tuple[int, int, int]]
) -> npt.NDArray[np.int64]:
    """The line on which each record begins, the first on line 1; cells may hold line breaks. Entry 0 is unused."""
    breaks = np.zeros(len(good) + len(ragged) + 1, np.int64)
    for column in columns.values():
        inside = pc.count_substring(column.words, "\n").to_numpy(zero_copy_only=False)
        if inside.any():
            breaks[good] += inside[column.codes]
    for number, _, inside_row in ragged:
        breaks[number] += inside_row
    return np.arange(len(breaks)) + np.cumsum(breaks) - breaks


def _decoded(raw: bytes) -> str:
    for magic, what in _MAGIC.items():
        if raw.startswith(magic):
            raise refuse("not a CSV file", f"the file holds {what}, though it came as CSV; expected CSV text in UTF-8")
    zero = raw.find(b"\0")
    if zero >= 0:
        line = raw.count(b"\n", 0, zero) + 1
        raise refuse("not a CSV file", f"the file is binary, not text: line {line} holds a zero byte", row=line)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        faults = Faults()
        lines = list(_undecodable(raw))
        faults.broken.update(lines)
        for line in lines[:MAX_REASONS]:
            faults.of_file("not UTF-8", f"line {line} is not UTF-8 text; save the file as UTF-8", row=line)
        faults.counts["not UTF-8"] = len(lines)
        raise faults.error() from None


def _undecodable(raw: bytes) -> list[int]:
    found = []
    for number, line in enumerate(raw.split(b"\n"), start=1):
        try:
            line.decode()
        except UnicodeDecodeError:
            found.append(number)
    return found


def _header(text: str) -> tuple[str, list[str], int, str]:
    """The delimiter, the names of the columns, the lines they take, and all that follows.

    Spreadsheets of many languages write `;` where others write `,`, and some say so in a line before the header.
    """
    told = _SEPARATOR_LINE.match(text)
    if told:
        text = text[told.end() :]
    if not text:
        raise refuse("no rows", "the file has neither header nor rows; expected at least 20")
    if text[0] in "\r\n":
        raise refuse("no header", "the first line is empty; expected the names of the columns there", row=1)
    delimiter = told[1] if told else max(DELIMITERS, key=lambda candidate: _fitness(text, candidate))
    taken = 0

    def lines() -> Iterator[str]:
        # What the reader has taken is counted here: its lines end at each line break, also at one inside a quoted name.
        nonlocal taken
        for line in io.StringIO(text[:_LONGEST_HEADER], newline=""):
            taken += len(line)
            yield line

    reader = csv.reader(lines(), delimiter=delimiter)
    try:
        names = next(reader)
    except csv.Error as e:
        raise refuse("no header", f"the header cannot be read: {e}", row=1) from e
    if taken == _LONGEST_HEADER:
        raise refuse("no header", f"the header is longer than {_LONGEST_HEADER:,} characters", row=1)
    return delimiter, names, reader.line_num + bool(told), text[taken:]


def _fitness(text: str, delimiter: str) -> tuple[int, int]:
    """How well a delimiter explains the first lines: records as wide as the header, and the header's width."""
    try:
        first = list(islice(csv.reader(io.StringIO(text[:_HEAD_CHARACTERS], newline=""), delimiter=delimiter), 10))
    except csv.Error:
        return 0, 0
    width = len(first[0])
    return (sum(len(record) == width for record in first[1:]) if width > 1 else 0), width


def _without_blank_lines(
    encoded: dict[str, Text], lines: npt.NDArray[np.int64]
) -> tuple[dict[str, Text | Numbers], npt.NDArray[np.int64]]:
    """The columns, without lines that hold nothing at all: files end in them, and they shift no line number."""
    blank = np.ones(len(lines), dtype=bool)
    for column in encoded.values():
        empty = pc.equal(column.words, "").to_numpy(zero_copy_only=False)
        blank &= empty[column.codes] if len(empty) else False
    if not blank.any():
        return dict(encoded), lines
    return {name: Text(c.codes[~blank], c.words) for name, c in encoded.items()}, lines[~blank]
