"""Columns to features: the same for every trainer, in numpy for the training and as ONNX for the serving.

Both are written here side by side, because they must say the same: every operation is done in float32 on both sides, so
that the features are equal to the last bit and only the model behind them is left to compare. Numbers: a missing one
becomes the median; scaled to mean 0 and deviation 1 where the trainer asks for it. Text: one feature per category, one
for missing, however that is spelled; a category never seen in training sets none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from trainers.columns import FLOAT32_MAX, MISSING, Column

Floats = npt.NDArray[np.float32]

ML_DOMAIN = "ai.onnx.ml"
PREFIX = "headrace/"  # of every name inside the graph, so that no column's name can meet one
FEATURES = f"{PREFIX}features"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What was learned about the columns. numbers, texts: names in the order of the features, numbers first."""

    numbers: tuple[str, ...]
    medians: Floats
    means: Floats
    factors: Floats
    """1 / deviation; with `means` 0 and `factors` 1, numbers stay as they are."""
    texts: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]

    @classmethod
    def fit(cls, columns: Sequence[Column], top_categories: int, scale: bool) -> Preprocessing:
        """From the rows to learn from alone; the held-out ones must teach nothing."""
        numbers = [column for column in columns if not column.is_text]
        texts = [column for column in columns if column.is_text]
        medians, means, factors = [], [], []
        for column in numbers:
            assert column.values is not None
            # In float64, where the mean of the two in the middle cannot be too large.
            values = column.values.astype(np.float64)
            median = np.float32(np.nanmedian(values)) if not column.missing().all() else np.float32(0)
            filled = np.where(column.missing(), median, values)
            deviation = float(filled.std())
            medians.append(median)
            means.append(filled.mean() if scale else 0.0)
            # A column that is constant in these rows, or as good as that, would divide by zero.
            factors.append(1 / deviation if scale and deviation > 1 / FLOAT32_MAX else 1.0)
        return cls(
            numbers=tuple(column.name for column in numbers),
            medians=np.array(medians, np.float32),
            means=np.array(means, np.float32),
            factors=np.array(factors, np.float32),
            texts=tuple(column.name for column in texts),
            categories=tuple(_most_frequent(column, top_categories) for column in texts),
        )

    @property
    def width(self) -> int:
        """How many features there are."""
        return len(self.numbers) + sum(len(known) + 1 for known in self.categories)

    def transform(self, columns: Sequence[Column]) -> Floats:
        """Features, (n, width) float32."""
        by_name = {column.name: column for column in columns}
        rows = len(columns[0].missing())
        features = np.zeros((rows, self.width), np.float32)
        for i, name in enumerate(self.numbers):
            values = by_name[name].values
            assert values is not None
            filled = np.where(np.isnan(values), self.medians[i], values).astype(np.float32)
            features[:, i] = (filled - self.means[i]) * self.factors[i]
        at = len(self.numbers)
        for name, known in zip(self.texts, self.categories, strict=True):
            column = by_name[name]
            assert column.codes is not None
            place = _places(known)
            # The missing code -1 is the last entry; -1 as a place is an unknown category.
            places = np.array([*(place.get(word, -1) for word in column.words), len(known)])[column.codes]
            seen = np.flatnonzero(places >= 0)
            features[seen, at + places[seen]] = 1
            at += len(known) + 1
        return features

    def graph(self, columns: Sequence[Column]) -> tuple[list[Any], list[Any], list[Any]]:
        """Inputs in the order of `columns`, nodes and initializers of the same in ONNX; the result is FEATURES."""
        inputs = [
            helper.make_tensor_value_info(c.name, TensorProto.STRING if c.is_text else TensorProto.FLOAT, [None, 1])
            for c in columns
        ]
        nodes, initializers, parts = [], [], []
        if self.numbers:
            for name, values in (("medians", self.medians), ("means", self.means), ("factors", self.factors)):
                initializers.append(numpy_helper.from_array(values[None, :], PREFIX + name))
            nodes += [
                _node("Concat", self.numbers, "numbers", axis=1),
                _node("IsNaN", [f"{PREFIX}numbers"], "gaps"),
                _node("Where", [f"{PREFIX}gaps", f"{PREFIX}medians", f"{PREFIX}numbers"], "filled"),
                _node("Sub", [f"{PREFIX}filled", f"{PREFIX}means"], "centred"),
                _node("Mul", [f"{PREFIX}centred", f"{PREFIX}factors"], "scaled"),
            ]
            parts.append(f"{PREFIX}scaled")
        if self.texts:
            initializers.append(numpy_helper.from_array(np.array([1], np.int64), f"{PREFIX}middle"))
        for i, (name, known) in enumerate(zip(self.texts, self.categories, strict=True)):
            place = _places(known)
            nodes += [
                _node(
                    "LabelEncoder",
                    [name],
                    f"place{i}",
                    domain=ML_DOMAIN,
                    keys_strings=list(place),
                    values_int64s=list(place.values()),
                    default_int64=-1,
                ),
                _node(
                    "OneHotEncoder",
                    [f"{PREFIX}place{i}"],
                    f"hot{i}",
                    domain=ML_DOMAIN,
                    cats_int64s=list(range(len(known) + 1)),
                    zeros=1,
                ),
                _node("Squeeze", [f"{PREFIX}hot{i}", f"{PREFIX}middle"], f"text{i}"),
            ]
            parts.append(f"{PREFIX}text{i}")
        nodes.append(_node("Concat", parts, "features", axis=1))
        return inputs, nodes, initializers


def _node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), [PREFIX + output], name=PREFIX + output, **attributes)


def _places(known: Sequence[str]) -> dict[str, int]:
    """Every spelling that a request may use, and which feature it sets: a category's, or the last one, missing."""
    place = {word: i for i, word in enumerate(known)}
    # true in JSON reaches the model as "True", whatever the file said; so do the other two spellings that files have.
    for i, word in enumerate(known):
        if word.lower() in ("true", "false"):
            for spelling in (word.title(), word.lower(), word.upper()):
                place.setdefault(spelling, i)
    return place | dict.fromkeys(MISSING, len(known))


def _most_frequent(column: Column, top: int) -> tuple[str, ...]:
    """The most frequent words, at most `top`, in alphabetical order."""
    assert column.codes is not None
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.words))
    ranked = sorted((-int(count), word) for count, word in zip(counts, column.words, strict=True) if count)
    return tuple(sorted(word for _, word in ranked[:top]))
