"""What a trainer learns from: typed columns, classes, and a reason for every row that cannot be learned from.

Called by `trainers.training` with a file of any table: a column is numbers or text, cells may be missing, one column is
the target. The same reading serves every trainer, so that they can be compared. Light on purpose: neither scikit-learn
nor TensorFlow is imported here.

Columns that can teach nothing are left out, each with a note that the package keeps (model.json, `parameters.notes`):
those with one value or none, and text where nearly every row has its own value (an id, a name, free text).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trainers.table import BrokenDataset, Faults, Numbers, Table, Text, shown

# A column is numbers when this share of its filled cells are. Below it the rest is not a handful of typing errors but a
# sign that the column is codes or categories; above it, those cells are broken and named.
NUMERIC_SHARE = 0.95
MIN_ROWS = 20  # an 80/20 split leaves 4 rows to compare and score on: less says nothing
MIN_CLASS_ROWS = 2  # one to learn from, one held out
MAX_CLASSES = 100
ID_LIKE_SHARE = 0.9  # distinct values per filled cell from which text is an id
EXACT_IN_FLOAT32 = 1 << 24  # whole numbers beyond it share their float32 with a neighbour
FLOAT32_MAX = float(np.finfo(np.float32).max)
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NaT", "NULL", "Null", "null", "None", "?")
OUTPUTS = ("label", "probabilities")  # names of the graph's outputs; ONNX gives each name once
DEFAULT_TARGET = "target"

_NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"


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


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows to learn from.

    labels: int64 (n,), index into `classes`. classes: whole numbers or text, ascending. lines: where each row stands in
    its file. rejected: what was wrong with the rows left out, when the caller allowed some; None when all are here.
    """

    columns: tuple[Column, ...]
    target: str
    labels: npt.NDArray[np.int64]
    classes: tuple[str | int, ...]
    lines: npt.NDArray[np.int64]
    notes: tuple[str, ...] = ()
    rejected: BrokenDataset | None = None

    @property
    def rows(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[Any]) -> Dataset:
        """The same dataset with these rows, by index or mask."""
        columns = tuple(column.take(rows) for column in self.columns)
        return replace(self, columns=columns, labels=self.labels[rows], lines=self.lines[rows])

    def inputs(self) -> dict[str, npt.NDArray[Any]]:
        """What the graph is fed with: per column its tensor (n, 1)."""
        return {column.name: column.tensor() for column in self.columns}


def understand(table: Table, target: str | None, max_broken_share: float = 0.0) -> Dataset:
    """The dataset in `table`.

    target: name of the column to predict; None means `target`. max_broken_share: share of rows, 0 to 1, that may be
    broken and left out; then `rejected` says which. Raises BrokenDataset with every reason otherwise.
    """
    faults = table.faults
    named = target or DEFAULT_TARGET
    _check_columns(table, named, target is None, faults)
    if faults.fatal:
        raise faults.error()
    notes: list[str] = []
    read = {name: _column(name, column, table, faults, notes) for name, column in table.columns.items()}
    goal = read.pop(named)
    unlabelled = table.lines[goal.missing()]
    faults.of_rows("no target", unlabelled.tolist(), named, lambda _: f"the target {shown(named)} is missing")
    broken = len(faults.broken)
    if broken > max_broken_share * table.records:
        raise faults.error()
    rejected = faults.error() if faults else None
    good = ~np.isin(table.lines, list(faults.broken)) if broken else np.ones(len(table.lines), dtype=bool)
    lines = table.lines[good]
    labels, classes = _classes(goal.take(good), lines, faults)
    if faults.fatal:
        raise faults.error()
    columns = [kept for c in read.values() if (kept := _teaching(c.take(good), notes)) is not None]
    if not columns:
        names = ", ".join(map(shown, read))
        faults.of_file("nothing to learn from", f"no column besides the target can teach anything; seen {names}")
        raise faults.error()
    return Dataset(tuple(columns), named, labels, classes, lines, tuple(notes), rejected)


def merge(tables: Sequence[Table]) -> Table:
    """One table of several whole ones with the same columns, in their order. Its lines run on from file to file."""
    if len(tables) == 1:
        return tables[0]
    columns = {name: _joined([table.columns[name] for table in tables]) for name in tables[0].columns}
    rows = sum(len(table.lines) for table in tables)
    return Table(", ".join(table.name for table in tables), columns, np.arange(1, rows + 1), rows)


def _joined(parts: Sequence[Text | Numbers]) -> Text | Numbers:
    if all(isinstance(part, Numbers) for part in parts):
        numbers = [part for part in parts if isinstance(part, Numbers)]
        return Numbers(np.concatenate([n.values for n in numbers]), all(n.whole for n in numbers))
    texts = [part if isinstance(part, Text) else _as_text(part) for part in parts]
    chunks = [pa.DictionaryArray.from_arrays(pa.array(t.codes, mask=t.codes < 0), t.words) for t in texts]
    whole = pa.chunked_array(chunks).unify_dictionaries().combine_chunks()
    return Text(pc.fill_null(whole.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32), whole.dictionary)


def _as_text(numbers: Numbers) -> Text:
    """Numbers of a Parquet file beside the same column of a CSV file, whose cells are text until they are judged."""
    words, codes = np.unique(numbers.values, return_inverse=True)
    spelled = pa.array(["" if np.isnan(w) else repr(int(w)) if numbers.whole else repr(float(w)) for w in words])
    return Text(codes.astype(np.int32), spelled)


def _check_columns(table: Table, target: str, guessed: bool, faults: Faults) -> None:
    names = list(table.columns)
    if target not in table.columns:
        hint = "name the column to predict with --target" if guessed else "check the name"
        seen = ", ".join(shown(n) for n in names[:50]) + (f" and {len(names) - 50} more" if len(names) > 50 else "")
        faults.of_file("no target column", f"there is no column {shown(target)} to predict; {hint}. Columns: {seen}")
    for name in (n for n in OUTPUTS if n in table.columns and n != target):
        faults.of_file(
            "reserved name", f"a column is named {name!r}, as an output of the model is; rename it", column=name
        )
    if table.records < MIN_ROWS:
        what = f"the file has {table.records or 'no'} rows; expected at least {MIN_ROWS}"
        faults.of_file("too few rows", what)


def _column(name: str, column: Text | Numbers, table: Table, faults: Faults, notes: list[str]) -> Column:
    if isinstance(column, Text):
        return _judged(name, column, table, faults, notes)
    return _numbers(name, column.values, table, faults, notes, column.whole)


def _judged(name: str, column: Text, table: Table, faults: Faults, notes: list[str]) -> Column:
    """A column of text cells as numbers or categories; in a column of numbers every other cell is a fault."""
    trimmed = pc.utf8_trim_whitespace(column.words)
    missing = _mask(pc.is_in(trimmed, pa.array(MISSING)))
    matches = pc.match_substring_regex(trimmed, _NUMBER)
    # Arrow, unlike Python, knows no leading plus.
    digits = pc.replace_substring_regex(trimmed, r"^\+", "")
    words = pc.cast(pc.if_else(matches, digits, None), pa.float64()).to_numpy(zero_copy_only=False)
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(trimmed))
    filled = int(counts[~missing].sum())
    numeric = _mask(matches) & ~missing
    if filled == 0 or counts[numeric].sum() >= NUMERIC_SHARE * filled:
        kinds = np.where(missing, 0, np.where(numeric, 1, 2))[column.codes] if len(trimmed) else np.empty(0, int)
        kinds = np.where(column.codes < 0, 0, kinds)
        odd = np.flatnonzero(kinds == 2)
        cells = column.words.take(pa.array(column.codes[odd[:200]])).to_pylist()
        what = f"is not a number, as the rest of {shown(name)} is"
        faults.of_rows("not a number", table.lines[odd].tolist(), name, lambda i: f"{shown(cells[i])} {what}")
        values = words[column.codes] if len(words) else np.full(len(column.codes), np.nan)
        return _numbers(name, np.where(kinds == 1, values, np.nan), table, faults, notes, None)
    # Cells that differ only by the blanks around them are one category.
    encoded = pc.if_else(pa.array(missing), None, trimmed).dictionary_encode()
    recoded = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    codes = np.where(column.codes < 0, np.int32(-1), recoded[column.codes])
    return Column(name, codes=codes, words=tuple(encoded.dictionary.to_pylist()))


def _numbers(
    name: str,
    values: npt.NDArray[np.float64],
    table: Table,
    faults: Faults,
    notes: list[str],
    whole: bool | None,
) -> Column:
    too_large = np.flatnonzero(np.abs(values) > FLOAT32_MAX)
    what = f"is too large for {shown(name)}: models compute in float32, to {FLOAT32_MAX:.2g}"
    faults.of_rows(
        "number too large", table.lines[too_large].tolist(), name, lambda i: f"{values[too_large[i]]} {what}"
    )
    values = np.where(np.abs(values) > FLOAT32_MAX, np.nan, values)
    large = values[np.abs(values) > EXACT_IN_FLOAT32]
    if len(large) and (whole or np.all(large == np.round(large))):
        notes.append(
            f"{shown(name)} holds whole numbers beyond {EXACT_IN_FLOAT32:,}; float32 keeps about 7 digits of them"
        )
    return Column(name, values=values)


def _mask(array: Any) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), dtype=bool)


def _teaching(column: Column, notes: list[str]) -> Column | None:
    """The column, or None and a note when no model can learn from it."""
    filled = ~column.missing()
    values = column.codes if column.codes is not None else column.values
    assert values is not None
    distinct = len(np.unique(values[filled]))
    if distinct == 0:
        notes.append(f"{shown(column.name)} was left out: it is empty in every row")
        return None
    if distinct == 1 and filled.all():
        notes.append(f"{shown(column.name)} was left out: it is the same in every row")
        return None
    if column.is_text and distinct > ID_LIKE_SHARE * filled.sum() and distinct > MAX_CLASSES // 10:
        seen = f"{distinct} different texts in {filled.sum()} rows"
        notes.append(f"{shown(column.name)} was left out: it looks like an id or free text ({seen})")
        return None
    return column if column.values is None else replace(column, values=column.values.astype(np.float32))


def _classes(
    goal: Column, lines: npt.NDArray[np.int64], faults: Faults
) -> tuple[npt.NDArray[np.int64], tuple[str | int, ...]]:
    """Each row's class, and the classes ascending; faults say why there are none to learn."""
    name = shown(goal.name)
    classes: tuple[str | int, ...]
    if goal.codes is not None:
        used, codes = np.unique(goal.codes, return_inverse=True)
        words = [goal.words[i] for i in used]
        order = np.argsort(np.array(words, dtype=object), kind="stable")
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        labels = rank[codes] if len(codes) else codes.astype(np.int64)
        classes = tuple(words[i] for i in order)
    else:
        assert goal.values is not None
        used, codes = np.unique(goal.values, return_inverse=True)
        labels = codes.astype(np.int64)
        whole = bool(np.all(used == np.round(used)))
        classes = tuple(int(v) for v in used) if whole else tuple(repr(float(v)) for v in used)
        # Halves and quarters of few different values are classes; a measured quantity is not.
        if len(used) > MAX_CLASSES or (not whole and len(used) > MAX_CLASSES // 5):
            what = f"{name} looks continuous, with {len(used)} different numbers; these trainers classify"
            faults.of_file("continuous target", f"{what}, so give it classes such as 0 and 1", column=goal.name)
            return labels, classes
    counts = np.bincount(labels, minlength=len(classes))
    if len(classes) > MAX_CLASSES:
        what = f"{name} has {len(classes)} different values, expected at most {MAX_CLASSES} classes"
        faults.of_file("too many classes", f"{what}; is it an id or free text?", column=goal.name)
    elif len(classes) < 2:
        seen = f"every row's {name} is {shown(classes[0])}" if classes else f"no row has a {name}"
        faults.of_file("one class", f"{seen}; expected at least two classes to tell apart", column=goal.name)
    else:
        for i in np.flatnonzero(counts < MIN_CLASS_ROWS):
            what = f"class {shown(classes[i])} of {name} has one row only; expected at least {MIN_CLASS_ROWS}"
            faults.of_file("class too small", what, column=goal.name, row=int(lines[labels == i][0]))
    if len(lines) < MIN_ROWS and not faults.fatal:
        faults.of_file("too few rows", f"{len(lines)} rows can be learned from; expected at least {MIN_ROWS}")
    return labels, classes
