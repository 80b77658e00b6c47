"""One column of a table: numbers or text, cell by cell, and what is wrong with a cell that is neither.

Used by `trainers.dataset`. A cell means the same here as in a request to the model. A missing number is NaN there and
may be spelled in any of the ways of MISSING here. Text is taken as it stands, blanks and all, because a request's text
reaches the model as it stands; the spellings of MISSING are one missing value on both sides (see
`trainers.preprocessing`), so a caller may send what the file says or null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from monitoring import drift
from trainers.table import Numbers, Table, Text, shown

# A column is numbers when this share of its filled cells are. Below it the rest is not a handful of typing errors but a
# sign that the column is codes or categories; above it, those cells are broken and named.
NUMERIC_SHARE = 0.95
EXACT_IN_FLOAT32 = 1 << 24  # whole numbers beyond it share their float32 with a neighbour
FLOAT32_MAX = float(np.finfo(np.float32).max)
MISSING = drift.MISSING  # one truth with the drift watch: what is missing to the model is no category there

# By what parts the cells: numbers that are grouped by thousands, and by what, as spreadsheets write what they show. One
# that writes semicolons has the comma for the point. Between tabs both are met, and 1,234 could be either: it is text.
_GROUPED = {
    ",": (r"^[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]+)?$", ","),
    ";": (r"^[+-]?[1-9][0-9]{0,2}(\.[0-9]{3})+,[0-9]+$", "."),
}
_COMMA = r"^([+-]?[0-9]+),([0-9]+)$"
NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"


@dataclass(frozen=True, slots=True)
class Column:
    """One input. Of numbers: `values` (n,), NaN is missing. Of text: `codes` int32 (n,) into `words`, -1 is missing.

    values: float32 in a Dataset; float64 until then, because the target may be whole numbers that float32 confuses.
    """

    name: str
    values: npt.NDArray[np.floating[Any]] | None = None
    codes: npt.NDArray[np.int32] | None = None
    words: tuple[str, ...] = ()

    @property
    def is_text(self) -> bool:
        return self.codes is not None

    def take(self, rows: npt.NDArray[Any]) -> Column:
        """The same column with these rows, by index or mask."""
        if self.codes is not None:
            return replace(self, codes=self.codes[rows])
        assert self.values is not None
        return replace(self, values=self.values[rows])

    def missing(self) -> npt.NDArray[np.bool_]:
        """Which rows have no value, (n,)."""
        if self.codes is not None:
            return self.codes < 0
        assert self.values is not None
        return np.isnan(self.values)  # type: ignore[no-any-return]

    def tensor(self) -> npt.NDArray[Any]:
        """As the graph takes it: (n, 1) float32 with NaN, or (n, 1) text with "" for missing."""
        if self.codes is None:
            assert self.values is not None
            return self.values[:, None]
        # The missing code -1 is the last entry.
        return np.array([*self.words, ""], dtype=object)[self.codes][:, None]


def judged(
    name: str, column: Text | Numbers, table: Table, notes: list[str], *, as_text: bool = False, trimmed: bool = False
) -> Column:
    """The column of `table` as numbers (float64) or text; in a column of numbers every other cell is a fault.

    as_text: whether numbers too are taken as words. trimmed: whether words lose the blanks around them, as a target's.
    """
    if isinstance(column, Numbers):
        if not as_text:
            return _numbers(name, column.values, table, notes, column.whole)
        column = spelled(column)
    bare = pc.utf8_trim_whitespace(column.words)
    empty = _mask(pc.is_in(bare, pa.array(MISSING)))
    written = plain(bare, table.delimiter)
    matches = pc.match_substring_regex(written, NUMBER)
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(bare))
    filled = int(counts[~empty].sum())
    numeric = _mask(matches) & ~empty
    if as_text or (filled and counts[numeric].sum() < NUMERIC_SHARE * filled):
        words = bare if trimmed else column.words
        encoded = pc.if_else(pc.is_in(words, pa.array(MISSING)), None, words).dictionary_encode()
        recoded = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
        codes = np.where(column.codes < 0, np.int32(-1), recoded[column.codes]) if len(recoded) else column.codes
        return Column(name, codes=codes, words=tuple(encoded.dictionary.to_pylist()))
    # The missing code -1 is the last entry: of a column that is empty in every row, the only one.
    kinds = np.append(np.where(empty, 0, np.where(numeric, 1, 2)), 0)[column.codes]
    odd = np.flatnonzero(kinds == 2)
    cells = column.words.take(pa.array(column.codes[odd[:200]])).to_pylist()
    what = f"is not a number, as the rest of {shown(name)} is"
    table.faults.of_rows("not a number", table.lines[odd].tolist(), name, lambda i: f"{shown(cells[i])} {what}")
    # Arrow, unlike Python, knows no leading plus.
    digits = pc.replace_substring_regex(written, r"^\+", "")
    read = pc.cast(pc.if_else(matches, digits, None), pa.float64()).to_numpy(zero_copy_only=False)
    values = read[column.codes] if len(read) else np.full(len(column.codes), np.nan)
    return _numbers(name, np.where(kinds == 1, values, np.nan), table, notes, None)


def joined(parts: Sequence[Column]) -> Column:
    """One column of several with the same name, all numbers or all text; one without any value is either."""
    name = parts[0].name
    if not any(part.is_text for part in parts):
        return Column(name, values=np.concatenate([part.values for part in parts if part.values is not None]))
    place: dict[str, int] = {}
    codes = []
    for part in parts:
        if part.codes is None:
            codes.append(np.full(len(part.missing()), -1, np.int32))
            continue
        moved = np.array([*(place.setdefault(word, len(place)) for word in part.words), -1], np.int32)
        codes.append(moved[part.codes])
    return Column(name, codes=np.concatenate(codes), words=tuple(place))


def spelled(numbers: Numbers) -> Text:
    """Numbers as text, spelled as the same table written as CSV would have them."""
    words, codes = np.unique(numbers.values, return_inverse=True)
    text = pa.array(["" if np.isnan(w) else repr(int(w)) if numbers.whole else repr(float(w)) for w in words])
    return Text(codes.astype(np.int32), text.cast(pa.string()))


def _numbers(name: str, values: npt.NDArray[np.float64], table: Table, notes: list[str], whole: bool | None) -> Column:
    too_large = np.flatnonzero(np.abs(values) > FLOAT32_MAX)
    what = f"is too large for {shown(name)}: models compute in float32, to {FLOAT32_MAX:.2g}"
    table.faults.of_rows(
        "number too large", table.lines[too_large].tolist(), name, lambda i: f"{values[too_large[i]]} {what}"
    )
    values = np.where(np.abs(values) > FLOAT32_MAX, np.nan, values)
    large = values[np.abs(values) > EXACT_IN_FLOAT32]
    if len(large) and (whole or np.all(large == np.round(large))):
        notes.append(
            f"{shown(name)} holds whole numbers beyond {EXACT_IN_FLOAT32:,}; float32 keeps about 7 digits of them"
        )
    return Column(name, values=values)


def plain(bare: Any, delimiter: str) -> Any:
    """Cells with those that are numbers spelled as NUMBER has them. delimiter: as in `Table`."""
    if delimiter not in _GROUPED:
        return bare
    grouped, separator = _GROUPED[delimiter]
    joined = pc.replace_substring(bare, separator, "")
    written = pc.if_else(pc.match_substring_regex(bare, grouped), joined, bare)
    return pc.replace_substring_regex(written, _COMMA, r"\1.\2") if delimiter == ";" else written


def _mask(array: Any) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), dtype=bool)
