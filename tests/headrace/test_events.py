"""headrace.events: dead letters, and the way back from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.v1.event import CloudEvent

from eventing import binding
from eventing.errors import RetryLater
from functions.dead_letters import DeadLetters
from functions.store import Store
from headrace import events

Object = dict[str, Any]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open((tmp_path / "store").as_uri())


def dead(store: Store, id: str, hour: int = 12, **more: Any) -> None:
    """An event as the Broker brings it to the function that keeps the dead letters."""
    told = {"knativeerrordest": "http://promoter", "knativeerrorcode": "422"}
    whole = {"specversion": "1.0", "id": id, "source": "/t", "type": "dev.example.died.v1", **told, **more}
    DeadLetters(store).handle(binding.from_json({**whole, "time": f"2026-01-01T{hour}:00:00Z"}))


def ids(store: Store) -> list[str]:
    return [letter.id for letter in events.dead_letters(store)]


def test_an_event_that_fails_again_while_it_is_replayed_is_still_there(store: Store) -> None:
    """A Broker of in-memory channels answers when its subscribers have, and so when the letter was written anew."""
    dead(store, "a")
    (letter,) = events.dead_letters(store)
    events.replay(store, letter, lambda event: dead(store, event.get_id()))
    assert ids(store) == ["a"]


def test_an_event_that_is_taken_is_gone_and_carries_no_marks(store: Store) -> None:
    dead(store, "a")
    sent: list[CloudEvent] = []
    events.replay(store, events.dead_letter(store, "a"), sent.append)
    assert ids(store) == []
    assert not set(events.ERROR_ATTRIBUTES) & binding.to_json(sent[0]).keys()


def test_an_event_that_could_not_be_sent_keeps_its_place_and_is_sent_by_the_next_try(store: Store) -> None:
    for id, hour in (("late", 14), ("early", 10), ("noon", 12)):
        dead(store, id, hour)

    def away(event: CloudEvent) -> None:
        raise RetryLater("the Broker is away")

    with pytest.raises(RetryLater):
        events.replay(store, events.dead_letter(store, "early"), away)
    assert ids(store) == ["early", "noon", "late"]
    sent: list[CloudEvent] = []
    for letter in events.dead_letters(store):
        events.replay(store, letter, sent.append)
    assert [event.get_id() for event in sent] == ["early", "noon", "late"]
    assert ids(store) == []
