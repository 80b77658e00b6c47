"""The gateway between real HTTP servers: pods that answer on free ports, and a front that clients talk to.

The fake stands at the process seam alone: `Fleet` says which pods are ready, as `headrace.local.pods.process` would.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from headrace.local import http1
from headrace.local.gateway.gateway import Gateway
from headrace.local.gateway.streams import Streams
from headrace.local.http2.doorway import Doorway
from headrace.local.objects.objects import Objects
from headrace.local.pods.process import Endpoint

NAMESPACE = "headrace"
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class Fleet:
    """The ready pods of each revision, and who hears when they change."""

    ready: dict[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    listeners: list[Callable[[str, str], None]] = field(default_factory=list)

    def endpoints(self, namespace: str, revision: str) -> tuple[Endpoint, ...]:
        return self.ready.get(revision, ())

    def set(self, revision: str, *endpoints: Endpoint) -> None:
        self.ready[revision] = endpoints
        for listener in self.listeners:
            listener(NAMESPACE, revision)


@dataclass
class Place:
    """One gateway and what is around it. url: of the front. dead: a pod that takes no connection."""

    objects: Objects
    gateway: Gateway
    fleet: Fleet
    client: aiohttp.ClientSession
    url: str
    dead: Endpoint

    def service(self, name: str, *traffic: dict[str, Any]) -> None:
        """A Service whose status sends its traffic so."""
        made = self.objects.create(
            {
                "apiVersion": "serving.knative.dev/v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {},
            }
        )
        self.objects.update(made | {"status": {"traffic": list(traffic)}}, subresource="status")

    def revision(self, name: str, service: str = "flights", **spec: Any) -> dict[str, Any]:
        return self.objects.create(
            {
                "apiVersion": "serving.knative.dev/v1",
                "kind": "Revision",
                "metadata": {
                    "name": name,
                    "namespace": NAMESPACE,
                    "labels": {"serving.knative.dev/service": service, "serving.knative.dev/configuration": service},
                },
                "spec": spec,
            }
        )

    def flights(self, **spec: Any) -> None:
        """The usual: Service flights, all of it to revision flights-1."""
        self.revision("flights-1", **spec)
        self.service("flights", {"revisionName": "flights-1", "percent": 100})

    async def get(self, path: str = "/svc/headrace/flights/", **options: Any) -> tuple[int, str]:
        async with self.client.get(self.url + path, **options) as answer:
            return answer.status, await answer.text()


@contextlib.asynccontextmanager
async def pod(answer: Answer, name: str = "pod-1") -> AsyncIterator[Endpoint]:
    """A real HTTP server on a free port."""
    runner = web.ServerRunner(web.Server(answer, handler_cancellation=True), shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield Endpoint(name, runner.addresses[0][1])
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def place(tmp_path: Path, **options: Any) -> AsyncIterator[Place]:
    """A gateway in front of a fleet that is empty yet."""
    objects, fleet = Objects(tmp_path / "objects.db"), Fleet()
    gateway = Gateway(objects, fleet.endpoints, **options)
    fleet.listeners.append(gateway.endpoints_changed)
    await gateway.start()

    async def door(request: web.BaseRequest) -> web.StreamResponse:
        host = request.headers["Host"].partition(":")[0]
        return await (gateway.handle_path(request) if host == "127.0.0.1" else gateway.handle_host(request, host))

    server, streams = http1.server(door), Streams(gateway)
    runner = web.ServerRunner(server, shutdown_timeout=1)
    await runner.setup()
    loop = asyncio.get_running_loop()
    front = await loop.create_server(lambda: Doorway(server, streams.protocol), "127.0.0.1", 0)
    # Bound and not listening: it refuses, and nobody else can be given the port meanwhile.
    refusing = socket.socket()
    refusing.bind(("127.0.0.1", 0))
    dead = Endpoint("pod-dead", refusing.getsockname()[1])
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as client:
            url = f"http://127.0.0.1:{front.sockets[0].getsockname()[1]}"
            yield Place(objects, gateway, fleet, client, url, dead)
    finally:
        refusing.close()
        front.close()
        await streams.stop()
        await gateway.stop()
        await runner.cleanup()
        objects.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition, generously."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def saying(text: str) -> Answer:
    """A pod that answers every request with `text`."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=text)

    return answer
