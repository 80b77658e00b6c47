"""The Kubernetes API on a free port, in a thread with its own event loop: what kubectl and clients talk to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from aiohttp import web

from headrace.local.api.api import KubernetesAPI
from headrace.local.objects.objects import Objects

TOKEN = "test-token"
T = TypeVar("T")


@dataclass
class Running:
    """A served API. kubeconfig: the file that kubectl takes."""

    url: str
    kubeconfig: Path
    logs: Path
    objects: Objects
    loop: asyncio.AbstractEventLoop

    def run(self, call: Callable[[], T]) -> T:
        """`call()` on the event loop, where the store's calls belong."""

        async def there() -> T:
            return call()

        return asyncio.run_coroutine_threadsafe(there(), self.loop).result(30)


@contextmanager
def serve(home: Path, **options: Any) -> Iterator[Running]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    logs = home / "logs"
    logs.mkdir(parents=True, exist_ok=True)

    async def start() -> tuple[KubernetesAPI, Objects, web.ServerRunner, str]:
        objects = Objects(home / "objects.db")
        api = KubernetesAPI(objects, TOKEN, lambda namespace, pod: logs / f"{pod}.log", **options)
        runner = web.ServerRunner(web.Server(api.handle))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return api, objects, runner, f"http://127.0.0.1:{runner.addresses[0][1]}"

    api, objects, runner, url = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    kubeconfig = home / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(api.kubeconfig(url, TOKEN, "default")), encoding="utf-8")

    async def stop() -> None:
        await api.stop()
        await runner.cleanup()
        objects.close()

    try:
        yield Running(url, kubeconfig, logs, objects, loop)
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
