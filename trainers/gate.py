"""The gate: a graph leaves only if it answers as the trained model does, on every row held out.

`compare` looks, `judge` decides, `scores` says how good the model is; none of them reads a clock or a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eventing.errors import Rejected
from trainers.trainer import Floats, Labels

NAMED_ROWS = 10  # rows that a failed parity names


@dataclass(frozen=True, slots=True)
class Difference:
    """One row where original and ONNX disagree. at: index into the held-out rows."""

    at: int
    label: str | int
    onnx_label: str | int
    probability: float
    """The original's, of the class where the two are furthest apart."""
    onnx_probability: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Original against ONNX, over all rows held out."""

    rows: int
    largest_difference: float
    label_flips: int
    outside: tuple[Difference, ...]
    """Rows that flip or are outside the tolerance, worst first, at most ten."""


def compare(
    labels: Labels,
    probabilities: Floats,
    onnx_labels: npt.NDArray[Any],
    onnx_probabilities: npt.NDArray[np.float32],
    classes: Sequence[str | int],
    tolerance: float,
) -> Comparison:
    """labels, probabilities: the original's, (n,) indices into `classes` and (n, n_classes). onnx_labels: classes."""
    expected = np.array(classes, dtype=object)[labels]
    flips = expected != onnx_labels.astype(object)
    gaps = np.abs(probabilities.astype(np.float64) - onnx_probabilities)
    # A NaN on either side is as far off as can be, and no comparison would notice it.
    gaps = np.where(np.isnan(gaps), np.inf, gaps)
    furthest = gaps.argmax(axis=1)
    largest = gaps.max(axis=1)
    worst = np.lexsort((-largest, ~flips))
    outside = [int(i) for i in worst if flips[i] or largest[i] > tolerance][:NAMED_ROWS]
    return Comparison(
        rows=len(labels),
        largest_difference=float(largest.max()) if len(largest) else 0.0,
        label_flips=int(flips.sum()),
        outside=tuple(
            Difference(
                at=i,
                label=expected[i],
                onnx_label=onnx_labels[i],
                probability=float(probabilities[i, furthest[i]]),
                onnx_probability=float(onnx_probabilities[i, furthest[i]]),
            )
            for i in outside
        ),
    )


def judge(
    comparison: Comparison, tolerance: float, max_label_flips: int, place: Callable[[int], str]
) -> dict[str, Any]:
    """The parity record of a graph that passes. place: says where a person finds a row, by its index.

    Raises Rejected naming the rows that differ otherwise.
    """
    close = comparison.largest_difference <= tolerance
    if close and comparison.label_flips <= max_label_flips:
        return {
            "rows": comparison.rows,
            "largest_difference": comparison.largest_difference,
            "label_flips": comparison.label_flips,
            "tolerance": tolerance,
        }
    raise Rejected(
        f"the ONNX model does not answer as the trained one: {comparison.label_flips} of {comparison.rows} held-out "
        f"rows get another label (allowed {max_label_flips}), the largest difference of a probability is "
        f"{comparison.largest_difference:.3g} (allowed {tolerance:g})",
        [
            f"{place(d.at)}: trained {d.label!r} with {d.probability:.7f}, "
            f"ONNX {d.onnx_label!r} with {d.onnx_probability:.7f}"
            for d in comparison.outside
        ],
    )


def scores(labels: Labels, predicted: Labels, probabilities: Floats) -> dict[str, float]:
    """How good the answers are. labels: true class indices (n,), every class among them.

    base_rate: the share of the positive class where there are two; else of the most frequent one. Of several classes
    roc_auc and f1 are class means.
    """
    from sklearn import metrics

    classes = probabilities.shape[1]
    every = np.arange(classes)
    shares = np.bincount(labels, minlength=classes) / len(labels)
    normalized = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    result = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "log_loss": metrics.log_loss(labels, normalized, labels=every),
    }
    if classes == 2:
        result["base_rate"] = shares[1]
        result["f1"] = metrics.f1_score(labels, predicted, zero_division=0)
        result["roc_auc"] = metrics.roc_auc_score(labels, probabilities[:, 1])
    else:
        result["base_rate"] = shares.max()
        result["f1"] = metrics.f1_score(labels, predicted, labels=every, average="macro", zero_division=0)
        result["roc_auc"] = metrics.roc_auc_score(labels, normalized, multi_class="ovr", average="macro", labels=every)
    return {name: round(float(value), 6) for name, value in result.items()}
