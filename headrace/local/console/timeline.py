"""What changed, newest first, as an analyst reads it: runs of predictions are one line, steps hide behind the end.

Pure: events come in digested, lines go out. Called by `headrace.local.console.console`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eventing import contract
from headrace import journal, why

LINES_SHOWN = 60
REASONS_SHOWN = 5  # of a rejection, in the timeline; its chain shows all that the event carries
EVENTS_KEPT = 10_000  # in memory while the page is in use, digested, about 1 KiB each
ENDINGS = (contract.ModelTrained.TYPE, contract.TrainingFailed.TYPE, contract.DatasetRejected.TYPE)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """What the timeline needs of one event; the event itself, with its rows, is let go."""

    seq: int
    id: str
    type: str
    at: str
    noun: str
    says: str
    subject: str
    cause: str | None
    version: str | None
    rows: int
    done: float | None
    file: tuple[str, str] | None
    """The name in the store and the name that the person who dropped the file knows."""
    reasons: tuple[Row, ...]
    undelivered: tuple[str, ...]

    @classmethod
    def of(cls, entry: journal.Entry) -> Event:
        """Anybody may post an event: its data may be anything."""
        data = entry.data
        reasons = data.get("reasons") if entry.type == contract.DatasetRejected.TYPE else None
        rows, done = data.get("rows"), data.get("done")
        stored = str(data.get("uri") or "").rsplit("/", 1)[-1]
        return cls(
            seq=entry.seq,
            id=entry.id,
            type=entry.type,
            at=entry.received.isoformat(),
            noun=why.noun(entry),
            says=why.describe(entry),
            subject=entry.subject,
            cause=entry.cause,
            version=str(data["version"]) if data.get("version") else None,
            rows=rows if isinstance(rows, int) else 1,
            done=float(done) if isinstance(done, int | float) else None,
            file=(stored, str(data["name"])) if stored and data.get("name") else None,
            reasons=tuple(r for r in reasons if isinstance(r, dict)) if isinstance(reasons, list) else (),
            undelivered=tuple(d["trigger"] for d in entry.deliveries if d["state"] not in ("delivered", "pending")),
        )


def timeline(events: Sequence[Event], whole: bool = True) -> list[Row]:
    """What changed, for a reader: newest first, a training's steps behind its end, a run of predictions as one line.

    events: oldest first. whole: nothing came before them; else the oldest run of predictions is "at least" so long.
    """
    ended = {e.cause for e in events if e.type in ENDINGS}
    answered = {e.cause for e in events if e.type == contract.PredictionMade.TYPE}
    names = dict(e.file for e in events if e.file)
    rows: list[Row] = []
    runs: dict[tuple[str, ...], list[Event]] = {}  # of predictions since the last event of another type
    steps: dict[str | None, Row] = {}
    for event in events:
        if event.type == contract.PredictionRequested.TYPE and event.id in answered:
            continue  # the answer tells of it
        if event.type in contract.PREDICTIONS:
            runs.setdefault((event.noun, event.subject, event.version or ""), []).append(event)
            continue
        if event.type == contract.TrainingProgressed.TYPE:
            if event.cause in ended:
                continue
            if event.cause in steps:
                rows.remove(steps[event.cause])
        rows += [_run(run, whole or bool(rows)) for run in runs.values()]
        runs.clear()
        rows.append(_line(event, names))
        if event.type == contract.TrainingProgressed.TYPE:
            steps[event.cause] = rows[-1]
    rows += [_run(run, whole or bool(rows)) for run in runs.values()]
    return rows[: -LINES_SHOWN - 1 : -1]


def _line(event: Event, names: Mapping[str, str]) -> Row:
    says = why.named(event.says, names)
    line: Row = {"key": event.id, "why": event.id, "at": event.at, "noun": event.noun, "says": says}
    if event.done is not None:
        line |= {"done": event.done, "says": f"{event.subject}: {says}"}
    if event.reasons:
        line |= {"reasons": event.reasons[:REASONS_SHOWN], "more_reasons": len(event.reasons[REASONS_SHOWN:])}
    return line | {"undelivered": event.undelivered}


def _run(run: Sequence[Event], whole: bool) -> Row:
    """Predictions in a row as one line, told by the newest; its key is the oldest's, which stays while it grows."""
    first, last = run[0], run[-1]
    count, rows = len(run), sum(e.rows for e in run)
    says = last.says
    if count > 1 and last.type == contract.PredictionMade.TYPE:
        told = f"{count:,} predictions" + (f" ({rows:,} rows)" if rows != count else "")
        says = f"{'' if whole else 'at least '}{told} by {first.subject} {first.version}"
    elif count > 1:
        says = f"{count:,} predictions by {first.subject} were asked for and are not answered"
    undelivered = sorted({u for e in run for u in e.undelivered})
    line = {"key": first.id, "why": last.id, "at": last.at, "noun": last.noun, "says": says, "undelivered": undelivered}
    return line | ({"from": first.at, "count": count} if count > 1 else {})


@dataclass(slots=True)
class Seen:
    """The events since somebody first looked, digested."""

    events: dict[int, Event] = field(default_factory=dict)
    whole: bool = False

    @property
    def newest(self) -> int:
        return max(self.events, default=0)

    def take(self, lines: Sequence[dict[str, Any]], asked: int) -> None:
        events = {line["seq"]: Event.of(journal.entry(line)) for line in lines}
        if len(lines) < asked:
            self.whole = True
        elif self.newest + 1 < min(events):
            self.events.clear()  # more has come than was read: a line counts all or says that it does not
            self.whole = False
        self.events |= events
        surplus = len(self.events) - EVENTS_KEPT
        if surplus > 0:
            # A flood of predictions must not wash away what changed.
            spare = [s for s in sorted(self.events) if self.events[s].type in contract.PREDICTIONS]
            for seq in (spare or sorted(self.events))[:surplus]:
                del self.events[seq]
            self.whole = False

    def lines(self) -> list[Row]:
        return timeline([self.events[s] for s in sorted(self.events)], self.whole)


def chain(lines: Iterable[dict[str, Any]], id: str) -> list[Row]:
    """The lines of the chain around `id`, the asked one marked; empty where nothing bears that name."""
    found = why.explain([journal.entry(line) for line in lines], id)
    links = found.links if found else ()
    events = [Event.of(link.entry) for link in links]
    names = dict(e.file for e in events if e.file)
    told = [_line(e, names) | {"reasons": e.reasons} for e in events]
    return [line | {"asked": link.asked} for line, link in zip(told, links, strict=True)]
