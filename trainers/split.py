"""Which rows of a file are learned from, and which are held out: by the file's content alone.

A file is split the same way whatever it is trained together with. So a champion that learned from January, and a
challenger that learns from January and February, have held out the same rows of January, and neither has learned from
the rows that compare them. The rule:

- Each row has an id: what its cells say, by column name, and how many rows of the file before it say the same. The
  order of columns plays no part, that of rows only among equal ones.
- Within each class of a file the rows are put in the order of their ids, scattered by the seed, and the first
  `test_share` of them are held out: stratified, at least one row of each class on either side.
- Of several files, what is learned from and what is held out are the unions of the files' parts. The same row in two
  files has the same id, and lies on the same side of both, but for rows next to a file's border: those are neither
  learned from nor held out. Of the rows of a class the first in the order is held out by each file that has it, and the
  last by none, so each class stays on both sides.

All this holds between trainings with the same `seed` and `test_share`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from trainers.columns import spelled
from trainers.table import Numbers, Text

RULE = "by-content-1"  # written into each package; another rule needs another name (see `functions.promoter.held_out`)

Ids = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

# Source: G. Steele, D. Lea, C. Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014 (SplitMix64).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def ids(columns: Mapping[str, Text | Numbers], rows: int) -> Ids:
    """An id for each row of one file, (rows,), equal only where the content is the same and equally often before."""
    content = np.zeros(rows, np.uint64)
    for name, column in columns.items():
        text = spelled(column) if isinstance(column, Numbers) else column
        words = text.words.to_pylist()
        digests = np.array([*(_digest(f"{name}\0{word or ''}") for word in words), _digest(f"{name}\0")], np.uint64)
        # The missing code -1 is the last entry. A sum knows no order.
        content += _mixed(digests[text.codes])
    order = np.argsort(content, kind="stable")
    ordered = content[order]
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if rows else np.empty(0, np.int64)
    before = np.empty(rows, np.uint64)
    before[order] = np.arange(rows) - np.repeat(begins, np.diff(np.append(begins, rows)))
    return _mixed(content + before * _GOLDEN)


def held_out(ids: Ids, labels: npt.NDArray[np.int64], share: float, seed: int) -> Mask:
    """Which rows of one file are held out, (n,). labels: (n,), two rows of each class at least."""
    scattered = _mixed(ids ^ _mixed(np.array([seed], np.uint64)))
    classes, labels = np.unique(labels, return_inverse=True)
    counts = np.bincount(labels, minlength=len(classes))
    order = np.lexsort((scattered, labels))
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank < _per_class(counts, share)[labels]


def disputed(ids: Ids, held: Mask) -> Mask:
    """Rows of several files, (n,), that one of them holds out and another one learns from."""
    return np.isin(ids, np.intersect1d(ids[held], ids[~held]))


def _per_class(counts: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.int64]:
    """How many rows of each class are held out: `share` of all rows, divided as evenly as whole rows allow."""
    rows, classes = int(counts.sum()), len(counts)
    total = min(max(round(share * rows), classes), rows - classes)
    exact = counts * (total / rows)
    held: npt.NDArray[np.int64] = np.clip(np.floor(exact).astype(np.int64), 1, counts - 1)
    while (short := total - int(held.sum())) != 0:
        # The one furthest from its even part gives or takes one row, while one is left to it.
        step = 1 if short > 0 else -1
        possible = held < counts - 1 if short > 0 else held > 1
        held[np.where(possible, (exact - held) * step, -np.inf).argmax()] += step
    return held


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _mixed(values: Ids) -> Ids:
    """Each number scattered over all 64 bits; overflow is part of it."""
    z = values + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))
