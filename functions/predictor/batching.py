"""Whether batching pays for a model, and is right for it: decided once, after its self-test, by trying.

A forest answers a row in 7 µs, less than a thread takes to wake: joining its requests would only cost. A network reads
its weights once for all rows of a run. And some graphs let rows meet (a mean over the batch, a quantization with one
scale for all): those must not be joined, whatever it would bring.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from functions.model import Model, nearly_equal
from functions.package import Signature
from functions.predictor.settings import Mode
from functions.tensors import Array

ROWS = 8
FEW_ROWS = 4  # where one row takes long: the start waits for this
WORTH_S = 150e-6
"""A run shorter than this is hardly longer than handing it over: 10 µs on one core, 50 µs between two."""
WORTH_SHARE = 0.6
"""Rows together must take at most this share of what they take one by one."""
BUDGET_S = 0.02

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decision:
    """on: whether requests are joined. reason: why, with the figures; for the log."""

    on: bool
    reason: str
    single_s: float = 0.0
    """One row alone; 0 where it was not tried."""
    joint_s: float = 0.0
    """`rows` rows together."""
    rows: int = 0


def decide(model: Model, mode: Mode = "auto", clock: Callable[[], float] = time.perf_counter) -> Decision:
    """Whether `model` is to be batched. Takes some 20 ms, of a model that needs longer than 2 ms a row that of a few
    rows more than its self-test. Never raises for what the model does with several rows: that is a reason against.
    """
    if mode == "off":
        return Decision(False, "switched off")
    if bound := _bound(model.signature):
        return Decision(False, bound)
    # Rows of another shape, as long as their text, are never joined with these.
    samples = _alike(model.sample_inputs())
    if not _differ(samples):
        # Equal rows prove nothing: their mean is each of them.
        return Decision(mode == "on", "the package has no two different sample rows to try it with")
    single_s, singles = _timed(lambda: model.infer(samples[0]), BUDGET_S / 10, clock)
    if mode == "auto" and single_s < WORTH_S:
        return Decision(False, f"a row takes {single_s * 1e6:.0f} µs, less than it takes to hand it over", single_s)
    rows = ROWS if single_s * ROWS < BUDGET_S else FEW_ROWS
    chosen = [samples[i % len(samples)] for i in range(rows)]
    together = {name: np.concatenate([sample[name] for sample in chosen]) for name in chosen[0]}
    try:
        joint_s, joint = _timed(lambda: model.infer(together), BUDGET_S / 2, clock)
    except Exception:
        log.info("%d rows together fail", rows, exc_info=True)
        return Decision(False, f"{rows} rows together fail", single_s, 0.0, rows)
    singles_by_sample = [singles, *(model.infer(sample) for sample in samples[1 : min(rows, len(samples))])]
    for place in range(rows):
        for name, alone in singles_by_sample[place % len(samples)].items():
            if len(joint[name]) != rows or not nearly_equal(joint[name][place : place + 1], alone):
                reason = f"output {name!r} of a row depends on the rows beside it"
                return Decision(False, reason, single_s, joint_s, rows)
    return verdict(mode, single_s, joint_s, rows)


def verdict(mode: Mode, single_s: float, joint_s: float, rows: int) -> Decision:
    """The decision on a model whose rows are independent, from what they take."""
    share = joint_s / (rows * single_s)
    figures = f"{rows} rows together take {joint_s * 1e3:.2f} ms, one by one {rows * single_s * 1e3:.2f} ms"
    if mode == "auto" and share > WORTH_SHARE:
        return Decision(False, f"{figures}: too little is gained", single_s, joint_s, rows)
    return Decision(True, figures, single_s, joint_s, rows)


def _bound(signature: Signature) -> str | None:
    """The first input or output whose first axis is not free, or not the one of all; None where there is none."""
    for side, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            if not spec.shape or spec.shape[0] != -1:
                return f"{side} {spec.name!r} takes or gives a fixed number of rows"
    if len(signature.batches) > 1:
        return f"inputs have rows of their own: {', '.join(sorted(min(names) for names in signature.batches))}"
    return None


def _alike(samples: Sequence[Mapping[str, Array]]) -> list[Mapping[str, Array]]:
    """Those whose arrays have the shapes of the first one's."""
    return [s for s in samples if all(s[name].shape == values.shape for name, values in samples[0].items())]


def _differ(samples: Sequence[Mapping[str, Array]]) -> bool:
    # As text, in which NaN equals NaN.
    return len({repr({name: values.tolist() for name, values in sample.items()}) for sample in samples}) > 1


def _timed(
    call: Callable[[], dict[str, Array]], budget_s: float, clock: Callable[[], float]
) -> tuple[float, dict[str, Array]]:
    """Seconds of the quickest call, and its answer: at least two calls, the first warms up, or one longer than the
    budget.
    """
    best, spent, calls = float("inf"), 0.0, 0
    while True:
        began = clock()
        answer = call()
        took = clock() - began
        best, spent, calls = min(best, took), spent + took, calls + 1
        if spent >= budget_s or calls >= 10:
            return best, answer
