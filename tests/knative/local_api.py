"""The laptop's Kubernetes API, served for tests: a real one, over HTTP, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from headrace.local.api.api import KubernetesAPI
from headrace.local.objects.objects import Objects
from knative import client

TOKEN = "a-token-for-tests"
NAMESPACE = "headrace"
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class LocalAPI:
    """A running API. `objects` belongs to the loop's thread: use `call`."""

    loop: asyncio.AbstractEventLoop
    objects: Objects
    url: str
    kubeconfig: Path

    def connect(self) -> client.Cluster:
        return client.Cluster.connect(str(self.kubeconfig))

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function` gives, run on the loop's thread."""

        async def run() -> Any:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)


@contextmanager
def serving(home: Path, beside: Handler | None = None, port: int = 0) -> Iterator[LocalAPI]:
    """An API with namespace `headrace` and the objects of `home`, from an earlier one too.

    beside: answers paths under /svc/, as the laptop's gateway does. port: 0 for any.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    log = home / "pod.log"

    async def start() -> tuple[LocalAPI, KubernetesAPI, web.ServerRunner]:
        objects = Objects(home / "objects.db")
        if objects.get("Namespace", "", NAMESPACE) is None:
            objects.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        api = KubernetesAPI(objects, TOKEN, lambda namespace, pod: log if log.exists() else None)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if beside is not None and request.path.startswith("/svc/"):
                return await beside(request)
            return await api.handle(request)

        runner = web.ServerRunner(web.Server(handle), shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        await api.start()
        kubeconfig = home / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(api.kubeconfig(url, TOKEN, NAMESPACE)))
        return LocalAPI(loop, objects, url, kubeconfig), api, runner

    served, api, runner = asyncio.run_coroutine_threadsafe(start(), loop).result(30)

    async def stop() -> None:
        await api.stop()
        await runner.cleanup()
        served.objects.close()

    try:
        yield served
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
