"""Which revision a request is for: Host or path to Service and tag, and a fair share among its traffic targets. Pure.

Called by `headrace.local.gateway.gateway`. A Service `flights` in namespace `headrace`, whose revision 2 has the tag
`canary`, is reached as `flights.headrace.<anything>` or `/svc/headrace/flights/…`, the tag as
`canary-flights.headrace.<anything>` or `/svc/headrace/canary-flights/…`.

Source: Knative's default domain and tag templates, `{{.Name}}.{{.Namespace}}.{{.Domain}}` and `{{.Tag}}-{{.Name}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PREFIX = "/svc/"


@dataclass(frozen=True, slots=True)
class Address:
    """What a request names. label: a Service's name or TAG-NAME; path: the rest, with its query, from the first slash
    on.

    prefix: what was cut from the path, empty when the Host told the Service.
    """

    namespace: str
    label: str
    path: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """One entry of `status.traffic`. percent: 0 for what is reached by its tag alone."""

    revision: str
    percent: int = 0
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """Where a Service's requests go."""

    namespace: str
    name: str
    targets: tuple[Target, ...] = ()

    @classmethod
    def of(cls, service: Mapping[str, Any]) -> Route:
        """The route that a Service's status tells; without targets as long as nothing is ready."""
        meta, status = service["metadata"], service.get("status") or {}
        targets = (
            Target(str(entry["revisionName"]), int(entry.get("percent") or 0), entry.get("tag") or None)
            for entry in status.get("traffic") or ()
            if entry.get("revisionName")
        )
        return cls(meta["namespace"], meta["name"], tuple(targets))

    def tagged(self, tag: str) -> str | None:
        """The revision behind a tag, None where there is no such tag."""
        return next((target.revision for target in self.targets if target.tag == tag), None)


def by_host(host: str, path: str) -> Address | None:
    """What `LABEL.NAMESPACE.anything[:port]` names, None for a Host of another form."""
    parts = host.partition(":")[0].lower().split(".")
    return Address(parts[1], parts[0], path) if len(parts) >= 2 and parts[0] and parts[1] else None


def by_path(path: str) -> Address | None:
    """What `/svc/NAMESPACE/LABEL/rest` names, None for a path of another form."""
    if not path.startswith(PREFIX):
        return None
    bare, mark, query = path.partition("?")
    namespace, _, rest = bare[len(PREFIX) :].partition("/")
    label, _, rest = rest.partition("/")
    if not namespace or not label:
        return None
    return Address(namespace, label, f"/{rest}{mark}{query}", f"{PREFIX}{namespace}/{label}")


def readings(label: str) -> Iterator[tuple[str, str | None]]:
    """Every way to read a label as (Service, tag), the likeliest first: `a-b-c` is a Service of that name, or b-c
    tagged a, …
    """
    yield label, None
    at = label.find("-")
    while at != -1:
        if 0 < at < len(label) - 1:
            yield label[at + 1 :], label[:at]
        at = label.find("-", at + 1)


def resolve(label: str, find: Callable[[str], Route | None]) -> tuple[Route, str | None] | None:
    """The route and tag that a label means, None where nothing fits. A Service of exactly that name is preferred to a
    tag.
    """
    for name, tag in readings(label):
        route = find(name)
        if route is not None and (tag is None or route.tagged(tag) is not None):
            return route, tag
    return None


class Shares:
    """Revisions in exact proportion to their percentages: smooth weighted round robin.

    Envoy draws at random, so that of 100 requests at 80/20 some 12 to 28 meet the canary. On one machine a person sends
    five and looks, and a promoter judges a canary by few answers: here each run of 100 holds exactly 80 and 20, well
    mixed. Source: nginx, ngx_http_upstream_round_robin.c.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        weights: dict[str, int] = {}
        for target in targets:
            if target.percent > 0:
                weights[target.revision] = weights.get(target.revision, 0) + target.percent
        self._weights = weights
        self._credit = dict.fromkeys(weights, 0)
        self._total = sum(weights.values())
        self._only = next(iter(weights)) if len(weights) == 1 else None

    def next(self) -> str | None:
        """The revision whose turn it is, None when no target has a share."""
        if self._only is not None or not self._weights:
            return self._only
        credit = self._credit
        for revision, weight in self._weights.items():
            credit[revision] += weight
        chosen = max(credit, key=credit.__getitem__)
        credit[chosen] -= self._total
        return chosen
