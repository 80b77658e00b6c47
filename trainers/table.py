"""A file as columns: codes into words, and numbers, with every row that breaks the file's own form.

What `trainers.csv_file` and `trainers.parquet` give, and `trainers.dataset` judges. Text is dictionary-encoded, so that
each different cell is judged once and a 64 MiB file stays a few arrays of int32.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from eventing.contract import MAX_REASONS, Reason
from eventing.errors import Rejected

SHOWN_CELL = 60  # characters of a cell that a reason repeats: enough to find it, and 100 reasons stay under 64 KiB


class BrokenDataset(Rejected):
    """A file breaks the contract: what is wrong, row by row, for `dataset.rejected`.

    reasons: the first 100. counts: per kind of fault, over all rows. broken_rows: rows with at least one fault.
    """

    def __init__(self, reasons: Sequence[Reason], counts: dict[str, int], broken_rows: int) -> None:
        super().__init__("the file breaks the contract", [reason.what for reason in reasons[:5]])
        self.reasons = tuple(reasons)
        self.counts = counts
        self.broken_rows = broken_rows


class Faults:
    """Every fault found so far: those of the whole file, and those of single rows."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.broken: set[int] = set()
        self._whole: list[Reason] = []
        self._rows: list[Reason] = []

    @property
    def fatal(self) -> bool:
        """Whether no row of the file can be learned from."""
        return bool(self._whole)

    def __bool__(self) -> bool:
        return bool(self._whole or self._rows)

    def of_file(self, kind: str, what: str, column: str | None = None, row: int | None = None) -> None:
        """A fault that leaves nothing to learn from."""
        self.counts[kind] += 1
        self._whole.append(Reason(what, row, column))

    def of_rows(self, kind: str, lines: Sequence[int], column: str | None, what: Callable[[int], str]) -> None:
        """A fault of several rows. lines: their line numbers, ascending; what: the sentence for the i-th of them."""
        if not lines:
            return
        self.counts[kind] += len(lines)
        self.broken.update(lines)
        shown = enumerate(lines[:MAX_REASONS])
        self._rows += [Reason(what(i), int(line), column) for i, line in shown]

    def error(self) -> BrokenDataset:
        """The faults as the verdict: first those of the file, then by line."""
        rows = sorted(self._rows, key=lambda reason: reason.row or 0)
        return BrokenDataset((self._whole + rows)[:MAX_REASONS], dict(self.counts), len(self.broken))


@dataclass(frozen=True, slots=True)
class Text:
    """A column of text. codes: int32, one per row, into `words`; -1 is missing."""

    codes: npt.NDArray[np.int32]
    words: pa.StringArray


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column of numbers, as Parquet types it. values: float64, one per row; NaN is missing."""

    values: npt.NDArray[np.float64]
    whole: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A file that was read. lines: the line (CSV) or row (Parquet, from 1) of each row that has the right form."""

    name: str
    columns: dict[str, Text | Numbers]
    lines: npt.NDArray[np.int64]
    records: int
    """Rows in the file, the ragged ones too."""
    faults: Faults = field(default_factory=Faults)
    delimiter: str = ""
    """What parts the cells of a CSV, and tells how its numbers may be spelled; "" of Parquet."""
    notes: tuple[str, ...] = ()
    """What was left out, for people."""


def shown(cell: object) -> str:
    """A cell as a reason quotes it, or a class; numbers stand without quotes."""
    if isinstance(cell, int):
        return str(cell)
    text = str(cell)
    return repr(text if len(text) <= SHOWN_CELL else text[:SHOWN_CELL] + "…")


def refuse(kind: str, what: str, row: int | None = None) -> BrokenDataset:
    faults = Faults()
    faults.of_file(kind, what, row=row)
    return faults.error()


def check_names(names: Sequence[str]) -> None:
    faults = Faults()
    for position, name in enumerate(names, start=1):
        if not name.strip():
            hint = "; pandas writes such a column for its index, to_csv(index=False) leaves it out"
            faults.of_file("column without a name", f"column {position} has no name in the header{hint}", row=1)
    for name, times in Counter(names).items():
        if times > 1 and name.strip():
            faults.of_file(
                "duplicate column", f"{times} columns are named {shown(name)}; expected one", column=name, row=1
            )
    if faults:
        raise faults.error()


def encoded(column: pa.ChunkedArray) -> Text:
    array = (
        column.dictionary_encode().combine_chunks() if column.num_chunks != 1 else column.chunk(0).dictionary_encode()
    )
    if isinstance(array, pa.ChunkedArray):  # no chunk at all: a header without rows
        return Text(np.empty(0, np.int32), pa.array([], pa.string()))
    codes = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    return Text(codes, array.dictionary)
