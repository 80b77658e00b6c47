"""Lists in pages: `limit` and `continue`, each page of the moment at which the first one was read. Pure.

Used by `headrace.local.api.api`. A page's token says where it ended and as of which change; what has changed since is
taken back out of the store's history, so that nothing is kept for a reader who may never come again.
Source: kubernetes.io/docs/reference/using-api/api-concepts (retrieving large results sets in chunks);
kubernetes/apiserver pkg/storage/continue.go.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from headrace.local.api.api_request import BadRequest
from headrace.local.objects.objects import Change

Object = dict[str, Any]
Key = tuple[str, str]  # namespace, name: the order of a list

VERSION = "meta.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class Page:
    """What a request asks for.

    limit: 0 for no limit. after: the last object of the page before, None for the first page. resource_version: of the
    first page, None where this is the first.
    """

    limit: int = 0
    after: Key | None = None
    resource_version: int | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Page:
        """Raises BadRequest."""
        limit, token = query.get("limit", ""), query.get("continue", "")
        if limit and not limit.isdecimal():
            raise BadRequest(f"limit {limit!r}: expected a whole number, 0 or more")
        if not token:
            return cls(int(limit or 0))
        if query.get("resourceVersion", "0") not in ("", "0"):
            raise BadRequest("specifying resource version is not allowed when using continue")
        try:
            told = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
            version, namespace, name = int(told["rv"]), str(told["namespace"]), str(told["name"])
            if told["v"] != VERSION:
                raise ValueError(told["v"])
        except (binascii.Error, ValueError, KeyError, TypeError) as e:
            raise BadRequest(f"continue key is not valid: {token!r:.80} is not of this server's making") from e
        return cls(int(limit or 0), (namespace, name), version)

    def cut(self, items: Sequence[Object], resource_version: int) -> tuple[list[Object], Object]:
        """The page of a whole list that is in order, and what the list's metadata say of it."""
        meta: Object = {"resourceVersion": str(resource_version)}
        rest = [item for item in items if self.after is None or _key(item) > self.after]
        if not self.limit or len(rest) <= self.limit:
            return rest, meta
        namespace, name = _key(rest[self.limit - 1])
        told = {"v": VERSION, "rv": resource_version, "namespace": namespace, "name": name}
        meta["continue"] = base64.urlsafe_b64encode(orjson.dumps(told)).decode().rstrip("=")
        meta["remainingItemCount"] = len(rest) - self.limit
        return rest[: self.limit], meta


def taken_back(kind: str, namespace: str | None, now: Iterable[Object], changes: Iterable[Change]) -> list[Object]:
    """The kind's objects as they were before `changes`, by namespace and name.

    namespace: None for all. now: as they are after the changes. changes: in order, of any kind.
    """
    found = {_key(obj): obj for obj in now}
    seen: set[Key] = set()
    for change in changes:
        key = (change.namespace, change.name)
        if change.kind != kind or namespace not in (None, change.namespace) or key in seen:
            continue
        seen.add(key)  # only its first change tells what was before all of them
        if change.previous is None:
            found.pop(key, None)
        else:
            found[key] = orjson.loads(change.previous)
    return [found[key] for key in sorted(found)]


def _key(obj: Mapping[str, Any]) -> Key:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]
