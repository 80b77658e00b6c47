"""headrace.drop: what is told of a file, and when there is nothing more to wait for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventing import binding, sender
from eventing.contract import DatasetRejected, ModelPromoted, ModelTrained, TrainingFailed, TrainingProgressed
from headrace import drop
from headrace.journal import Entry
from tests.eventing.sinks import Sink, sink


@pytest.mark.parametrize(
    ("type", "data", "is_end"),
    [
        (ModelPromoted.TYPE, {}, True),
        (TrainingProgressed.TYPE, {}, False),
        (TrainingFailed.TYPE, {"retryable": False}, True),
        (TrainingFailed.TYPE, {"retryable": True}, False),
    ],
)
def test_a_drop_is_waited_for_while_its_training_is_tried_again(type: str, data: dict[str, Any], is_end: bool) -> None:
    entry = Entry(1, datetime(2026, 11, 26, tzinfo=UTC), {"id": "1", "type": type, "data": data}, ())
    assert drop.is_end(entry) is is_end


@dataclass
class Told:
    """A place's journal, of what the sink took and of what is said besides."""

    its: Sink
    said: list[dict[str, Any]] = field(default_factory=list)

    def read(self, **query: Any) -> Iterator[Entry]:
        assert query.pop("loop") is True  # among millions of predictions
        wanted = {key: value for key, value in query.items() if key not in ("limit", "tail")}
        events = [binding.to_json(event) for event in self.its.events] + self.said
        for seq, event in enumerate(events, 1):
            if all(event.get(key) == value for key, value in wanted.items()):
                yield Entry(seq, datetime(2026, 11, 26, tzinfo=UTC), event, ())


def test_what_was_dropped_before_is_told_anew_only_if_all_that_came_of_it_was_a_failure(tmp_path: Path) -> None:
    """A JobSink makes no second Job of the same event for a day: out of memory, mended, would stay without a model."""
    (tmp_path / "a.csv").write_text("x,target\n1,2\n")
    with sink() as its:
        journal = Told(its)
        place: Any = SimpleNamespace(
            values={}, store_url=(tmp_path / "store").as_uri(), journal=journal, broker=sender.Sender(its.url)
        )

        def dropped() -> drop.Dropped:
            return drop.drop(place, tmp_path / "a.csv", "flights")

        def say(cause: str, type: str, **data: Any) -> None:
            journal.said.append({"id": str(len(journal.said)), "type": type, "causationid": cause, "data": data})

        first = dropped()
        assert (dropped().event_id, dropped().known) == (first.event_id, True)
        say(first.event_id, TrainingFailed.TYPE, retryable=True)
        assert dropped().event_id == first.event_id  # tried again without anybody's doing
        say(first.event_id, TrainingFailed.TYPE, retryable=False)
        second = dropped()
        assert second.event_id != first.event_id and not second.known
        assert (dropped().event_id, dropped().known) == (second.event_id, True)
        say(second.event_id, DatasetRejected.TYPE)
        third = dropped()
        assert third.event_id not in (first.event_id, second.event_id)
        say(third.event_id, DatasetRejected.TYPE)  # some of its rows, as was allowed
        say(third.event_id, ModelTrained.TYPE)
        assert (dropped().event_id, dropped().known) == (third.event_id, True)
