"""Asks a running container's probes for as long as it runs, and tells what they say: ready, not ready, start it anew.

Source: kubernetes pkg/kubelet/prober (worker.go: thresholds); knative/serving pkg/queue/readiness.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from headrace.local.objects.objects import Object
from headrace.local.pods import probe
from headrace.local.pods.container import Command
from headrace.local.pods.probe import Probe

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Probes:
    """What a container declares. serving: of a Revision, which is probed even when it declares nothing."""

    startup: Probe | None
    readiness: Probe | None
    liveness: Probe | None

    @classmethod
    def of(cls, described: Object, serving: bool) -> Probes:
        """Knative asks a starting container as often as sensible where it declares no period; kubelet every 10 s."""
        period_s = 0.0 if serving else probe.PERIOD_S
        return cls(
            startup=probe.parse(described.get("startupProbe"), described, probe.PERIOD_S),
            readiness=probe.parse(described.get("readinessProbe"), described, period_s)
            or (Probe() if serving else None),
            liveness=probe.parse(described.get("livenessProbe"), described, probe.PERIOD_S),
        )


class Prober:
    """The probes of one run of a container, listening at `port`.

    set_ready: called with each verdict on readiness that differs from the last. restart: called when it is beyond
    hope. warn: called with a sentence for the Pod's Events.
    """

    def __init__(
        self,
        probes: Probes,
        command: Command,
        port: int,
        set_ready: Callable[[bool], None],
        restart: Callable[[], None],
        warn: Callable[[str], None],
    ) -> None:
        self._probes = probes
        self._command = command
        self._port = port
        self._set_ready = set_ready
        self._restart = restart
        self._warn = warn
        self._ready = False

    async def run(self) -> None:
        """Until it is cancelled; without its container there is nothing to ask."""
        try:
            await self._run()
        except Exception:
            # Else the container would never be ready, and nobody would know why.
            log.exception("a probe of %s failed", self._command.argv[0])
            self._restart()

    async def _run(self) -> None:
        if self._probes.startup and not await self._started(self._probes.startup):
            self._restart()
            return
        loops = []
        if self._probes.readiness:
            loops.append(self._repeat(self._probes.readiness, self._on_readiness))
        else:
            self._tell(True)
        if self._probes.liveness:
            loops.append(self._repeat(self._probes.liveness, self._on_liveness))
        # A fault of one, such as a full disk, ends the other too: left alone it would go on asking after a container
        # that is gone, and have each one after it restarted.
        async with asyncio.TaskGroup() as group:
            for loop in loops:
                group.create_task(loop)

    async def _started(self, declared: Probe) -> bool:
        await asyncio.sleep(declared.initial_delay_s)
        fault: str | None = None
        for _ in range(declared.failure_threshold):
            fault = await self._ask(declared)
            if fault is None:
                return True
            await asyncio.sleep(declared.interval_s(waiting=True))
        self._warn(f"Startup probe failed: {fault}")
        return False

    async def _repeat(self, declared: Probe, then: Callable[[Probe, int, int, str], None]) -> None:
        """Ask for ever; `then` hears the successes and the failures in a row, and the last fault."""
        await asyncio.sleep(declared.initial_delay_s)
        well = ill = 0
        while True:
            fault = await self._ask(declared)
            well, ill = (well + 1, 0) if fault is None else (0, ill + 1)
            then(declared, well, ill, fault or "")
            await asyncio.sleep(declared.interval_s(waiting=not self._ready))

    async def _ask(self, declared: Probe) -> str | None:
        return await probe.ask(declared, self._port, self._command.environment, self._command.folder)

    def _on_readiness(self, declared: Probe, well: int, ill: int, fault: str) -> None:
        if not self._ready and well >= declared.success_threshold:
            self._tell(True)
        elif self._ready and ill >= declared.failure_threshold:
            self._warn(f"Readiness probe failed: {fault}")
            self._tell(False)

    def _on_liveness(self, declared: Probe, well: int, ill: int, fault: str) -> None:
        if ill >= declared.failure_threshold:
            self._warn(f"Liveness probe failed: {fault}")
            self._restart()

    def _tell(self, ready: bool) -> None:
        self._ready = ready
        self._set_ready(ready)
