"""What this process serves, and, while it does not, why: every version of every model, with its state.

Protocols look a model up here; `start` puts a version in once it has proved itself; the drain marks the process as
leaving. A request that names no version gets the newest one that is ready, so a new version swaps in by being put here:
requests that hold the one before answer from it to their end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from functions.predictor.answers import NOT_FOUND, UNAVAILABLE, Refusal
from functions.predictor.statistics import Statistics
from monitoring import metrics

if TYPE_CHECKING:
    # numpy and onnxruntime are imported by `start`, after the port is open.
    from functions.model import Model
    from functions.package import Signature
    from functions.tensors import Array

STARTING_RETRY_S = 2.0  # what a client is told to wait for a model that is still loading

State = Literal["LOADING", "READY", "UNLOADING", "UNAVAILABLE"]
"""As Triton's repository index names them; UNAVAILABLE is unloaded or can never serve, the reason says which."""


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
        self.statistics = Statistics()
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
        self.statistics.executed(query.rows, start - began, end - start)
        prediction = Prediction(query, outputs, (end - began) * 1000)
        if told and self._tell is not None:
            self._tell(self, prediction)
        if self.answered_once is not None:
            announce, self.answered_once = self.answered_once, None
            if announce is not None:
                announce()
        return prediction


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one model. served: only while it is READY. reason: why it is not; empty when it is.

    required: whether the process is not ready without it.
    """

    name: str
    version: str
    state: State = "LOADING"
    reason: str = "starting"
    served: Served | None = None
    required: bool = False


class Catalog:
    """The versions of this process's models. Any thread may ask and change it.

    on_change: called, in the thread of the change, after versions became ready or ceased to be.
    """

    def __init__(
        self,
        expected: Iterable[tuple[str, str]],
        labels: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """expected: name and version of what will be served, from the first moment on. labels: version by label, by
        model, as TensorFlow Serving's clients name versions.
        """
        self._entries = {(name, version): Entry(name, version, required=True) for name, version in expected}
        self._labels = labels or {}
        self._lock = threading.Lock()
        self.on_change: Callable[[], object] | None = None
        self.draining = False

    # ------------------------------------------------------------------ what is asked

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
        """Which of the models that must answer do not yet, and why; empty when all of them do."""
        waiting = [e for e in self._entries.values() if e.required and e.served is None]
        return "; ".join(f"{e.name}: {e.reason}" for e in waiting)

    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name, _ in list(self._entries)))

    def entries(self, model: str | None = None) -> list[Entry]:
        """Every version, oldest first; of one model where it is named. Raises Refusal (404) for an unknown model."""
        found = [e for e in list(self._entries.values()) if model is None or e.name == model]
        if model is not None and not found:
            raise self._unknown(model)
        return sorted(found, key=lambda e: (e.name, age(e.version)))

    def entry(self, model: str, version: str | None = None) -> Entry:
        """One version: the one named, by itself or by its label, else the one that answers, else the newest.

        Raises Refusal (404) for what is not known here.
        """
        entries = self.entries(model)
        if version is None:
            return next((e for e in reversed(entries) if e.served is not None), entries[-1])
        for entry in entries:
            if entry.version == version:
                return entry
        here = ", ".join(e.version for e in entries)
        raise Refusal(NOT_FOUND, f"{model} {version!r:.100} is not served here; this server has {here}")

    def labelled(self, model: str, label: str) -> str:
        """The version of `model` that `label` names. Raises Refusal (404)."""
        self.entries(model)
        labels = self._labels.get(model, {})
        if label not in labels:
            here = ", ".join(labels) or "none"
            raise Refusal(NOT_FOUND, f"{model} has no label {label!r:.100}; its labels are: {here}")
        return labels[label]

    def labels(self, model: str) -> Mapping[str, str]:
        """Version by label."""
        return self._labels.get(model, {})

    def find(self, model: str, version: str | None = None) -> Served:
        """The version, ready to answer. Raises Refusal: 404 for what is not served here, 503 while it is not ready."""
        entry = self.entry(model, version)
        if entry.served is None:
            raise Refusal(UNAVAILABLE, f"{model} is not ready: {entry.reason}", retry_after_s=STARTING_RETRY_S)
        return entry.served

    def paths(self) -> Iterator[tuple[Served, str | None, str | None]]:
        """Every way to name what is ready: served, version or None, label or None."""
        for model in self.models():
            ready = {e.version: e.served for e in self.entries(model) if e.served is not None}
            for version, served in ready.items():
                yield served, version, None
            if ready:
                yield list(ready.values())[-1], None, None
            for label, version in self.labels(model).items():
                if version in ready:
                    yield ready[version], None, label

    # ------------------------------------------------------------------ what changes

    def loads(self, name: str, version: str) -> None:
        """`version` is on its way; the process is ready without it."""
        with self._lock:
            before = self._entries.get((name, version))
            if before is None or before.served is None:
                required = before.required if before else False
                self._entries[name, version] = Entry(name, version, required=required)

    def put(self, served: Served) -> None:
        """It answers from now on."""
        self._change(served.name, served.version, "READY", "", served)

    def waits(self, name: str, version: str, reason: str) -> None:
        """It is still on its way, and what for."""
        self._change(name, version, "LOADING", reason)

    def fails(self, name: str, version: str, reason: str) -> None:
        """It will never answer as it is."""
        self._change(name, version, "UNAVAILABLE", reason)

    def unload(self, name: str, version: str) -> Served | None:
        """It takes no request from now on, and nobody waits for it; what it was, None where it did not answer."""
        served = self._entries[name, version].served
        self._change(name, version, "UNLOADING" if served else "UNAVAILABLE", "unloaded", required=False)
        return served

    def gone(self, name: str, version: str) -> None:
        """Its last request is answered."""
        self._change(name, version, "UNAVAILABLE", "unloaded")

    def _change(
        self,
        name: str,
        version: str,
        state: State,
        reason: str,
        served: Served | None = None,
        required: bool | None = None,
    ) -> None:
        with self._lock:
            before = self._entries.get((name, version), Entry(name, version))
            after = replace(before, state=state, reason=reason, served=served)
            self._entries[name, version] = after if required is None else replace(after, required=required)
        if self.on_change is not None and (before.served is not None or served is not None):
            self.on_change()

    def _unknown(self, model: str) -> Refusal:
        here = ", ".join(self.models()) or "none"
        return Refusal(NOT_FOUND, f"model {model!r:.100} is not served here; this server has {here}")


def age(version: str) -> tuple[int, int, str]:
    """What versions are sorted by, oldest first: whole numbers by value, as TensorFlow Serving numbers them, then all
    others by their text, as Headrace's begin with the time.
    """
    return (0, int(version), "") if version.isdecimal() else (1, 0, version)
