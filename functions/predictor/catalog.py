"""What this process serves, and, while it does not, why.

Protocols look a model up here; `start` puts it in once it has proved itself; the drain marks the process as leaving.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from functions.predictor.answers import NOT_FOUND, UNAVAILABLE, Refusal
from monitoring import metrics

if TYPE_CHECKING:
    # numpy and onnxruntime are imported by `start`, after the port is open.
    from functions.model import Model
    from functions.package import Signature
    from functions.tensors import Array

STARTING_RETRY_S = 2.0  # what a client is told to wait for a model that is still loading


@dataclass(frozen=True, slots=True)
class Query:
    """A request, decoded: every input of the signature, and how many rows they hold.

    outputs: names of the outputs asked for, None for all.
    """

    inputs: Mapping[str, Array]
    rows: int
    outputs: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """A query with its answer, for whoever wants to tell of it."""

    query: Query
    outputs: Mapping[str, Array]
    latency_ms: float
    """From the request's body to the model's answer."""

    def head(self, rows: int) -> Prediction:
        """A copy of the first `rows` rows alone; `query.rows` still counts all of them."""
        query = self.query
        inputs = {name: values[:rows].copy() for name, values in query.inputs.items()}
        outputs = {name: values[:rows].copy() for name, values in self.outputs.items()}
        return Prediction(Query(inputs, query.rows, query.outputs), outputs, self.latency_ms)


class Served:
    """A model that answers: ready, self-tested.

    tell: takes each prediction made over HTTP; must neither block nor raise. None: nobody listens.
    """

    def __init__(
        self,
        name: str,
        version: str,
        model: Model,
        revision: str | None = None,
        tell: Callable[[Served, Prediction], object] | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.model = model
        self.revision = revision
        self._tell = tell
        self._inference = metrics.INFERENCE_DURATION.labels(name)
        self._rows = metrics.ROWS.labels(name)
        self.answered_once: Callable[[], object] | None = None
        """Called after the first prediction, once."""

    @property
    def signature(self) -> Signature:
        return self.model.signature

    def predict(self, query: Query, began: float, *, told: bool = True) -> Prediction:
        """The model's answer to `query`.

        began: `time.perf_counter()` when the request was taken. told: whether it is one of those that are sampled.
        """
        start = time.perf_counter()
        outputs = self.model.infer(query.inputs, query.outputs)
        end = time.perf_counter()
        self._inference.observe(end - start)
        self._rows.inc(query.rows)
        prediction = Prediction(query, outputs, (end - began) * 1000)
        if told and self._tell is not None:
            self._tell(self, prediction)
        if self.answered_once is not None:
            announce, self.answered_once = self.answered_once, None
            if announce is not None:
                announce()
        return prediction


@dataclass(slots=True)
class _Entry:
    version: str
    served: Served | None = None
    reason: str = "starting"


class Catalog:
    """The models of this process by name; ready when all of them are and the process is not leaving."""

    def __init__(self, expected: Mapping[str, str]) -> None:
        """expected: version by model name; what will be served, from the first moment on."""
        self._entries = {name: _Entry(version) for name, version in expected.items()}
        self.draining = False

    @property
    def ready(self) -> bool:
        return not self.draining and not self.waiting

    @property
    def reason(self) -> str:
        """Why it is not ready; empty when it is."""
        if self.draining:
            return "draining: this process ends soon"
        return self.waiting

    @property
    def waiting(self) -> str:
        """Which models do not answer yet, and why; empty when all of them do."""
        return "; ".join(f"{name}: {e.reason}" for name, e in self._entries.items() if e.served is None)

    def models(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def version(self, model: str) -> str:
        """The version of `model` that this process serves or will serve. Raises Refusal (404) for an unknown one."""
        return self._entry(model, None).version

    def why_not(self, model: str, version: str | None = None) -> str | None:
        """Why `model` is not ready, None when it is. Raises Refusal (404) for what is not served here."""
        entry = self._entry(model, version)
        return None if entry.served is not None else entry.reason

    def find(self, model: str, version: str | None = None) -> Served:
        """The model, ready to answer. Raises Refusal: 404 for what is not served here, 503 while it is not ready."""
        entry = self._entry(model, version)
        if entry.served is None:
            raise Refusal(UNAVAILABLE, f"{model} is not ready: {entry.reason}", retry_after_s=STARTING_RETRY_S)
        return entry.served

    def put(self, served: Served) -> None:
        self._entries[served.name] = _Entry(served.version, served)

    def waits(self, model: str, reason: str) -> None:
        """Say why `model` is not ready."""
        self._entries[model].reason = reason

    def _entry(self, model: str, version: str | None) -> _Entry:
        entry = self._entries.get(model)
        if entry is None:
            here = ", ".join(self._entries)
            raise Refusal(NOT_FOUND, f"model {model!r:.100} is not served here; this server has {here}")
        if version is not None and version != entry.version:
            raise Refusal(NOT_FOUND, f"{model} {version!r:.100} is not served here; this server has {entry.version}")
        return entry
