"""Drop a file: into the store, an event to the Broker, and, if wished, wait for what becomes of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eventing import contract, landing, source
from eventing.errors import HeadraceError
from headrace.journal import Entry
from headrace.place import Place

# What ends a wait: a verdict on the model, or the word that there will be none.
ENDS = frozenset(
    t.TYPE
    for t in (
        contract.ModelPromoted,
        contract.ModelRejected,
        contract.ModelRolledBack,
        contract.DatasetRejected,
        contract.TrainingFailed,
    )
)
TRAININGS_ENDS = frozenset(t.TYPE for t in (contract.ModelTrained, contract.DatasetRejected, contract.TrainingFailed))
PATIENCE_S = 900.0  # a training may sit between two steps for minutes; a day of silence is a fault
GOOD_ENDS = frozenset({contract.ModelPromoted.TYPE})


@dataclasses.dataclass(frozen=True, slots=True)
class Dropped:
    """A file that lies in the store, and the event that says so."""

    arrived: contract.DatasetArrived
    event_id: str
    after: int
    """The journal's last entry before the event was sent."""
    known: bool
    """The Broker had this very event before: the same content was dropped already."""


def drop(
    place: Place,
    file: Path,
    dataset: str,
    trainer: str | None = None,
    target: str | None = None,
    parameters: dict[str, Any] | None = None,
) -> Dropped:
    """Copy `file` into the store and tell the Broker.

    Content that was dropped before is told under the same id, unless all that came of it was a failure: then whoever
    drops it again has mended something, and a JobSink would make no second Job of the same event while the failed one
    is there. Raises Rejected when the file cannot be learned from at first sight, RetryLater when the store or the
    Broker is away.
    """
    limit = landing.max_bytes(place.values)
    arrived = source.land(
        file, dataset, place.store_url, trainer=trainer, target=target, parameters=parameters, max_bytes=limit
    )
    now = datetime.now(UTC)
    event = source.arrived_event(arrived, now)
    while (known := next(iter(place.journal.read(id=event.get_id(), loop=True, limit=1)), None)) is not None:
        if not has_failed(place.journal.read(causationid=event.get_id(), loop=True)):
            break
        event = source.arrived_event(arrived, now, landing.once_more(event.get_id()))
    after = last_seq(place)
    place.broker.send(event, attempts=5)
    return Dropped(arrived, event.get_id(), after, known is not None)


def last_seq(place: Place) -> int:
    """The seq of the newest of the loop's entries in the journal; 0 when there is none."""
    return max((e.seq for e in place.journal.read(tail=1, loop=True)), default=0)


def is_end(entry: Entry) -> bool:
    """Whether nothing more is to come of a drop. A training that is tried again goes on, and is told of once more."""
    again = entry.type == contract.TrainingFailed.TYPE and bool(entry.data.get("retryable"))
    return entry.type in ENDS and not again


def has_failed(consequences: Iterable[Entry]) -> bool:
    """Whether the last word on a drop is that it led to no model. consequences: what it caused itself, oldest first."""
    last = None
    for entry in consequences:
        if entry.type in TRAININGS_ENDS:
            last = entry
    return last is not None and last.type != contract.ModelTrained.TYPE and is_end(last)


def consequences(
    place: Place, event_id: str, after: int = 0, sha256: str | None = None, patience_s: float = PATIENCE_S
) -> Iterator[Entry]:
    """Every event that follows from `event_id`, as it happens, the last being one of ENDS.

    sha256: of the dropped file. Content that another event brought before is not learned twice: then the training that
    it led to is told again, under its first cause. Raises HeadraceError after `patience_s` without any news, and
    where the journal ends, for the platform does.
    """
    chain = {event_id}
    news = time.monotonic()
    for entry in place.journal.follow(after=after, loop=True):
        if entry is not None and entry.id not in chain and (entry.cause in chain or _learned_before(entry, sha256)):
            chain.add(entry.id)
            news = time.monotonic()
            yield entry
            if is_end(entry):
                return
        if time.monotonic() - news > patience_s:
            raise HeadraceError(
                f"nothing more came of {event_id} within {patience_s:.0f} s; `headrace status` tells which part is not "
                f"ready, `headrace why {event_id}` what has happened so far"
            )
    raise HeadraceError(
        f"the journal ended, and what becomes of {event_id} is not known yet: the platform stops. Once it runs again "
        f"`headrace why {event_id}` tells"
    )


def _learned_before(entry: Entry, sha256: str | None) -> bool:
    return (
        sha256 is not None and entry.type == contract.ModelTrained.TYPE and entry.data.get("dataset_sha256") == sha256
    )
