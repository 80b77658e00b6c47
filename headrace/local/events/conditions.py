"""The status of a Knative object: its conditions, and Ready, which sums them up. Pure.

Used by the Broker and the JobSink, whose conditions are settled in one look.
Source: knative/pkg apis/condition_set.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from headrace.local.objects import objects

Conditions = dict[str, tuple[str, str, str]]
"""Type to status ("True", "False", "Unknown"), reason and message."""
TRUE = ("True", "", "")


def status(
    obj: Mapping[str, Any], fields: Mapping[str, Any], parts: Conditions, order: Sequence[str], now: datetime
) -> dict[str, Any]:
    """The new status of `obj`: `fields`, and its conditions by name.

    Ready repeats the first of `order` that is not True. Conditions that stay as they were keep their transition time.
    """
    broken = next((parts[type] for type in order if parts[type][0] != "True"), TRUE)
    everything = {**parts, "Ready": broken}
    old = obj.get("status", {}).get("conditions", [])
    new: dict[str, Any] = {
        "observedGeneration": obj["metadata"].get("generation", 1),
        **fields,
        "conditions": [condition for condition in old if condition["type"] in everything],
    }
    for type in sorted(everything):
        value, reason, message = everything[type]
        objects.set_condition(new, type, value, reason, message, now=now)
    new["conditions"].sort(key=lambda condition: condition["type"])
    return new
