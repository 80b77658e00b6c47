"""Every metric of Headrace but the predictor's (`monitoring.predictions`), defined once: name, meaning, labels.

Requests are counted by the RED method, rate, errors and duration, per model and protocol. A label never takes its value
from outside unchecked: an unknown event type counts as `other`, or a stranger could make as many series as he likes.

Source: prometheus.io/docs/practices/naming (base units, `_total`), Tom Wilkie's RED method.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from monitoring.predictions import DONE, FAILED, REJECTED, RETRY_LATER

__all__ = ["DONE", "FAILED", "REJECTED", "RETRY_LATER"]

OTHER: Final = "other"

# An event may wait for a promotion: from 1 ms to the four minutes that the promoter holds one.
EVENT_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 240)

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
