"""How a command reaches what answers in a place: directly, by a gateway, or through the API server.

A laptop's addresses are loopback's. A cluster's are for its pods; from outside, the kubeconfig that every command has
is enough: the API server passes requests on to Services, and to Knative's activator for any of its revisions. Nothing
else has to be set up, and no name has to resolve. Which way it is `Reach.way` decides, for each URL.
"""

from __future__ import annotations

import functools
import ipaddress
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import urllib3

from eventing import binding, sender
from eventing.errors import HeadraceError
from knative import inside
from knative.client import Cluster, NotFound, Refused, Unreachable
from knative.inside import Inside

PROBE_S = 3.0  # for a name to resolve to something that takes a connection
CONNECT_S = 5.0
ANSWER_S = 300.0  # a Broker of in-memory channels answers when every subscriber has, held as it may be

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Direct:
    """By an address that answers here. headers: a Host, where the address is a gateway's."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Through:
    """Through the API server. headers: which revision it is for, where the place is the activator."""

    place: Inside
    headers: Mapping[str, str] = field(default_factory=dict)


Way = Direct | Through


def direct(
    url: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    read_s: float | None = 30.0,
) -> urllib3.BaseHTTPResponse:
    """The answer to one request to an address that answers here, its body not read yet. Raises Unreachable."""
    try:
        return _pool().request(
            method,
            url,
            body=body,
            headers=dict(headers or {}),
            timeout=urllib3.Timeout(connect=CONNECT_S, read=read_s),
            preload_content=False,
            redirect=False,
        )
    except urllib3.exceptions.HTTPError as e:
        raise Unreachable(f"{url} does not answer: {e}") from e


class Reach:
    """The ways into one place.

    gateway: HEADRACE_GATEWAY, an address at which the cluster's Knative Services answer by their Host. in_cluster: this
    process runs in a pod of it, where every name resolves.
    """

    def __init__(self, cluster: Cluster, gateway: str | None = None, in_cluster: bool = False) -> None:
        self._cluster = cluster
        self._gateway = gateway
        self._in_cluster = in_cluster

    def open(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        read_s: float | None = 30.0,
    ) -> urllib3.BaseHTTPResponse:
        """The answer to one request, whatever its status, its body not read yet.

        Raises Unreachable where nothing answers, HeadraceError with the right that is missing.
        """
        way = self.way(url)
        sent = {**(headers or {}), **way.headers}
        if isinstance(way, Direct):
            return direct(way.url, method, sent, body, read_s)
        try:
            return self._cluster.through(way.place, method, sent, body, read_s)
        except Refused as e:
            raise HeadraceError(_missing_right(url, way.place, method, e)) from e
        except NotFound as e:
            raise HeadraceError(f"{url} cannot be reached through the API server: {e}") from e

    def sender(self, url: str) -> sender.Sender:
        """Sends events to `url`, by the way that leads there."""
        way = self.way(url)
        if isinstance(way, Direct) and not way.headers:
            return sender.Sender(way.url)

        def carry(message: binding.HTTPMessage) -> tuple[int, Mapping[str, str], bytes]:
            answer = self.open(url, "POST", {**message.headers, "prefer": "reply"}, message.body, read_s=ANSWER_S)
            try:
                return answer.status, dict(answer.headers), answer.data
            except urllib3.exceptions.HTTPError as e:
                raise Unreachable(f"{url}: the answer broke off: {e}") from e

        return sender.Sender(url, carry=carry)

    def way(self, url: str) -> Way:
        """How a request for `url` gets there. Raises HeadraceError where no way is known."""
        host = urlsplit(url).hostname or ""
        if is_loopback(host) or self._in_cluster:
            return Direct(url)
        place = inside.of(url)
        if place is not None:
            if place.namespace == self._cluster.namespace and (service := self._service(place.service)) is not None:
                return self._to_service(service, url)
            return Through(place)
        if self._gateway is not None:
            return Direct(_at(self._gateway, url), {"Host": urlsplit(url).netloc})
        if answers(host, _port(url)):
            return Direct(url)
        service = next((s for s in self._services() if _host(s) == host), None)
        if service is None:
            raise HeadraceError(f"{url} does not answer here, and no Service of {self._cluster.namespace} has that URL")
        return self._to_service(service, url)

    def explain(self, url: str) -> str | None:
        """What a script of this machine must do beyond asking `url`; None where that is all."""
        way = self.way(url)
        if way == Direct(url):
            return None
        host = urlsplit(url).netloc
        if isinstance(way, Direct):
            return f"ask {way.url} with the header Host: {host}"
        if inside.of(url) is not None:
            return (
                f"{host} answers inside the cluster alone; from here its way is the API server's: "
                f"{self._cluster.server}{way.place.proxy_path}, with the kubeconfig's credentials"
                + "".join(f" and the header {k}: {v}" for k, v in way.headers.items())
            )
        return (
            f"{host} does not resolve to anything that answers here: give it an address in DNS, or set "
            f"HEADRACE_GATEWAY to the cluster's gateway and ask that with the header Host: {host}; `headrace predict` "
            "needs neither, it goes through the API server"
        )

    def _to_service(self, service: Object, url: str) -> Way:
        """To a Knative Service, by the revision that one throw of the dice picks."""
        name = service["metadata"]["name"]
        address = (service.get("status") or {}).get("address") or {}
        if is_loopback(urlsplit(str(address.get("url", ""))).hostname or ""):
            return Direct(_at(address["url"], url))
        revision = inside.pick(service, random.random())
        if revision is None:
            raise HeadraceError(f"Service {name} has no revision that answers yet; see `headrace status`")
        parts = urlsplit(url)
        path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        return Through(*inside.through_activator(self._cluster.namespace, revision, path))

    def _service(self, name: str) -> Object | None:
        try:
            return self._cluster.get("Service", name)
        except NotFound:  # a cluster without Knative Serving
            return None

    def _services(self) -> list[Object]:
        try:
            return self._cluster.list("Service")
        except NotFound:
            return []


@functools.lru_cache(maxsize=64)
def answers(host: str, port: int) -> bool:
    """Whether the name resolves here, to something that takes a connection."""
    try:
        socket.create_connection((host, port), timeout=PROBE_S).close()
    except OSError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine. A name that ends in .localhost is, by RFC 6761."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@functools.cache
def _pool() -> urllib3.PoolManager:
    return urllib3.PoolManager(retries=False)


def _missing_right(url: str, place: Inside, method: str, refused: Refused) -> str:
    verb = "create" if method == "POST" else "get"
    right = f"{verb} services/proxy, name {place.proxy_name}, namespace {place.namespace}"
    if refused.status == 403:
        return f"{url} is reached through the API server, for which a right is missing: {right} ({refused.reason})"
    return f"{url} cannot be reached through the API server: {refused.reason}"


def _host(service: Object) -> str | None:
    return urlsplit(str((service.get("status") or {}).get("url") or "")).hostname


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or inside.PORTS.get(parts.scheme, 80)


def _at(address: str, url: str) -> str:
    """The path and query of `url` below another address."""
    parts = urlsplit(url)
    return address.rstrip("/") + (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
