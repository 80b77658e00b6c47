"""JSON patches (RFC 6902) of manifests: the operations add, replace and remove. Pure.

Used by the promoter, whose template of a model's Service a place may want changed, and by who writes such a patch.
Source: RFC 6902, sections 4.1 to 4.3; RFC 6901 for the paths.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

OPERATIONS = ("add", "replace", "remove")


class BadPatch(ValueError):
    """The text is no such patch, or it does not fit what it is applied to."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of a patch."""

    op: str
    path: tuple[str, ...]
    """The steps to the value: a field's name, an index of a list, `-` for behind its last item."""
    value: Any = None


def parse(text: str) -> tuple[Operation, ...]:
    """The operations of a patch; none for an empty text. Raises BadPatch."""
    try:
        steps = json.loads(text) if text.strip() else []
    except ValueError as e:
        raise BadPatch(f"no JSON: {e}") from e
    if not isinstance(steps, list):
        raise BadPatch("a JSON patch is a list of operations")
    return tuple(_operation(number, step) for number, step in enumerate(steps))


def _operation(number: int, step: Any) -> Operation:
    if not isinstance(step, dict) or step.get("op") not in OPERATIONS:
        raise BadPatch(f"operation {number} is none of {', '.join(OPERATIONS)}: {step!r}")
    path = step.get("path")
    if not isinstance(path, str) or not path.startswith("/"):
        raise BadPatch(f"operation {number} has no path that begins with /: {path!r}")
    if step["op"] != "remove" and "value" not in step:
        raise BadPatch(f"operation {number}, {step['op']} {path}, has no value")
    parts = (part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/"))
    return Operation(step["op"], tuple(parts), step.get("value"))


def apply(obj: dict[str, Any], patch: Sequence[Operation]) -> dict[str, Any]:
    """A copy of `obj` with each operation done, in order. Raises BadPatch where one does not fit."""
    done = copy.deepcopy(obj)
    for operation in patch:
        at: Any = done
        for step in operation.path[:-1]:
            at = at[_key(at, step, operation)]
        _do(at, operation)
    return done


def _do(at: Any, operation: Operation) -> None:
    last, value = operation.path[-1], copy.deepcopy(operation.value)
    if operation.op == "add" and isinstance(at, dict):
        at[last] = value
    elif operation.op == "add" and isinstance(at, list):
        at.insert(len(at) if last in ("-", str(len(at))) else int(_key(at, last, operation)), value)
    elif operation.op == "replace":
        at[_key(at, last, operation)] = value
    else:
        del at[_key(at, last, operation)]


def _key(at: Any, step: str, operation: Operation) -> Any:
    """The key or index of what is there."""
    if isinstance(at, dict) and step in at:
        return step
    if isinstance(at, list) and step.isdecimal() and int(step) < len(at):
        return int(step)
    path = "/" + "/".join(operation.path)
    raise BadPatch(f"{operation.op} {path}: there is no {step!r}")
