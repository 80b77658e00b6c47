"""functions.bindings: what is answered in memory bound beforehand is what the session answers, row by row."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.onnx_ml_pb2 import NodeProto, ValueInfoProto

from eventing.errors import Rejected
from functions.model import Model

FLOAT, STRING = TensorProto.FLOAT, TensorProto.STRING


def _model(nodes: list[NodeProto], inputs: list[ValueInfoProto], outputs: list[ValueInfoProto]) -> Model:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    opset = [helper.make_opsetid("", 18)]
    return Model.from_onnx(helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString())


def _two_in_two_out() -> Model:
    """sum: a + b, `(batch, 3)`; mean: of a row of it, `(batch, 1)`."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("ReduceMean", ["sum", "axes"], ["mean"], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, FLOAT, ["n", 3]) for name in "ab"],
        [helper.make_tensor_value_info("sum", FLOAT, ["n", 3]), helper.make_tensor_value_info("mean", FLOAT, ["n", 1])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return Model.from_onnx(made.SerializeToString())


def _row(seed: int, rows: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(rows, 3)).astype(np.float32) for name in "ab"}


def test_every_row_gets_its_own_answer_again_and_again() -> None:
    model = _two_in_two_out()
    kept = []
    for seed in range(50):
        asked = _row(seed)
        kept.append((asked["a"] + asked["b"], model.infer(asked)))
    for expected, answer in kept:  # nothing that was answered is written over by what comes later
        np.testing.assert_array_equal(answer["sum"], expected)
        np.testing.assert_allclose(answer["mean"], expected.mean(axis=1, keepdims=True), rtol=1e-6)


def test_one_row_and_many_and_chosen_outputs_take_turns() -> None:
    model = _two_in_two_out()
    for rows in (1, 4, 1, 0, 1, 7, 1):
        asked = _row(rows, rows)
        np.testing.assert_array_equal(model.infer(asked)["sum"], asked["a"] + asked["b"])
        assert list(model.infer(asked, ["mean"])) == ["mean"]


def test_threads_do_not_share_memory() -> None:
    model = _two_in_two_out()
    together = threading.Barrier(8)

    def ask(seed: int) -> None:
        together.wait()
        for i in range(300):
            asked = _row(seed * 1000 + i)
            np.testing.assert_array_equal(model.infer(asked)["sum"], asked["a"] + asked["b"])

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(ask, seed) for seed in range(8)]:
            done.result()


@pytest.mark.parametrize("shape", [(1, 4), (1, 3, 1), (3,)])
def test_a_row_of_another_shape_is_rejected_after_one_that_fits(shape: tuple[int, ...]) -> None:
    model = _two_in_two_out()
    for _ in range(3):
        model.infer(_row(1))
    with pytest.raises(Rejected, match="do not fit"):
        model.infer({"a": np.zeros(shape, np.float32), "b": np.zeros((1, 3), np.float32)})
    asked = _row(2)
    np.testing.assert_array_equal(model.infer(asked)["sum"], asked["a"] + asked["b"])


def test_a_missing_input_is_rejected_after_a_row_that_was_whole() -> None:
    model = _two_in_two_out()
    for _ in range(3):
        model.infer(_row(1))
    with pytest.raises(Rejected, match="'b'"):
        model.infer({"a": np.zeros((1, 3), np.float32)})


def test_an_answer_whose_shape_depends_on_the_row_is_right_each_time() -> None:
    """NonZero gives as many columns as there are numbers: no memory fits all of its answers."""
    model = _model(
        [helper.make_node("NonZero", ["x"], ["at"])],
        [helper.make_tensor_value_info("x", FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("at", TensorProto.INT64, [2, "k"])],
    )
    for row in ([0, 1, 0, 2], [0, 0, 0, 0], [1, 2, 3, 4], [0, 1, 0, 2], [5, 0, 0, 0]) * 3:
        asked = np.array([row], np.float32)
        assert model.infer({"x": asked})["at"].tolist() == np.array(np.nonzero(asked)).tolist()


def test_an_output_that_is_an_input_is_that_of_its_own_request() -> None:
    """A key that is passed through, for example: onnxruntime itself writes nothing where that is to go."""
    model = _model(
        [helper.make_node("Add", ["x", "x"], ["twice"])],
        [helper.make_tensor_value_info("x", FLOAT, ["n", 2])],
        [helper.make_tensor_value_info(name, FLOAT, ["n", 2]) for name in ("twice", "x")],
    )
    for value in range(5):
        answer = model.infer({"x": np.full((1, 2), value, np.float32)})
        assert (answer["x"].tolist(), answer["twice"].tolist()) == ([[value, value]], [[2 * value, 2 * value]])


def test_an_output_without_axes_is_right_each_time() -> None:
    model = _model(
        [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0)],
        [helper.make_tensor_value_info("x", FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("sum", FLOAT, [])],
    )
    for value in range(5):
        assert model.infer({"x": np.full((1, 2), value, np.float32)})["sum"] == 2 * value


def test_text_goes_in_and_out() -> None:
    model = _model(
        [helper.make_node("Identity", ["t"], ["same"])],
        [helper.make_tensor_value_info("t", STRING, ["n", 1])],
        [helper.make_tensor_value_info("same", STRING, ["n", 1])],
    )
    for text in ("one", "", "zwölf", "a much longer text than those before it"):
        assert model.infer({"t": np.array([[text]], object)})["same"].tolist() == [[text]]


def test_what_fails_inside_the_graph_fails_each_time_and_harms_no_other() -> None:
    """Gather beyond the end of its table is onnxruntime's own error."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "i"], ["value"])],
        "g",
        [helper.make_tensor_value_info("i", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("value", FLOAT, ["n"])],
        [helper.make_tensor("table", FLOAT, [3], [10.0, 20.0, 30.0])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model = Model.from_onnx(made.SerializeToString())
    for _ in range(3):
        assert model.infer({"i": np.array([1])})["value"].tolist() == [20.0]
        with pytest.raises(Exception, match="indices"):
            model.infer({"i": np.array([7])})
    assert model.infer({"i": np.array([2])})["value"].tolist() == [30.0]


def test_non_contiguous_and_read_only_rows_are_read_as_they_are() -> None:
    model = _two_in_two_out()
    wide = np.arange(12, dtype=np.float32).reshape(1, 12)
    wide.flags.writeable = False
    for _ in range(3):
        answer = model.infer({"a": wide[:, ::4], "b": wide[:, :3]})
        assert answer["sum"].tolist() == [[0.0, 5.0, 10.0]]
