"""The laptop's way in: from a request's Host or path to a pod of the right revision, waking it where it sleeps.

    Host or /svc/… ─► route ─► share or tag ─► revision's queue ─► pod
                                                │ none ready: the autoscaler is called, the request waits (the
                                                activator)

`headrace.local.platform` hands every request for a Service to `handle_host` or `handle_path`;
`headrace.local.gateway.scaler` reads the traffic from here. What Knative spreads over Envoy, activator and queue-proxy
is one hop here, so every request is counted once.

Asking another pod: a request that a pod has not seen (no connection) goes to another one, up to `MAX_TRIES`; so does
one whose connection broke before any answer, if its method is idempotent and its body small. All else answers 502: a
POST may have acted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

import aiohttp
import prometheus_client
from aiohttp import web

from headrace.local import tasks
from headrace.local.gateway import proxy, routing
from headrace.local.gateway.answered import Answered
from headrace.local.gateway.proxy import Broken, NotSent, Proxy
from headrace.local.gateway.request_journal import RequestJournal
from headrace.local.gateway.request_metrics import RequestMetrics
from headrace.local.gateway.revision_queue import Traffic, Unavailable
from headrace.local.gateway.revisions import Counted, Endpoints, Refusal, Revision, Revisions
from headrace.local.gateway.routing import Address
from headrace.local.gateway.traffic_table import TrafficTable
from headrace.local.objects.objects import Change, Objects

if TYPE_CHECKING:
    from headrace.local.pods.process import Endpoint

log = logging.getLogger(__name__)

MAX_TRIES = 4
REFUSED_S = 0.1  # after every pod has refused a connection, times the attempt
SWEEP_S = 0.5  # how soon a pod hears that its client is gone
DRAIN_S = 10.0  # for requests in flight when the platform stops


class Gateway:
    """The reverse proxy of one platform.

    endpoints: a revision's ready pods, by namespace and name. registry: where the request metrics are to be seen, None
    for nowhere. journal: where each request is noted, None for nowhere. clock: monotonic seconds.
    """

    def __init__(
        self,
        objects: Objects,
        endpoints: Endpoints,
        *,
        registry: prometheus_client.CollectorRegistry | None = None,
        journal: RequestJournal | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._clock = clock
        self._proxy = Proxy()
        metrics = RequestMetrics()
        if registry is not None:
            registry.register(metrics)
        self._services = TrafficTable(objects)
        self._revisions = Revisions(objects, endpoints, metrics, clock, journal)
        self._in_flight: dict[asyncio.Task[object], web.BaseRequest] = {}
        self._gone: set[asyncio.Task[object]] = set()
        self._unsubscribe: Callable[[], None] = _nothing
        self._sweeper: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        await self._proxy.start()
        self._unsubscribe = self._objects.watch_changes(self._on_change)

    async def stop(self) -> None:
        """Take nothing more, let what is in flight end within `DRAIN_S`, then break it off."""
        self._stopping = True
        pending = set(self._in_flight)
        if pending:
            await asyncio.wait(pending, timeout=DRAIN_S)
        for task in list(self._in_flight):
            task.cancel()
        await tasks.end(self._sweeper)
        self._unsubscribe()
        await self._proxy.stop()

    # ------------------------------------------------------------------ what the autoscaler asks

    def on_demand(self, callback: Callable[[str, str], None]) -> None:
        """Call `callback(namespace, revision)` when a request meets a revision without a ready pod, or one that
        nobody else asks just now.
        """
        self._revisions.demand = callback

    def observe(self, namespace: str, revision: str) -> Traffic:
        """The revision's traffic since it was last asked for."""
        return self._revisions.observe(namespace, revision)

    def in_flight(self, namespace: str, revision: str) -> int:
        """Requests in flight or waiting now."""
        return self._revisions.in_flight(namespace, revision)

    def endpoints_changed(self, namespace: str, revision: str) -> None:
        """Look at the revision's ready pods anew; who waits goes on."""
        self._revisions.endpoints_changed(namespace, revision)

    # ------------------------------------------------------------------ what its HTTP/2 side asks

    def counted(self, revision: Revision) -> contextlib.AbstractContextManager[Counted]:
        """Counts a request of `revision` while it is in flight."""
        return self._revisions.counted(revision)

    async def place(self, revision: Revision, counted: Counted, refused: Collection[Endpoint]) -> Endpoint:
        """The pod that is to answer, once it has a place. Raises Unavailable where none will come."""
        return await self._revisions.place(revision, counted, refused)

    # ------------------------------------------------------------------ requests

    async def handle_host(self, request: web.BaseRequest, host: str) -> web.StreamResponse:
        """A request whose Host names its Service: `[TAG-]NAME.NAMESPACE.anything`."""
        address = routing.by_host(host, _raw_path(request))
        if address is None:
            return _error(404, f"no Service is called by the host {host!r}; expected NAME.NAMESPACE.localhost")
        return await self.handle(request, address)

    async def handle_path(self, request: web.BaseRequest) -> web.StreamResponse:
        """A request whose path names its Service: `/svc/NAMESPACE/[TAG-]NAME/…`."""
        address = routing.by_path(_raw_path(request))
        if address is None:
            return _error(404, f"the path {request.path!r} names no Service; expected /svc/NAMESPACE/NAME/…")
        return await self.handle(request, address)

    async def handle(self, request: web.BaseRequest, address: Address) -> web.StreamResponse:
        """Whatever the Service at `address` answers, or 404, 502, 503, 504 as JSON `{"error": reason}`."""
        try:
            revision = self.choose(address, request.headers)
            if revision.h2c:
                raise Refusal(502, f"Service {address.label!r} takes HTTP/2 alone, as gRPC does: its port is h2c")
        except Refusal as e:
            return _error(e.status, str(e), e.after_s)
        return await self._serve(request, address, revision)

    def choose(self, address: Address, headers: Mapping[str, str]) -> Revision:
        """The revision that is to answer a request. Raises Refusal where none can."""
        if self._stopping:
            raise Refusal(503, "the platform is stopping", after_s=5)
        found = routing.resolve(address.label, lambda name: self._services.route(address.namespace, name))
        if found is None:
            raise Refusal(404, self._services.unknown(address))
        route, tag = found
        name = self._services.choose(route, tag, headers)
        if name is None:
            reason = self._services.why_not_ready(route)
            raise Refusal(503, f"Service {route.name!r} has no revision to answer yet: {reason}", after_s=1)
        revision = self._revisions.find(route.namespace, name)
        if revision is None:
            raise Refusal(503, f"revision {name!r} of Service {route.name!r} does not exist any more", after_s=1)
        return revision

    async def _serve(self, request: web.BaseRequest, address: Address, revision: Revision) -> web.StreamResponse:
        """The revision's answer, with the request counted from its arrival to the end of its answer."""
        task = asyncio.current_task()
        assert task is not None  # a handler runs in a task
        self._in_flight[task] = request
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep(), name="gateway: clients gone")
        try:
            with self._revisions.counted(revision) as counted:
                try:
                    response = await self._ask(request, address, revision, counted)
                except ConnectionResetError:
                    raise
                except Exception:
                    counted.code = 500  # what the server makes of it: a fault of ours is not the client's doing
                    raise
                counted.code = response.status
                return response
        except ConnectionResetError as e:
            log.debug("a client of %s left: %s", revision.name, e)
            raise
        finally:
            del self._in_flight[task]
            self._gone.discard(task)

    async def _ask(
        self, request: web.BaseRequest, address: Address, revision: Revision, counted: Counted
    ) -> web.StreamResponse:
        try:
            async with asyncio.timeout(revision.limits.start_s) as deadline:
                return await self._try_pods(request, address, revision, counted, deadline)
        except Unavailable as e:
            return _error(503, f"revision {revision.name!r}: {e}", after_s=e.after_s)
        except (NotSent, Broken) as e:
            return _error(502, f"revision {revision.name!r}: {e}")
        except TimeoutError:
            if not deadline.expired():
                raise
            waited = "waiting for a ready pod" if not revision.queue.pods else "without an answer"
            limit = f"{revision.limits.start_s:g} s ({revision.limits.start_field})"
            # Of an answer that had begun, the connection is broken off already: this is then for the figures alone.
            return _error(504, f"revision {revision.name!r}: {limit} over, {waited}")

    async def _try_pods(
        self,
        request: web.BaseRequest,
        address: Address,
        revision: Revision,
        counted: Counted,
        deadline: asyncio.Timeout,
    ) -> web.StreamResponse:
        queue = revision.queue
        ends_at = asyncio.get_running_loop().time() + revision.limits.whole_s
        headers = proxy.request_headers(request, address.prefix)
        if "X-Request-Id" not in headers:
            headers["X-Request-Id"] = f"{random.getrandbits(128):032x}"  # to follow a request by, not a secret
        upgrade = proxy.is_websocket(request)
        body: bytes | aiohttp.StreamReader | None = None
        if request.body_exists and not upgrade:
            length = request.content_length
            body = request.content if length is None or length > proxy.WHOLE_BYTES else await request.read()
        refused: set[Endpoint] = set()
        for attempt in range(1, MAX_TRIES + 1):
            arrived, cold = self._clock(), not queue.pods
            endpoint = await self._revisions.place(revision, counted, refused)
            answered = Answered(deadline, ends_at, queue.activation if cold else None, arrived, self._clock)
            try:
                if upgrade:
                    return await self._proxy.websocket(request, endpoint, address.path, headers, answered)
                return await self._proxy.forward(
                    request, endpoint, address.path, headers, body, answered, revision.limits.idle_s
                )
            except NotSent as e:
                log.info("revision %s: %s", revision.name, e)
                if attempt == MAX_TRIES:
                    raise
            finally:
                queue.release(endpoint)
            refused.add(endpoint)
            self.endpoints_changed(revision.namespace, revision.name)
            if refused.issuperset(queue.pods):
                # All of them are on their way out; that takes a moment to be noticed, and their successors another.
                await asyncio.sleep(REFUSED_S * attempt)
                counted.queued_s += REFUSED_S * attempt
                refused.clear()
        raise AssertionError("the last attempt returns or raises")

    async def _sweep(self) -> None:
        """Cancel what is done for clients that have gone, so that pods do not work for nobody.

        aiohttp tells a handler so only when it writes; a look at the transports twice a second costs less than a
        watcher for each.
        """
        while self._in_flight:
            await asyncio.sleep(SWEEP_S)
            for task, request in list(self._in_flight.items()):
                transport = request.transport
                if (transport is None or transport.is_closing()) and task not in self._gone:
                    self._gone.add(task)
                    task.cancel()
        self._sweeper = None

    # ------------------------------------------------------------------ what the objects tell

    def _on_change(self, change: Change) -> None:
        if change.kind == "Service":
            self._services.forget(change.namespace, change.name)
        else:
            self._revisions.on_change(change)


def _raw_path(request: web.BaseRequest) -> str:
    """The path and query as the client wrote them; of an absolute-form request line, what follows the authority."""
    path = request.raw_path
    return path if path.startswith("/") else request.rel_url.raw_path_qs


def _error(status: int, reason: str, after_s: float | None = None) -> web.Response:
    headers = {"Retry-After": f"{after_s:.0f}"} if after_s is not None else None
    return web.json_response({"error": reason}, status=status, headers=headers)


def _nothing() -> None:
    return None
