"""Drop a file: into the store, an event to the Broker, and, if wished, wait for what becomes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eventing import contract, sender, source
from headrace import journal
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
    """Copy `file` into the store and tell the Broker. Raises Rejected when the file cannot be learned from at first
    sight, RetryLater when the store or the Broker is away.
    """
    arrived = source.land(file, dataset, place.store_url, trainer=trainer, target=target, parameters=parameters)
    event = source.arrived_event(arrived, datetime.now(UTC))
    known = next(iter(journal.read(place.journal_url, id=event.get_id(), limit=1)), None)
    after = last_seq(place)
    sender.Sender(place.broker_url).send(event, attempts=5)
    return Dropped(arrived, event.get_id(), after, known is not None)


def last_seq(place: Place) -> int:
    """The seq of the newest entry of the journal; 0 when it is empty."""
    return max((e.seq for e in journal.read(place.journal_url, tail=1)), default=0)


def consequences(place: Place, event_id: str, after: int = 0) -> Iterator[Entry]:
    """Every event that follows from `event_id`, as it happens, the last being one of ENDS."""
    chain = {event_id}
    for entry in journal.read(place.journal_url, follow=True, after=after):
        if entry.cause in chain and entry.id not in chain:
            chain.add(entry.id)
            yield entry
            if entry.type in ENDS:
                return
