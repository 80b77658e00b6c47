"""Every metric of Headrace, defined once: name, meaning, labels. Whoever counts imports it from here.

Requests are counted by the RED method, rate, errors and duration, per model and protocol. A label never takes its value
from outside unchecked: an unknown event type counts as `other`, or a stranger could make as many series as he likes.

Source: prometheus.io/docs/practices/naming (base units, `_total`), Tom Wilkie's RED method.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

OTHER: Final = "other"
DONE: Final = "done"
REJECTED: Final = "rejected"
RETRY_LATER: Final = "retry_later"
FAILED: Final = "failed"
OUTCOMES: Final = (DONE, REJECTED, RETRY_LATER, FAILED)
"""What the label `outcome` may say: done, or one of the verdicts, or `failed` for a fault that nobody foresaw."""

# A row takes 12 µs in onnxruntime and a cold store seconds: thrice per decade from 0.1 ms to 10 s covers both.
REQUEST_SECONDS: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
# An event may wait for a promotion: from 1 ms to the four minutes that the promoter holds one.
EVENT_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 240)
PROBE_HEADER: Final = "Headrace-Probe"
"""Whoever asks a predictor only to see how it answers says so with this header: told to nobody, counted as a probe."""

REQUESTS = Counter(
    "headrace_requests_total",
    "Prediction requests answered, probes among them, by model, protocol (v1, v2) and outcome.",
    ("model", "protocol", "outcome"),
)
REQUEST_DURATION = Histogram(
    "headrace_request_duration_seconds",
    "Time from a prediction request's last byte in to its answer, by model and protocol.",
    ("model", "protocol"),
    buckets=REQUEST_SECONDS,
)
REQUESTS_IN_PROGRESS = Gauge(
    "headrace_requests_in_progress",
    "Prediction requests taken and not yet answered, by model and protocol.",
    ("model", "protocol"),
)
PROBES = Counter(
    "headrace_probes_total",
    "Those of headrace_requests_total that were probes, by the header Headrace-Probe, by model and outcome.",
    ("model", "outcome"),
)
# A histogram would tell how rows spread over requests, for three times the price on the hot path.
ROWS = Counter(
    "headrace_rows_total",
    "Rows predicted, over any protocol, by model; divided by the requests, the rows of one.",
    ("model",),
)
INFERENCE_DURATION = Histogram(
    "headrace_inference_duration_seconds",
    "Time inside onnxruntime for one request, by model.",
    ("model",),
    buckets=REQUEST_SECONDS,
)
START_SECONDS = Gauge(
    "headrace_start_seconds",
    "Time that a phase of this process's start took; the phases ready and first_answer count from its birth.",
    ("phase",),
)
MODEL_INFO = Gauge(
    "headrace_model_info",
    "1 for each model version that this process serves.",
    ("model", "version", "revision"),
)
MODEL_LOAD_SECONDS = Gauge(
    "headrace_model_load_seconds",
    "Time from start to a loaded and self-tested model, by model and version.",
    ("model", "version"),
)
PREDICTIONS_UNSAMPLED = Counter(
    "headrace_predictions_unsampled_total",
    "Predictions over HTTP that were not told to the Broker, the sampling rate or queue being full, by model.",
    ("model",),
)

EVENTS_SENT = Counter(
    "headrace_events_sent_total",
    "Events posted to a sink, by type and outcome of the last attempt.",
    ("type", "outcome"),
)
EVENTS_RECEIVED = Counter(
    "headrace_events_received_total",
    "Events delivered to this process, by type and outcome; `rejected` are final, the others but `done` come again.",
    ("type", "outcome"),
)
EVENT_DURATION = Histogram(
    "headrace_event_duration_seconds",
    "Time from an event's delivery to the answer, by type.",
    ("type",),
    buckets=EVENT_SECONDS,
)
MESSAGES_REFUSED = Counter(
    "headrace_messages_refused_total",
    "HTTP requests refused at the door because they hold no valid CloudEvent, by status.",
    ("status",),
)
FILES = Counter(
    "headrace_files_total",
    "Dropped files that the folder source has dealt with, by outcome.",
    ("outcome",),
)
DEAD_LETTERS = Counter(
    "headrace_dead_letters_total",
    "Events that could not be delivered and were put away, by type.",
    ("type",),
)

DRIFT = Gauge(
    "headrace_drift_statistic",
    "Population stability index of the window against the baseline, by model and feature or output.",
    ("model", "feature"),
)
DRIFT_THRESHOLD = Gauge(
    "headrace_drift_threshold",
    "The value above which the statistic counts as drift, by model and feature or output.",
    ("model", "feature"),
)
DRIFT_WINDOW_ROWS = Gauge(
    "headrace_drift_window_rows",
    "Rows in the window that is compared with the baseline, by model.",
    ("model",),
)
DRIFTS = Counter(
    "headrace_drifts_total",
    "Drifts detected, each of which asked for one training, by model.",
    ("model",),
)
PROMOTIONS = Counter(
    "headrace_promotions_total",
    "Verdicts on trained models, by model and verdict (promoted, rejected, rolledback).",
    ("model", "verdict"),
)


def type_label(event_type: str) -> str:
    """The label for an event's type: the type itself when it is of our contract, else `other`."""
    from eventing import contract  # 15 ms of a start, which a process that counts no event need not take

    return event_type if event_type in contract.TYPES else OTHER
