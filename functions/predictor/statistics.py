"""Counts and times of predictions: one set of numbers per served version, read as metrics and as V2's statistics.

Plain numbers under one lock, made into samples only when somebody asks: prometheus_client's own counters would cost a
request of one row more than its inference does.

Source: Triton's statistics extension, github.com/triton-inference-server/server, docs/protocol/extension_statistics.md.
"""

from __future__ import annotations

import functools
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from monitoring import predictions
from monitoring.predictions import REQUEST_SECONDS

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class Durations:
    """A histogram with the bounds of REQUEST_SECONDS; whoever adds to it holds a lock."""

    __slots__ = ("buckets", "total_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(REQUEST_SECONDS) + 1)
        self.total_s = 0.0

    def add(self, other: Durations) -> None:
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        self.total_s += other.total_s

    def cumulated(self) -> list[tuple[str, float]]:
        """Each upper bound with the count of all at or below it."""
        pairs, below = [], 0
        for bound, inside in zip((*map(str, map(float, REQUEST_SECONDS)), "+Inf"), self.buckets, strict=True):
            below += inside
            pairs.append((bound, float(below)))
        return pairs


class Meter:
    """Rate, errors and duration of the requests to one version over one protocol. Any thread may count."""

    __slots__ = ("_lock", "durations", "failed_s", "in_flight", "last_ms", "outcomes", "probes")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.in_flight = 0
        self.durations = Durations()
        self.failed_s = 0.0
        self.last_ms = 0
        self.outcomes = dict.fromkeys(predictions.OUTCOMES, 0)
        self.probes = dict.fromkeys(predictions.OUTCOMES, 0)

    def begin(self) -> float:
        """A request is taken; `time.perf_counter()` of that."""
        with self._lock:
            self.in_flight += 1
        return time.perf_counter()

    def end(self, began: float, outcome: str, probe: bool) -> None:
        """It is answered. outcome: one of `predictions.OUTCOMES`."""
        seconds = time.perf_counter() - began
        bucket = bisect_left(REQUEST_SECONDS, seconds)
        with self._lock:
            self.in_flight -= 1
            self.outcomes[outcome] += 1
            self.durations.buckets[bucket] += 1
            self.durations.total_s += seconds
            if outcome != predictions.DONE:
                self.failed_s += seconds
            if probe:
                self.probes[outcome] += 1

    def add(self, other: Meter) -> None:
        """Take over what `other` has counted."""
        self.durations.add(other.durations)
        self.failed_s += other.failed_s
        for outcome in predictions.OUTCOMES:
            self.outcomes[outcome] += other.outcomes[outcome]
            self.probes[outcome] += other.probes[outcome]


class Statistics:
    """One served version's numbers, since it became ready. Times are seconds in, nanoseconds out."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.meters: dict[str, Meter] = {}
        self.inferences = Durations()
        self.rows = 0
        self._executions = 0
        self._decode_s = self._queue_s = self._compute_s = 0.0
        self._last_s = 0.0
        self._lock = threading.Lock()

    def meter(self, protocol: str) -> Meter:
        """Who counts the requests over `protocol`."""
        with self._lock:
            return self.meters.setdefault(protocol, Meter())

    @property
    def in_flight(self) -> int:
        """Requests that were taken and are not answered yet."""
        return sum(meter.in_flight for meter in list(self.meters.values()))

    def executed(self, rows: int, decode_s: float, compute_s: float, queue_s: float = 0.0) -> None:
        """The model answered one request of `rows` rows."""
        bucket = bisect_left(REQUEST_SECONDS, compute_s)
        with self._lock:
            self.rows += rows
            self._executions += 1
            self._decode_s += decode_s
            self._compute_s += compute_s
            self._queue_s += queue_s
            self._last_s = time.time()
            self.inferences.buckets[bucket] += 1
            self.inferences.total_s += compute_s

    def add(self, other: Statistics) -> None:
        """Take over what `other` has counted."""
        for protocol, meter in other.meters.items():
            self.meter(protocol).add(meter)
        self.rows += other.rows
        self.inferences.add(other.inferences)

    def to_json(self) -> dict[str, Any]:
        """`last_inference`, `inference_count`, `execution_count`, `inference_stats` and `batch_stats`."""
        meters = list(self.meters.values())
        done = sum(meter.outcomes[predictions.DONE] for meter in meters)
        failed = sum(sum(meter.outcomes.values()) for meter in meters) - done
        failed_s = sum(meter.failed_s for meter in meters)
        done_s = sum(meter.durations.total_s for meter in meters) - failed_s
        with self._lock:
            output_s = max(0.0, done_s - self._queue_s - self._decode_s - self._compute_s)
            times = {
                "success": (done, done_s),
                "fail": (failed, failed_s),
                "queue": (self._executions, self._queue_s),
                "compute_input": (self._executions, self._decode_s),
                "compute_infer": (self._executions, self._compute_s),
                "compute_output": (self._executions, output_s),
                "cache_hit": (0, 0.0),
                "cache_miss": (0, 0.0),
            }
            return {
                "last_inference": int(self._last_s * 1000),
                "inference_count": self.rows,
                "execution_count": self._executions,
                "inference_stats": {
                    name: {"count": count, "ns": int(seconds * 1e9)} for name, (count, seconds) in times.items()
                },
                "batch_stats": [],
            }


class Predictions:
    """The numbers of all versions; those of versions that are gone stay in the sums."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._living: list[Statistics] = []
        self._gone: dict[str, Statistics] = {}

    def of(self, model: str) -> Statistics:
        """The numbers of a version that becomes ready."""
        statistics = Statistics(model)
        with self._lock:
            self._living.append(statistics)
        return statistics

    def retire(self, statistics: Statistics) -> None:
        """Its version answers nothing any more."""
        with self._lock:
            if statistics in self._living:
                self._living.remove(statistics)
                self._gone.setdefault(statistics.model, Statistics(statistics.model)).add(statistics)

    def metrics(self) -> Iterable[Metric]:
        """By model, as prometheus_client writes them."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        def family(kind: type[Any], of: predictions.Family) -> Any:
            return kind(of.name, of.text, labels=of.labels)

        requests = family(CounterMetricFamily, predictions.REQUESTS)
        durations = family(HistogramMetricFamily, predictions.REQUEST_DURATION)
        in_progress = family(GaugeMetricFamily, predictions.REQUESTS_IN_PROGRESS)
        probes = family(CounterMetricFamily, predictions.PROBES)
        rows = family(CounterMetricFamily, predictions.ROWS)
        inferences = family(HistogramMetricFamily, predictions.INFERENCE_DURATION)
        by_model, flying = self._sums()
        for model, statistics in by_model.items():
            rows.add_metric([model], statistics.rows)
            inferences.add_metric([model], statistics.inferences.cumulated(), statistics.inferences.total_s)
            probed = dict.fromkeys(predictions.OUTCOMES, 0)
            for protocol, meter in statistics.meters.items():
                durations.add_metric([model, protocol], meter.durations.cumulated(), meter.durations.total_s)
                in_progress.add_metric([model, protocol], flying[model, protocol])
                for outcome, count in meter.outcomes.items():
                    requests.add_metric([model, protocol, outcome], count)
                    probed[outcome] += meter.probes[outcome]
            for outcome, count in probed.items():
                probes.add_metric([model, outcome], count)
        return requests, durations, in_progress, probes, rows, inferences

    def _sums(self) -> tuple[dict[str, Statistics], dict[tuple[str, str], int]]:
        """By model all that was counted, and by model and protocol what is in flight."""
        by_model: dict[str, Statistics] = {}
        flying: dict[tuple[str, str], int] = {}
        with self._lock:
            for statistics in (*self._gone.values(), *self._living):
                by_model.setdefault(statistics.model, Statistics(statistics.model)).add(statistics)
                for protocol, meter in list(statistics.meters.items()):
                    key = (statistics.model, protocol)
                    flying[key] = flying.get(key, 0) + meter.in_flight
        return by_model, flying


PREDICTIONS = Predictions()


@functools.cache
def expose() -> None:
    """Show the predictor's numbers wherever this process shows its metrics."""
    predictions.expose(PREDICTIONS.metrics)
