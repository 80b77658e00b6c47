"""What answers inside a cluster, and how it is asked from outside with nothing but a kubeconfig. Pure.

The API server's service proxy reaches Services whose endpoints are pods. A Knative Service's own name leads to a
gateway instead, of which every networking layer has another; but each Serving has the activator, which takes a request
for any revision, at zero or not, by two headers. Called by `headrace.reach`; the requests are `knative.client`'s.

Source: kubernetes pkg/registry/core/service/storage, ResourceLocation; knative/serving pkg/activator/handler,
context_handler.go, and config/core/deployments/activator.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlsplit

Object = dict[str, Any]

REVISION_HEADER = "Knative-Serving-Revision"
NAMESPACE_HEADER = "Knative-Serving-Namespace"
PORTS = {"http": 80, "https": 443}

_HOST = re.compile(r"([a-z0-9][a-z0-9-]*)\.([a-z0-9][a-z0-9-]*)\.svc(?:\..+)?")


@dataclass(frozen=True, slots=True)
class Inside:
    """A place behind a core Service of the cluster."""

    scheme: str
    namespace: str
    service: str
    port: int
    path: str
    """With its slash in front and its query."""

    @property
    def proxy_name(self) -> str:
        """The Service as the proxy's path, and with it a Role's `resourceNames`, spells it."""
        return f"{self.scheme}:{self.service}:{self.port}"

    @property
    def proxy_path(self) -> str:
        """The same place below the API server's own address."""
        return f"/api/v1/namespaces/{quote(self.namespace)}/services/{self.proxy_name}/proxy{self.path}"


ACTIVATOR = Inside("http", "knative-serving", "activator-service", 80, "/")


def of(url: str) -> Inside | None:
    """What a URL of the cluster's own domain leads to; None for every other URL."""
    parts = urlsplit(url)
    found = _HOST.fullmatch((parts.hostname or "").lower())
    if parts.scheme not in PORTS or found is None:
        return None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Inside(parts.scheme, found[2], found[1], parts.port or PORTS[parts.scheme], path)


def through_activator(namespace: str, revision: str, path: str) -> tuple[Inside, Mapping[str, str]]:
    """Where a request for a revision goes, and the headers that say which one it is for."""
    return replace(ACTIVATOR, path=path), {NAMESPACE_HEADER: namespace, REVISION_HEADER: revision}


def pick(service: Object, chance: float) -> str | None:
    """The revision that answers one request to a Knative Service: one of its traffic's, by their shares.

    chance: 0 to 1, a new one for each request, as a gateway throws its dice. None: nothing has traffic yet.
    """
    traffic: Sequence[Object] = (service.get("status") or {}).get("traffic") or ()
    shares = [(t["revisionName"], int(t.get("percent") or 0)) for t in traffic if t.get("revisionName")]
    left = chance * sum(percent for _, percent in shares)
    for revision, percent in shares:
        left -= percent
        if percent and left < 0:
            return str(revision)
    return next((str(revision) for revision, percent in reversed(shares) if percent), None)
