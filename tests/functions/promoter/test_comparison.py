"""functions.promoter.comparison: scores as scikit-learn computes them, and the gate that follows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from functions.model import Model
from functions.package import Signature, TensorSpec
from functions.promoter import comparison, held_out
from functions.promoter.comparison import Comparison
from tests.functions import packages


def column(name: str, datatype: str = "FP32") -> TensorSpec:
    return TensorSpec(name, datatype, "tensor(float)" if datatype == "FP32" else "tensor(string)", (-1, 1))


BEFORE = Signature((column("distance"), column("carrier", "BYTES")), (), (0, 1))


@pytest.mark.parametrize("decimals", [1, 2, 6])  # with one decimal most scores are tied
@pytest.mark.parametrize("seed", [0, 1])
def test_scores_of_two_classes_are_scikit_learns(decimals: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 500)
    last = np.clip(rng.normal(0.4 + 0.2 * truth, 0.2).round(decimals), 0.1, 0.9)
    given = np.stack([1 - last, last], axis=1)
    found = comparison.scores(given, given.argmax(axis=1), truth)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(truth, last), abs=1e-12)
    assert found["log_loss"] == pytest.approx(log_loss(truth, given), abs=1e-12)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, given.argmax(axis=1)))


def test_scores_of_three_classes_are_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    truth, given = rng.integers(0, 3, 200), rng.dirichlet([1, 1, 1], 200)
    found = comparison.scores(given, given.argmax(axis=1), truth)
    assert found == {
        "accuracy": pytest.approx(accuracy_score(truth, given.argmax(axis=1))),
        "log_loss": pytest.approx(log_loss(truth, given)),
    }


def test_a_certain_answer_that_was_wrong_costs_much_but_not_everything() -> None:
    found = comparison.scores(np.array([[1.0, 0.0]]), np.array([0]), np.array([1]))
    assert math.isfinite(found["log_loss"])
    assert "roc_auc" not in found  # one class alone has no curve


@pytest.mark.parametrize(
    ("primary", "champion", "challenger", "allowed", "passed"),
    [
        ("roc_auc", 0.80, 0.81, 0.0, True),
        ("roc_auc", 0.80, 0.80, 0.0, True),
        ("roc_auc", 0.80, 0.79, 0.0, False),
        ("roc_auc", 0.80, 0.79, 0.02, True),
        ("accuracy", 0.9, 0.85, 0.02, False),
        ("log_loss", 0.5, 0.4, 0.0, True),  # lower is better
        ("log_loss", 0.4, 0.5, 0.0, False),
    ],
)
def test_a_challenger_passes_when_it_is_not_worse_than_is_allowed(
    primary: str, champion: float, challenger: float, allowed: float, passed: bool
) -> None:
    gate = comparison.judge(Comparison(100, primary, {primary: champion}, {primary: challenger}), allowed)
    assert gate.passed is passed
    assert f"{primary} {challenger:.4f} against the champion's {champion:.4f} on 100" in gate.reason


@pytest.mark.parametrize(
    ("after", "change"),
    [
        (replace(BEFORE, inputs=(*BEFORE.inputs, column("wind"))), "column 'wind' was added"),
        (replace(BEFORE, inputs=BEFORE.inputs[:1]), "column 'carrier' was removed"),
        (
            replace(BEFORE, inputs=(column("distance", "BYTES"), BEFORE.inputs[1])),
            "column 'distance' was retyped from FP32 to BYTES",
        ),
        (replace(BEFORE, classes=(0, 1, 2)), "class 2 was added"),
        (replace(BEFORE, classes=(1,)), "class 0 was removed"),
    ],
)
def test_each_change_that_a_caller_would_notice_is_named(after: Signature, change: str) -> None:
    assert comparison.signature_changes(BEFORE, after) == [change]


def test_another_order_of_columns_and_classes_is_no_change() -> None:
    assert comparison.signature_changes(BEFORE, Signature(BEFORE.inputs[::-1], (), (1, 0))) == []


@pytest.mark.parametrize(
    ("parity", "words"),
    [
        ({"rows": 0}, "compares no row"),
        ({"largest_difference": 0.1}, "largest difference from the trained model is 0.1; the tolerance is 1e-05"),
        ({"largest_difference": math.nan}, "largest difference from the trained model is nan"),
        ({"label_flips": 2}, "2 of 60 labels differ"),
    ],
)
def test_a_parity_record_that_proves_nothing_is_said_to(parity: dict[str, float], words: str) -> None:
    manifest = packages.manifest()
    broken = replace(manifest, parity={**manifest.parity, **parity})
    assert words in comparison.parity_faults(broken)[0]
    assert comparison.parity_faults(manifest) == []


def test_as_many_labels_may_differ_as_the_training_was_allowed() -> None:
    """Or `max_label_flips`, which the trainer's gate keeps to, would end at the promoter's."""
    manifest = packages.manifest(parameters={"max_label_flips": 2})
    assert comparison.parity_faults(replace(manifest, parity={**manifest.parity, "label_flips": 2})) == []
    assert comparison.parity_faults(replace(manifest, parity={**manifest.parity, "label_flips": 3})) != []


def test_two_models_are_scored_on_the_same_rows_as_scikit_learn_would_score_them() -> None:
    data, truth = packages.frame(300, seed=11)
    rows = {
        "distance": data["distance"].to_numpy(),
        "delay": data["delay"].to_numpy(),
        "carrier": data["carrier"].to_numpy().astype(str),
        held_out.TARGET: truth,
    }
    champion = Model.from_onnx(packages.onnx_bytes(trees=3), packages.SIGNATURE)
    challenger = Model.from_onnx(packages.onnx_bytes(trees=20), packages.SIGNATURE)
    found = comparison.compare(champion, challenger, rows)
    for model, trees in ((found.champion, 3), (found.challenger, 20)):
        expected = packages.pipeline(trees).predict_proba(data)
        assert model["roc_auc"] == pytest.approx(roc_auc_score(truth, expected[:, 1]), abs=1e-6)
        assert model["log_loss"] == pytest.approx(log_loss(truth, expected), abs=1e-5)
    assert (found.primary, found.rows) == ("roc_auc", 300)


def test_a_champion_that_counts_its_classes_in_another_order_is_compared_class_by_class() -> None:
    data, truth = packages.frame(100, seed=5)
    rows = {name: data[name].to_numpy() for name in data} | {held_out.TARGET: truth}
    model = Model.from_onnx(packages.onnx_bytes(), packages.SIGNATURE)
    turned = Model.from_onnx(packages.onnx_bytes(), replace(packages.SIGNATURE, classes=(1, 0)))
    found = comparison.compare(turned, model, rows)
    # The same graph under turned names is wrong wherever the other is right.
    assert found.champion["roc_auc"] == pytest.approx(1 - found.challenger["roc_auc"])


def test_what_counts_is_the_class_that_callers_are_told() -> None:
    """Of three votes a third each, float32 knows no larger one, and the forest's own float64 may."""
    x, third = np.zeros((30, 1), np.float32), np.float32(1 / 3)
    nodes = [
        helper.make_node("Mul", ["x", "zeros"], ["nothing"]),
        helper.make_node("Add", ["nothing", "third"], ["probabilities"]),
        helper.make_node("ReduceSum", ["nothing", "axis"], ["zero"], keepdims=0),
        helper.make_node("Cast", ["zero"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Add", ["whole", "two"], ["label"]),
    ]
    constants = {"zeros": np.zeros((1, 3), np.float32), "third": third, "axis": np.array([1]), "two": np.array(2)}
    graph = helper.make_graph(
        nodes,
        "thirds",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 3]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    own = Model.from_onnx(onnx_model.SerializeToString())
    model = Model.from_onnx(onnx_model.SerializeToString(), replace(own.signature, classes=(0, 1, 2)))
    rows = {"x": x, held_out.TARGET: np.full(30, 2)}
    assert comparison.compare(model, model, rows).champion["accuracy"] == 1.0


def test_where_one_class_alone_was_held_out_log_loss_decides() -> None:
    data, _ = packages.frame(50, seed=5)
    rows = {name: data[name].to_numpy() for name in data} | {held_out.TARGET: np.ones(50, np.int64)}
    model = Model.from_onnx(packages.onnx_bytes(), packages.SIGNATURE)
    assert comparison.compare(model, model, rows).primary == "log_loss"
