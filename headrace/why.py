"""Why was this so? From any id of the chain, the chain: file, event, Job, package, Revision, answer.

Two links hold the chain together: `causationid`, event to event, and the model's version, which joins a prediction to
the training that made it. `explain` is pure: the caller brings the events. `look_up` brings those that it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eventing import contract
from headrace.journal import Entry, Journal

DIGITS = 8  # of a digest, at least: fewer may be the beginning of several
TOGETHER = 50  # ids that are asked for at once, some kilobytes of URL


@dataclass(frozen=True, slots=True)
class Link:
    """One event of the chain, in words."""

    entry: Entry
    noun: str
    """What it is in the chain: file, training, package, verdict, request, answer, drift, rejection."""
    says: str
    asked: bool = False
    """The id that was asked for is this event's, or stands in it."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Everything that led to the asked id, and everything that followed, in order of happening."""

    links: tuple[Link, ...]
    missing: tuple[str, ...] = field(default=())
    """Causes that are named but are not in the journal any more."""


def look_up(journal: Journal, asked: str) -> Chain | None:
    """`explain`, of as little of a journal as it takes: the loop's own events, which are few, and of all others those
    that are asked for, that led to one of the loop's, or that followed from an event that was asked for and is no
    event of the loop. Raises HeadraceError when the journal does not answer.
    """
    entries = list(journal.read(loop=True))
    if not any(_bears(e, asked) for e in entries):
        entries += _others_asked_for(journal, asked)
    looked_for: set[str] = set()
    while (chain := explain(entries, asked)) is not None and not looked_for.issuperset(chain.missing):
        # Each look may be one through millions of predictions: so for the causes of all others of the loop as well.
        causes = {e.cause for e in entries if e.cause} - {e.id for e in entries} - looked_for
        looked_for |= causes
        entries += _others(journal, "id", causes)
    return chain


def _others_asked_for(journal: Journal, asked: str) -> list[Entry]:
    found = list(journal.read(loop=False, id=asked))
    if not found:
        return list(journal.read(loop=False))  # it may be a version that predictions alone still name
    new = {asked}
    while new:
        followed = list(_others(journal, "causationid", new))
        new = {e.id for e in followed} - {e.id for e in found}
        found += followed
    return found


def _others(journal: Journal, attribute: str, wanted: Iterable[str]) -> Iterator[Entry]:
    """What is not of the loop and has one of these values."""
    values = sorted(wanted)
    for first in range(0, len(values), TOGETHER):
        yield from journal.read(loop=False, **{attribute: values[first : first + TOGETHER]})


def explain(entries: Sequence[Entry], asked: str) -> Chain | None:
    """The chain around `asked`: an event id, a file's or package's sha256 (8 digits or more), a model version, a Job or
    a Revision. None when nothing bears that name.
    """
    by_id: dict[str, Entry] = {}
    for entry in entries:
        by_id.setdefault(entry.id, entry)  # told twice is one fact
    unique = list(by_id.values())
    start = [e for e in unique if _bears(e, asked)]
    if not start:
        return None
    # A version or a file leads to thousands of predictions; a chain shows the ones that were asked for.
    wanted = {e.id for e in start if e.type not in contract.PREDICTIONS} or {e.id for e in start}
    if any(e.id == asked for e in start):
        wanted = {asked}
    # What followed has causes of its own: an answer leads back to the training of the version that gave it.
    chain = _ancestors(wanted | _descendants(wanted, unique, by_id), by_id, unique)
    causes = {cause for i in chain if (cause := by_id[i].cause) is not None}
    links = sorted((by_id[i] for i in chain), key=lambda e: e.seq)
    names = {stored: name for e in links for stored, name in file_names(e.data).items()}
    told = (Link(e, noun(e), named(describe(e), names), asked=e.id in wanted) for e in links)
    return Chain(tuple(told), tuple(sorted(causes - by_id.keys())))


def _bears(entry: Entry, asked: str) -> bool:
    """Does the event carry this name: its own id, or a digest, version, Job or Revision in its data?"""
    if entry.id == asked:
        return True
    data = entry.data
    digests = (data.get("sha256"), data.get("dataset_sha256"))
    if len(asked) >= DIGITS and any(isinstance(d, str) and d.startswith(asked) for d in digests):
        return True
    return asked in (data.get("version"), data.get("job"), data.get("revision"))


def _ancestors(ids: Iterable[str], by_id: dict[str, Entry], entries: Sequence[Entry]) -> set[str]:
    seen: set[str] = set()
    todo = list(ids)
    while todo:
        current = todo.pop()
        if current in seen or current not in by_id:
            continue
        seen.add(current)
        entry = by_id[current]
        if entry.cause:
            todo.append(entry.cause)
        if entry.type in (contract.PredictionMade.TYPE, contract.DriftDetected.TYPE):
            todo += [e.id for e in entries if _made(e, entry)]
    return seen


def _made(entry: Entry, answer: Entry) -> bool:
    """Did this event bring forth the version that gave `answer`?"""
    version = answer.data.get("version")
    made = (contract.ModelTrained.TYPE, contract.ModelPromoted.TYPE)
    return entry.type in made and entry.subject == answer.subject and entry.data.get("version") == version


def _descendants(ids: Iterable[str], entries: Sequence[Entry], by_id: dict[str, Entry]) -> set[str]:
    caused: dict[str, list[str]] = {}
    for entry in entries:
        if entry.cause:
            caused.setdefault(entry.cause, []).append(entry.id)
    seen: set[str] = set()
    todo = list(ids)
    while todo:
        current = todo.pop()
        if current in seen or current not in by_id:
            continue
        seen.add(current)
        todo += caused.get(current, [])
    return seen


_NOUNS = {
    contract.DatasetArrived.TYPE: "file",
    contract.DatasetRejected.TYPE: "rejection",
    contract.TrainingProgressed.TYPE: "training",
    contract.TrainingFailed.TYPE: "failure",
    contract.ModelTrained.TYPE: "package",
    contract.ModelPromoted.TYPE: "promotion",
    contract.ModelRejected.TYPE: "gate",
    contract.ModelRolledBack.TYPE: "rollback",
    contract.ModelFailed.TYPE: "failure",
    contract.PredictionRequested.TYPE: "request",
    contract.PredictionMade.TYPE: "answer",
    contract.DriftDetected.TYPE: "drift",
}


def noun(entry: Entry) -> str:
    """What an event is in the chain, in one word."""
    return _NOUNS.get(entry.type, "event")


def describe(entry: Entry) -> str:
    """One event as a sentence, also one whose data breaks its contract: anybody may post anything."""
    try:
        return _sentence(entry)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return f"{entry.type} about {entry.subject}, with data that breaks its contract"


def _sentence(entry: Entry) -> str:
    data = entry.data
    match entry.type:
        case contract.DatasetArrived.TYPE:
            digest = str(data.get("sha256"))[:12]
            file = data.get("name") or _name(data.get("uri"))
            return f"{file} arrived for {entry.subject}: {size(data.get('bytes', 0))}, sha256 {digest}"
        case contract.DatasetRejected.TYPE:
            reasons = data.get("reasons") or [{}]
            broken = f", {n} broken rows" if (n := data.get("broken_rows")) else ""
            return f"{_name(data.get('uri'))} rejected{broken}: {reason(reasons[0])}"
        case contract.TrainingProgressed.TYPE:
            return f"{data.get('step')}: {data.get('what')}"
        case contract.TrainingFailed.TYPE:
            return f"training of {entry.subject} failed: {data.get('reason')}"
        case contract.ModelTrained.TYPE:
            scores = ", ".join(f"{k} {v:.4f}" for k, v in (data.get("scores") or {}).items())
            by = f"in {data.get('seconds')} s by {data.get('job')}"
            return f"{entry.subject} {data.get('version')} trained {by}; {scores}"
        case contract.ModelPromoted.TYPE:
            return (
                f"{entry.subject} {data.get('version')} serves (revision {data.get('revision')}): {data.get('reason')}"
            )
        case contract.ModelRejected.TYPE:
            return f"{entry.subject} {data.get('version')} did not pass: {data.get('reason')}"
        case contract.ModelRolledBack.TYPE:
            return f"{entry.subject} {data.get('version')} taken back: {data.get('reason')}"
        case contract.ModelFailed.TYPE:
            verdict = "is not ready yet" if data.get("retryable") else "cannot serve"
            return " ".join(filter(None, (entry.subject, data.get("version"), f"{verdict}: {data.get('reason')}")))
        case contract.PredictionRequested.TYPE:
            return f"a prediction by {entry.subject} was asked for"
        case contract.PredictionMade.TYPE:
            return f"{entry.subject} {data.get('version')} answered in {data.get('latency_ms')} ms: {_answers(entry)}"
        case contract.DriftDetected.TYPE:
            return (
                f"{entry.subject} drifts: {data.get('feature')} has {data.get('statistic')} "
                f"{data.get('value', 0):.3f} over {data.get('threshold', 0):.3f} in {data.get('window')} rows"
            )
        case _:
            return f"{entry.type} from {entry.event.get('source')}"


def _answers(entry: Entry) -> str:
    answers = entry.data.get("answers") or {}
    labels = answers.get("label") or []
    scores = answers.get("score") or []
    # The score is of the last class, whichever the label is; bare it would be taken for the label's.
    rated = zip(labels[:3], scores[:3], strict=False)
    shown = [f"{a} (last class {s:.3f})" if isinstance(s, float) else str(a) for a, s in rated]
    more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
    return ", ".join(shown) + more if shown else f"{entry.data.get('rows')} rows"


def reason(reason: dict[str, object]) -> str:
    """One reason of a rejection: where, and what."""
    where = [f"row {reason['row']}"] if reason.get("row") else []
    where += [f"column {reason['column']}"] if reason.get("column") else []
    return ", ".join(where) + (": " if where else "") + str(reason.get("what", ""))


def file_names(data: Mapping[str, Any]) -> dict[str, str]:
    """Of an arrived file's data: the name in the store, a digest, and the one that whoever dropped it knows."""
    stored = _name(data.get("uri") or "")
    return {stored: str(data["name"])} if stored and data.get("name") else {}


def named(says: str, names: Mapping[str, str]) -> str:
    """A sentence with the files called as they were when they were dropped. names: see `file_names`."""
    for stored, name in names.items():
        says = says.replace(stored, name)
    return says


def _name(uri: object) -> str:
    return str(uri).rsplit("/", 1)[-1]


def size(bytes: int) -> str:
    """So many bytes, in words."""
    return f"{bytes / 1e6:.1f} MB" if bytes >= 1e5 else f"{bytes} bytes"
