"""What the Services' statuses say about traffic, kept at hand between changes: a request pays two look-ups and no
parse.

Called by `headrace.local.gateway.gateway`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.local.gateway.routing import Address, Route, Shares
from headrace.local.objects.objects import Object, Objects

NAMED = 20  # as many Services as an error message names
TAG_HEADER, REVISION_HEADER = "Knative-Serving-Tag", "Knative-Serving-Revision"


@dataclass(slots=True)
class _Entry:
    """One Service. fresh: whether its status is still the one that was read."""

    route: Route
    shares: Shares
    why_not: str | None
    fresh: bool = True


class TrafficTable:
    """The routes of all Services that somebody has asked for."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._entries: dict[tuple[str, str], _Entry] = {}

    def route(self, namespace: str, name: str) -> Route | None:
        """Where the Service's requests go, None where there is no such Service."""
        key = (namespace, name)
        entry = self._entries.get(key)
        if entry is not None and entry.fresh:
            return entry.route
        obj = self._objects.get("Service", namespace, name)
        if obj is None:
            self._entries.pop(key, None)
            return None  # not kept: any text may be asked for
        route = Route.of(obj)
        # A new condition is no new split: whose turn it is must not start anew with each write of the status.
        same = entry is not None and entry.route.targets == route.targets
        shares = entry.shares if entry is not None and same else Shares(route.targets)
        self._entries[key] = _Entry(route, shares, why_not_ready(obj))
        return route

    def forget(self, namespace: str, name: str) -> None:
        """The Service has changed; it is read again when it is asked for."""
        entry = self._entries.get((namespace, name))
        if entry is not None:
            entry.fresh = False

    def choose(self, route: Route, tag: str | None, headers: Mapping[str, str]) -> str | None:
        """The revision for a request: the tag's, the one a header asks for, or the next share's; None without any."""
        if tag is not None:
            return route.tagged(tag)
        asked = headers.get(TAG_HEADER)
        if asked and (tagged := route.tagged(asked)):
            return tagged
        wanted = headers.get(REVISION_HEADER)
        if wanted and any(target.revision == wanted for target in route.targets):
            return wanted
        return self._entries[(route.namespace, route.name)].shares.next()

    def why_not_ready(self, route: Route) -> str:
        """Why a Service has no traffic target yet, in its own words."""
        return self._entries[(route.namespace, route.name)].why_not or "no traffic target is ready"

    def unknown(self, address: Address) -> str:
        """That there is no such Service, and which there are."""
        names = sorted(obj["metadata"]["name"] for obj in self._objects.list("Service", address.namespace))
        known = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        have = f"there are: {known}" if names else "there is none"
        return f"no Service {address.label!r} in namespace {address.namespace!r}; {have}"


def ready_condition(obj: Object) -> Object:
    """The condition Ready of an object, empty where it tells none."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == "Ready"), {})


def why_not_ready(obj: Object) -> str | None:
    """Why an object is not ready, None where it is or nothing is told."""
    ready = ready_condition(obj)
    if ready.get("status") in (None, "True"):
        return None
    return " - ".join(str(ready[key]) for key in ("reason", "message") if ready.get(key)) or None
