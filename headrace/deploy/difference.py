"""What an apply would change in an object, field by field. Pure; `headrace deploy` shows it.

Compared is what is there with what the API server answers to the same apply as a dry run, so that defaults and what
webhooks add are on both sides, and fields that others set are no difference.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

# The server's own notes, which change with every write or by themselves.
NOTES = frozenset(
    {"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "deletionTimestamp", "selfLink"}
)


class Change(enum.StrEnum):
    """What happens to an object."""

    created = "created"
    changed = "changed"
    unchanged = "unchanged"
    removed = "removed"


@dataclass(frozen=True, slots=True)
class Field:
    """One field that is not as it was. None: it was, or is, not there."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """One object, before and after."""

    kind: str
    name: str
    change: Change
    fields: tuple[Field, ...] = ()
    """Empty unless changed."""


def difference(before: Object | None, after: Object) -> Difference:
    """before: the object as it is, None where there is none. after: as it would be."""
    kind, name = after["kind"], after["metadata"]["name"]
    if before is None:
        return Difference(kind, name, Change.created)
    fields = tuple(_fields(_told(before), _told(after), ""))
    return Difference(kind, name, Change.changed if fields else Change.unchanged, fields)


def _told(obj: Object) -> Object:
    """What people decide about an object."""
    kept = {key: value for key, value in obj.items() if key not in ("status", "apiVersion", "kind")}
    return {**kept, "metadata": {key: value for key, value in obj["metadata"].items() if key not in NOTES}}


def _fields(before: Any, after: Any, path: str) -> Iterator[Field]:
    if before == after:
        return
    left, right = _children(before), _children(after)
    if left is None or right is None or (before and after and isinstance(before, list) != isinstance(after, list)):
        yield Field(path, before, after)
        return
    for step in (*left, *(s for s in right if s not in left)):
        yield from _fields(left.get(step), right.get(step), f"{path}{step}".lstrip("."))


def _children(value: Any) -> dict[str, Any] | None:
    """The values below a value by the step that leads to each; None where it is compared whole.

    Items with distinct names are matched by them, so that one more container is one more, whatever its place.
    """
    if isinstance(value, Mapping):
        return {f"[{k}]" if "." in k or "/" in k else f".{k}": v for k, v in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        named = {f"[name={item['name']}]": item for item in value}
        return named if len(named) == len(value) else None
    return None
