"""functions.predictor.batching: on where it pays and is right, off with the reason everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from functions.model import Model, Signature
from functions.predictor import batching
from functions.predictor.batching import Decision, Mode
from functions.tensors import Array
from tests.functions import packages


class Timed(Model):
    """A real model whose runs take as long as the test says, by a clock of its own."""

    seconds: Callable[[int], float]
    now = 0.0
    rows_run = 0
    rows: Sequence[Mapping[str, Array]] = ()

    def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        rows = len(next(iter(inputs.values())))
        self.now += self.seconds(rows)
        self.rows_run += rows
        return super().infer(inputs, outputs)

    def sample_inputs(self) -> list[dict[str, Array]]:
        return [dict(row) for row in self.rows]


def timed(
    nodes: list[NodeProto], seconds: Callable[[int], float] = lambda rows: 0.001 + rows * 1e-5, batch: str | int = "n"
) -> Timed:
    """`y` of `x`, three floats a row, by the given nodes."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])
    axis = numpy_helper.from_array(np.array([0]), "axis")
    graph = helper.make_graph(nodes, "graph", [x], [y], [axis])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model = Timed.from_onnx(proto.SerializeToString())
    assert isinstance(model, Timed)
    model.seconds = seconds
    model.rows = [{"x": np.array([[n, 2.0, 3.0]], np.float32)} for n in range(5)]
    return model


def relu() -> list[NodeProto]:
    return [helper.make_node("Relu", ["x"], ["y"])]


def decide(model: Timed, mode: Mode = "auto") -> Decision:
    return batching.decide(model, mode, clock=lambda: model.now)


def test_on_where_rows_together_cost_little_more_than_one() -> None:
    decision = decide(timed(relu()))
    assert decision.on
    assert decision.reason == "8 rows together take 1.08 ms, one by one 8.08 ms"
    assert (decision.rows, round(decision.single_s, 5), round(decision.joint_s, 5)) == (8, 0.00101, 0.00108)


def test_off_where_a_run_is_shorter_than_a_hand_over() -> None:
    model = timed(relu(), lambda rows: rows * 7e-6)
    decision = decide(model)
    assert not decision.on
    assert "a row takes 7 µs" in decision.reason
    assert model.now < 0.0002  # what it costs such a model to be asked


def test_off_where_too_little_is_gained() -> None:
    decision = decide(timed(relu(), lambda rows: 0.0002 + rows * 0.0008))
    assert not decision.on
    assert "too little is gained" in decision.reason


@pytest.mark.parametrize("single_s", [0.0002, 0.001, 0.002, 0.05, 1.0])
def test_the_trial_is_short(single_s: float) -> None:
    """Some 20 ms; of a slow model no more than a few of its runs, which its self-test takes as well."""
    model = timed(relu(), lambda rows: single_s * (1 + (rows - 1) * 0.3))
    assert decide(model).on
    assert model.now <= max(0.06, 7 * single_s)


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_off_where_a_row_depends_on_those_beside_it(mode: Mode) -> None:
    centred = [
        helper.make_node("ReduceMean", ["x", "axis"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    decision = decide(timed(centred), mode)
    assert not decision.on
    assert decision.reason == "output 'y' of a row depends on the rows beside it"


def test_off_where_several_rows_fail() -> None:
    def one_at_a_time(rows: int) -> float:
        if rows > 1:
            raise RuntimeError("no memory for so many")
        return 0.001

    decision = decide(timed(relu(), one_at_a_time))
    assert not decision.on
    assert decision.reason == "8 rows together fail"


def test_off_where_the_number_of_rows_is_fixed() -> None:
    decision = decide(timed(relu(), batch=1), "on")
    assert not decision.on
    assert decision.reason == "input 'x' takes or gives a fixed number of rows"


def test_equal_samples_prove_nothing() -> None:
    model = timed(relu())
    model.rows = [{"x": np.full((1, 3), np.nan, np.float32)}] * 5
    assert not decide(model).on
    assert "no two different sample rows" in decide(model).reason


def test_on_is_on_where_it_is_right_even_if_it_does_not_pay() -> None:
    assert decide(timed(relu(), lambda rows: rows * 7e-6), "on").on


def test_off_is_off() -> None:
    model = timed(relu())
    assert decide(model, "off") == Decision(False, "switched off")
    assert model.rows_run == 0


def test_rows_of_text_and_numbers_may_be_joined(tmp_path: Path) -> None:
    assert batching.decide(Model.load(packages.build_package(tmp_path)), "on").on


def test_a_model_without_samples_is_batched_on_its_operators_word_alone() -> None:
    model = Model.from_onnx(packages.onnx_bytes(), Signature(packages.SIGNATURE.inputs, packages.SIGNATURE.outputs))
    assert not batching.decide(model).on
    assert batching.decide(model, "on").on


@pytest.mark.parametrize(
    ("single_s", "joint_s", "on"), [(0.001, 0.0047, True), (0.001, 0.0049, False), (0.001, 0.008, False)]
)
def test_the_verdict_is_a_matter_of_shares(single_s: float, joint_s: float, on: bool) -> None:
    assert batching.verdict("auto", single_s, joint_s, 8).on is on
    assert batching.verdict("on", single_s, joint_s, 8).on
