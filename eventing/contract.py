"""The events of Headrace: each type spelled once, its data a frozen dataclass, its JSON Schema made from that.

All are CloudEvents 1.0 of type `dev.headrace.<noun>.<past tense>.v1`. `from_event` is the door: it gives a typed value
or raises Rejected naming every fault at once. `to_event` is the way out: the caller brings the id and the time, so that
the same cause can make the same event again. Fields added later are optional, and unknown fields are passed over, so
that an older reader understands a newer writer.

Source: cloudevents/spec v1.0.2, and its distributed tracing and causation extensions.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal, Self

from cloudevents.core.v1.event import CloudEvent

from eventing import typed
from eventing.errors import Rejected

MAX_DATA_BYTES = 64 * 1024  # references and digests travel in events, rows stay in the store
MAX_REASONS = 100  # a person mends the first hundred broken rows, then tries again
JSON_CONTENT_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing wrong with a dropped file: where, and what was seen against what was expected."""

    what: str
    """What was seen, what was expected, in words for the person who dropped the file."""
    row: int | None = None
    """Line number in the file, the header being 1; None where it concerns the whole file or column."""
    column: str | None = None
    """Name of the column; None where it concerns the whole row or file."""


@dataclass(frozen=True, slots=True)
class Data:
    """What an event carries. Subclasses are the types of the contract; `subject` names the dataset or model."""

    TYPE: ClassVar[str]
    SUBJECT: ClassVar[str]

    @property
    def subject(self) -> str:
        """The dataset or model that the event is about."""
        return str(getattr(self, self.SUBJECT))

    @classmethod
    def from_event(cls, event: CloudEvent) -> Self:
        """The typed data of `event`. Raises Rejected with every fault when it breaks the contract."""
        seen = event.get_type()
        if seen != cls.TYPE:
            raise Rejected(f"event {event.get_id()} has type {seen!r}; expected {cls.TYPE!r}")
        data = event.get_data()
        if isinstance(data, bytes | str):
            try:
                data = json.loads(data)
            except ValueError as e:
                raise Rejected(f"event {event.get_id()} ({cls.TYPE}) has data that is not JSON: {e}") from e
        if not isinstance(data, dict):
            raise Rejected(
                f"event {event.get_id()} ({cls.TYPE}) has no JSON object as its data; seen {typed.kind(data)}"
            )
        faults: list[str] = []
        value = typed.decode(cls, data, "data", faults)
        if faults:
            raise Rejected(f"event {event.get_id()} breaks the contract {cls.TYPE}", faults)
        return typing.cast(Self, value)

    def to_data(self) -> dict[str, Any]:
        """The JSON object; fields that are None are left out."""
        encoded = typed.encode(self)
        assert isinstance(encoded, dict)
        return encoded

    def to_event(
        self,
        *,
        source: str,
        id: str,
        time: datetime,
        cause: CloudEvent | None = None,
        extensions: Mapping[str, str] | None = None,
    ) -> CloudEvent:
        """The event that says this.

        source: `/headrace/<room>/<instance>`. id: the same for the same fact, so that a redelivery makes no second one
        (see `derived_id`). cause: the event that led to this one; its id becomes `causationid`, its trace goes on.
        Raises ValueError when the data is over 64 KiB: rows belong in the store.
        """
        data = self.to_data()
        size = len(json.dumps(data).encode())
        if size > MAX_DATA_BYTES:
            raise ValueError(f"{self.TYPE} would carry {size} bytes of data; the contract allows {MAX_DATA_BYTES}")
        attributes: dict[str, Any] = {
            "specversion": "1.0",
            "id": id,
            "source": source,
            "type": self.TYPE,
            "time": time,
            "datacontenttype": JSON_CONTENT_TYPE,
            "subject": self.subject,
            "traceparent": _traceparent(id, cause),
        }
        if cause is not None:
            attributes["causationid"] = cause.get_id()
        attributes.update(extensions or {})
        return CloudEvent(attributes, data)

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema (2020-12) of this type's data, as kept in docs/events/."""
        schema = typed.schema(cls)
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:headrace:event:{cls.TYPE}",
            "title": cls.TYPE,
            "description": inspect.cleandoc(cls.__doc__ or ""),
            **schema,
        }


@dataclass(frozen=True, slots=True)
class DatasetArrived(Data):
    """A whole file lies in the store, ready to be learned from. From drop or source, to the trainers' JobSinks.

    The extension `trainer` repeats the field, because a Trigger filters on attributes alone.
    """

    TYPE: ClassVar[str] = "dev.headrace.dataset.arrived.v1"
    SUBJECT: ClassVar[str] = "dataset"

    dataset: str
    uri: str
    sha256: str
    bytes: int
    name: str | None = None
    """The file's own name, as the person who dropped it knows it."""
    rows: int | None = None
    columns: int | None = None
    trainer: str | None = None
    target: str | None = None
    """The column to predict; None: the champion's, else the column named `target`."""
    parameters: dict[str, Any] | None = None
    """The trainer's parameters that differ from its defaults."""


@dataclass(frozen=True, slots=True)
class DatasetRejected(Data):
    """A dropped file breaks the contract, row by row. What served goes on serving. From trainer to broker."""

    TYPE: ClassVar[str] = "dev.headrace.dataset.rejected.v1"
    SUBJECT: ClassVar[str] = "dataset"

    dataset: str
    uri: str
    reasons: tuple[Reason, ...]
    """The first 100."""
    broken_rows: int = 0
    """How many rows are broken in all."""
    counts: dict[str, int] | None = None
    """How often each kind of fault was seen, in all rows."""


@dataclass(frozen=True, slots=True)
class TrainingProgressed(Data):
    """A training reached a step; for whoever watches. From trainer to broker."""

    TYPE: ClassVar[str] = "dev.headrace.training.progressed.v1"
    SUBJECT: ClassVar[str] = "model"

    model: str
    job: str
    step: str
    """read, fit, export, parity, package."""
    done: float
    """Share of the whole training that is done, 0 to 1."""
    what: str
    """A sentence with the figures of this step."""


@dataclass(frozen=True, slots=True)
class TrainingFailed(Data):
    """A training ended without a model. From trainer, or the job watch for one that could not tell, to broker."""

    TYPE: ClassVar[str] = "dev.headrace.training.failed.v1"
    SUBJECT: ClassVar[str] = "model"

    model: str
    job: str
    reason: str
    log_uri: str
    retryable: bool
    """Whether it is tried again without anybody's doing."""


@dataclass(frozen=True, slots=True)
class ModelTrained(Data):
    """A package, proven equal to what was trained, lies in the store. From trainer to promoter."""

    TYPE: ClassVar[str] = "dev.headrace.model.trained.v1"
    SUBJECT: ClassVar[str] = "model"

    model: str
    version: str
    uri: str
    sha256: str
    """Digest of the package: of its SHA256SUMS file."""
    scores: dict[str, float]
    parity: dict[str, Any]
    rows: int
    seconds: float
    dataset_sha256: str
    trainer: str | None = None
    job: str | None = None


@dataclass(frozen=True, slots=True)
class _Verdict(Data):
    SUBJECT: ClassVar[str] = "model"

    model: str
    version: str
    reason: str
    previous: str | None = None
    """The version that served before, and, unless promoted, still does; None: none did."""
    evidence: dict[str, Any] | None = None
    """What was measured: scores on the same rows, requests, errors and latency of both revisions."""
    revision: str | None = None
    """The Knative Revision that carries (or carried) `version`."""


@dataclass(frozen=True, slots=True)
class ModelPromoted(_Verdict):
    """`version` answers all requests now. From promoter to broker."""

    TYPE: ClassVar[str] = "dev.headrace.model.promoted.v1"


@dataclass(frozen=True, slots=True)
class ModelRejected(_Verdict):
    """`version` did not pass the gate and never served. From promoter to broker."""

    TYPE: ClassVar[str] = "dev.headrace.model.rejected.v1"


@dataclass(frozen=True, slots=True)
class ModelRolledBack(_Verdict):
    """`version` served as a canary, or as champion, and was taken back. From promoter to broker."""

    TYPE: ClassVar[str] = "dev.headrace.model.rolledback.v1"


@dataclass(frozen=True, slots=True)
class ModelFailed(Data):
    """A predictor cannot serve a version; what served goes on serving. From predictor to broker.

    The same reason is told once, under one id, however often and by however many pods it is met.
    """

    TYPE: ClassVar[str] = "dev.headrace.model.failed.v1"
    SUBJECT: ClassVar[str] = "model"

    model: str
    reason: str
    """As the predictor's `ready` path says it, cut where it is long."""
    retryable: bool
    """Whether the predictor goes on trying: the store away, a package not whole yet."""
    version: str | None = None
    """None: the store has not said which version serves."""
    revision: str | None = None
    """The Knative Revision that was to carry `version`."""


@dataclass(frozen=True, slots=True)
class PredictionRequested(Data):
    """Someone wants answers. From anyone, to the predictor of the model in `subject`."""

    TYPE: ClassVar[str] = "dev.headrace.prediction.requested.v1"
    SUBJECT: ClassVar[str] = "model"

    model: str
    inputs: Any
    """The body of a V1 (`instances` or `inputs`) or V2 (`inputs` with name, shape, datatype, data) request."""


@dataclass(frozen=True, slots=True)
class PredictionMade(Data):
    """An answer was given. From predictor to broker.

    Also sent, as a sample at a bounded rate, for predictions asked over HTTP, so that drift is seen on all traffic.
    """

    TYPE: ClassVar[str] = "dev.headrace.prediction.made.v1"
    SUBJECT: ClassVar[str] = "model"

    model: str
    version: str
    outputs: Any
    """The answer's body: V1 `predictions`/`outputs` or V2 `outputs`, as the request was."""
    latency_ms: float
    rows: int | None = None
    """How many rows were answered; `features` may hold fewer."""
    features: dict[str, tuple[Any, ...]] | None = None
    """Per input its values, one per row, for the drift watch; left out where 64 KiB would not hold them."""
    answers: dict[str, tuple[Any, ...]] | None = None
    """Per output its value for the same rows: `label`, and `score`, the probability of the last class."""
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class DriftDetected(Data):
    """What a model is asked no longer looks like what it learned from. From drift watch to the retrain trigger.

    The extension `trainer` names the champion's trainer, as for DatasetArrived.
    """

    TYPE: ClassVar[str] = "dev.headrace.drift.detected.v1"
    SUBJECT: ClassVar[str] = "model"

    model: str
    feature: str
    """The feature or output that moved furthest over its threshold."""
    statistic: str
    value: float
    threshold: float
    window: int
    """Rows in the window that was compared with the baseline."""
    kind: Literal["feature", "output"] = "feature"
    version: str | None = None
    others: dict[str, float] | None = None
    """Every other feature and output over its threshold, with its value."""
    trainer: str | None = None


TYPES: dict[str, type[Data]] = {
    t.TYPE: t
    for t in (
        DatasetArrived,
        DatasetRejected,
        TrainingProgressed,
        TrainingFailed,
        ModelTrained,
        ModelPromoted,
        ModelRejected,
        ModelRolledBack,
        ModelFailed,
        PredictionRequested,
        PredictionMade,
        DriftDetected,
    )
}
PREDICTIONS = frozenset({PredictionRequested.TYPE, PredictionMade.TYPE})
LOOP = frozenset(TYPES) - PREDICTIONS
"""What a model came of: data, trainings, verdicts, drifts. Few events, whose number does not grow with the traffic."""


def parse(event: CloudEvent) -> Data:
    """The typed data of an event of any of our types. Raises Rejected, also for a type that is not ours."""
    cls = TYPES.get(event.get_type())
    if cls is None:
        raise Rejected(f"event {event.get_id()} has type {event.get_type()!r}; expected one of {', '.join(TYPES)}")
    return cls.from_event(event)


def derived_id(noun: str, *parts: str) -> str:
    """An event id that is the same whenever `parts` are: a fact told twice keeps its name."""
    return f"{noun}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:20]}"


def _traceparent(id: str, cause: CloudEvent | None) -> str:
    """W3C trace context: the cause's trace, or one named after the event; the span is named after the event."""
    digest = hashlib.sha256(id.encode()).hexdigest()
    parent = cause.get_extension("traceparent") if cause is not None else None
    fields = str(parent).split("-") if parent else []
    trace = fields[1] if len(fields) == 4 and len(fields[1]) == 32 else digest[:32]
    return f"00-{trace}-{digest[32:48]}-01"


def schemas() -> Iterable[tuple[str, dict[str, Any]]]:
    """Each event type with its JSON Schema, in the order of the contract."""
    return ((name, cls.json_schema()) for name, cls in TYPES.items())
