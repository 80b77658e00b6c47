"""Rows as people have them, CSV, Parquet, JSON or JSON lines, made into what a model's inputs take.

Used by `headrace predict`. A table is read as the trainers read it, so that a file that was learned from can be asked
about as it is: the same delimiters, the same gaps, and a column of text keeps `01` and `7` as the texts that they are.
JSON says itself what is a number.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from eventing.errors import Misconfigured, Rejected
from headrace import why
from headrace.predict import Row
from trainers import columns, data_file
from trainers.table import BrokenDataset, Numbers, Table, Text

REASONS_SHOWN = 5  # of a table that is none
_TEXT, _BOOL = "BYTES", "BOOL"  # datatypes of the Open Inference Protocol; every other one is of numbers
_WORDS = {"true": True, "false": False}
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(columns.NUMBER)


def read(where: str) -> Table | list[Row]:
    """The rows of a file, or of stdin for '-'. Raises Rejected when it holds none, Misconfigured when it is no file."""
    try:
        content = sys.stdin.buffer.read() if where == "-" else Path(where).read_bytes()
    except OSError as e:
        raise Misconfigured("--rows", where, f"a file that can be read ({e.strerror})") from e
    name = "stdin" if where == "-" else where
    start = content[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start:
        raise Rejected(f"{name} holds no rows; expected CSV with a header, Parquet, a JSON list, or JSON lines")
    if start[:1] in (b"[", b"{"):
        return _from_json(name, content)
    return _from_table(name, content)


def fit(given: Table | list[Row], inputs: Mapping[str, str]) -> tuple[list[Row], list[str]]:
    """The rows with the model's inputs alone, and the names that are none: examples hold the answer too.

    inputs: datatype of the Open Inference Protocol by name.
    """
    if isinstance(given, Table):
        taken = {
            name: cells(column, inputs[name], delimiter=given.delimiter)
            for name, column in given.columns.items()
            if name in inputs
        }
        others = [name for name in given.columns if name not in inputs]
        count = len(given.lines)
        return [{name: values[i] for name, values in taken.items()} for i in range(count)], sorted(others)
    names = {name for row in given if isinstance(row, dict) for name in row} - set(inputs)
    kept = [{k: v for k, v in row.items() if k in inputs} if isinstance(row, dict) else row for row in given]
    return kept, sorted(names)


def cells(column: Text | Numbers, datatype: str, *, delimiter: str = "") -> list[Any]:
    """A column's cells as JSON has them: what is not of the datatype stays text, for the model to name it.

    delimiter: as in `Table`.
    """
    if isinstance(column, Numbers):
        if datatype != _TEXT:
            numbers = column.values.tolist()
            return [None if v != v else int(v) if column.whole else v for v in numbers]
        column = columns.spelled(column)
    said = column.words.to_pylist()
    # As the trainers read a number; text stays as it stands.
    spelled = columns.plain(pc.utf8_trim_whitespace(column.words), delimiter).to_pylist()
    words = [_cell(word, number, datatype) for word, number in zip(said, spelled, strict=True)]
    return [words[code] if code >= 0 else None for code in column.codes.tolist()]


def _cell(word: str, bare: str, datatype: str) -> Any:
    if datatype == _TEXT:
        return word  # the model knows the spellings of what is missing
    if bare in columns.MISSING:
        return None
    if datatype == _BOOL:
        return _WORDS.get(bare.lower(), word)
    if _WHOLE.fullmatch(bare):
        return int(bare)
    return float(bare) if _NUMBER.match(bare) else word


def _from_table(name: str, content: bytes) -> Table:
    suffix = ".parquet" if content.startswith(b"PAR1") else ".csv"
    with tempfile.TemporaryDirectory(prefix="headrace-rows-") as folder:
        file = Path(folder) / f"rows{suffix}"
        file.write_bytes(content)
        try:
            found = data_file.read(file, name)
            if found.faults:
                raise found.faults.error()
        except BrokenDataset as e:
            if "no rows" in e.counts:
                raise Rejected(f"{name} holds a header but no rows") from e
            told = [why.reason(asdict(reason)) for reason in e.reasons[:REASONS_SHOWN]]
            more = f"; and {len(e.reasons) - REASONS_SHOWN} more" if len(e.reasons) > REASONS_SHOWN else ""
            raise Rejected(f"{name} cannot be asked about: {'; '.join(told)}{more}") from e
    if not len(found.lines):
        raise Rejected(f"{name} holds no rows")
    return found


def _from_json(name: str, content: bytes) -> list[Row]:
    """Of a list, of a V1 body, or of one object a line."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise Rejected(f"{name} is not UTF-8 text: {e}") from e
    try:
        value = json.loads(text)
    except ValueError as whole:
        value = _json_lines(name, text, whole)
    if isinstance(value, dict):
        value = value["instances"] if isinstance(value.get("instances"), list) else _by_column(name, value)
    if not value:
        raise Rejected(f"{name} holds no rows")
    return list(value)


def _json_lines(name: str, text: str, whole: ValueError) -> list[Row]:
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except ValueError as e:
            raise Rejected(
                f"{name} is neither JSON ({whole}) nor JSON lines (line {number} does not stand for itself: {e})"
            ) from e
    return found


def _by_column(name: str, value: dict[str, Any]) -> Sequence[Row]:
    """One row; or V1's `inputs`, a list for each column."""
    by_name = value.get("inputs")
    if not isinstance(by_name, dict) or len(value) != 1:
        return [value]
    if not all(isinstance(values, list) for values in by_name.values()) or len(set(map(len, by_name.values()))) > 1:
        raise Rejected(f"{name}: expected in `inputs` a list for each column, all of one length")
    return [dict(zip(by_name, row, strict=True)) for row in zip(*by_name.values(), strict=True)]
