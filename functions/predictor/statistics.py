"""Counts and times of predictions: one set of numbers per served version, read as metrics and as V2's statistics.

Plain numbers, made into samples only when somebody asks: prometheus_client's own counters would cost a request of one
row more than its inference does. A request only adds an entry to a deque, which any thread may without a lock; entries
are summed up when there are many, or when somebody asks.

Source: Triton's statistics extension, github.com/triton-inference-server/server, docs/protocol/extension_statistics.md.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from functions.predictor.tallies import Inferences, Requests
from monitoring import predictions

if TYPE_CHECKING:
    from prometheus_client.core import Metric

SETTLE_AT = 256  # entries: summed up within 0.1 ms, and a few KiB until then


class Meter:
    """Rate, errors and duration of the requests to one version over one protocol. Any thread may count."""

    __slots__ = ("_ended", "_flying", "_lock", "_requests")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flying: list[None] = []
        self._ended: deque[tuple[float, str, bool]] = deque()
        self._requests = Requests()

    @property
    def in_flight(self) -> int:
        """Requests that were taken and are not answered yet."""
        return len(self._flying)

    def begin(self) -> float:
        """A request is taken; `time.perf_counter()` of that."""
        self._flying.append(None)
        return time.perf_counter()

    def end(self, began: float, outcome: str, probe: bool) -> None:
        """It is answered. outcome: one of `predictions.OUTCOMES`."""
        ended = self._ended
        ended.append((time.perf_counter() - began, outcome, probe))
        self._flying.pop()
        if len(ended) >= SETTLE_AT:
            with self._lock:
                self._settle()

    def requests(self) -> Requests:
        """All that have ended."""
        with self._lock:
            self._settle()
            return Requests().add(self._requests)

    def _settle(self) -> None:
        count = self._requests.count
        for _ in range(len(self._ended)):
            count(*self._ended.popleft())


class Statistics:
    """One served version's numbers, since it became ready. Times are seconds in, nanoseconds out."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._meters: dict[str, Meter] = {}
        self._executed: deque[tuple[int, float, float, float]] = deque()
        self._inferences = Inferences()
        self._last: float | None = None
        self._lock = threading.Lock()

    def meter(self, protocol: str) -> Meter:
        """Who counts the requests over `protocol`."""
        with self._lock:
            return self._meters.setdefault(protocol, Meter())

    @property
    def meters(self) -> dict[str, Meter]:
        """By protocol, those that were asked for."""
        with self._lock:
            return dict(self._meters)

    @property
    def in_flight(self) -> int:
        """Requests that were taken and are not answered yet."""
        return sum(meter.in_flight for meter in self.meters.values())

    def executed(self, rows: int, began: float, queued_s: float, start: float, end: float) -> None:
        """The model answered one request of `rows` rows.

        began, start, end: `time.perf_counter()` when it was taken, when it was decoded, when it was answered; queued_s
        of the time after `start` it waited for its turn.
        """
        executed = self._executed
        executed.append((rows, start - began, queued_s, end - start - queued_s))
        self._last = end
        if len(executed) >= SETTLE_AT:
            with self._lock:
                self._settle()

    def inferences(self) -> Inferences:
        """All that the model has answered."""
        with self._lock:
            self._settle()
            return Inferences().add(self._inferences)

    def _settle(self) -> None:
        executed = self._inferences.executed
        for _ in range(len(self._executed)):
            executed(*self._executed.popleft())

    def to_json(self) -> dict[str, Any]:
        """`last_inference`, `inference_count`, `execution_count`, `inference_stats` and `batch_stats`."""
        requests = Requests()
        for meter in self.meters.values():
            requests.add(meter.requests())
        inferences, last = self.inferences(), self._last
        done = requests.outcomes[predictions.DONE]
        done_s = requests.durations.total_s - requests.failed_s
        count, compute_s = inferences.count, inferences.durations.total_s
        output_s = max(0.0, done_s - inferences.queue_s - inferences.decode_s - compute_s)
        times = {
            "success": (done, done_s),
            "fail": (sum(requests.outcomes.values()) - done, requests.failed_s),
            "queue": (count, inferences.queue_s),
            "compute_input": (count, inferences.decode_s),
            "compute_infer": (count, compute_s),
            "compute_output": (count, output_s),
            "cache_hit": (0, 0.0),
            "cache_miss": (0, 0.0),
        }
        return {
            "last_inference": 0 if last is None else int((time.time() - (time.perf_counter() - last)) * 1000),
            "inference_count": inferences.rows,
            "execution_count": count,
            "inference_stats": {name: {"count": n, "ns": int(seconds * 1e9)} for name, (n, seconds) in times.items()},
            "batch_stats": [],
        }


class Sums:
    """The numbers of several versions of one model, together."""

    def __init__(self) -> None:
        self.requests: dict[str, Requests] = {}
        self.inferences = Inferences()

    def add(self, statistics: Statistics) -> None:
        for protocol, meter in statistics.meters.items():
            self.requests.setdefault(protocol, Requests()).add(meter.requests())
        self.inferences.add(statistics.inferences())

    def copy(self) -> Sums:
        copied = Sums()
        copied.requests = {protocol: Requests().add(requests) for protocol, requests in self.requests.items()}
        copied.inferences.add(self.inferences)
        return copied


class Predictions:
    """The numbers of all versions; those of versions that are gone stay in the sums."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._living: list[Statistics] = []
        self._gone: dict[str, Sums] = {}

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
                self._gone.setdefault(statistics.model, Sums()).add(statistics)

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
        for model, sums in by_model.items():
            rows.add_metric([model], sums.inferences.rows)
            inferred = sums.inferences.durations
            inferences.add_metric([model], inferred.cumulated(), inferred.total_s)
            probed = dict.fromkeys(predictions.OUTCOMES, 0)
            for protocol, ended in sums.requests.items():
                durations.add_metric([model, protocol], ended.durations.cumulated(), ended.durations.total_s)
                in_progress.add_metric([model, protocol], flying.get((model, protocol), 0))
                for outcome, count in ended.outcomes.items():
                    requests.add_metric([model, protocol, outcome], count)
                    probed[outcome] += ended.probes[outcome]
            for outcome, count in probed.items():
                probes.add_metric([model, outcome], count)
        return requests, durations, in_progress, probes, rows, inferences

    def _sums(self) -> tuple[dict[str, Sums], dict[tuple[str, str], int]]:
        """By model all that was counted, and by model and protocol what is in flight."""
        flying: dict[tuple[str, str], int] = {}
        with self._lock:
            by_model = {model: sums.copy() for model, sums in self._gone.items()}
            for statistics in self._living:
                by_model.setdefault(statistics.model, Sums()).add(statistics)
                for protocol, meter in statistics.meters.items():
                    key = (statistics.model, protocol)
                    flying[key] = flying.get(key, 0) + meter.in_flight
        return by_model, flying


PREDICTIONS = Predictions()


@functools.cache
def expose() -> None:
    """Show the predictor's numbers wherever this process shows its metrics."""
    predictions.expose(PREDICTIONS.metrics)
