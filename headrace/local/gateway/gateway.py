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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import prometheus_client
from aiohttp import web

from headrace.local.gateway import proxy, routing
from headrace.local.gateway.proxy import Broken, NotSent, Proxy
from headrace.local.gateway.request_metrics import RequestMetrics, RevisionRequests
from headrace.local.gateway.revision_queue import Activation, RevisionQueue, Traffic, Unavailable
from headrace.local.gateway.routing import Address
from headrace.local.gateway.traffic_table import TrafficTable, ready_condition, why_not_ready
from headrace.local.objects.objects import ADDED, DELETED, Change, Object, Objects

if TYPE_CHECKING:
    from headrace.local.pods.process import Endpoint

log = logging.getLogger(__name__)

TIMEOUT_S = 300  # Knative's default for timeoutSeconds: from the request's arrival to the start of its answer
MAX_TRIES = 4
REFUSED_S = 0.1  # after every pod has refused a connection, times the attempt
SWEEP_S = 0.5  # how soon a pod hears that its client is gone
DRAIN_S = 10.0  # for requests in flight when the platform stops
CLIENT_GONE = 499  # nginx's code for a client that left; nobody reads it but the metrics
REVISION_LABEL = "serving.knative.dev/revision"

Endpoints = Callable[[str, str], "tuple[Endpoint, ...]"]


@dataclass(slots=True)
class _Revision:
    """One revision as requests meet it."""

    namespace: str
    name: str
    queue: RevisionQueue
    metrics: RevisionRequests
    timeout_s: float
    failure: str | None


class _Answered:
    """Called when a pod's answer begins: ends the deadline, and tells where a cold start's time went."""

    __slots__ = ("_activation", "_arrived", "_clock", "_deadline", "_ready")

    def __init__(
        self, deadline: asyncio.Timeout, activation: Activation | None, arrived: float, clock: Callable[[], float]
    ) -> None:
        self._deadline, self._activation, self._arrived, self._clock = deadline, activation, arrived, clock
        self._ready = clock()

    def __call__(self) -> Mapping[str, str]:
        if not self._deadline.expired():
            self._deadline.reschedule(None)  # how long the answer streams is the two sides' own affair
        if self._activation is None:
            return {}
        return _timing(self._activation, self._arrived, self._ready, self._clock())


class Gateway:
    """The reverse proxy of one platform.

    endpoints: a revision's ready pods, by namespace and name. registry: where the request metrics are to be seen, None
    for nowhere. clock: monotonic seconds.
    """

    def __init__(
        self,
        objects: Objects,
        endpoints: Endpoints,
        *,
        registry: prometheus_client.CollectorRegistry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._endpoints = endpoints
        self._clock = clock
        self._proxy = Proxy()
        self._metrics = RequestMetrics()
        if registry is not None:
            registry.register(self._metrics)
        self._services = TrafficTable(objects)
        self._revisions: dict[tuple[str, str], _Revision] = {}
        self._queues: dict[tuple[str, str], RevisionQueue] = {}
        self._in_flight: dict[asyncio.Task[object], web.BaseRequest] = {}
        self._gone: set[asyncio.Task[object]] = set()
        self._demand: Callable[[str, str], None] = _nobody
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
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        self._unsubscribe()
        await self._proxy.stop()

    # ------------------------------------------------------------------ what the autoscaler asks

    def on_demand(self, callback: Callable[[str, str], None]) -> None:
        """Call `callback(namespace, revision)` when a request meets a revision without a ready pod."""
        self._demand = callback

    def observe(self, namespace: str, revision: str) -> Traffic:
        """The revision's traffic since it was last asked for."""
        return self._queue((namespace, revision)).look()

    def in_flight(self, namespace: str, revision: str) -> int:
        """Requests in flight or waiting now."""
        queue = self._queues.get((namespace, revision))
        return queue.in_flight if queue else 0

    def endpoints_changed(self, namespace: str, revision: str) -> None:
        """Look at the revision's ready pods anew; who waits goes on."""
        queue = self._queues.get((namespace, revision))
        if queue is not None:
            queue.set_endpoints(self._endpoints(namespace, revision))

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
        if self._stopping:
            return _error(503, "the platform is stopping", after_s=5)
        found = routing.resolve(address.label, lambda name: self._services.route(address.namespace, name))
        if found is None:
            return _error(404, self._services.unknown(address))
        route, tag = found
        name = self._services.choose(route, tag, request.headers)
        if name is None:
            reason = self._services.why_not_ready(route)
            return _error(503, f"Service {route.name!r} has no revision to answer yet: {reason}", after_s=1)
        revision = self._revision(route.namespace, name)
        if revision is None:
            return _error(503, f"revision {name!r} of Service {route.name!r} does not exist any more", after_s=1)
        return await self._serve(request, address, revision)

    async def _serve(self, request: web.BaseRequest, address: Address, revision: _Revision) -> web.StreamResponse:
        """The revision's answer, with the request counted from its arrival to the end of its answer."""
        task = asyncio.current_task()
        assert task is not None  # a handler runs in a task
        began = time.perf_counter()
        code = CLIENT_GONE
        self._in_flight[task] = request
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep(), name="gateway: clients gone")
        queue, metrics = revision.queue, revision.metrics
        queue.enter()
        metrics.depth += 1
        try:
            response = await self._ask(request, address, revision)
            code = response.status
            return response
        except ConnectionResetError as e:
            log.debug("a client of %s left: %s", revision.name, e)
            raise
        finally:
            queue.leave()
            metrics.depth -= 1
            metrics.count(code, time.perf_counter() - began)
            del self._in_flight[task]
            self._gone.discard(task)

    async def _ask(self, request: web.BaseRequest, address: Address, revision: _Revision) -> web.StreamResponse:
        try:
            async with asyncio.timeout(revision.timeout_s) as deadline:
                return await self._try_pods(request, address, revision, deadline)
        except Unavailable as e:
            return _error(503, f"revision {revision.name!r}: {e}", after_s=e.after_s)
        except (NotSent, Broken) as e:
            return _error(502, f"revision {revision.name!r}: {e}")
        except TimeoutError:
            if not deadline.expired():
                raise
            waited = "waiting for a ready pod" if not revision.queue.pods else "without an answer"
            return _error(504, f"revision {revision.name!r}: {revision.timeout_s:g} s (timeoutSeconds) over, {waited}")

    async def _try_pods(
        self, request: web.BaseRequest, address: Address, revision: _Revision, deadline: asyncio.Timeout
    ) -> web.StreamResponse:
        queue = revision.queue
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
            if cold:
                self._wake(revision)
            endpoint = await queue.acquire(refused)
            answered = _Answered(deadline, queue.activation if cold else None, arrived, self._clock)
            try:
                if upgrade:
                    return await self._proxy.websocket(request, endpoint, address.path, headers, answered)
                return await self._proxy.forward(request, endpoint, address.path, headers, body, answered)
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
                refused.clear()
        raise AssertionError("the last attempt returns or raises")

    def _wake(self, revision: _Revision) -> None:
        """The revision has no ready pod: look again, call the autoscaler, and tell at once what is known to be
        hopeless.
        """
        revision.queue.set_endpoints(self._endpoints(revision.namespace, revision.name))
        if revision.queue.pods:
            return
        self._demand(revision.namespace, revision.name)
        if revision.failure is not None:
            # Called all the same: what failed for lack of something may find it now.
            raise Unavailable(revision.failure, after_s=5)

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

    def _revision(self, namespace: str, name: str) -> _Revision | None:
        key = (namespace, name)
        revision = self._revisions.get(key)
        if revision is None:
            obj = self._objects.get("Revision", namespace, name)
            if obj is None:
                return None
            labels, spec = obj["metadata"].get("labels") or {}, obj.get("spec") or {}
            queue = self._queue(key)
            queue.limit = int(spec.get("containerConcurrency") or 0)
            revision = self._revisions[key] = _Revision(
                namespace=namespace,
                name=name,
                queue=queue,
                metrics=self._metrics.of(namespace, name, labels),
                timeout_s=float(spec.get("timeoutSeconds") or TIMEOUT_S),
                failure=_failure(obj),
            )
        return revision

    def _queue(self, key: tuple[str, str]) -> RevisionQueue:
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = RevisionQueue(clock=self._clock)
            queue.set_endpoints(self._endpoints(*key))
        return queue

    def _on_change(self, change: Change) -> None:
        key = (change.namespace, change.name)
        if change.kind == "Service":
            self._services.forget(change.namespace, change.name)
        elif change.kind == "Revision":
            self._on_revision(change, key)
        elif change.kind == "Pod":
            self._on_pod(change)

    def _on_revision(self, change: Change, key: tuple[str, str]) -> None:
        revision = self._revisions.pop(key, None)
        if change.type == DELETED:
            queue = self._queues.pop(key, None)
            if queue is not None:
                queue.fail("the revision was deleted")
            self._metrics.forget(*key)
        elif revision is not None and not revision.queue.pods:
            failure = _failure(change.object())
            if failure is not None and revision.queue.waiting:
                revision.queue.fail(failure)

    def _on_pod(self, change: Change) -> None:
        obj = change.object()
        name = (obj["metadata"].get("labels") or {}).get(REVISION_LABEL)
        queue = self._queues.get((change.namespace, name)) if name else None
        if name is None or queue is None:
            return
        activation = queue.activation
        if activation is not None and activation.ready is None and change.type != DELETED:
            now = self._clock()
            # Of a Pod that was there before the request only the end is this request's: when it became ready.
            if change.type == ADDED and activation.created is None:
                activation.created = now
            running = (obj.get("status") or {}).get("phase") == "Running"
            if running and activation.created is not None and activation.running is None:
                activation.running = now
        # Soon, not now: whoever wrote the Pod's status may yet have to note the same for itself.
        with contextlib.suppress(RuntimeError):  # no loop: a test or a tool writes objects outside of it
            asyncio.get_running_loop().call_soon(self.endpoints_changed, change.namespace, name)


def _raw_path(request: web.BaseRequest) -> str:
    """The path and query as the client wrote them; of an absolute-form request line, what follows the authority."""
    path = request.raw_path
    return path if path.startswith("/") else request.rel_url.raw_path_qs


def _error(status: int, reason: str, after_s: float | None = None) -> web.Response:
    headers = {"Retry-After": f"{after_s:.0f}"} if after_s is not None else None
    return web.json_response({"error": reason}, status=status, headers=headers)


def _timing(activation: Activation, arrived: float, ready: float, answered: float) -> Mapping[str, str]:
    """Where a cold start's time went, as browsers' developer tools show it. Source: W3C Server Timing."""
    phases = {"activation": (ready - arrived) * 1000, **activation.phases_ms(), "answer": (answered - ready) * 1000}
    return {"Server-Timing": ", ".join(f"{name};dur={ms:.1f}" for name, ms in phases.items())}


def _failure(revision: Object) -> str | None:
    """Why a revision that has no pod will not get one as it is, None while it may."""
    if ready_condition(revision).get("status") != "False":
        return None
    return f"it is not ready: {why_not_ready(revision) or 'no reason was given'}"


def _nobody(namespace: str, revision: str) -> None:
    log.warning("a request waits for revision %s/%s, and no autoscaler is there", namespace, revision)


def _nothing() -> None:
    return None
