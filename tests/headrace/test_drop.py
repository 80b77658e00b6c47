"""headrace.drop: when there is nothing more to wait for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from eventing.contract import ModelPromoted, TrainingFailed, TrainingProgressed
from headrace import drop
from headrace.journal import Entry


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
