"""functions.predictor.batcher: whatever the interleaving, each caller gets its own rows, outputs and errors."""

from __future__ import annotations

import functools
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from eventing.errors import Rejected, RetryLater
from functions.model import Model
from functions.predictor.admission import Gone
from functions.predictor.batcher import Batcher
from functions.predictor.query import Query
from tests.functions.predictor import predictors

TABLE = np.arange(100, dtype=np.float32)
BROKEN = 1000.0  # a row with this value makes the run fail that holds it


class Graph:
    """A model at the seam: `sum` and `twice` of each row; counts its runs, and how many go on at once."""

    def __init__(self, pause_s: Callable[[], float] = lambda: 0.0) -> None:
        self.runs: list[int] = []
        self.most_at_once = 0
        self._at_once = 0
        self._pause_s = pause_s
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.runs.append(len(inputs["x"]))
        try:
            if pause_s := self._pause_s():
                time.sleep(pause_s)
            return self.answer(inputs, outputs)
        finally:
            with self._lock:
                self._at_once -= 1

    @staticmethod
    def answer(inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        x = inputs["x"]
        if (x == BROKEN).any():
            raise ArithmeticError(f"{len(x)} rows of {x.shape[1]}: {x.ravel().tolist()}")
        known = {"sum": x.sum(axis=1), "twice": x * 2}
        names = known if outputs is None else outputs
        if unknown := [name for name in names if name not in known]:
            raise Rejected(f"no output {unknown}")
        return {name: known[name] for name in names}


class Held(Graph):
    """A graph whose first run waits until it is let go: what comes meanwhile queues."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.let_go = threading.Event(), threading.Event()

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        if not self.entered.is_set():
            self.entered.set()
            assert self.let_go.wait(predictors.DEADLINE_S)
        return super().run(inputs, outputs)


@dataclass
class Asked:
    """A call in a thread of its own, and what came of it."""

    thread: threading.Thread
    outputs: dict[str, np.ndarray] | None = None
    error: BaseException | None = None

    def done(self) -> Asked:
        self.thread.join(predictors.DEADLINE_S)
        assert not self.thread.is_alive(), "the call is stuck"
        return self


def query(*rows: float, width: int = 2, outputs: Sequence[str] | None = None, dtype: Any = np.float32) -> Query:
    return Query({"x": np.repeat(np.array(rows, dtype)[:, None], width, axis=1)}, len(rows), outputs)


def ask(batcher: Batcher, asked: Query, deadline: float | None = None, before: Any = None) -> Asked:
    def call() -> None:
        if before is not None:
            before.wait()
        try:
            me.outputs = batcher.infer(asked, deadline)[0]
        except BaseException as e:  # noqa: BLE001 - looked at by the test
            me.error = e

    me = Asked(threading.Thread(target=call, daemon=True))
    me.thread.start()
    return me


@contextmanager
def busy(graph: Held, batcher: Batcher) -> Iterator[Asked]:
    """While the block runs, the model is at work; afterwards it is let go, and the first call is answered."""
    first = ask(batcher, query(0.0))
    assert graph.entered.wait(predictors.DEADLINE_S)
    yield first
    graph.let_go.set()
    assert first.done().error is None


def queue(batcher: Batcher, *queries: Query) -> list[Asked]:
    """Calls that wait, in this order."""
    calls = []
    for one in queries:
        before = batcher.waiting
        calls.append(ask(batcher, one))
        predictors.until(lambda before=before: batcher.waiting == before + 1)
    return calls


def agree(given: dict[str, np.ndarray] | None, expected: dict[str, np.ndarray]) -> None:
    assert given is not None and list(given) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(given[name], values)
        assert given[name].dtype == values.dtype


REQUESTS = st.builds(
    lambda rows, width, outputs, dtype: query(*rows, width=width, outputs=outputs, dtype=dtype),
    rows=st.lists(st.integers(-50, 50).map(float) | st.just(BROKEN), min_size=0, max_size=5),
    width=st.sampled_from((2, 2, 2, 3)),
    outputs=st.sampled_from((None, None, ["sum"], ["twice"], ["twice", "sum"], ["unknown"], [])),
    dtype=st.sampled_from((np.float32, np.float32, np.float64)),
)


@settings(deadline=None, max_examples=80)
@given(
    requests=st.lists(REQUESTS, min_size=1, max_size=24),
    slots=st.integers(1, 3),
    max_rows=st.sampled_from((1, 4, 64)),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_caller_gets_what_the_model_says_to_it_alone(
    requests: list[Query], slots: int, max_rows: int, seed: int
) -> None:
    chance = random.Random(seed)
    graph = Graph(lambda: chance.choice((0.0, 0.0, 0.0002, 0.001)))
    told: list[tuple[int, float, float, float]] = []
    batcher = Batcher(graph.run, slots=slots, max_rows=max_rows, on_run=lambda *run: told.append(run))
    start = threading.Barrier(len(requests))
    calls = [ask(batcher, one, before=start) for one in requests]
    failed = rows = 0
    for one, call in zip(requests, calls, strict=True):
        call.done()
        try:
            expected = Graph.answer(one.inputs, one.outputs)
        except (ArithmeticError, Rejected) as e:
            failed += 1
            assert type(call.error) is type(e) and str(call.error) == str(e)
        else:
            assert call.error is None
            agree(call.outputs, expected)
            rows += one.rows
    assert batcher.waiting == 0
    assert graph.most_at_once <= slots
    # A run that fails for several is made anew for each of them: one run more for each failing request at most.
    assert len(graph.runs) <= len(requests) + failed
    assert sum(run[0] for run in told) == rows
    assert all(seconds >= 0 for run in told for seconds in run[1:])
    agree(batcher.infer(query(1.0))[0], Graph.answer(query(1.0).inputs))


def test_what_comes_while_a_run_goes_on_is_one_run() -> None:
    graph = Held()
    batcher = Batcher(graph.run)
    with busy(graph, batcher):
        calls = queue(batcher, query(1.0), query(2.0, 3.0, outputs=["sum"]), query(4.0, outputs=["twice"]))
    for call, rows in zip(calls, ([1.0], [2.0, 3.0], [4.0]), strict=True):
        names = list(call.done().outputs or ())
        agree(call.outputs, Graph.answer(query(*rows).inputs, names))
    assert [list(call.outputs or ()) for call in calls] == [["sum", "twice"], ["sum"], ["twice"]]
    assert graph.runs == [1, 4]


def test_who_finds_the_model_idle_waits_for_nobody() -> None:
    graph = Graph()
    batcher = Batcher(graph.run)
    for n in range(3):
        agree(batcher.infer(query(float(n)))[0], Graph.answer(query(float(n)).inputs))
    assert graph.runs == [1, 1, 1]


def test_the_oldest_leads_whatever_fits_better() -> None:
    """A large request runs in its turn, though small ones could go on joining each other for ever."""
    graph = Held()
    batcher = Batcher(graph.run, max_rows=4)
    with busy(graph, batcher):
        calls = queue(
            batcher, query(1.0), query(*[2.0] * 9), query(3.0, 3.0, 3.0), query(4.0), query(5.0, 5.0, 5.0, width=3)
        )
    for call in calls:
        assert call.done().error is None
    # 1 and 3 fill the limit; the nine rows go alone; 4 and 5 differ in their width.
    assert graph.runs == [1, 4, 9, 1, 3]


def test_the_bytes_of_a_joint_run_are_bounded() -> None:
    graph = Held()
    batcher = Batcher(graph.run, max_bytes=3 * 8)  # a row is two floats of four bytes
    with busy(graph, batcher):
        calls = queue(batcher, *[query(float(n)) for n in range(4)])
    for call in calls:
        call.done()
    assert graph.runs == [1, 3, 1]


def test_an_error_is_that_of_the_request_that_makes_it() -> None:
    graph = Held()
    batcher = Batcher(graph.run)
    with busy(graph, batcher):
        calls = queue(batcher, query(1.0), query(BROKEN), query(2.0))
    errors = [call.done().error for call in calls]
    assert [type(e) for e in errors] == [type(None), ArithmeticError, type(None)]
    assert str(errors[1]) == f"1 rows of 2: [{BROKEN}, {BROKEN}]"
    assert graph.runs == [1, 3, 1, 1, 1]


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, SystemExit])
def test_a_leader_that_dies_strands_nobody(error: type[BaseException]) -> None:
    """What kills a joint run is its leader's; where it was too much for the memory, each is tried alone."""
    graph = Held()

    def run(inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None) -> dict[str, np.ndarray]:
        if len(inputs["x"]) == 4:
            raise error
        return graph.run(inputs, outputs)

    batcher = Batcher(run)
    with busy(graph, batcher):
        calls = queue(batcher, *[query(float(n)) for n in range(4)])
    first, *others = [call.done() for call in calls]
    assert type(first.error) is (type(None) if error is MemoryError else error)
    for n, call in enumerate(others, 1):
        agree(call.outputs, Graph.answer(query(float(n)).inputs))


@pytest.mark.parametrize(
    "answer",
    [lambda x: {"y": np.float32(1.0)}, lambda x: {"y": x[:1]}, lambda x: {"y": x.T}],
    ids=["no axis", "one row", "rows last"],
)
def test_outputs_that_are_not_one_per_row_are_never_divided(
    answer: Callable[[np.ndarray], dict[str, np.ndarray]],
) -> None:
    graph = Held()

    def run(inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None) -> dict[str, np.ndarray]:
        graph.run(inputs)
        return {name: np.asarray(values) for name, values in answer(inputs["x"]).items()}

    batcher = Batcher(run)
    with busy(graph, batcher):
        calls = queue(batcher, query(1.0), query(2.0), query(3.0))
    for n, call in enumerate(calls, 1):
        agree(call.done().outputs, {k: np.asarray(v) for k, v in answer(query(float(n)).inputs["x"]).items()})


def test_more_than_may_wait_are_told_to_come_again() -> None:
    graph = Held()
    batcher = Batcher(graph.run, max_waiting=2)
    with busy(graph, batcher):
        calls = queue(batcher, query(1.0), query(2.0))
        with pytest.raises(RetryLater, match="2 requests wait"):
            batcher.infer(query(3.0))
    assert [call.done().error for call in calls] == [None, None]
    assert graph.runs == [1, 2]


def test_who_waits_past_the_deadline_is_not_run() -> None:
    graph = Held()
    batcher = Batcher(graph.run)
    with busy(graph, batcher):
        (patient,) = queue(batcher, query(1.0))
        with pytest.raises(RetryLater, match="waited too long"):
            batcher.infer(query(2.0), deadline=time.monotonic() + 0.01)
        assert batcher.waiting == 1
    assert patient.done().error is None
    assert graph.runs == [1, 1]


def test_an_interrupt_of_one_that_waits_strands_nobody() -> None:
    """Control-C reaches the main thread while it waits among others; they are answered, it is not run."""
    graph = Held()
    batcher = Batcher(graph.run)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        predictors.until(lambda: batcher.waiting == 2)
        while batcher.waiting == 2:  # until it is inside the wait
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.05)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
    try:
        with busy(graph, batcher):
            (other,) = queue(batcher, query(1.0))
            interrupter = threading.Thread(target=interrupt)
            interrupter.start()
            with pytest.raises(KeyboardInterrupt):
                batcher.infer(query(2.0))
            interrupter.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert other.done().error is None
    assert graph.runs == [1, 1]


def test_the_wait_is_told_apart_from_the_run() -> None:
    graph = Held()
    batcher = Batcher(graph.run)
    waits: list[float] = []
    with busy(graph, batcher):
        second = threading.Thread(target=lambda: waits.append(batcher.infer(query(1.0))[1]), daemon=True)
        second.start()
        predictors.until(lambda: batcher.waiting == 1)
        time.sleep(0.02)
    second.join(predictors.DEADLINE_S)
    assert waits[0] >= 0.02
    assert batcher.infer(query(1.0))[1] < waits[0]


@functools.cache
def looking_up() -> Model:
    """A real graph: each row's place in a table of 100; one beyond it fails inside onnxruntime, with its run."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "place"], ["value"])],
        "look up",
        [helper.make_tensor_value_info("place", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(TABLE, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return Model.from_onnx(model.SerializeToString())


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.integers(0, 99) | st.just(100), min_size=1, max_size=4), min_size=1, max_size=24),
    st.integers(1, 2),
)
def test_so_it_is_with_onnxruntime(requests: list[list[int]], slots: int) -> None:
    batcher = Batcher(looking_up().infer, slots=slots)
    start = threading.Barrier(len(requests))
    calls = [ask(batcher, Query({"place": np.array(rows)}, len(rows)), before=start) for rows in requests]
    for rows, call in zip(requests, calls, strict=True):
        call.done()
        if 100 in rows:
            assert call.outputs is None and "indices element out of data bounds" in str(call.error)
        else:
            assert call.error is None
            agree(call.outputs, {"value": TABLE[rows]})


def test_it_holds_under_many_threads_for_many_rounds() -> None:
    """64 threads, each with its own numbers, for as long as it takes to make 6,400 calls."""
    batcher = Batcher(looking_up().infer, max_rows=16)
    wrong: list[int] = []

    def client(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(100):
            rows = [chance.randrange(100) for _ in range(chance.randint(1, 3))]
            if batcher.infer(Query({"place": np.array(rows)}, len(rows)))[0]["value"].tolist() != rows:
                wrong.append(seed)

    clients = [threading.Thread(target=client, args=(seed,), daemon=True) for seed in range(64)]
    for one in clients:
        one.start()
    for one in clients:
        one.join(predictors.DEADLINE_S)
        assert not one.is_alive(), "a call is stuck"
    assert wrong == []
    assert batcher.waiting == 0


@pytest.mark.parametrize("gone", [set(), {0}, {1}, {3}, {0, 1}, {1, 2, 3}, {0, 1, 2, 3}], ids=str)
def test_whose_client_has_gone_when_its_turn_comes_is_not_run(gone: set[int]) -> None:
    """Four wait behind a run: the first of them is to lead the next."""
    graph = Held()
    batcher = Batcher(graph.run)
    ended: dict[int, Any] = {}

    def ask(number: int) -> None:
        row = np.full((1, 2), number, np.float32)
        try:
            ended[number] = batcher.infer(Query({"x": row}, 1), wanted=lambda: number not in gone)[0]["sum"].tolist()
        except Gone as e:
            ended[number] = e

    first = threading.Thread(target=batcher.infer, args=(Query({"x": np.zeros((1, 2), np.float32)}, 1),))
    first.start()
    assert graph.entered.wait(predictors.DEADLINE_S)
    waiting = []
    for number in range(4):
        waiting.append(threading.Thread(target=ask, args=(number,)))
        waiting[-1].start()
        predictors.until(lambda number=number: batcher.waiting == number + 1)
    graph.let_go.set()
    for thread in (first, *waiting):
        thread.join()
    assert {number for number, end in ended.items() if isinstance(end, Gone)} == gone
    assert all(ended[number] == [2.0 * number] for number in set(range(4)) - gone)
    assert sum(graph.runs) == 1 + 4 - len(gone), "rows of those that had gone were run"
    assert batcher.waiting == 0
    assert batcher.infer(Query({"x": np.ones((1, 2), np.float32)}, 1))[0]["sum"].tolist() == [2.0]
