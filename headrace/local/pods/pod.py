"""The life of one Pod on the laptop, told in order by one coroutine: start, probe, wait, back off, start again, end.

`headrace.local.pods.process` begins and ends these lives; this module plays kubelet for one of them.
Source: kubernetes pkg/kubelet/kuberuntime (restarts, back-off).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headrace.local.objects.objects import Object, Objects
from headrace.local.pods import child, container, pod_log, pod_status
from headrace.local.pods.child import Child
from headrace.local.pods.container import Command, Images, NotRunnable
from headrace.local.pods.pod_status import CRASH_LOOP, FAILED, PENDING, RUNNING, SUCCEEDED, Disruption, Exit, PodState
from headrace.local.pods.prober import Prober, Probes
from headrace.local.pods.recorder import Recorder

log = logging.getLogger(__name__)

REVISION = "serving.knative.dev/revision"
FINALIZER = "headrace.dev/process"  # a deleted Pod stays visible, Terminating, until its process is over
GRACE_S = 30.0  # kubelet's default for terminationGracePeriodSeconds
START_ERROR = 128  # the exit code of a container that could not be started


@dataclass(frozen=True, slots=True)
class Timings:
    """How long the laptop waits; tests wait less."""

    crash_backoff_s: float = 1.0
    """After the second crash in a row; it doubles. Kubernetes starts at 10 s to spare a node shared by many."""
    crash_backoff_max_s: float = 300.0
    """Kubernetes' cap."""
    stable_s: float = 10.0
    """A container that was well for so long starts anew without back-off. (Kubernetes: 10 minutes.)"""
    config_retry_s: float = 2.0
    """Between looks for a ConfigMap or Secret that is not there yet."""
    fault_s: float = 10.0
    """Until another try, when the machine or this module failed."""
    stop_s: float = 10.0
    """From SIGTERM to SIGKILL when the whole platform stops, whatever the Pods' own grace."""


@dataclass(frozen=True, slots=True)
class Host:
    """What a Pod needs of the machine it is on."""

    objects: Objects
    home: Path
    images: Images
    environment: Callable[[str], Mapping[str, str]]
    """Set in every container of a namespace, as a cluster's service account is."""
    marks: Callable[[str], Mapping[str, str]]
    """Pod uid to the variables by which `headrace.local.pods.orphans` finds its processes."""
    timings: Timings
    recorder: Recorder
    lend_port: Callable[[], int]
    return_port: Callable[[int], None]
    readiness_changed: Callable[[Life], None]


class Life:
    """One Pod's. port: where its container listens; 0 while it has none. ready: it may get requests."""

    def __init__(self, pod: Object, host: Host) -> None:
        meta = pod["metadata"]
        self.namespace: str = meta["namespace"]
        self.name: str = meta["name"]
        self.uid: str = meta["uid"]
        self.revision: str = (meta.get("labels") or {}).get(REVISION, "")
        self.port = 0
        self.ready = False
        self.folder = host.home / "pods" / self.uid
        self.log_file = pod_log.file(host.home, self.namespace, self.name)
        self._pod = pod
        self._host = host
        self._state = PodState()
        self._child: Child | None = None
        self._ending = asyncio.Event()  # of the Pod
        self._restarting = asyncio.Event()  # of this run of its container
        self._grace_s = float(pod["spec"].get("terminationGracePeriodSeconds", GRACE_S))
        self._policy: str = pod["spec"].get("restartPolicy", "Always")
        self._disruption: Disruption | None = None
        self._crashes = 0  # in a row
        self._well_since: datetime | None = None

    def stop(self, *, grace_s: float | None = None, disruption: Disruption | None = None) -> None:
        """End it: no more requests at once, then SIGTERM, then after the grace SIGKILL. More calls change nothing.

        grace_s: at most so long, None for the Pod's own. disruption: it ends for no fault of its own.
        """
        if grace_s is not None:
            self._grace_s = min(self._grace_s, grace_s)
        if not self._ending.is_set():
            self._disruption = disruption
            self._ending.set()
            self._set_ready(False)

    def kill(self) -> None:
        """SIGKILL to all its processes, now."""
        if self._child is not None:
            self._child.kill()

    def shorten_log(self) -> None:
        pod_log.shorten(self.log_file)

    def fail(self, message: str) -> None:
        """The Pod's last word when it could not be looked after to its end."""
        now = _now()
        self._finish(Exit(START_ERROR, "ContainerStatusUnknown", message, now, now))

    async def run(self) -> None:
        """Live until the end; the Pod's status then tells how it was."""
        try:
            while not await self._live_on():
                await self._pause(self._host.timings.fault_s)
        finally:
            self._set_ready(False)
            self.kill()
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _live_on(self) -> bool:
        """True at the end; False after a fault of the machine or of ours, such as a full disk, that may pass."""
        try:
            await self._live()
        except Exception:
            if self._policy != "Always" or self._ending.is_set():
                raise  # its Job decides whether another Pod is to try
            log.exception("pod %s/%s could not be looked after", self.namespace, self.name)
            return False
        return True

    async def _live(self) -> None:
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        for mount in container.unsupported_volumes(self._pod):
            self._host.recorder.warning(self._pod, "FailedMount", f"volume {mount} is not supported on the laptop")
        ended: Exit | None = None
        while not self._ending.is_set():
            try:
                ended = await self._run_container()
            except NotRunnable as e:
                self._host.recorder.warning(self._pod, "Failed", e.message)
                self._wait_for(e.reason, e.message)
                if e.final and self._policy != "Always":
                    now = _now()
                    ended = Exit(START_ERROR, e.reason, e.message, now, now)
                    break
                await self._pause(self._host.timings.config_retry_s if not e.final else None)
                continue
            if self._ending.is_set() or self._policy == "Never" or (self._policy == "OnFailure" and not ended.code):
                break
            await self._back_off(ended)
        self._finish(ended)

    async def _run_container(self) -> Exit:
        """Start the container once and see it through to its end. Raises NotRunnable."""
        started = _now()
        self._well_since = None
        self._restarting.clear()
        port = self._host.lend_port() if self.revision else 0
        try:
            command = self._command(port)
            try:
                self._child = child.spawn(command.argv, command.environment, command.folder, self.log_file)
            except OSError as e:
                message = f"{command.argv[0]!r} cannot be started: {e.strerror} ({e.filename})"
                self._host.recorder.warning(self._pod, "FailedToStart", message)
                return Exit(START_ERROR, "StartError", message, started, _now())
            self.port = port
            self._update(phase=RUNNING, running_since=started, ready=False, unready_reason="ContainersNotReady")
            self._host.recorder.normal(self._pod, "Started", f"Started container {command.argv[0]}")
            code = await self._attend(self._child, command)
        finally:
            self.kill()  # where it could not be looked after: a full disk
            self._child, self.port = None, 0
            if port:
                self._host.return_port(port)
        finished = _now()
        said = pod_log.last_lines(self.log_file) if code else ""
        return Exit(code, "Error" if code else "Completed", said, started, finished)

    def _command(self, port: int) -> Command:
        injected = dict(self._host.marks(self.uid))
        if port:
            injected["PORT"] = str(port)
        return container.command_of(
            self._pod,
            self._host.objects.get,
            self._host.images,
            self.folder,
            self._host.environment(self.namespace),
            injected,
        )

    async def _attend(self, running: Child, command: Command) -> int:
        """Probe a running container until it ends, or until it has to. Its exit code."""
        prober = Prober(
            Probes.of(container.container_of(self._pod), serving=bool(self.revision)),
            command,
            self.port,
            set_ready=self._set_ready,
            restart=self._restarting.set,
            warn=lambda message: self._host.recorder.warning(self._pod, "Unhealthy", message),
        )
        probing = asyncio.create_task(prober.run())
        wishes: list[asyncio.Future[Any]] = [
            asyncio.create_task(event.wait()) for event in (self._ending, self._restarting)
        ]
        try:
            await asyncio.wait({running.exited, *wishes}, return_when=asyncio.FIRST_COMPLETED)
            self._set_ready(False)
            if not running.exited.done():
                self._host.recorder.normal(self._pod, "Killing", "Stopping container")
                running.terminate()
                await asyncio.wait([running.exited], timeout=self._grace_s)
            running.kill()
            return await running.exited
        finally:
            running.kill()  # where this coroutine itself was cancelled
            for task in (probing, *wishes):
                task.cancel()
            await asyncio.gather(probing, *wishes, return_exceptions=True)

    def _set_ready(self, ready: bool) -> None:
        if ready == self.ready or (ready and self._ending.is_set()):
            return
        self.ready = ready
        if ready:
            self._well_since = _now()
        self._host.readiness_changed(self)
        self._update(ready=ready, unready_reason="" if ready else "ContainersNotReady")

    async def _back_off(self, ended: Exit) -> None:
        """Wait before the next start. At once for a container that was well: a loss is no crash loop."""
        timings = self._host.timings
        was_well = self._well_since and (ended.finished - self._well_since).total_seconds() >= timings.stable_s
        self._crashes = 1 if was_well else self._crashes + 1
        wait_s = 0.0
        if self._crashes > 1:
            wait_s = min(timings.crash_backoff_s * 2 ** (min(self._crashes, 32) - 2), timings.crash_backoff_max_s)
        self._update(
            running_since=None,
            last_exit=ended,
            restarts=self._state.restarts + 1,
            waiting_reason=CRASH_LOOP if wait_s else "ContainerCreating",
            waiting_message=f"back-off {wait_s:g} s before the next start; exit code {ended.code}" if wait_s else "",
        )
        if wait_s:
            self._host.recorder.warning(
                self._pod, "BackOff", f"Back-off restarting failed container, exit code {ended.code}"
            )
        await self._pause(wait_s)

    async def _pause(self, seconds: float | None) -> None:
        """Until then, or the Pod's end; None for the end alone."""
        await asyncio.wait([ending := asyncio.create_task(self._ending.wait())], timeout=seconds)
        ending.cancel()

    def _wait_for(self, reason: str, message: str) -> None:
        self._update(phase=PENDING, running_since=None, waiting_reason=reason, waiting_message=message)

    def _finish(self, ended: Exit | None) -> None:
        well = ended is not None and ended.code == 0
        self._update(
            phase=SUCCEEDED if well else FAILED,
            ready=False,
            running_since=None,
            last_exit=ended or self._state.last_exit,
            disruption=None if well else self._disruption,
        )

    def _update(self, **changes: object) -> None:
        """Change the state, and the object where it still is."""
        self._state = dataclasses.replace(self._state, **changes)  # type: ignore[arg-type]
        pod = self._host.objects.get("Pod", self.namespace, self.name)
        if pod is None or pod["metadata"]["uid"] != self.uid:
            return
        pod["status"] = pod_status.status_of(pod, self._state, _now())
        self._host.objects.update(pod, subresource="status")


def _now() -> datetime:
    return datetime.now(UTC)
