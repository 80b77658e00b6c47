"""Challenger against champion on the same held-out rows, and the gate that follows from it. Pure, but for inference.

Used by the promoter. Both models answer through `functions.model`, as they would in service, so what is compared is
what callers would get. Scores are computed here with numpy alone: the functions' image holds no scikit-learn.

Source: ROC AUC as the Mann-Whitney U statistic with tied ranks averaged (Hanley and McNeil, Radiology 143, 1982).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from functions import tensors
from functions.model import Model
from functions.package import Manifest, Signature
from functions.promoter.held_out import TARGET, Rows

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]

PROBABILITIES, LABEL = "probabilities", "label"
BATCH_ROWS = 8192  # rows in one inference: enough for full speed, little enough for a small pod's memory
LEAST_PROBABILITY = 1e-15  # a certain answer that was wrong costs 34.5 nats instead of infinitely many
LOWER_IS_BETTER = frozenset({"log_loss"})


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both models' scores on the same rows."""

    rows: int
    primary: str
    """The score that decides."""
    champion: Mapping[str, float]
    challenger: Mapping[str, float]

    @property
    def regression(self) -> float:
        """By how much the challenger is worse in the primary score; below 0 where it is better."""
        loss = self.champion[self.primary] - self.challenger[self.primary]
        return -loss if self.primary in LOWER_IS_BETTER else loss

    def evidence(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "primary": self.primary,
            "champion": dict(self.champion),
            "challenger": dict(self.challenger),
        }


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a challenger may go on to a canary, why, and what that rests on."""

    passed: bool
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


def parity_faults(manifest: Manifest) -> list[str]:
    """What speaks against taking the graph for the model that was trained, each a sentence; empty when proven equal."""
    parity = manifest.parity
    faults = []
    if parity["rows"] < 1:
        faults.append("its parity record compares no row with the trained model")
    # Not `>`: a difference that is NaN is within no tolerance.
    if not parity["largest_difference"] <= parity["tolerance"]:
        faults.append(
            f"its largest difference from the trained model is {parity['largest_difference']:g}; "
            f"the tolerance is {parity['tolerance']:g}"
        )
    # As many as whoever trained it allowed; a record without that word allows none.
    if parity["label_flips"] > manifest.parameters.get("max_label_flips", 0):
        faults.append(f"{parity['label_flips']} of {parity['rows']} labels differ from the trained model's")
    return faults


def signature_changes(champion: Signature, challenger: Signature) -> list[str]:
    """What a caller of the champion would have to change for the challenger, each a sentence; empty when nothing."""
    before = {spec.name: spec for spec in champion.inputs}
    after = {spec.name: spec for spec in challenger.inputs}
    changes = [f"column {name!r} was added" for name in after if name not in before]
    changes += [f"column {name!r} was removed" for name in before if name not in after]
    changes += [
        f"column {name!r} was retyped from {before[name].datatype} to {after[name].datatype}"
        for name in before
        if name in after and before[name].datatype != after[name].datatype
    ]
    changes += [f"class {name!r} was added" for name in challenger.classes if name not in champion.classes]
    changes += [f"class {name!r} was removed" for name in champion.classes if name not in challenger.classes]
    return changes


def compare(champion: Model, challenger: Model, rows: Rows) -> Comparison:
    """Both models' scores on `rows`: one array per input, and the true classes under TARGET.

    Both have the same inputs and classes (`signature_changes` is empty), maybe in another order. Classes are counted by
    the challenger's signature, whose held-out rows these are. Raises Rejected for rows that do not fit the models.
    """
    truth = rows[TARGET].astype(np.int64)
    classes = challenger.signature.classes
    theirs, ours = (scores(*answers(model, rows, classes), truth) for model in (champion, challenger))
    # Where one class alone was held out, no ROC curve exists, and log loss takes its place.
    primary = ("roc_auc" if "roc_auc" in ours else "log_loss") if len(classes) == 2 else "accuracy"
    return Comparison(rows=len(truth), primary=primary, champion=theirs, challenger=ours)


def answers(model: Model, rows: Rows, classes: Sequence[str | int]) -> tuple[Floats, Classes]:
    """The model's probability of each class for each row, (rows, classes), and the class that it names, (rows,).

    classes: those of its signature, in the order that is wanted. The class is the one that callers get: where two have
    the same float32, the model may know the larger.
    """
    inputs = {
        spec.name: rows[spec.name].astype(tensors.DTYPES[spec.datatype]).reshape(-1, *np.abs(spec.shape[1:]))
        for spec in model.signature.inputs
    }
    count = len(rows[TARGET])
    wanted = [PROBABILITIES] if model.signature.output(LABEL) is None else [PROBABILITIES, LABEL]
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in wanted}
    for start in range(0, count, BATCH_ROWS):
        batch = {name: values[start : start + BATCH_ROWS] for name, values in inputs.items()}
        for name, answer in model.infer(batch, wanted).items():
            parts[name].append(answer)
    order = [model.signature.classes.index(name) for name in classes]
    given = np.concatenate(parts[PROBABILITIES]).astype(np.float64)[:, order]
    if LABEL not in parts:
        return given, given.argmax(axis=1)
    place = {name: index for index, name in enumerate(classes)}
    named = np.concatenate(parts[LABEL]).reshape(-1).tolist()
    return given, np.array([place.get(label, -1) for label in named], np.int64)


def scores(given: Floats, named: Classes, truth: Classes) -> dict[str, float]:
    """Accuracy and log loss, and of two classes, where both occur, ROC AUC.

    given: (rows, classes), the probability of each class; named: (rows,), the index of the one that is the answer;
    truth: (rows,), the index of the true one; at least one row.
    """
    right = given[np.arange(len(truth)), truth]
    found = {
        "accuracy": float(np.mean(named == truth)),
        "log_loss": float(-np.mean(np.log(np.clip(right, LEAST_PROBABILITY, 1.0)))),
    }
    if given.shape[1] == 2 and 0 < truth.sum() < len(truth):
        found["roc_auc"] = roc_auc(given[:, 1], truth)
    return found


def roc_auc(score: Floats, truth: Classes) -> float:
    """The chance that a row of class 1 scores above a row of class 0, a tie counting half; both classes occur."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks = (last - (count - 1) / 2)[place]  # of n equal scores each has the mean of their n ranks
    positive = int(truth.sum())
    above = ranks[truth == 1].sum() - positive * (positive + 1) / 2
    return float(above / (positive * (len(truth) - positive)))


def judge(comparison: Comparison, max_regression: float) -> Gate:
    """Whether the challenger is not worse than the champion.

    max_regression: by how much its primary score may be worse and still pass, in the score's own unit.
    """
    name = comparison.primary
    ours, theirs = comparison.challenger[name], comparison.champion[name]
    said = f"{name} {ours:.4f} against the champion's {theirs:.4f} on {comparison.rows} held-out rows"
    evidence = {"gate": comparison.evidence()}
    if comparison.regression > max_regression:
        allowed = f" ({max_regression:g} worse is allowed)" if max_regression else ""
        return Gate(False, f"worse than the champion: {said}{allowed}", evidence)
    return Gate(True, f"not worse than the champion: {said}", evidence)
