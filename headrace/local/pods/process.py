"""The laptop's kubelet: a child process for every Pod object, its readiness for the gateway, and no orphan, ever.

The reconciler (or a person) creates and deletes Pod objects; each runs as a `headrace.local.pods.pod.Life`. The gateway
and the scaler ask for `endpoints`; the API asks for logs.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from headrace.local.objects.objects import ADDED, DELETED, Change, NotFound, Object, Objects
from headrace.local.pods import child, container, orphans, pod_log, pod_status
from headrace.local.pods.pod import FINALIZER, Host, Life, Timings
from headrace.local.pods.pod_status import Disruption
from headrace.local.pods.recorder import Recorder

__all__ = ["FINALIZER", "Endpoint", "Processes", "Timings"]

log = logging.getLogger(__name__)

STOPPED = Disruption(
    "PlatformStopped", "the platform was stopped while this Pod ran; that does not count against backoffLimit"
)
KILL_S = 5.0  # for the system to end what was sent SIGKILL


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one ready Pod listens, on 127.0.0.1."""

    pod: str
    port: int


class Processes:
    """The child processes of one platform.

    images: image repository (no tag) to the Python interpreter that stands for it; others get this process's own.
    environment: variables of every container of a namespace, below its own. Start it before the reconciler, stop it
    after: what it finds in the store at start is the past, and what ends while it stops is not to be replaced.
    """

    def __init__(
        self,
        objects: Objects,
        *,
        home: Path,
        images: Mapping[str, str] | None = None,
        environment: Callable[[str], Mapping[str, str]] = lambda namespace: {},
        timings: Timings | None = None,
    ) -> None:
        self._objects = objects
        self._home = home.resolve()  # one spelling: leftovers are known by it
        self._timings = timings or Timings()
        self._run = uuid.uuid4().hex
        self._lives: dict[str, Life] = {}  # by Pod uid
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ports: set[int] = set()
        self._callbacks: list[Callable[[str, str], None]] = []
        self._stopping = False
        self._unsubscribe: Callable[[], None] = lambda: None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._caretaker: asyncio.Task[None] | None = None
        self._host = Host(
            objects=objects,
            home=self._home,
            images=container.Images(images or {}),
            environment=environment,
            marks=lambda uid: orphans.marks(self._home, self._run, uid),
            timings=self._timings,
            recorder=Recorder(objects, "kubelet", _now),
            lend_port=self._lend_port,
            return_port=self._ports.discard,
            readiness_changed=self._readiness_changed,
        )

    async def start(self) -> None:
        """Kill what an earlier platform left, settle its Pods, then run the Pods that are there and that come."""
        killed = await asyncio.to_thread(orphans.kill_leftovers, self._home, self._run)
        if killed:
            log.warning("killed %d processes that an earlier platform had left", killed)
        self._watchdog = orphans.start_watchdog(self._run)
        self._settle()
        self._unsubscribe = self._objects.watch_changes(self._on_any_change)
        for pod in self._objects.list("Pod"):
            self._on_change(ADDED, pod)
        self._caretaker = asyncio.create_task(self._shorten_logs())

    async def stop(self) -> None:
        """SIGTERM to all, SIGKILL after `timings.stop_s` to what is left; afterwards no process of ours lives."""
        self._stopping = True
        for life in self._lives.values():
            life.stop(grace_s=self._timings.stop_s, disruption=STOPPED)
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=self._timings.stop_s + KILL_S)
        self._unsubscribe()
        left = [*self._tasks.values(), *([self._caretaker] if self._caretaker else [])]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.to_thread(orphans.kill_run, self._run)
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
            await asyncio.to_thread(self._watchdog.wait)

    def endpoints(self, namespace: str, revision: str) -> tuple[Endpoint, ...]:
        """Where the revision answers: Pods that are ready and not on their way out, by name."""
        found = (
            Endpoint(life.name, life.port)
            for life in self._lives.values()
            if life.ready and life.namespace == namespace and life.revision == revision
        )
        return tuple(sorted(found, key=lambda endpoint: endpoint.pod))

    def subscribe(self, callback: Callable[[str, str], None]) -> None:
        """Call `callback(namespace, revision)` whenever its endpoints have changed."""
        self._callbacks.append(callback)

    def log_file(self, namespace: str, pod: str) -> Path | None:
        """The log of a Pod, None while it has none."""
        path = pod_log.file(self._home, namespace, pod)
        return path if path.exists() else None

    @property
    def watchdog_pid(self) -> int | None:
        """The process that cleans up if this one is killed; None while there is none."""
        return self._watchdog.pid if self._watchdog else None

    def terminate(self, namespace: str, pod: str) -> None:
        """End a Pod's process and keep the object, for its log and its status. Nothing happens where it is over."""
        for life in self._lives.values():
            if (life.namespace, life.name) == (namespace, pod):
                life.stop()

    def _settle(self) -> None:
        """Bring what the store says of processes in line with the truth: none of them lives any more."""
        for pod in self._objects.list("Pod"):
            meta = pod["metadata"]
            owner = next((o["kind"] for o in meta.get("ownerReferences", []) if o.get("controller")), None)
            over = pod_status.is_over(pod)
            if pod_status.is_terminating(pod) or (owner in ("Revision", "ContainerSource")):
                self._remove(pod)
            elif not over and (owner == "Job" or pod["spec"].get("restartPolicy") == "Never"):
                pod["status"] = pod_status.lost(pod, _now())
                self._objects.update(pod, subresource="status")

    def _on_any_change(self, change: Change) -> None:
        if change.kind == "Pod":
            self._on_change(change.type, change.object())

    def _on_change(self, type: str, obj: Object) -> None:
        uid = obj["metadata"]["uid"]
        life = self._lives.get(uid)
        gone = type == DELETED or pod_status.is_terminating(obj)
        if life is not None:
            if gone:
                life.stop()
        elif type != DELETED and gone:
            self._remove(obj)
        elif type == ADDED and not pod_status.is_over(obj) and not self._stopping:
            life = self._lives[uid] = Life(obj, self._host)
            self._tasks[uid] = asyncio.create_task(self._run_life(life), name=f"pod {life.namespace}/{life.name}")

    async def _run_life(self, life: Life) -> None:
        try:
            await life.run()
        except Exception as e:
            log.exception("pod %s/%s could not be looked after", life.namespace, life.name)
            life.fail(f"the platform could not look after this Pod: {e}")
        finally:
            del self._lives[life.uid]
            self._tasks.pop(life.uid, None)
        pod = self._objects.get("Pod", life.namespace, life.name)
        if pod is not None and pod["metadata"]["uid"] == life.uid and pod_status.is_terminating(pod):
            self._remove(pod)
        if pod is None or pod_status.is_terminating(pod):
            pod_log.prune(life.log_file.parent, lambda name: self._objects.get("Pod", life.namespace, name) is not None)

    def _remove(self, pod: Object) -> None:
        """Take a Pod without a process out of the store, whatever its finalizer."""
        meta = pod["metadata"]
        try:
            if FINALIZER in meta.get("finalizers", []):
                meta["finalizers"] = [f for f in meta["finalizers"] if f != FINALIZER]
                pod = self._objects.update(pod)
            if not pod_status.is_terminating(pod):
                self._objects.delete("Pod", meta["namespace"], meta["name"])
        except NotFound:
            log.debug("pod %s/%s was gone already", meta["namespace"], meta["name"])

    def _readiness_changed(self, life: Life) -> None:
        if life.revision:
            for callback in self._callbacks:
                callback(life.namespace, life.revision)

    def _lend_port(self) -> int:
        port = child.free_port(self._ports)
        self._ports.add(port)
        return port

    async def _shorten_logs(self) -> None:
        while True:
            await asyncio.sleep(pod_log.CHECK_S)
            for life in list(self._lives.values()):
                try:
                    life.shorten_log()
                except OSError:
                    log.exception("the log of pod %s/%s could not be cut short", life.namespace, life.name)


def _now() -> datetime:
    return datetime.now(UTC)
