"""A forest of decision trees: the trainer for a first model of any table. scikit-learn fits it, ONNX answers like it.

The graph is written here, not by skl2onnx, for exactness: the gate lets no label flip, and with skl2onnx's graphs rows
did where both classes get exactly half of the votes. Measured with 1.20 on noise, 100 trees with leaves of one row: 325
of 10,000 held-out rows, ties all of them. Two things make it so, and are otherwise here:

- Votes divided by the number of trees were added up in float32. Here they are added up whole, in float64, and divided
  at the end: half is half, as in scikit-learn.
- Of two classes onnxruntime compares the votes for one with 0.5, and does not look for the first of the larger ones.
  Here a class without votes, cut off afterwards, avoids this short cut.

As in skl2onnx, thresholds are rounded down to float32, which turns no comparison with a float32 feature. It is faster,
too: 0.64 million nodes took 1 to 4 s to export, where skl2onnx was seen to take 19 s for 1.9 million.
Source: ONNX ai.onnx.ml TreeEnsembleClassifier, version 3; scikit-learn's RandomForestClassifier.predict_proba.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from eventing.errors import Rejected
from trainers.trainer import Floats, Labels, Report

SCALED = False  # a tree compares one feature with one threshold: scale changes nothing
# ONNX is protobuf, which ends at 2 GB; a model near it would need minutes from zero to its first answer.
MAX_MODEL_BYTES = 1_000_000_000
NODE_BYTES = 37  # measured: 33 to 39 per node
SMALLEST_LEAF = 2
ROWS_PER_LEAF_ROW = 20_000  # see Parameters.min_samples_leaf


@dataclass(frozen=True, slots=True)
class Parameters:
    """scikit-learn's names."""

    n_estimators: int = 100
    min_samples_leaf: int | None = None
    """None: one row per 20,000 learned from, at least 2, so that the graph stays small however long the file is.

    2, not scikit-learn's 1: on January's and February's flights (26,398 and 23,611 rows), each the mean of five splits,
    roc_auc is 0.932 and 0.931 against 0.930 and 0.929, log_loss 0.257 and 0.262 against 0.278 and 0.269, ONNX 12 MB
    against 20, loaded in half the time. 20 gives 2 MB and 0.922 and 0.920: right where a first answer from zero counts
    more. The figures are optimistic, because the leaf was chosen on these very held-out rows, and one split differs
    from the next by 0.006 of roc_auc, more than 1 and 2 do: what is certain is the size.
    """
    max_depth: int | None = None
    max_features: float | str = "sqrt"
    class_weight: str | None = None

    def __post_init__(self) -> None:
        faults = []
        if not 1 <= self.n_estimators <= 10_000:
            faults.append(f"n_estimators is {self.n_estimators}; expected 1 to 10000")
        if self.min_samples_leaf is not None and self.min_samples_leaf < 1:
            faults.append(f"min_samples_leaf is {self.min_samples_leaf}; expected at least 1")
        if self.max_depth is not None and self.max_depth < 1:
            faults.append(f"max_depth is {self.max_depth}; expected at least 1, or none")
        if self.max_features not in ("sqrt", "log2") and not (
            isinstance(self.max_features, float) and 0 < self.max_features <= 1
        ):
            faults.append(f"max_features is {self.max_features!r}; expected sqrt, log2 or a share above 0 up to 1")
        if self.class_weight not in (None, "balanced", "balanced_subsample"):
            faults.append(f"class_weight is {self.class_weight!r}; expected balanced, balanced_subsample or none")
        if faults:
            raise Rejected("the training's parameters cannot work", faults)


class FittedForest:
    """A forest that scikit-learn fitted."""

    def __init__(self, forest: Any, width: int, parameters: Parameters) -> None:
        self.parameters = parameters
        self._forest = forest
        self._width = width

    def predict(self, features: npt.NDArray[np.float32]) -> tuple[Labels, Floats]:
        """As scikit-learn answers: the class with the largest mean vote, the first of equal ones."""
        probabilities: Floats = self._forest.predict_proba(features)
        return self._forest.classes_[probabilities.argmax(axis=1)].astype(np.int64), probabilities

    def to_onnx(self) -> Any:
        """The forest as ONNX. Raises Rejected where it would be over MAX_MODEL_BYTES."""
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        trees = [estimator.tree_ for estimator in self._forest.estimators_]
        nodes = sum(tree.node_count for tree in trees)
        if nodes * NODE_BYTES > MAX_MODEL_BYTES:
            raise Rejected(
                f"the forest has {nodes:,} nodes, about {nodes * NODE_BYTES / 1e9:.1f} GB of ONNX, at most "
                f"{MAX_MODEL_BYTES / 1e9:.0f} GB can be served; set min_samples_leaf (20 is often better too), "
                "max_depth or fewer n_estimators"
            )
        classes = len(self._forest.classes_)
        ensemble = helper.make_node(
            "TreeEnsembleClassifier",
            ["exact"],
            ["index", "votes"],
            domain="ai.onnx.ml",
            # For two classes onnxruntime compares the sum of votes with 0.5 instead of looking for the larger one. A
            # class more that no leaf votes for avoids this shortcut; it is cut off below.
            classlabels_int64s=[*self._forest.classes_.tolist(), classes],
            post_transform="NONE",
        )
        for name, values in _attributes(trees).items():
            if name == "class_weights_as_tensor":
                ensemble.attribute.append(helper.make_attribute(name, numpy_helper.from_array(values, name)))
                continue
            field, kind = {"i": ("ints", "INTS"), "f": ("floats", "FLOATS"), "S": ("strings", "STRINGS")}[
                values.dtype.kind
            ]
            attribute = onnx.AttributeProto(name=name, type=kind)
            getattr(attribute, field).extend(values.tolist())
            ensemble.attribute.append(attribute)
        # In float64 a float32 feature and a float32 threshold compare as they do in float32, and votes add up as in
        # scikit-learn: rows where both classes get exactly half keep their label.
        body = [
            helper.make_node("Cast", ["features"], ["exact"], to=TensorProto.DOUBLE),
            ensemble,
            helper.make_node("Slice", ["votes", "first", "last", "axis"], ["cut"]),
            helper.make_node("Div", ["cut", "trees"], ["probabilities"]),
        ]
        constants = {
            "first": np.array([0], np.int64),
            "last": np.array([classes], np.int64),
            "axis": np.array([1], np.int64),
            "trees": np.array(len(trees), np.float32),
        }
        graph = helper.make_graph(
            body,
            "random_forest",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, self._width])],
            [
                helper.make_tensor_value_info("index", TensorProto.INT64, [None]),
                helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, classes]),
            ],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
        )


def fit(
    features: npt.NDArray[np.float32],
    labels: Labels,
    classes: int,
    parameters: Parameters,
    seed: int,
    report: Report,
) -> FittedForest:
    """Fit a forest. Every class has a row: the caller's split sees to it."""
    from sklearn.ensemble import RandomForestClassifier

    leaf = parameters.min_samples_leaf or max(SMALLEST_LEAF, len(labels) // ROWS_PER_LEAF_ROW)
    parameters = replace(parameters, min_samples_leaf=leaf)
    forest = RandomForestClassifier(
        n_estimators=parameters.n_estimators,
        min_samples_leaf=leaf,
        max_depth=parameters.max_depth,
        max_features=parameters.max_features,
        class_weight=parameters.class_weight,
        random_state=seed,
        n_jobs=-1,
    )
    shape = f"{len(labels):,} rows of {features.shape[1]} features"
    report(0.0, f"fitting {parameters.n_estimators} trees with leaves of {leaf} rows on {shape}")
    forest.fit(features, labels)
    # Threads add their votes in the order they finish, and float64 sums depend on it; one thread repeats itself.
    forest.n_jobs = 1
    nodes = sum(estimator.tree_.node_count for estimator in forest.estimators_)
    report(1.0, f"{parameters.n_estimators} trees with {nodes:,} nodes")
    return FittedForest(forest, features.shape[1], parameters)


def float32_below(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 that is not above each threshold: for a float32 x, x <= threshold says the same of both."""
    rounded = thresholds.astype(np.float32)
    above = rounded.astype(np.float64) > thresholds
    return np.where(above, np.nextafter(rounded, np.float32(-np.inf)), rounded).astype(np.float32)


def _attributes(trees: list[Any]) -> dict[str, npt.NDArray[Any]]:
    """All trees, one array per attribute of the operator: an entry per node, and one per leaf and class with votes."""
    parts: dict[str, list[npt.NDArray[Any]]] = {}

    def add(**arrays: npt.NDArray[Any]) -> None:
        for name, array in arrays.items():
            parts.setdefault(name, []).append(array)

    for number, tree in enumerate(trees):
        leaf = tree.children_left < 0
        votes = np.where(leaf[:, None], tree.value[:, 0, :], 0.0)
        nodes, classes = np.nonzero(votes)
        add(
            nodes_treeids=np.full(tree.node_count, number),
            nodes_nodeids=np.arange(tree.node_count),
            nodes_featureids=np.where(leaf, 0, tree.feature),
            nodes_values=np.where(leaf, np.float32(0), float32_below(tree.threshold)),
            nodes_modes=np.where(leaf, b"LEAF", b"BRANCH_LEQ"),
            nodes_truenodeids=np.where(leaf, 0, tree.children_left),
            nodes_falsenodeids=np.where(leaf, 0, tree.children_right),
            class_treeids=np.full(len(nodes), number),
            class_nodeids=nodes,
            class_ids=classes,
            class_weights_as_tensor=votes[nodes, classes],
        )
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}
