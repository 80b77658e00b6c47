"""Health probes, as kubelet and Knative's queue-proxy ask them: what a container declares, and one question asked.

Pure parsing above, one attempt below; `headrace.local.pods.pod` decides when to ask and what follows.
Source: kubernetes pkg/probe and pkg/apis/core/v1/defaults.go; knative/serving pkg/queue/readiness/probe.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace.local.http2 import client
from headrace.local.objects.objects import Object

AGGRESSIVE_S = 0.025  # between two asks of a container that is starting; queue-proxy's aggressivePollInterval
PERIOD_S = 10.0  # kubelet's default, and ours for a container that is ready and declares no period
REDIRECT, BAD_REQUEST = 200, 400  # an HTTP probe succeeds from 200 on and below 400
STATUS_LINE_BYTES = 512


@dataclass(frozen=True, slots=True)
class Probe:
    """One declared probe.

    period_s: 0 is Knative's "as often as sensible until it succeeds, then now and then". command: exec's, else empty.
    path: httpGet's, else None. service: gRPC's, else None. port: as declared; 0 is the container's own.
    """

    path: str | None = None
    port: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    service: str | None = None
    initial_delay_s: float = 0.0
    period_s: float = 0.0
    timeout_s: float = 1.0
    failure_threshold: int = 3
    success_threshold: int = 1

    def interval_s(self, waiting: bool) -> float:
        """Seconds until the next ask; `waiting`: for a container to come up."""
        return self.period_s or (AGGRESSIVE_S if waiting else PERIOD_S)


def parse(declared: Object | None, container: Object, default_period_s: float) -> Probe | None:
    """The probe that a container declares, None for none. Its port is 0 where it means the container's own.

    On the laptop a container listens where PORT says, so its containerPort and its name mean that port too.
    """
    if not declared:
        return None
    http, tcp, command = declared.get("httpGet"), declared.get("tcpSocket"), declared.get("exec")
    grpc = declared.get("grpc")
    own = {None, "", 0, 8080}
    for port in container.get("ports") or []:
        own |= {port.get("containerPort"), port.get("name")}
    port = (http or tcp or grpc or {}).get("port")
    return Probe(
        path=(http.get("path") or "/") if http is not None else None,
        port=0 if port in own else int(port or 0),
        headers={header["name"]: header["value"] for header in (http or {}).get("httpHeaders") or []},
        command=tuple((command or {}).get("command") or ()),
        service=(grpc.get("service") or "") if grpc is not None else None,
        initial_delay_s=float(declared.get("initialDelaySeconds") or 0),
        period_s=float(declared.get("periodSeconds") or default_period_s),
        timeout_s=float(declared.get("timeoutSeconds") or 1),
        failure_threshold=int(declared.get("failureThreshold") or 3),
        success_threshold=int(declared.get("successThreshold") or 1),
    )


async def ask(probe: Probe, port: int, environment: Mapping[str, str], folder: Path) -> str | None:
    """None when the container is well, else what was seen. port: the container's own."""
    try:
        async with asyncio.timeout(probe.timeout_s):
            if probe.command:
                return await _execute(probe, environment, folder)
            if probe.service is not None:
                return await client.health(probe.port or port, probe.service)
            return await _connect(probe, probe.port or port)
    except TimeoutError:
        return f"no answer within {probe.timeout_s:g} s"
    except OSError as e:
        return f"port {probe.port or port}: {e.strerror or e}"


async def _connect(probe: Probe, port: int) -> str | None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=STATUS_LINE_BYTES)
    try:
        if probe.path is None:
            return None
        headers = {"Host": f"127.0.0.1:{port}", "User-Agent": "kube-probe/headrace", **probe.headers}
        lines = [f"GET {probe.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode())
        answer = await reader.readline()
    except ValueError:  # a first line without an end: not HTTP
        return "the answer is not HTTP"
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    words = answer.split(None, 2)
    if len(words) < 2 or not words[1].isdigit():
        return "the answer is not HTTP"
    status = int(words[1])
    return None if REDIRECT <= status < BAD_REQUEST else f"HTTP probe failed with statuscode: {status}"


async def _execute(probe: Probe, environment: Mapping[str, str], folder: Path) -> str | None:
    process = await asyncio.create_subprocess_exec(
        *probe.command,
        env=dict(environment),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        status = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return None if status == 0 else f"command {probe.command[0]!r} ended with {status}"
