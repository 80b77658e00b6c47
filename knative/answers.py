"""What an API server may answer besides yes, and what each answer means to who asked.

    ClusterError
    ├── NotFound             no such object, kind or namespace
    ├── Conflict             somebody else wrote first: read again, decide again
    ├── Refused              it will not do it, for the reason it gives: RBAC, validation, a webhook
    └── Unreachable          no answer, too busy, or broken: also a RetryLater, so that an event is delivered again

Made by `knative.client`, which hands them on under the same names. Source: kubernetes.io, API Concepts (statuses) and
Server-Side Apply (conflicts).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from eventing.errors import HeadraceError, RetryLater

Object = dict[str, Any]

# A server-side apply of a field that no schema names, or of a value of another type, is told as 500 without a reason,
# though no other try would be taken. Source: kubernetes/apimachinery pkg/util/managedfields, structuredmerge.go.
_UNTYPED = re.compile(r"failed to create typed patch object")


CLOCKS_AGREE_S = 5.0  # two that differ by less are taken for one


class ClusterError(HeadraceError):
    """The Kubernetes API did not do what was asked."""


class NotFound(ClusterError):
    """There is no such object, kind or namespace."""


@dataclass(frozen=True, slots=True)
class OwnedField:
    """A field that a server-side apply would have changed, and the manager whose it is."""

    path: str
    manager: str


class Conflict(ClusterError):
    """The object has changed since it was read, or exists already: read it again.

    fields: after a server-side apply, every field of another manager's that it would have changed; else none.
    """

    def __init__(self, what: str, fields: tuple[OwnedField, ...] = ()) -> None:
        super().__init__(what)
        self.fields = fields


class Refused(ClusterError):
    """The API server will not do it; asking again changes nothing until a person changes something.

    reason: the server's own message. status: its HTTP status; 403 is for who grants rights, 400 and 422 for who asked.
    """

    def __init__(self, what: str, reason: str, status: int) -> None:
        super().__init__(f"{what}: {reason}")
        self.reason = reason
        self.status = status


class Unreachable(ClusterError, RetryLater):
    """No answer from the API server, or one that says later."""


def refusal(what: str, status: int, body: bytes) -> ClusterError:
    """What a status from 300 up means, with the message of the server's `Status` object where there is one."""
    told: Object = {}
    try:
        told = json.loads(body)
        reason = str(told["message"])
    except (ValueError, KeyError, TypeError):
        reason = f"HTTP {status} {body[:200].decode(errors='replace')}".rstrip()
    if status == 404:
        return NotFound(f"{what}: {reason}")
    if status == 409:
        return Conflict(f"{what}: {reason}", tuple(_owned(told)))
    if status == 401:
        reason += "; who asks is not known there: the credentials have expired, or are another cluster's"
    if status == 429 or (status >= 500 and not _UNTYPED.match(reason)):
        return Unreachable(f"{what}: {reason}")
    return Refused(what, reason, status)


def is_status(body: bytes) -> bool:
    """Whether an answer's body is the API server's own word, and not that of a place behind it."""
    try:
        told = json.loads(body)
    except ValueError:
        return False
    return isinstance(told, dict) and told.get("kind") == "Status" and told.get("apiVersion") == "v1"


def _owned(status: Object) -> Iterator[OwnedField]:
    """The fields that a refused server-side apply would have taken from other managers."""
    for cause in (status.get("details") or {}).get("causes") or ():
        # conflict with "kubectl-edit" using serving.knative.dev/v1 at 2026-01-02T03:04:05Z
        manager = re.match(r'conflict with "([^"]*)"', str(cause.get("message", "")))
        if cause.get("reason") == "FieldManagerConflict" and manager:
            yield OwnedField(str(cause.get("field", "")).lstrip("."), manager[1])


def skew(date: str | None, now: float) -> float:
    """By how many seconds a server's clock is ahead of ours, by the Date header of its answer; 0 where that is no news.

    now: seconds since 1970, by our clock. A Date has whole seconds and was on its way, so that a little is nothing.
    """
    try:
        ahead_s = parsedate_to_datetime(date or "").timestamp() - now
    except ValueError:
        return 0.0
    return ahead_s if abs(ahead_s) > CLOCKS_AGREE_S else 0.0
