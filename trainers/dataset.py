"""What a trainer learns from: typed columns, classes, and a reason for every row that cannot be learned from.

Called by `trainers.training` with one file of any table, or several: a column is numbers or text, cells may be missing,
one column is the target. The same reading serves every trainer, so that they can be compared. Light on purpose: neither
scikit-learn nor TensorFlow is imported here.

Columns that can teach nothing are left out, each with a note that the package keeps (model.json, `parameters.notes`):
those with one value or none, and text where nearly every row has its own value (an id, a name, free text). Where a
model serves already, its columns stay (`Form`), or its callers would have to change with every month that has a column
empty. Every row keeps the id by which its file is split (see `trainers.split`), whatever it is trained together with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trainers import columns as kinds
from trainers import split
from trainers.columns import Column
from trainers.table import BrokenDataset, Faults, Numbers, Table, Text, shown

MIN_ROWS = 20  # an 80/20 split leaves 4 rows to compare and score on: less says nothing
MIN_CLASS_ROWS = 2  # one to learn from, one held out
MAX_CLASSES = 100
ID_LIKE_SHARE = 0.9  # distinct values per filled cell from which text is an id
EXACT_IN_FLOAT64 = 1 << 53  # classes are whole numbers up to here
TARGET_KEY = "__target__"  # beside the inputs in the held-out file
RESERVED = ("label", "probabilities", TARGET_KEY)  # the graph's outputs: ONNX gives each name once
RESERVED_PREFIX = "headrace/"  # of every name inside the graph, so that no column's name can meet one
DEFAULT_TARGET = "target"


@dataclass(frozen=True, slots=True)
class Form:
    """The columns of the model that serves, by which its callers ask; empty where none does."""

    numbers: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()
    """Those that its rows had and that taught nothing, so that no caller sends them."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows to learn from, of one file or of several.

    labels: int64 (n,), index into `classes`. classes: whole numbers or text, ascending. lines: where each row stands in
    its file, whose name is the row's entry of `files`, by `origins` (n,). ids: (n,), see `trainers.split`. left_out:
    names of columns that teach nothing. rejected: what was wrong with the rows left out, when the caller allowed some;
    None when all are here.
    """

    columns: tuple[Column, ...]
    target: str
    labels: npt.NDArray[np.int64]
    classes: tuple[str | int, ...]
    lines: npt.NDArray[np.int64]
    ids: split.Ids
    files: tuple[str, ...]
    origins: npt.NDArray[np.int32]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rejected: BrokenDataset | None = None

    @property
    def rows(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[Any]) -> Dataset:
        """The same dataset with these rows, by index or mask."""
        return replace(
            self,
            columns=tuple(column.take(rows) for column in self.columns),
            labels=self.labels[rows],
            lines=self.lines[rows],
            ids=self.ids[rows],
            origins=self.origins[rows],
        )

    def inputs(self) -> dict[str, npt.NDArray[Any]]:
        """What the graph is fed with: per column its tensor (n, 1)."""
        return {column.name: column.tensor() for column in self.columns}

    def place(self, row: int) -> str:
        """Where a person finds a row, by its index here: its line, and of several files which one."""
        file = f" of {self.files[self.origins[row]]}" if len(self.files) > 1 else ""
        return f"row {self.lines[row]}{file}"


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a file, or of several, in which no cell is broken; whether they can be learned from is not known yet.

    columns: the target too, numbers as float64. files, origins, lines, ids: as in Dataset.
    """

    columns: Mapping[str, Column]
    target: str
    lines: npt.NDArray[np.int64]
    ids: split.Ids
    files: tuple[str, ...]
    origins: npt.NDArray[np.int32]
    notes: tuple[str, ...] = ()
    faults: Faults = field(default_factory=Faults)


def understand(table: Table, target: str | None, max_broken_share: float = 0.0, form: Form | None = None) -> Dataset:
    """The dataset in `table`.

    target: name of the column to predict; None means `target`. max_broken_share: share of rows, 0 to 1, that may be
    broken and left out; then `rejected` says which. Raises BrokenDataset with every reason otherwise.
    """
    form = form or Form()
    return weigh(rows_of(table, target, max_broken_share, form), form)


def rows_of(table: Table, target: str | None, max_broken_share: float, form: Form) -> Rows:
    """The whole rows of `table`. Arguments and Raises as of `understand`."""
    faults = table.faults
    named = target or DEFAULT_TARGET
    _check_columns(table, named, target is None, faults)
    if faults.fatal:
        raise faults.error()
    notes = list(table.notes)
    read = {
        name: kinds.judged(name, column, table, notes, as_text=name in form.texts, trimmed=name == named)
        for name, column in table.columns.items()
    }
    unlabelled = np.flatnonzero(read[named].missing())
    faults.of_rows(
        "no target",
        table.lines[unlabelled].tolist(),
        named,
        lambda i: f"the target {shown(named)} is missing{_spelled(table.columns[named], unlabelled[i])}",
    )
    if len(faults.broken) > max_broken_share * table.records:
        raise faults.error()
    good = ~np.isin(table.lines, list(faults.broken)) if faults.broken else np.ones(len(table.lines), dtype=bool)
    return Rows(
        columns={name: column.take(good) for name, column in read.items()},
        target=named,
        lines=table.lines[good],
        ids=split.ids(table.columns, len(table.lines))[good],
        files=(table.name,),
        origins=np.zeros(int(good.sum()), np.int32),
        notes=tuple(notes),
        faults=faults,
    )


def _spelled(column: Text | Numbers, row: int) -> str:
    """What the cell of a missing target says, where that may have been meant as a class."""
    if isinstance(column, Numbers) or column.codes[row] < 0:
        return ""
    word = column.words[column.codes[row]].as_py()
    return f": {shown(word)} stands for a missing value; call the class by another word" if word.strip() else ""


def disagreement(rows: Rows, newest: Rows) -> str | None:
    """Why the rows of a file cannot stand beside those of the newest one; None where they can."""
    lacking = [name for name in newest.columns if name not in rows.columns]
    more = [name for name in rows.columns if name not in newest.columns]
    if lacking or more:
        said = [f"lacks {_listed(lacking)}"] if lacking else []
        said += [f"has {_listed(more)} besides"] if more else []
        return f"it {' and '.join(said)}, compared with {newest.files[0]}, the newest file"
    for name, column in rows.columns.items():
        other = newest.columns[name]
        if column.is_text is not other.is_text and not (column.missing().all() or other.missing().all()):
            here, there = ("text", "numbers") if column.is_text else ("numbers", "text")
            return f"its {shown(name)} holds {here}, in {newest.files[0]}, the newest file, {there}"
    return None


def join(parts: Sequence[Rows]) -> Rows:
    """The rows of several files that agree, in their order."""
    first = parts[0]
    return Rows(
        columns={name: kinds.joined([part.columns[name] for part in parts]) for name in parts[-1].columns},
        target=first.target,
        lines=np.concatenate([part.lines for part in parts]),
        ids=np.concatenate([part.ids for part in parts]),
        files=tuple(part.files[0] for part in parts),
        origins=np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.lines) for part in parts]),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def weigh(rows: Rows, form: Form) -> Dataset:
    """What can be learned from `rows`. Raises BrokenDataset where that is nothing."""
    faults, notes = rows.faults, list(rows.notes)
    rejected = faults.error() if faults else None
    labels, classes = _classes(rows.columns[rows.target], rows.lines, faults)
    if faults.fatal:
        raise faults.error()
    columns, left_out = [], []
    for name, column in rows.columns.items():
        if name == rows.target:
            continue
        if (why := _teaches_nothing(column, form)) is not None:
            notes.append(f"{shown(name)} was left out: {why}")
            left_out.append(name)
            continue
        if name in form.texts and not column.is_text:  # it is empty in all of these rows
            column = Column(name, codes=np.full(len(rows.lines), -1, np.int32))
        values = None if column.values is None else column.values.astype(np.float32)
        columns.append(replace(column, values=values))
    if not columns:
        seen = _listed([name for name in rows.columns if name != rows.target]) or "none"
        faults.of_file("nothing to learn from", f"no column besides the target can teach anything; seen {seen}")
        raise faults.error()
    return Dataset(
        tuple(columns),
        rows.target,
        labels,
        classes,
        rows.lines,
        rows.ids,
        rows.files,
        rows.origins,
        tuple(left_out),
        tuple(notes),
        rejected,
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:50])) + (f" and {len(names) - 50} more" if len(names) > 50 else "")


def _check_columns(table: Table, target: str, guessed: bool, faults: Faults) -> None:
    names = list(table.columns)
    if target not in table.columns:
        hint = "name the column to predict with --target" if guessed else "check the name"
        what = f"there is no column {shown(target)} to predict; {hint}. Columns: {_listed(names)}"
        faults.of_file("no target column", what)
    for name in (n for n in names if n != target and (n in RESERVED or n.startswith(RESERVED_PREFIX))):
        faults.of_file("reserved name", f"a column is named {name!r}, as a part of the model is; rename it", name)
    if table.records < MIN_ROWS:
        what = f"the file has {table.records or 'no'} row{'s' * (table.records != 1)}; expected at least {MIN_ROWS}"
        faults.of_file("too few rows", what)


def _teaches_nothing(column: Column, form: Form) -> str | None:
    """Why no model can learn from the column, or should; None where one can, or a model that serves asks for it."""
    if column.name in form.numbers or column.name in form.texts:
        return None
    if column.name in form.left_out:
        return "the model that serves does not ask for it; as another dataset it would make a model that does"
    filled = ~column.missing()
    values = column.codes if column.codes is not None else column.values
    assert values is not None
    distinct = len(np.unique(values[filled]))
    if distinct == 0:
        return "it is empty in every row"
    if distinct == 1 and filled.all():
        return "it is the same in every row"
    if column.is_text and distinct > ID_LIKE_SHARE * filled.sum() and distinct > MAX_CLASSES // 10:
        return f"it looks like an id or free text ({distinct} different texts in {filled.sum()} rows)"
    return None


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
        if len(used) and np.abs(used).max() > EXACT_IN_FLOAT64:
            what = f"{name} holds numbers beyond {EXACT_IN_FLOAT64:,}, which run together; give it words as classes"
            faults.of_file("number too large", what, column=goal.name)
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
