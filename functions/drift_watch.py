"""The drift watch: prediction.made comes in; once per drift, drift.detected goes out as the reply.

A Knative Service with one pod at most, `python -m functions.drift_watch`, for the window of a model lies in one place.
What counts as drift is `monitoring.drift`; here are the baseline of the version that serves, the windows, and the
promise that an event delivered again counts once, also after a kill -9: the state is in the store before the answer is
out. Events that come at once share one write, so a slow store costs latency and no throughput.

    <store>/drift/<model>.json      window, what was told, and the last events seen
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from cloudevents.core.v1.event import CloudEvent

from eventing import binding, contract, receiver, settings
from eventing.errors import Misconfigured, Rejected
from functions.store import Store
from monitoring import drift, metrics

SOURCE = "/headrace/functions/drift-watch"
SERVING_KNOWN_S = 2.0  # how long a look at who serves is good for; a promotion may be noticed this much later
SEEN_EVENTS = 2000  # the last events that a redelivery is known by; Knative redelivers within minutes
OTHERS_TOLD = 50  # columns over their threshold, the furthest: of a wide table all are more than an event carries
REPLIES_KEPT = 20  # of them those that told a drift, so that a redelivery gets the same answer

_MODEL = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")  # it becomes a path in the store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What the drift watch is told by its environment."""

    store: str
    """HEADRACE_STORE: fsspec URL of the store."""
    host: str = "127.0.0.1"
    port: int = 8080
    """PORT: where to listen."""
    window_rows: int = 1000
    """HEADRACE_DRIFT_WINDOW_ROWS: the last rows that are compared with the baseline."""
    limits: drift.Limits = field(default_factory=drift.Limits)
    """HEADRACE_DRIFT_MIN_ROWS, _THRESHOLD, _CLEAR and _COOL_DOWN_S, each as in `monitoring.drift.Limits`."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises Misconfigured naming the key."""
        usual = drift.Limits()
        window = settings.whole_number(environ, "HEADRACE_DRIFT_WINDOW_ROWS", cls.window_rows, 10, 100_000)
        min_rows = settings.whole_number(environ, "HEADRACE_DRIFT_MIN_ROWS", min(usual.min_rows, window), 1, 100_000)
        threshold = settings.number(environ, "HEADRACE_DRIFT_THRESHOLD", usual.threshold, 0.001, 100)
        clear = settings.number(environ, "HEADRACE_DRIFT_CLEAR", min(usual.clear, threshold), 0.0, 100)
        if min_rows > window:
            raise Misconfigured("HEADRACE_DRIFT_MIN_ROWS", min_rows, f"at most HEADRACE_DRIFT_WINDOW_ROWS, {window}")
        if clear > threshold:
            raise Misconfigured("HEADRACE_DRIFT_CLEAR", clear, f"at most HEADRACE_DRIFT_THRESHOLD, {threshold:g}")
        cool_down_s = settings.number(environ, "HEADRACE_DRIFT_COOL_DOWN_S", usual.cool_down_s, 0, 30 * 86400)
        return cls(
            store=settings.text(environ, "HEADRACE_STORE", "the store's fsspec URL, such as file:///var/headrace"),
            host=settings.host(environ),
            port=settings.port(environ),
            window_rows=window,
            limits=drift.Limits(min_rows, threshold, clear, cool_down_s),
        )


@dataclass(frozen=True, slots=True)
class Subject:
    """What predictions of one model are compared with."""

    version: str
    trainer: str
    baseline: drift.Baseline


@dataclass(frozen=True, slots=True)
class Watched:
    """All that is kept of one model."""

    version: str
    state: drift.State
    seen: tuple[str, ...] = ()
    """Keys of the last events, oldest first."""
    replies: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Keys of the events that told a drift, and the event that was the reply."""

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "drifting": self.state.drifting,
            "told_at": self.state.told_at,
            "rows": self.state.window.rows,
            "seen": self.seen,
            "replies": self.replies,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None, subject: Subject, window_rows: int) -> Watched:
        """What was kept, as far as it fits: another version, or another baseline, begins with an empty window.

        When a drift was told, and which events were seen, outlives the version: the training that the drift asked for
        ends with a new one, and must not be asked for again at once.
        """
        empty = drift.Window.empty(subject.baseline, window_rows)
        if value is None:
            return cls(subject.version, drift.State(empty))
        told_at = value.get("told_at")
        kept = cls(
            subject.version,
            drift.State(empty, told_at=None if told_at is None else float(told_at)),
            tuple(map(str, value.get("seen", ()))),
            tuple((str(key), dict(reply)) for key, reply in value.get("replies", ())),
        )
        rows = tuple(tuple(map(int, row)) for row in value.get("rows", ()))
        fits = all(len(row) == len(empty.bins) and all(map(int.__lt__, row, empty.bins)) for row in rows)
        if value.get("version") != subject.version or not fits:
            return kept
        return replace(kept, state=replace(kept.state, window=empty.add(rows), drifting=bool(value.get("drifting"))))


@dataclass(slots=True)
class _Waiting:
    """A prediction on its way into the state."""

    event: CloudEvent
    data: contract.PredictionMade
    answer: Future[CloudEvent | None] = field(default_factory=Future)


class DriftWatch:
    """The handler. Any thread may call it; one at a time changes the state, for all that wait."""

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._subjects: dict[str, tuple[float, Subject]] = {}
        self._watched: dict[str, Watched] = {}
        self._waiting: list[_Waiting] = []
        self._line = threading.Lock()  # guards _waiting, for moments
        self._turn = threading.Lock()  # held by the one that writes

    def handle(self, event: CloudEvent) -> CloudEvent | None:
        """Counts the prediction's rows; the reply is drift.detected when they told one.

        Raises Rejected for a broken event, RetryLater while the store is away or has no such package yet.
        """
        data = contract.PredictionMade.from_event(event)
        if not _MODEL.fullmatch(data.model):
            raise Rejected(f"model is {data.model!r:.80}; expected a model's name")
        if not data.features and not data.answers:
            return None  # the rows were too large for an event; nothing to compare
        subject = self._subject(data.model, data.version)
        if data.version != subject.version or not subject.baseline.columns:
            # A canary's or an old revision's answer: its window would be mixed of two models.
            return None
        waiting = _Waiting(event, data)
        with self._line:
            self._waiting.append(waiting)
        with self._turn:
            if not waiting.answer.done():
                self._settle()
        return waiting.answer.result()

    def _settle(self) -> None:
        """Counts all that wait, writes once, then answers. A failed write leaves the state as it was.

        An event that cannot be counted, whatever the fault, is told so alone: it comes again, each time beside others.
        """
        with self._line:
            batch, self._waiting = self._waiting, []
        changed: dict[str, Watched] = {}
        replies: list[CloudEvent | Exception | None] = []
        for waiting in batch:
            model, (_, subject) = waiting.data.model, self._subjects[waiting.data.model]
            try:
                before = changed.get(model) or self._kept(model, subject)
                after, reply = self._count(before, waiting, subject)
            except Exception as e:  # noqa: BLE001 - whoever waits for it gets it
                replies.append(e)
                continue
            if after is not before:
                changed[model] = after
            replies.append(reply)
        try:
            for model, watched in changed.items():
                self._store.write_json(f"drift/{model}.json", watched.to_json())
                self._watched[model] = watched
        except Exception as e:
            for waiting in batch:
                waiting.answer.set_exception(e)
            raise
        for waiting, said in zip(batch, replies, strict=True):
            if isinstance(said, Exception):
                waiting.answer.set_exception(said)
            else:
                waiting.answer.set_result(said)

    def _count(
        self, watched: Watched, waiting: _Waiting, subject: Subject
    ) -> tuple[Watched, CloudEvent | Rejected | None]:
        """The state after one event, the very same where it does not count, and the reply to it."""
        event, data = waiting.event, waiting.data
        key = hashlib.sha256(f"{event.get_source()}\0{event.get_id()}".encode()).hexdigest()[:16]
        if key in watched.seen:
            told = dict(watched.replies).get(key)
            return watched, binding.from_json(told) if told else None
        if watched.version != subject.version:
            watched = Watched.from_json(watched.to_json(), subject, self._settings.window_rows)
        if data.version != subject.version:
            return watched, None  # another version was promoted while this waited
        try:
            rows = subject.baseline.rows_of(data.features, data.answers)
        except Rejected as e:
            return watched, e
        now = self._clock()
        state, decision = drift.decide(watched.state, rows, now, subject.baseline, self._settings.limits)
        _show(data.model, state, decision)
        turned = state.drifting != watched.state.drifting
        log.log(logging.WARNING if turned else logging.DEBUG, "%s %s: %s", data.model, data.version, decision.reason)
        watched = replace(watched, state=state, seen=(*watched.seen, key)[-SEEN_EVENTS:])
        if not decision.drift:
            return watched, None
        metrics.DRIFTS.labels(data.model).inc()
        reply = _detected(decision, waiting, subject, len(state.window.rows), now)
        return replace(watched, replies=(*watched.replies, (key, binding.to_json(reply)))[-REPLIES_KEPT:]), reply

    def _kept(self, model: str, subject: Subject) -> Watched:
        """What is known of a model: in memory, else in the store."""
        known = self._watched.get(model)
        if known is None:
            kept = self._store.read_json(f"drift/{model}.json")
            known = self._watched[model] = Watched.from_json(kept, subject, self._settings.window_rows)
        return known

    def _subject(self, model: str, version: str) -> Subject:
        """The version that serves, with its baseline; before any promotion the one that answered."""
        known = self._subjects.get(model)
        if known and self._clock() - known[0] < SERVING_KNOWN_S:
            return known[1]
        serving = self._store.serving(model)
        version = serving.version if serving else version
        if known and known[1].version == version:
            subject = known[1]
        else:
            manifest = self._store.manifest(model, version)
            subject = Subject(version, manifest.trainer, drift.Baseline.from_json(manifest.baseline))
            log.info("%s is compared with the baseline of %s", model, version)
        self._subjects[model] = (self._clock(), subject)
        return subject


def main(environ: Mapping[str, str]) -> None:
    """The process."""
    its = Settings.from_environment(environ)
    watch = DriftWatch(Store.open(its.store), its)
    receiver.serve(receiver.create_app(watch.handle, "drift-watch"), its.port, its.host)


def _detected(decision: drift.Decision, waiting: _Waiting, subject: Subject, rows: int, now: float) -> CloudEvent:
    worst, *others = decision.over
    data = waiting.data
    detected = contract.DriftDetected(
        model=data.model,
        feature=worst.name,
        statistic=drift.STATISTIC,
        value=round(worst.value, 6),
        threshold=round(worst.threshold, 6),
        window=rows,
        kind=worst.kind,
        version=subject.version,
        others={m.name: round(m.value, 6) for m in others[:OTHERS_TOLD]} or None,
        trainer=subject.trainer,
    )
    return detected.to_event(
        source=SOURCE,
        id=contract.derived_id("drift", data.model, waiting.event.get_source(), waiting.event.get_id()),
        time=datetime.fromtimestamp(now, UTC),
        cause=waiting.event,
        extensions={"trainer": subject.trainer},
    )


def _show(model: str, state: drift.State, decision: drift.Decision) -> None:
    metrics.DRIFT_WINDOW_ROWS.labels(model).set(len(state.window.rows))
    for measure in decision.measures:
        metrics.DRIFT.labels(model, measure.name).set(measure.value)
        metrics.DRIFT_THRESHOLD.labels(model, measure.name).set(measure.threshold)


if __name__ == "__main__":
    settings.run(main, os.environ)
