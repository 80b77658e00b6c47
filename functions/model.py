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
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from eventing.errors import Rejected
from functions import tensors
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
        self._session = session
        self.signature = signature
        self.manifest = manifest
        self._output_names = [spec.name for spec in signature.outputs]
        self._samples: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def load(cls, package: Path, threads: int = 1) -> Model:
        """The model in the folder `package`, whose digests the store has checked; its signature is checked here.

        threads: how many one inference may use. Raises Rejected when it cannot be served: no ONNX, another signature
        than model.json promises, a broken model.json or sample.json. model.json and sample.json may be absent together:
        then the graph alone is the signature.
        """
        file = package / MODEL_FILE
        if not file.is_file():
            raise Rejected(f"{package.name} has no {MODEL_FILE}")
        session = open_session(file, threads)
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
        names = self._output_names if outputs is None else outputs
        try:
            answers = self._session.run(names, inputs)
        except (ort_errors.InvalidArgument, ValueError) as e:
            raise Rejected(f"the inputs do not fit the model: {e}") from e
        return dict(zip(names, answers, strict=True))

    def self_test(self) -> None:
        """Answer sample.json's requests and compare. Raises Rejected naming the first row that differs, and how."""
        for number, sample in enumerate(self._samples):
            answers = self.infer(self._arrays(number, sample["inputs"]))
            for name, promised in sample["outputs"].items():
                if name not in answers:
                    raise Rejected(f"{SAMPLE_FILE} request {number} promises output {name!r}, which the model has not")
                given = answers[name][0]
                if not _equal(given, promised):
                    raise Rejected(
                        f"self-test: request {number} gives {name} {given.tolist()!r}; {SAMPLE_FILE} says {promised!r}"
                    )

    def _arrays(self, number: int, row: Mapping[str, Any]) -> dict[str, Array]:
        """One sample row as arrays of one row. Raises Rejected naming every fault."""
        faults = [f"input {spec.name!r} is missing" for spec in self.signature.inputs if spec.name not in row]
        arrays = {}
        for spec in self.signature.inputs:
            if spec.name in row:
                value = row[spec.name]
                shape = (1, *(abs(size) for size in spec.shape[1:]))
                arrays[spec.name] = tensors.array(spec, value if isinstance(value, list) else [value], shape, faults)
        if faults:
            raise Rejected(f"{SAMPLE_FILE} request {number} does not fit the signature", faults)
        return arrays


def open_session(model: Path | bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """An onnxruntime session on the CPU for a file or its bytes. Raises Rejected when it cannot be served."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Spinning threads make a pod look busy to the autoscaler's node while nothing is asked.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # fatal ones alone: every other comes as an exception, and one is told once
    name = model.name if isinstance(model, Path) else "the graph"
    with _servable(name):
        session = onnxruntime.InferenceSession(
            str(model) if isinstance(model, Path) else model, sess_options=options, providers=list(PROVIDERS)
        )
    _give_back()
    return session


def _give_back() -> None:
    """Return to the system what reading the graph left in the C library's hands; nothing where it has no malloc_trim.

    A forest of 341,378 nodes, 12.5 MB of ONNX, leaves 97 of 206 MiB behind, which takes 25 ms of the 700 ms of loading
    it. Arena, memory patterns, prepacking, file or bytes make no difference to either figure.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def graph_signature(session: onnxruntime.InferenceSession) -> Signature:
    """What the graph itself says it takes and gives. Raises Rejected for what is no tensor, such as ZipMap's maps."""
    faults: list[str] = []

    def specs(side: str, nodes: Sequence[Any]) -> tuple[TensorSpec, ...]:
        unknown = [node for node in nodes if node.type not in tensors.DATATYPES]
        faults.extend(
            f"{side} {node.name!r} is {node.type}; expected a tensor (export without ZipMap)" for node in unknown
        )
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

    signature = Signature(specs("input", session.get_inputs()), specs("output", session.get_outputs()))
    if faults:
        raise Rejected("the graph cannot be served", faults)
    return signature


def _agreed(signature: Signature, graph: Signature) -> Signature:
    """`signature`, where the graph holds what it promises; Rejected naming every difference."""
    if differences := signature.differences(graph):
        raise Rejected("the signature is not the graph's", differences)
    return signature


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


def _equal(given: Any, promised: Any) -> bool:
    """Whether an answer is the promised one: text and whole numbers exactly, floats within the tolerance."""
    given, promised = np.asarray(given), np.asarray(promised)
    if given.size != promised.size:
        return False
    if given.dtype.kind == "f" and promised.dtype.kind in "fiu":
        tolerance = {"rtol": SELF_TEST_TOLERANCE, "atol": SELF_TEST_TOLERANCE}
        return bool(np.allclose(given.ravel(), promised.ravel(), **tolerance, equal_nan=True))
    return bool(given.ravel().tolist() == promised.ravel().tolist())


@contextmanager
def _servable(name: str) -> Iterator[None]:
    """onnxruntime's refusals as Rejected; every other error escapes."""
    try:
        yield
    except NOT_SERVABLE as e:
        raise Rejected(f"{name} is not a servable ONNX model: {e}") from e
