"""The predictor's metrics: their names and meanings, and plain numbers under them.

No metrics library here: to import one takes 0.1 s of CPU, a third of a cold start, and nobody scrapes before the first
answer. Nor on the hot path, where its counters would cost a request of one row more than its inference does. Whoever
shows /metrics calls `expose` once.

Source: prometheus.io/docs/practices/naming; Tom Wilkie's RED method.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import CollectorRegistry

DONE: Final = "done"
REJECTED: Final = "rejected"
RETRY_LATER: Final = "retry_later"
FAILED: Final = "failed"
OUTCOMES: Final = (DONE, REJECTED, RETRY_LATER, FAILED)
"""What the label `outcome` may say: done, or one of the verdicts, or `failed` for a fault that nobody foresaw."""

# A row takes 12 µs in onnxruntime and a cold store seconds: thrice per decade from 0.1 ms to 10 s covers both.
REQUEST_SECONDS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
# Of one run of the model: as many rows as a batcher joins, and what clients send at once.
BATCH_ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)
PROBE_HEADER: Final = "Headrace-Probe"
"""Whoever asks a predictor only to see how it answers says so with this header: told to nobody, counted as a probe."""


OTHER_NAMES: Final = ("kserve", "triton")
"""Whose names the predictor's numbers may be shown under, beside Headrace's own."""


class Family(NamedTuple):
    """A metric: its name, what it means, and what its series are told apart by."""

    name: str
    text: str
    labels: tuple[str, ...]


class Number:
    """One series."""

    __slots__ = ("_lock", "value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0.0

    def set(self, value: float) -> None:
        self.value = value

    def inc(self, amount: float = 1.0) -> None:
        with self._lock:
            self.value += amount


class Numbers:
    """The series of one family, by the values of its labels. Any thread may count."""

    def __init__(self, kind: Literal["counter", "gauge"], name: str, text: str, labels: tuple[str, ...]) -> None:
        self.kind = kind
        self.family = Family(name, text, labels)
        self._series: dict[tuple[str, ...], Number] = {}

    def labels(self, *values: str) -> Number:
        return self._series.setdefault(values, Number())

    def remove(self, *values: str) -> None:
        self._series.pop(values, None)

    def metric(self) -> Metric:
        """As prometheus_client writes it."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        made = make(self.family.name, self.family.text, labels=self.family.labels)
        for values, number in list(self._series.items()):
            made.add_metric(values, number.value)
        return made


# Counted by `functions.predictor.statistics`.
REQUESTS = Family(
    "headrace_requests_total",
    "Prediction requests answered, probes among them, by model, protocol (v1, v2, cloudevents, grpc) and outcome.",
    ("model", "protocol", "outcome"),
)
REQUEST_DURATION = Family(
    "headrace_request_duration_seconds",
    "Time from a prediction request's last byte in to its answer, by model and protocol.",
    ("model", "protocol"),
)
REQUESTS_IN_PROGRESS = Family(
    "headrace_requests_in_progress",
    "Prediction requests taken and not yet answered, by model and protocol.",
    ("model", "protocol"),
)
REQUESTS_WAITING = Family(
    "headrace_requests_waiting",
    "Prediction requests that wait for the model now, by model: for a place, or for the run before theirs to end.",
    ("model",),
)
PROBES = Family(
    "headrace_probes_total",
    "Those of headrace_requests_total that were probes, by the header Headrace-Probe, by model and outcome.",
    ("model", "outcome"),
)
# A histogram would tell how rows spread over requests, for three times the price on the hot path.
ROWS = Family(
    "headrace_rows_total",
    "Rows predicted, over any protocol, by model; divided by the requests, the rows of one.",
    ("model",),
)
QUEUE_DURATION = Family(
    "headrace_queue_duration_seconds",
    "Time that a request waited for the model, by model.",
    ("model",),
)
BATCHES = Family(
    "headrace_batch_rows",
    "Rows of one run of the model, of one request or of several that were joined, by model.",
    ("model",),
)
INFERENCE_DURATION = Family(
    "headrace_inference_duration_seconds",
    "Time inside onnxruntime for one request, by model; of a joint run its whole time for each request in it.",
    ("model",),
)

START_SECONDS = Numbers(
    "gauge",
    "headrace_start_seconds",
    "Time that a phase of this process's start took; the phases ready and first_answer count from its birth.",
    ("phase",),
)
MODEL_INFO = Numbers(
    "gauge",
    "headrace_model_info",
    "1 for each model version that this process serves.",
    ("model", "version", "revision"),
)
MODEL_LOAD_SECONDS = Numbers(
    "gauge",
    "headrace_model_load_seconds",
    "Time from start to a loaded and self-tested model, by model and version.",
    ("model", "version"),
)
BATCHING = Numbers(
    "gauge",
    "headrace_batching",
    "1 where requests that come together are answered by one run of the model, by model and version.",
    ("model", "version"),
)
PREDICTIONS_UNSAMPLED = Numbers(
    "counter",
    "headrace_predictions_unsampled_total",
    "Predictions over HTTP that were not told to the Broker, the sampling rate or queue being full, by model.",
    ("model",),
)
ALL: Final = (START_SECONDS, MODEL_INFO, MODEL_LOAD_SECONDS, BATCHING, PREDICTIONS_UNSAMPLED)


class _Exposed:
    """What a registry asks."""

    def __init__(self, more: Callable[[], Iterable[Metric]]) -> None:
        self._more = more

    def collect(self) -> Iterable[Metric]:
        yield from self._more()
        for numbers in ALL:
            yield numbers.metric()

    describe = collect


def expose(more: Callable[[], Iterable[Metric]], registry: CollectorRegistry | None = None) -> None:
    """Show these numbers, and those of `more`, at whatever shows `registry`; None: prometheus_client's own."""
    from prometheus_client.registry import REGISTRY

    (registry or REGISTRY).register(_Exposed(more))
