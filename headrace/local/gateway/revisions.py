"""The revisions as requests meet them: queue, limits and figures of each, made when it is first asked for.

Called by `headrace.local.gateway.gateway`, which hands on what the objects tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventing.errors import HeadraceError
from headrace.local.gateway.request_journal import RequestJournal
from headrace.local.gateway.request_metrics import RequestMetrics, RevisionRequests
from headrace.local.gateway.revision_queue import NO_TRAFFIC, RevisionQueue, Traffic, Unavailable
from headrace.local.gateway.traffic_table import ready_condition, why_not_ready
from headrace.local.http1 import CLIENT_GONE
from headrace.local.objects.objects import ADDED, DELETED, Change, Object, Objects

if TYPE_CHECKING:
    from headrace.local.pods.process import Endpoint

TIMEOUT_S = 300  # Knative's default for timeoutSeconds: from the request's arrival to the end of its answer
REVISION_LABEL = "serving.knative.dev/revision"
H2C = "h2c"  # the name of the port of a container that speaks HTTP/2 without TLS

Endpoints = Callable[[str, str], "tuple[Endpoint, ...]"]


class Refusal(HeadraceError):
    """The gateway answers itself. status: HTTP's. after_s: when another try makes sense."""

    def __init__(self, status: int, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a request of a revision may take, in seconds, and the fields that say so."""

    whole_s: float
    """timeoutSeconds: from its arrival to the end of its answer."""
    start_s: float
    """From its arrival to the beginning of its answer: the shortest of all that are set."""
    start_field: str
    """Which one that is."""
    idle_s: float | None
    """idleTimeoutSeconds: between two parts of the answer; None for any time."""

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Limits:
        """As a RevisionSpec sets them; 0 sets none. Source: knative/serving pkg/http/handler/timeout.go."""
        whole_s = float(spec.get("timeoutSeconds") or TIMEOUT_S)
        fields = ("timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds")
        set_s = {field: float(spec[field]) for field in fields if spec.get(field)} | {"timeoutSeconds": whole_s}
        start_field = min(fields, key=lambda field: set_s.get(field, whole_s))
        return cls(whole_s, set_s[start_field], start_field, set_s.get("idleTimeoutSeconds"))


@dataclass(slots=True)
class Revision:
    """One revision as requests meet it. h2c: whether its pods speak HTTP/2 alone.

    limits: how long a request may take.
    """

    namespace: str
    name: str
    queue: RevisionQueue
    metrics: RevisionRequests
    limits: Limits
    failure: str | None
    h2c: bool


class Counted:
    """A request while it is in flight.

    code: what it is counted under when it ends. queued_s: how long it waited for a pod with a place for it. cold: no
    pod was ready when it came.
    """

    __slots__ = ("code", "cold", "queued_s")

    def __init__(self) -> None:
        self.code = CLIENT_GONE
        self.queued_s = 0.0
        self.cold = False


class Revisions:
    """All revisions that somebody has asked for.

    endpoints: a revision's ready pods, by namespace and name. clock: monotonic seconds. journal: where each request is
    noted, None for nowhere.
    """

    def __init__(
        self,
        objects: Objects,
        endpoints: Endpoints,
        metrics: RequestMetrics,
        clock: Callable[[], float],
        journal: RequestJournal | None = None,
    ) -> None:
        self._objects = objects
        self._endpoints = endpoints
        self._metrics = metrics
        self._clock = clock
        self.journal = journal
        self._revisions: dict[tuple[str, str], Revision] = {}
        self._queues: dict[tuple[str, str], RevisionQueue] = {}
        self.demand: Callable[[str, str], None] = _nobody
        """Called with namespace and name of a revision that a request met without a ready pod, or that nobody else
        asks just now.
        """

    def find(self, namespace: str, name: str) -> Revision | None:
        """The revision, None where there is no such one."""
        key = (namespace, name)
        revision = self._revisions.get(key)
        if revision is None:
            obj = self._objects.get("Revision", namespace, name)
            if obj is None:
                return None
            labels, spec = obj["metadata"].get("labels") or {}, obj.get("spec") or {}
            queue = self.queue(namespace, name)
            queue.limit = int(spec.get("containerConcurrency") or 0)
            revision = self._revisions[key] = Revision(
                namespace=namespace,
                name=name,
                queue=queue,
                metrics=self._metrics.of(namespace, name, labels),
                limits=Limits.of(spec),
                failure=_failure(obj),
                h2c=any(p.get("name") == H2C for c in spec.get("containers") or () for p in c.get("ports") or ()),
            )
        return revision

    def queue(self, namespace: str, name: str) -> RevisionQueue:
        key = (namespace, name)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = RevisionQueue(clock=self._clock)
            queue.set_endpoints(self._endpoints(*key))
        return queue

    def observe(self, namespace: str, name: str) -> Traffic:
        """Its traffic since it was last asked for; what was deleted has none, and must not come back by that."""
        queue = self._queues.get((namespace, name))
        return queue.look() if queue else NO_TRAFFIC

    def in_flight(self, namespace: str, name: str) -> int:
        """Requests in flight or waiting now."""
        queue = self._queues.get((namespace, name))
        return queue.in_flight if queue else 0

    def endpoints_changed(self, namespace: str, name: str) -> None:
        """Look at the revision's ready pods anew; who waits goes on."""
        queue = self._queues.get((namespace, name))
        if queue is not None:
            queue.set_endpoints(self._endpoints(namespace, name))

    @contextlib.contextmanager
    def counted(self, revision: Revision) -> Iterator[Counted]:
        """Counts a request of `revision`, from its arrival to the end of its answer."""
        at_s, began, counted = time.time(), self._clock(), Counted()
        queue = revision.queue
        queue.enter()
        revision.metrics.depth += 1
        if queue.in_flight == 1 and queue.pods:  # without pods it is called from `wake`
            self.demand(revision.namespace, revision.name)
        try:
            yield counted
        finally:
            queue.leave()
            revision.metrics.depth -= 1
            seconds = self._clock() - began
            revision.metrics.count(counted.code, seconds)
            if self.journal is not None:
                of = (at_s, revision.namespace, revision.name)
                self.journal.add((*of, seconds, counted.queued_s, counted.cold, counted.code))

    async def place(self, revision: Revision, counted: Counted, refused: Collection[Endpoint]) -> Endpoint:
        """The pod that is to answer, once it has a place; give it back with the queue's `release`.

        refused: pods that have just refused this request. Raises Unavailable where none will come.
        """
        arrived = self._clock()
        try:
            if not revision.queue.pods:
                counted.cold |= self._wake(revision)
            return await revision.queue.acquire(refused)
        finally:
            counted.queued_s += self._clock() - arrived

    def _wake(self, revision: Revision) -> bool:
        """It has no ready pod: look again, call the autoscaler, and tell at once what is known to be hopeless.

        Whether a pod is still to be waited for. Raises Unavailable for what is hopeless.
        """
        revision.queue.set_endpoints(self._endpoints(revision.namespace, revision.name))
        if revision.queue.pods:
            return False
        self.demand(revision.namespace, revision.name)
        if revision.failure is not None:
            # Called all the same: what failed for lack of something may find it now.
            raise Unavailable(revision.failure, after_s=5)
        return True

    # ------------------------------------------------------------------ what the objects tell

    def on_change(self, change: Change) -> None:
        if change.kind == "Revision":
            self._on_revision(change)
        elif change.kind == "Pod":
            self._on_pod(change)

    def _on_revision(self, change: Change) -> None:
        key = (change.namespace, change.name)
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


def _failure(revision: Object) -> str | None:
    """Why a revision that has no pod will not get one as it is, None while it may."""
    if ready_condition(revision).get("status") != "False":
        return None
    return f"it is not ready: {why_not_ready(revision) or 'no reason was given'}"


def _nobody(namespace: str, revision: str) -> None:
    return None
