"""What inputs and outputs looked like in training: what the drift watch compares later days with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trainers.columns import Column
from trainers.dataset import Dataset

DECILES = np.arange(0.1, 1.0, 0.1)
MAX_CATEGORIES = 50  # model.json is read by everyone: the rest of a column's categories is one number


def of(dataset: Dataset, labels: npt.NDArray[Any], scores: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
    """The baseline. dataset: all rows. labels, scores: the model's answers to the held-out ones, each (n,)."""
    words, codes = np.unique(labels.astype(str), return_inverse=True)
    answers = Column("label", codes=codes.astype(np.int32), words=tuple(words.tolist()))
    return {
        "rows": dataset.rows,
        "features": {column.name: _column(column) for column in dataset.columns},
        "outputs": {
            "label": _categorical(answers),
            "score": _numeric(Column("score", values=scores.astype(np.float32))),
        },
    }


def _column(column: Column) -> dict[str, Any]:
    return _categorical(column) if column.is_text else _numeric(column)


def _numeric(column: Column) -> dict[str, Any]:
    """edges: the nine deciles, each once. shares: of the filled cells; up to the first edge, …, above the last."""
    assert column.values is not None
    filled = column.values[~np.isnan(column.values)].astype(np.float64)
    edges = np.unique(np.quantile(filled, DECILES)) if len(filled) else np.empty(0)
    # A value on an edge belongs below it, or a column with few values would leave bins empty.
    counts = np.bincount(np.searchsorted(edges, filled, side="left"), minlength=len(edges) + 1)
    return {
        "kind": "numeric",
        "edges": edges.tolist(),
        "shares": _shares(counts, len(filled)),
        "missing": _share(int(column.missing().sum()), len(column.values)),
    }


def _categorical(column: Column) -> dict[str, Any]:
    """shares: of the filled cells, the most frequent categories; other: what the rest of them share."""
    assert column.codes is not None
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.words))
    filled = int(counts.sum())
    top = [i for i in np.argsort(-counts, kind="stable")[:MAX_CATEGORIES] if counts[i]]
    kept = int(counts[top].sum())
    return {
        "kind": "categorical",
        "shares": {column.words[i]: _share(int(counts[i]), filled) for i in top},
        "other": _share(filled - kept, filled),
        "missing": _share(int(column.missing().sum()), len(column.codes)),
    }


def _shares(counts: npt.NDArray[Any], whole: int) -> list[float]:
    return [_share(int(count), whole) for count in counts]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
