"""A model that answers: the onnxruntime session, its signature, inference. The only place that opens onnxruntime.

Used by the predictor, by the promoter to compare champion and challenger, and by the trainers to prove parity. Nothing
here knows HTTP, events or the store: a package is a folder. Nothing in `infer` assumes how Headrace's trainers shape a
graph.
Source: onnxruntime's Python API (SessionOptions, InferenceSession), ONNX's onnx.proto for the types.
"""

from __future__ import annotations

import os

# onnxruntime 1.32 holds a telemetry endpoint; it reads this once, at import. An operator may still decide otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from eventing.errors import Misconfigured, Rejected
from functions import optimised as optimised_copies
from functions import tensors
from functions.bindings import Bindings
from functions.package import (
    MANIFEST_FILE,
    MODEL_FILE,
    SAMPLE_FILE,
    Manifest,
    Signature,
    TensorSpec,
    parse_json,
    write_sums,
)
from functions.tensors import Array

__all__ = ["Manifest", "Model", "Signature", "TensorSpec", "open_session", "write_sums"]

PROVIDERS = ("CPUExecutionProvider",)
PROVIDERS_KEY = "HEADRACE_PROVIDERS"
ONNXRUNTIME_VERSION: str = onnxruntime.__version__
# What onnxruntime says of a graph it cannot serve: it will say the same at the next try.
NOT_SERVABLE = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
# Absolute, and relative for a regression's large values: float32 sums differ in the last digits between CPUs.
SELF_TEST_TOLERANCE = 1e-5


class Model:
    """A loaded model. Inference may be called from several threads at once.

    manifest: what model.json says; None for a foreign ONNX file that came without one.
    """

    def __init__(self, session: onnxruntime.InferenceSession, signature: Signature, manifest: Manifest | None) -> None:
        # What `session.run` itself calls, after checks that take 2.6 of 11.7 µs (one row, a forest of 100 trees). The
        # one of them that matters is made in `infer`; a run is never tried again on another provider in silence. The
        # name is internal: tests of `infer` fail where an upgrade moves it.
        self._run = session._sess.run
        self._options = onnxruntime.RunOptions()  # to make them takes 1.5 µs of each run; nothing changes them
        self._bindings = Bindings(session, self._options) if tuple(session.get_providers()) == PROVIDERS else None
        self._required = frozenset(node.name for node in session.get_inputs())
        self.signature = signature
        self.manifest = manifest
        self._output_names = [spec.name for spec in signature.outputs]
        self._samples: tuple[Mapping[str, Any], ...] = ()

    @property
    def samples(self) -> tuple[Mapping[str, Any], ...]:
        """sample.json's requests, each a row of `inputs` with the `outputs` it must get; none of a foreign model."""
        return self._samples

    @classmethod
    def load(
        cls, package: Path, threads: int = 1, providers: Sequence[str] = PROVIDERS, cache: Path | None = None
    ) -> Model:
        """The model in the folder `package`, whose digests the store has checked; its signature is checked here.

        threads: how many one inference may use. providers: what runs the graph, the preferred first. cache: where an
        optimised copy of the graph may lie. Raises Rejected when it cannot be served: no ONNX, another signature than
        model.json promises, a broken model.json or sample.json; Misconfigured for a provider that is not here.
        model.json and sample.json may be absent together: then the graph alone is the signature.
        """
        file = package / MODEL_FILE
        if not file.is_file():
            raise Rejected(f"{package.name} has no {MODEL_FILE}")
        copy = None
        if cache is not None and tuple(providers) == PROVIDERS:
            copy = optimised_copies.find(package, cache, ONNXRUNTIME_VERSION)
        session = open_session(copy or file, threads, providers, optimised=copy is not None)
        graph = graph_signature(session)
        if not (package / MANIFEST_FILE).is_file():
            return cls(session, graph, None)
        manifest = Manifest.read(package)
        model = cls(session, _agreed(manifest.signature, graph), manifest)
        model._samples = _samples(package / SAMPLE_FILE)
        return model

    @classmethod
    def from_onnx(cls, onnx_bytes: bytes, signature: Signature | None = None, threads: int = 1) -> Model:
        """The model in `onnx_bytes`; signature None: as the graph says. Raises Rejected when it cannot be served."""
        session = open_session(onnx_bytes, threads)
        graph = graph_signature(session)
        return cls(session, graph if signature is None else _agreed(signature, graph), None)

    def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """The model's answer, by output name.

        inputs: every input of the signature, numbers in the signature's dtype, text as an array of str; missing values
        are NaN and "". outputs: which ones to compute, None for all. Raises Rejected for inputs that do not fit the
        graph; what fails inside the graph escapes as onnxruntime's own error.
        """
        if outputs is None and self._bindings is not None and (answer := self._bindings.infer(inputs)) is not None:
            return answer
        names = self._output_names if outputs is None else outputs
        if not self._required <= inputs.keys():
            # onnxruntime would run the graph without them.
            raise Rejected(f"the inputs do not fit the model: {sorted(self._required - inputs.keys())} are missing")
        try:
            answers = self._run(names, inputs, self._options)
        except (ort_errors.InvalidArgument, ValueError) as e:
            raise Rejected(f"the inputs do not fit the model: {e}") from e
        answer = dict(zip(names, answers, strict=True))
        if outputs is None and self._bindings is not None and self._bindings.learns:
            self._bindings.learn(inputs, answer)
        return answer

    def self_test(self) -> None:
        """Answer sample.json's requests and compare. Raises Rejected naming the first row that differs, and how."""
        for number, sample in enumerate(self._samples):
            answers = self.infer(self._arrays(number, sample["inputs"]))
            for name, promised in sample["outputs"].items():
                if name not in answers:
                    raise Rejected(f"{SAMPLE_FILE} request {number} promises output {name!r}, which the model has not")
                given = answers[name]
                if not nearly_equal(given, promised):
                    given = given[0] if given.shape[:1] == (1,) else given
                    raise Rejected(
                        f"self-test: request {number} gives {name} {given.tolist()!r}; {SAMPLE_FILE} says {promised!r}"
                    )

    def sample_inputs(self) -> list[dict[str, Array]]:
        """The inputs of sample.json's requests, a row each; none for a foreign model. Raises Rejected as self_test."""
        return [self._arrays(number, sample["inputs"]) for number, sample in enumerate(self._samples)]

    def _arrays(self, number: int, row: Mapping[str, Any]) -> dict[str, Array]:
        """One sample row as arrays of one row. Raises Rejected naming every fault."""
        faults = [f"input {spec.name!r} is missing" for spec in self.signature.inputs if spec.name not in row]
        arrays = {}
        for spec in self.signature.inputs:
            if spec.name in row:
                arrays[spec.name] = _one_row(spec, row[spec.name], faults)
        if faults:
            raise Rejected(f"{SAMPLE_FILE} request {number} does not fit the signature", faults)
        return arrays


def open_session(
    model: Path | bytes, threads: int = 1, providers: Sequence[str] = PROVIDERS, *, optimised: bool = False
) -> onnxruntime.InferenceSession:
    """An onnxruntime session for a file or its bytes.

    optimised: whether `save_optimised` has written it. Raises Rejected when it cannot be served, Misconfigured for a
    provider that is not here or does not start.
    """
    _check_available(providers)
    name = model.name if isinstance(model, Path) else "the graph"
    with _servable(name):
        session = onnxruntime.InferenceSession(
            str(model) if isinstance(model, Path) else model,
            sess_options=session_options(threads, optimised=optimised),
            providers=list(providers),
        )
    # onnxruntime goes on without a provider that does not start; whoever asked for a GPU wants to know.
    if missing := [provider for provider in providers if provider not in session.get_providers()]:
        raise Misconfigured(PROVIDERS_KEY, ",".join(providers), f"providers that start here; {missing[0]} does not")
    give_back()
    return session


def save_optimised(model: Path, into: Path) -> None:
    """Write `model` as onnxruntime's optimizations for this machine leave it, in its own format, which is read quicker.

    Raises Rejected when it cannot be served.
    """
    options = session_options()
    options.optimized_model_filepath = str(into)
    options.add_session_config_entry("session.save_model_format", "ORT")
    with _servable(model.name):
        onnxruntime.InferenceSession(str(model), sess_options=options, providers=list(PROVIDERS))


def session_options(threads: int = 1, *, optimised: bool = False) -> onnxruntime.SessionOptions:
    """How sessions run, chosen by measurement: `python -m tests.bench.sessions`, whose ratios to this are given here.

    What stays as onnxruntime has it: the arena (without it one row takes 0.92 to 1.0 of the time, 64 rows of a network
    1.1, and 1,000 rows leave 36 MiB behind instead of 27), memory patterns (without them a row of a forest takes 1.06),
    prepacking (without it 1,000 layers take 1.12), denormals (1.0 either way).
    optimised: whether the graph is one of `save_optimised`.
    """
    options = onnxruntime.SessionOptions()
    # Two threads: one row of a forest of 12.5 MB takes 1.3 times as long, of a network of 9 MFLOP 0.7, on two cores.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Without: 1,000 layers take 1.3 times as long, forests and small networks 1.0; loading takes 0.8 to 1.0.
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if optimised else levels.ORT_ENABLE_ALL
    # Spinning threads make a pod look busy to the autoscaler's node while nothing is asked.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # fatal ones alone: every other comes as an exception, and one is told once
    return options


def _check_available(providers: Sequence[str]) -> None:
    available = onnxruntime.get_available_providers()
    if not providers or not set(providers) <= set(available):
        raise Misconfigured(PROVIDERS_KEY, ",".join(providers), f"some of {', '.join(available)}, the preferred first")


def give_back() -> None:
    """Return to the system what the C library holds of memory that is free; nothing where it has no malloc_trim.

    Reading a forest of 341,378 nodes, 12.5 MB of ONNX, leaves 97 of 206 MiB behind, which takes 25 ms of the 700 ms of
    loading it. Arena, memory patterns, prepacking, file or bytes make no difference to either figure.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def graph_signature(session: onnxruntime.InferenceSession) -> Signature:
    """What the graph itself says it takes and gives. Raises Rejected for what is no tensor, such as ZipMap's maps."""
    faults: list[str] = []

    def specs(side: str, nodes: Sequence[Any]) -> tuple[TensorSpec, ...]:
        unknown = [node for node in nodes if node.type not in tensors.DATATYPES]
        faults.extend(f"{side} {node.name!r} is {node.type}; expected {_expected(node.type)}" for node in unknown)
        return tuple(
            TensorSpec(
                name=node.name,
                datatype=tensors.DATATYPES[node.type],
                onnx_type=node.type,
                # A name stands for any size, and so does no name at all.
                shape=tuple(size if isinstance(size, int) else -1 for size in node.shape),
            )
            for node in nodes
            if node not in unknown
        )

    inputs = session.get_inputs()
    signature = Signature(specs("input", inputs), specs("output", session.get_outputs()), batches=_batches(inputs))
    if faults:
        raise Rejected("the graph cannot be served", faults)
    return signature


def _expected(seen: str) -> str:
    """What could be served in place of an ONNX type that cannot."""
    if seen.startswith("tensor("):
        return f"one of {', '.join(tensors.DATATYPES)} (cast it inside the graph)"
    return "a tensor (of scikit-learn's classifiers: export without ZipMap)"


def _batches(nodes: Sequence[Any]) -> tuple[frozenset[str], ...]:
    """The inputs by the name of their open first axis; empty where all that have a name have the same."""
    named: dict[str, set[str]] = {}
    for node in nodes:
        axis = node.shape[0] if node.shape else None
        # tf2onnx gives each axis of unknown size a number of its own, which says nothing about any other.
        if isinstance(axis, str) and not axis.startswith("unk__"):
            named.setdefault(axis, set()).add(node.name)
    return tuple(map(frozenset, named.values())) if len(named) > 1 else ()


def _one_row(spec: TensorSpec, value: Any, faults: list[str]) -> Array:
    """A sample's value as a batch of one row; as it is, where the graph has no batch.

    value: a row, flat or nested, with the batch's axis around it or without. Each fault is a sentence in `faults`.
    """
    listed = value if isinstance(value, list) else [value]
    depth = len(tensors.nesting(value))
    if not spec.shape:
        return tensors.array(spec, listed, tensors.nesting(value), faults)
    if spec.shape[0] not in (-1, 1):
        first = listed[0] if listed else None
        return tensors.array(spec, listed, (spec.shape[0], *tensors.row_shape(spec, first)), faults)
    rows = value if depth >= len(spec.shape) else [value]
    shape = (1, *tensors.row_shape(spec, rows[0] if rows else None))
    is_flat = depth == 1 and -1 not in spec.shape[1:]
    return tensors.array(spec, listed if is_flat else rows, shape, faults)


def _agreed(signature: Signature, graph: Signature) -> Signature:
    """`signature`, where the graph holds what it promises; Rejected naming every difference."""
    if differences := signature.differences(graph):
        raise Rejected("the signature is not the graph's", differences)
    return replace(signature, batches=graph.batches)


def _samples(file: Path) -> tuple[Mapping[str, Any], ...]:
    """The requests of sample.json. Raises Rejected when it is missing, no JSON, or of another form."""
    if not file.is_file():
        raise Rejected(f"{file.name} is missing beside {MANIFEST_FILE}")
    value = parse_json(file.read_bytes(), file.name)
    requests = value.get("requests") if isinstance(value, dict) else None
    if not isinstance(requests, list) or not all(
        isinstance(r, dict) and isinstance(r.get("inputs"), dict) and isinstance(r.get("outputs"), dict)
        for r in requests
    ):
        raise Rejected(f'{file.name} is not of the form {{"requests": [{{"inputs": {{…}}, "outputs": {{…}}}}, …]}}')
    return tuple(requests)


def nearly_equal(given: Any, promised: Any) -> bool:
    """Whether an answer is the promised one: text and whole numbers exactly, floats within the tolerance."""
    given, promised = np.asarray(given), np.asarray(promised)
    if given.size != promised.size:
        return False
    if given.dtype.kind == "f" and promised.dtype.kind in "fiu":
        # Of halves the last digit is a thousandth.
        tolerance = max(SELF_TEST_TOLERANCE, 4 * float(np.finfo(given.dtype).eps))
        exact = (given.ravel().astype(np.float64), promised.ravel().astype(np.float64))
        return bool(np.allclose(*exact, rtol=tolerance, atol=tolerance, equal_nan=True))
    return bool(given.ravel().tolist() == promised.ravel().tolist())


@contextmanager
def _servable(name: str) -> Iterator[None]:
    """onnxruntime's refusals as Rejected; every other error escapes."""
    try:
        yield
    except NOT_SERVABLE as e:
        raise Rejected(f"{name} is not a servable ONNX model: {e}") from e
