"""Sums of what was counted, as values: made under their owner's lock, added up where versions or pods are one.

Used by `functions.predictor.statistics`, which counts, and by whatever shows the numbers.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from monitoring import predictions
from monitoring.predictions import BATCH_ROWS, REQUEST_SECONDS

if TYPE_CHECKING:
    from functions.tensors import Array

MAX_SIZES = 128  # of runs that are told apart: twice as many as the batcher makes, unless a setting says otherwise


def _no_outcomes() -> dict[str, int]:
    return dict.fromkeys(predictions.OUTCOMES, 0)


@functools.cache
def _bounds() -> Array:
    import numpy as np

    return np.array(REQUEST_SECONDS)


@dataclass(slots=True)
class Durations:
    """A histogram with the bounds of REQUEST_SECONDS. buckets: counts between the bounds, the last one beyond them."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(REQUEST_SECONDS) + 1))
    total_s: float = 0.0

    def count(self, seconds: Sequence[float]) -> None:
        """Add each. Two hundred at once take a fifth of what one by one they would."""
        total_s = sum(seconds)
        if total_s == 0.0:  # nobody waited
            self.buckets[0] += len(seconds)
            return
        import numpy as np  # a process that counts has it; one that only starts has not

        self.total_s += total_s
        for place, count in enumerate(np.bincount(np.searchsorted(_bounds(), seconds)).tolist()):
            self.buckets[place] += count

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


@dataclass(slots=True)
class Requests:
    """Requests that have ended.

    outcomes: by `predictions.OUTCOMES`. probes: those of them that only looked. encodings: from the model's answer to
    the response's, of what was done. failed_s: the share of the durations that went into what was not done.
    """

    outcomes: dict[str, int] = field(default_factory=_no_outcomes)
    probes: dict[str, int] = field(default_factory=_no_outcomes)
    durations: Durations = field(default_factory=Durations)
    encodings: Durations = field(default_factory=Durations)
    failed_s: float = 0.0

    def count(self, ended: Sequence[tuple[float, str, bool, float]]) -> None:
        """Add each: its seconds, its outcome, whether it is a probe, and the seconds to encode its answer."""
        if not ended:
            return
        seconds, outcomes, probes, encode_s = zip(*ended, strict=True)
        self.durations.count(seconds)
        for (outcome, probe), count in Counter(zip(outcomes, probes, strict=True)).items():
            self.outcomes[outcome] += count
            if probe:
                self.probes[outcome] += count
        if outcomes.count(predictions.DONE) < len(ended):
            self.failed_s += sum(each[0] for each in ended if each[1] != predictions.DONE)
            encode_s = tuple(each[3] for each in ended if each[1] == predictions.DONE)
        if encode_s:
            self.encodings.count(encode_s)

    def add(self, other: Requests) -> Requests:
        self.durations.add(other.durations)
        self.encodings.add(other.encodings)
        self.failed_s += other.failed_s
        for outcome in predictions.OUTCOMES:
            self.outcomes[outcome] += other.outcomes[outcome]
            self.probes[outcome] += other.probes[outcome]
        return self


@dataclass(slots=True)
class Inferences:
    """Requests that the model has answered. decodings, queues: before its own work, which `durations` has."""

    rows: int = 0
    decodings: Durations = field(default_factory=Durations)
    queues: Durations = field(default_factory=Durations)
    durations: Durations = field(default_factory=Durations)

    @property
    def count(self) -> int:
        return sum(self.durations.buckets)

    def count_all(self, executed: Sequence[tuple[int, float, float, float]]) -> None:
        """Add each: its rows, and the seconds to decode it, that it waited, and inside the model."""
        if not executed:
            return
        rows, decode_s, queue_s, compute_s = zip(*executed, strict=True)
        self.rows += sum(rows)
        self.decodings.count(decode_s)
        self.queues.count(queue_s)
        self.durations.count(compute_s)

    def add(self, other: Inferences) -> Inferences:
        self.rows += other.rows
        self.decodings.add(other.decodings)
        self.queues.add(other.queues)
        self.durations.add(other.durations)
        return self


@dataclass(slots=True)
class Batches:
    """Runs of the model, of one request or of several that were joined, by how many rows they had.

    sizes: at most MAX_SIZES, for a client may ask with any number of rows; those beyond are counted as the next power
    of two.
    """

    sizes: dict[int, Runs] = field(default_factory=dict)

    def count_alone(self, executed: Sequence[tuple[int, float, float, float]]) -> None:
        """Add each request as a run of its own."""
        if len({each[0] for each in executed}) == 1:
            runs = self._of(executed[0][0])
            runs.count += len(executed)
            runs.infer_s += sum(each[3] for each in executed)
        else:
            self.count_all((rows, 0.0, compute_s, 0.0) for rows, _, _, compute_s in executed)

    def count_all(self, ran: Iterable[tuple[int, float, float, float]]) -> None:
        """Add each: its rows, and the seconds to join them, inside the model, and to divide its answer."""
        for each in ran:
            self._ran(*each)

    def _ran(self, rows: int, join_s: float, infer_s: float, divide_s: float) -> None:
        runs = self.sizes.get(rows) or self._of(rows)
        runs.count += 1
        runs.join_s += join_s
        runs.infer_s += infer_s
        runs.divide_s += divide_s

    def add(self, other: Batches) -> Batches:
        for rows, runs in other.sizes.items():
            self._of(rows).add(runs)
        return self

    def cumulated(self) -> tuple[list[tuple[str, float]], float]:
        """As a histogram of rows: each bound with the count of runs of as many or fewer; and the rows of all."""
        counts = [0] * (len(BATCH_ROWS) + 1)
        for rows, runs in self.sizes.items():
            counts[bisect_left(BATCH_ROWS, rows)] += runs.count
        pairs, below = [], 0
        for bound, inside in zip((*map(str, map(float, BATCH_ROWS)), "+Inf"), counts, strict=True):
            below += inside
            pairs.append((bound, float(below)))
        return pairs, float(sum(rows * runs.count for rows, runs in self.sizes.items()))

    @property
    def count(self) -> int:
        return sum(runs.count for runs in self.sizes.values())

    def _of(self, rows: int) -> Runs:
        if rows not in self.sizes and len(self.sizes) >= MAX_SIZES:
            rows = 1 << (rows - 1).bit_length()
        return self.sizes.setdefault(rows, Runs())


@dataclass(slots=True)
class Runs:
    """How many, and the seconds that they took: to join their requests' rows, in the model, to divide its answer."""

    count: int = 0
    join_s: float = 0.0
    infer_s: float = 0.0
    divide_s: float = 0.0

    def add(self, other: Runs) -> None:
        self.count += other.count
        self.join_s += other.join_s
        self.infer_s += other.infer_s
        self.divide_s += other.divide_s


@dataclass(slots=True)
class Sums:
    """The numbers of one version or of several. requests, flying: by protocol; flying and waiting: at this moment."""

    requests: dict[str, Requests] = field(default_factory=dict)
    flying: dict[str, int] = field(default_factory=dict)
    inferences: Inferences = field(default_factory=Inferences)
    batches: Batches = field(default_factory=Batches)
    waiting: int = 0

    def add(self, other: Sums) -> Sums:
        for protocol, requests in other.requests.items():
            self.requests.setdefault(protocol, Requests()).add(requests)
            self.flying[protocol] = self.flying.get(protocol, 0) + other.flying[protocol]
        self.inferences.add(other.inferences)
        self.batches.add(other.batches)
        self.waiting += other.waiting
        return self

    @property
    def all_requests(self) -> Requests:
        """Over any protocol."""
        together = Requests()
        for requests in self.requests.values():
            together.add(requests)
        return together
