"""trainers.gate: what differs is found and named; the verdict is strict."""

from __future__ import annotations

import numpy as np
import pytest

from eventing.errors import Rejected
from trainers import gate
from trainers.random_forest import float32_below

LABELS = np.array([0, 1, 1])
GIVEN = np.array([[0.7, 0.3], [0.2, 0.8], [0.4, 0.6]])


@pytest.mark.parametrize(
    ("onnx_labels", "onnx_probabilities", "flips", "largest", "at"),
    [
        (["a", "b", "b"], GIVEN, 0, 0.0, []),
        (["a", "b", "a"], GIVEN, 1, 0.0, [2]),
        (["a", "b", "b"], np.add(GIVEN, [[0, 0], [1e-3, 0], [0, 0]]), 0, 1e-3, [1]),
        (["b", "b", "b"], np.add(GIVEN, [[0, 0], [0, 0], [0.2, 0]]), 1, 0.2, [0, 2]),
        (["a", "b", "b"], np.add(GIVEN, [[np.nan, 0], [0, 0], [0, 0]]), 0, np.inf, [0]),
    ],
)
def test_flips_and_differences_are_counted_row_by_row(
    onnx_labels: list[str], onnx_probabilities: np.ndarray, flips: int, largest: float, at: list[int]
) -> None:
    found = gate.compare(LABELS, GIVEN, np.array(onnx_labels, object), onnx_probabilities, ("a", "b"), 1e-5)
    assert (found.rows, found.label_flips, [d.at for d in found.outside]) == (3, flips, at)
    assert found.largest_difference == pytest.approx(largest, abs=1e-7)


def test_one_flip_is_too_many_unless_allowed() -> None:
    found = gate.compare(LABELS, GIVEN, np.array(["a", "b", "a"], object), GIVEN.astype(np.float32), ("a", "b"), 1e-5)
    place = ["row 5", "row 9 of a.csv", "row 17 of b.csv"].__getitem__
    with pytest.raises(Rejected, match=r"1 of 3 .*row 17 of b\.csv: trained 'b' with 0\.\d+, ONNX 'a' with"):
        gate.judge(found, 1e-5, 0, place)
    assert gate.judge(found, 1e-5, 1, place)["label_flips"] == 1


def test_scores_of_two_and_of_three_classes() -> None:
    two = gate.scores(np.array([0, 0, 1]), np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]))
    assert (two["accuracy"], two["roc_auc"], two["f1"], two["base_rate"]) == (1, 1, 1, pytest.approx(1 / 3, abs=1e-6))
    three = gate.scores(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0]), np.eye(3)[[0, 1, 2, 0]] * 0.7 + 0.1)
    assert three["accuracy"] == 0.75 and three["base_rate"] == 0.5


def test_thresholds_rounded_down_turn_no_comparison_of_float32() -> None:
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(size=5000), random.normal(size=5000) * 1e-30]).astype(np.float32)
    thresholds = (values[:-1].astype(np.float64) + values[1:]) / 2
    for neighbours in (values[:-1], values[1:], np.nextafter(values[:-1], np.float32(9))):
        assert np.array_equal(neighbours <= thresholds, neighbours <= float32_below(thresholds))
