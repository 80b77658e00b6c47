"""What the controllers of `headrace.local.controllers.reconciler` share: their shape, ownership, conditions.

A controller brings objects of one kind in line with their specs. It is told a name, reads everything anew, and writes
what differs; called twice, the second call changes nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from headrace.local.addresses import Addresses
from headrace.local.objects.objects import NAME_ALPHABET, Object, Objects
from headrace.local.pods.recorder import Recorder

MAX_NAME = 63  # a DNS label


class Controller(Protocol):
    """One kind's."""

    def reconcile(self, namespace: str, name: str) -> float | None:
        """Bring one object in line; seconds until it wants to be called again without a change, None for never."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What every controller works with."""

    objects: Objects
    addresses: Addresses
    clock: Callable[[], datetime]
    recorder: Recorder


def controlled_by(owner: Object) -> list[Object]:
    """The ownerReferences of what `owner` controls."""
    return [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def controller_of(obj: Object) -> tuple[str, str, str] | None:
    """(kind, name, uid) of the object that controls this one."""
    for reference in obj["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return reference["kind"], reference["name"], reference["uid"]
    return None


def is_controlled_by(obj: Object, owner: Object) -> bool:
    of = controller_of(obj)
    return of is not None and of[2] == owner["metadata"]["uid"]


def condition(obj: Object, type: str) -> Object:
    """One condition of the object; an Unknown one without a reason where it has none yet."""
    for found in (obj.get("status") or {}).get("conditions") or []:
        if found["type"] == type:
            return dict(found)
    return {"type": type, "status": "Unknown"}


def child_name(parent: str, suffix: str) -> str:
    """A name under the parent's, within the limit of a DNS label."""
    return parent[: MAX_NAME - len(suffix)] + suffix


def random_suffix() -> str:
    """Five letters, as Kubernetes appends to a Pod's name."""
    return "".join(random.choices(NAME_ALPHABET, k=5))


def seconds_since(time: str, now: datetime) -> float:
    """Seconds from a Kubernetes timestamp until `now`."""
    return (now - datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)).total_seconds()


def utc_now() -> datetime:
    return datetime.now(UTC)
