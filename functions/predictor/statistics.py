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
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from functions.predictor.tallies import Batches, Inferences, Requests, Sums
from monitoring import predictions

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from functions.predictor.batcher import Batcher

Entry = TypeVar("Entry")


class _Here(threading.local):
    """This thread's: when the model answered its request. What asked no model is not done, and has no use for it."""

    answered = 0.0


_HERE = _Here()
SETTLE_AT = 256  # entries: summed up within 0.1 ms, and a few KiB until then


class Meter:
    """Rate, errors and duration of the requests to one version over one protocol. Any thread may count."""

    __slots__ = ("_ended", "_flying", "_lock", "_requests")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flying: list[None] = []
        self._ended: deque[tuple[float, str, bool, float]] = deque()
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
        ended, now = self._ended, time.perf_counter()
        ended.append((now - began, outcome, probe, now - _HERE.answered))
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
        self._requests.count(_taken(self._ended))


class Statistics:
    """One served version's numbers, since it became ready. Times are seconds in, nanoseconds out."""

    def __init__(self, model: str, version: str) -> None:
        self.model = model
        self.version = version
        self.waiting: Callable[[], int] = int
        """Requests that wait for their turn now."""
        self.joins = False
        """Whether a batcher tells of the runs; else each request is one."""
        self._meters: dict[str, Meter] = {}
        self._executed: deque[tuple[int, float, float, float]] = deque()
        self._inferences = Inferences()
        self._joined: deque[tuple[int, float, float, float]] = deque()
        self._batches = Batches()
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
        self._last = _HERE.answered = end
        if len(executed) >= SETTLE_AT:
            with self._lock:
                self._settle()

    def follow(self, batcher: Batcher) -> None:
        """Its runs, and who waits there, are this version's."""
        self.joins, batcher.on_run = True, self.ran
        there = weakref.ref(batcher)  # it holds the model, which these numbers outlive
        self.waiting = lambda: 0 if (here := there()) is None else here.waiting

    def ran(self, rows: int, join_s: float, infer_s: float, divide_s: float) -> None:
        """A batcher has run the model once, with the rows of all that were joined."""
        self._joined.append((rows, join_s, infer_s, divide_s))

    def inferences(self) -> Inferences:
        """All that the model has answered."""
        with self._lock:
            self._settle()
            return Inferences().add(self._inferences)

    def batches(self) -> Batches:
        """All runs of the model."""
        with self._lock:
            self._settle()
            return Batches().add(self._batches)

    def sums(self) -> Sums:
        """All that was counted, and what goes on now."""
        meters = self.meters
        return Sums(
            {protocol: meter.requests() for protocol, meter in meters.items()},
            {protocol: meter.in_flight for protocol, meter in meters.items()},
            self.inferences(),
            self.batches(),
            self.waiting(),
        )

    def _settle(self) -> None:
        executed = _taken(self._executed)
        self._inferences.count_all(executed)
        if not self.joins:
            self._batches.count_alone(executed)
        self._batches.count_all(_taken(self._joined))

    def to_json(self) -> dict[str, Any]:
        """`last_inference`, `inference_count`, `execution_count`, `inference_stats` and `batch_stats`."""
        requests = Requests()
        for meter in self.meters.values():
            requests.add(meter.requests())
        inferences, batches, last = self.inferences(), self.batches(), self._last
        done = requests.outcomes[predictions.DONE]
        done_s = requests.durations.total_s - requests.failed_s
        count = inferences.count
        times = {
            "success": (done, done_s),
            "fail": (sum(requests.outcomes.values()) - done, requests.failed_s),
            "queue": (count, inferences.queues.total_s),
            "compute_input": (count, inferences.decodings.total_s),
            "compute_infer": (count, inferences.durations.total_s),
            "compute_output": (done, requests.encodings.total_s),
            "cache_hit": (0, 0.0),
            "cache_miss": (0, 0.0),
        }
        return {
            "last_inference": 0 if last is None else int((time.time() - (time.perf_counter() - last)) * 1000),
            "inference_count": inferences.rows,
            "execution_count": batches.count,
            "inference_stats": {name: _duration(n, seconds) for name, (n, seconds) in times.items()},
            # The time of a request is in `inference_stats`; of a run it is what joining and dividing take.
            "batch_stats": [
                {
                    "batch_size": rows,
                    "compute_input": _duration(runs.count, runs.join_s),
                    "compute_infer": _duration(runs.count, runs.infer_s),
                    "compute_output": _duration(runs.count, runs.divide_s),
                }
                for rows, runs in sorted(batches.sizes.items())
            ],
        }


def _taken(entries: deque[Entry]) -> list[Entry]:
    """The entries that are there now, taken out: others may be added meanwhile."""
    return [entries.popleft() for _ in range(len(entries))]


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": int(seconds * 1e9)}


class Predictions:
    """The numbers of all versions; those of versions that are gone stay in the sums of their models.

    names: whose names for them are shown beside Headrace's, of `other_names.SYSTEMS`.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._living: list[Statistics] = []
        self._gone: dict[str, Sums] = {}

    def of(self, model: str, version: str = "") -> Statistics:
        """The numbers of a version that becomes ready."""
        statistics = Statistics(model, version)
        with self._lock:
            self._living.append(statistics)
        return statistics

    def retire(self, statistics: Statistics) -> None:
        """Its version answers nothing any more."""
        with self._lock:
            if statistics in self._living:
                self._living.remove(statistics)
                self._gone.setdefault(statistics.model, Sums()).add(statistics.sums())

    def metrics(self) -> list[Metric]:
        """As prometheus_client writes them."""
        from functions.predictor import exposition, other_names

        with self._lock:
            by_model = {model: Sums().add(sums) for model, sums in self._gone.items()}
            # Of one that was loaded again the second stands beside the first, until that is gone.
            by_version: dict[tuple[str, str], Sums] = {}
            for statistics in self._living:
                sums = statistics.sums()
                by_model.setdefault(statistics.model, Sums()).add(sums)
                by_version.setdefault((statistics.model, statistics.version), Sums()).add(sums)
        return [*exposition.families(by_model), *other_names.families(self.names, by_model, by_version)]


PREDICTIONS = Predictions()


@functools.cache
def expose() -> None:
    """Show the predictor's numbers wherever this process shows its metrics."""
    predictions.expose(PREDICTIONS.metrics)
