"""Send an event by hand, and put dead letters back on their way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from cloudevents.core.v1.event import CloudEvent

from eventing import contract, receiver
from eventing.errors import Rejected
from functions.store import Store

DEAD_LETTERS = "dead-letters"
REPLAYING = f"{DEAD_LETTERS}/replaying"
ERROR_ATTRIBUTES = ("knativeerrordest", "knativeerrorcode", "knativeerrordata")


def parse(text: bytes) -> CloudEvent:
    """A structured CloudEvent, checked against the contract when it is of one of our types.

    Raises Rejected naming every fault, so that nothing wrong leaves this machine.
    """
    (event,) = receiver.receive({"content-type": "application/cloudevents+json"}, text)
    if event.get_type() in contract.TYPES:
        contract.parse(event)
    return event


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that nobody could be brought to take, as the dead-letters function kept it."""

    path: str
    """Where it lies in the store."""
    event: dict[str, Any]
    """The CloudEvent, structured, with the attributes that say what went wrong."""

    @property
    def id(self) -> str:
        return str(self.event["id"])

    def cloud_event(self) -> CloudEvent:
        """The event as it was sent first: a replay must not carry the marks of its failure."""
        clean = {k: v for k, v in self.event.items() if k not in ERROR_ATTRIBUTES}
        return parse(json.dumps(clean).encode())


def dead_letters(store: Store) -> list[DeadLetter]:
    """All that lie in the store, oldest first. Raises RetryLater when the store is away."""
    found = []
    for path in sorted(store.list(DEAD_LETTERS), key=lambda path: PurePosixPath(path).name):
        event = store.read_json(path)
        if event is not None:  # replayed by another hand between the list and the read
            found.append(DeadLetter(path, event))
    return found


def dead_letter(store: Store, id: str) -> DeadLetter:
    """The one of this event id. Raises Rejected naming those that are there."""
    found = dead_letters(store)
    for letter in found:
        if letter.id == id:
            return letter
    raise Rejected(f"there is no dead letter {id!r}; there are: {', '.join(d.id for d in found) or 'none'}")


def replay(store: Store, letter: DeadLetter, send: Callable[[CloudEvent], object]) -> None:
    """Send the letter's event again, and forget it once that is taken.

    It is put aside first: an event that fails again comes back under the very same name, and that before the Broker has
    answered, where that waits for its subscribers. Raises Rejected, RetryLater: then the letter is still there.
    """
    event = letter.cloud_event()
    aside = f"{REPLAYING}/{PurePosixPath(letter.path).name}"
    if letter.path != aside:
        store.write_json(aside, letter.event)
        store.delete(letter.path)
    send(event)
    store.delete(aside)  # after the 202: twice is harmless, never is not
