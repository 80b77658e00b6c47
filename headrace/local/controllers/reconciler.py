"""The laptop's controller manager: a change of an object calls the controller of its kind, and of what it belongs to.

                     ┌─ Services ─ Configurations ─ Revisions ─ Replicas ─┐
    objects ─ queue ─┼─ Routes                                            ├─ Pods ─ headrace.local.pods.process
                     └─ Jobs, ContainerSources ───────────────────────────┘

Nothing polls: a name waits in the queue once however often it changed, a controller may ask to be called again later,
and a fault is logged with its traceback and tried again with back-off. At start every object is looked at once.
Source: kubernetes-sigs/controller-runtime and knative/pkg controller (work queue, back-off).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from headrace.local.addresses import Addresses
from headrace.local.controllers import controller, job_state, revisions
from headrace.local.controllers.controller import Context, Controller, controller_of
from headrace.local.controllers.jobs import Jobs
from headrace.local.controllers.replicas import Replicas
from headrace.local.controllers.revisions import Revisions
from headrace.local.controllers.routes import Routes
from headrace.local.controllers.services import CONFIGURATION, SERVICE, Configurations, Services
from headrace.local.controllers.sources import ContainerSources
from headrace.local.objects.objects import DELETED, Change, Object, Objects
from headrace.local.pods.process import Processes
from headrace.local.pods.recorder import Recorder

log = logging.getLogger(__name__)

RETRY_S, RETRY_MAX_S = 0.1, 60.0  # after a fault; it doubles

OWNED = frozenset({"Pod", "PodAutoscaler"})  # kinds without a controller here whose changes concern their owner's

Key = tuple[str, str, str]  # kind, namespace, name


@dataclass(frozen=True, slots=True)
class Limits:
    """What of the controllers' patience can be set; tests have less of it."""

    progress_deadline_s: float = revisions.PROGRESS_DEADLINE_S
    """For a new Revision's first ready Pod, where its annotation says nothing."""
    job_backoff_s: float = job_state.BACKOFF_S
    """Before a Job's second Pod; it doubles."""


class Reconciler:
    """Brings the objects in line with their specs. Start it after `processes`, stop it before."""

    def __init__(
        self, objects: Objects, processes: Processes, addresses: Addresses, *, limits: Limits | None = None
    ) -> None:
        limits = limits or Limits()
        recorder = Recorder(objects, "headrace", controller.utc_now)
        context = Context(objects, addresses, controller.utc_now, recorder)
        self._objects = objects
        self._replicas = Replicas(context)
        self._jobs = Jobs(context, processes.terminate, limits.job_backoff_s)
        self._controllers: dict[str, Controller] = {
            "Service": Services(context),
            "Configuration": Configurations(context),
            "Revision": Revisions(context, self._replicas, limits.progress_deadline_s),
            "Route": Routes(context),
            "Job": self._jobs,
            "ContainerSource": ContainerSources(context),
        }
        self._queue: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._faults: dict[Key, int] = {}  # in a row
        self._unsubscribe: Callable[[], None] = lambda: None
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look at every object once, then at what changes."""
        self._unsubscribe = self._objects.watch_changes(self._on_any_change)
        for kind in self._controllers:
            for obj in self._objects.list(kind):
                self._add((kind, obj["metadata"]["namespace"], obj["metadata"]["name"]))
        self._worker = asyncio.create_task(self._work(), name="reconciler")

    async def stop(self) -> None:
        """Hear and do nothing more; the processes go on."""
        self._unsubscribe()
        for timer in self._timers.values():
            timer.cancel()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    def scale(self, namespace: str, revision: str, pods: int) -> None:
        """Have so many Pods of a Revision. Idempotent; a Pod too many is out of the endpoints when this returns.

        Of those it takes the not ready ones first, then the newest. Each gets SIGTERM, and after its Revision's
        timeoutSeconds SIGKILL, with all that it started. Nothing happens for a Revision that is not there.
        """
        self._replicas.scale(namespace, revision, pods)

    def _on_any_change(self, change: Change) -> None:
        if change.kind in self._controllers or change.kind in OWNED:
            self._on_change(change.type, change.object())

    def _on_change(self, type: str, obj: Object) -> None:
        kind, meta = obj["kind"], obj["metadata"]
        namespace = meta.get("namespace", "")
        if kind in self._controllers:
            self._add((kind, namespace, meta["name"]))
        owner = controller_of(obj)
        if owner is not None and owner[0] in self._controllers:
            if kind == "Pod" and type == DELETED and owner[0] == "Job":
                self._jobs.pod_deleted(obj, namespace, owner[1])
            self._add((owner[0], namespace, owner[1]))
        labels = meta.get("labels") or {}
        if kind in ("Revision", "Configuration"):  # a Route follows what it routes to
            service = labels.get(SERVICE) or labels.get(CONFIGURATION)
            if service:
                self._add(("Route", namespace, service))

    def _add(self, key: Key) -> None:
        if key not in self._queued:
            self._queued.add(key)
            self._queue.put_nowait(key)

    def _add_later(self, key: Key, seconds: float) -> None:
        """The latest wish counts: it was made knowing all that the earlier one knew."""
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._due, key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._add(key)

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            self._queued.discard(key)
            if key in self._timers:
                self._timers.pop(key).cancel()
            self._reconcile(key)
            await asyncio.sleep(0)  # a long queue must not hold up requests

    def _reconcile(self, key: Key) -> None:
        kind, namespace, name = key
        try:
            again_s = self._controllers[kind].reconcile(namespace, name)
        except Exception:
            faults = self._faults[key] = self._faults.get(key, 0) + 1
            again_s = min(RETRY_S * 2 ** min(faults - 1, 16), RETRY_MAX_S)
            log.exception("%s %s/%s could not be reconciled; again in %.1f s", kind, namespace, name, again_s)
        else:
            self._faults.pop(key, None)
        if again_s is not None:
            self._add_later(key, again_s)
