"""What the tests of Broker and JobSink stand on: the real components behind a real server, and real subscribers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from headrace.local.addresses import Addresses
from headrace.local.events.broker import Broker
from headrace.local.events.job_sink import JobSinks
from headrace.local.objects.objects import Objects

NAMESPACE = "headrace"
DEADLINE_S = 60.0  # generous: a condition that holds is seen within milliseconds, on a busy machine within seconds

Answer = Callable[[web.BaseRequest, bytes], web.Response]


async def until(condition: Callable[[], Any]) -> Any:
    """What `condition` gives once that is true; fails when it never is."""
    end = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError("the condition never held")
        await asyncio.sleep(0.01)
    return value


async def until_async(condition: Callable[[], Awaitable[Any]]) -> Any:
    end = time.monotonic() + DEADLINE_S
    while not (value := await condition()):
        if time.monotonic() > end:
            raise AssertionError("the condition never held")
        await asyncio.sleep(0.01)
    return value


@contextlib.asynccontextmanager
async def served(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], port: int = 0
) -> AsyncIterator[str]:
    """The URL of a server on a free port."""
    runner = web.ServerRunner(web.Server(handler), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class Subscriber:
    """A real server that keeps what it gets and answers as told: by default with an empty 204."""

    answer: Answer = lambda request, body: web.Response(status=204)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    @property
    def ids(self) -> list[str]:
        return [headers["ce-id"] for headers, _ in self.requests]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(({name.lower(): value for name, value in request.headers.items()}, body))
        return self.answer(request, body)


@contextlib.asynccontextmanager
async def subscriber(answer: Answer | None = None) -> AsyncIterator[Subscriber]:
    made = Subscriber() if answer is None else Subscriber(answer)
    async with served(made.handle) as made.url:
        yield made


class Bench:
    """A platform of Brokers and JobSinks alone."""

    def __init__(self, objects: Objects, broker: Broker, job_sinks: JobSinks, url: str) -> None:
        self.objects, self.broker, self.job_sinks, self.url = objects, broker, job_sinks, url

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        host = request.headers["Host"]
        if host.startswith("broker-ingress.knative-eventing"):
            return await self.broker.handle(request, prefix="")
        if host.startswith("job-sink.knative-eventing"):
            return await self.job_sinks.handle(request, prefix="")
        if request.path.startswith("/journal/"):
            return await self.broker.handle_journal(request)
        if request.path.startswith(("/jobsink/", "/namespaces/")):
            return await self.job_sinks.handle(request)
        return await self.broker.handle(request)

    def make_broker(self, delivery: Mapping[str, Any] | None = None, name: str = "default") -> dict[str, Any]:
        spec = {} if delivery is None else {"delivery": delivery}
        return self.objects.create(manifest("eventing.knative.dev/v1", "Broker", name, spec))

    async def make_trigger(self, name: str, subscriber: Mapping[str, Any] | str, **spec: Any) -> dict[str, Any]:
        destination = {"uri": subscriber} if isinstance(subscriber, str) else subscriber
        made = manifest(
            "eventing.knative.dev/v1", "Trigger", name, {"broker": "default", "subscriber": destination, **spec}
        )
        stored = self.objects.create(made)
        await self.settled()
        return stored

    async def settled(self) -> None:
        """What changed in the objects has reached the Broker."""
        for _ in range(3):
            await asyncio.sleep(0)

    def condition(self, kind: str, name: str, type: str) -> dict[str, Any]:
        found = self.objects.get(kind, NAMESPACE, name)
        assert found is not None
        return next(c for c in found["status"]["conditions"] if c["type"] == type)

    async def post(self, id: str = "1", path: str = "/broker/headrace/default", **event: Any) -> tuple[int, str]:
        status, _, text = await send(self.url + path, binary_headers(id, **event), b'{"n":1}')
        return status, text

    async def journal(self, **query: Any) -> list[dict[str, Any]]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}/journal/headrace/default", params={k: str(v) for k, v in query.items()}) as answer,
        ):
            assert answer.status == 200, await answer.text()
            return [json.loads(line) for line in (await answer.text()).splitlines()]

    async def delivery(self, id: str, trigger: str) -> dict[str, Any]:
        """The delivery of an event to a Trigger, once it is not pending any more."""

        async def settled() -> dict[str, Any] | None:
            for entry in await self.journal(id=id):
                for delivery in entry["deliveries"]:
                    if delivery["trigger"] == trigger and delivery["state"] != "pending":
                        return dict(delivery)
            return None

        return dict(await until_async(settled))


@contextlib.asynccontextmanager
async def bench(home: Path, **options: Any) -> AsyncIterator[Bench]:
    """Brokers and JobSinks over the files in `home`, as a platform starts and stops them."""
    made: list[Bench] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await made[0].handle(request)

    objects = Objects(home / "objects.db")
    try:
        async with served(handle, options.pop("port", 0)) as url:
            addresses = Addresses(url)
            broker = Broker(objects, home / "events.db", addresses, **options)
            made.append(Bench(objects, broker, JobSinks(objects, home, addresses), url))
            await broker.start()
            await made[0].job_sinks.start()
            try:
                yield made[0]
            finally:
                await made[0].job_sinks.stop()
                await broker.stop()
    finally:
        objects.close()


def manifest(api_version: str, kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": dict(spec)}


def binary_headers(id: str, **attributes: Any) -> dict[str, str]:
    event = {"id": id, "source": "/test", "type": "test.happened", "specversion": "1.0", **attributes}
    headers = {f"ce-{name}": str(value) for name, value in event.items() if value is not None}
    return {**headers, "content-type": "application/json"}


async def send(
    url: str, headers: Mapping[str, str], body: bytes = b"", method: str = "POST"
) -> tuple[int, Mapping[str, str], str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers=headers, data=body) as answer,
    ):
        return answer.status, answer.headers, await answer.text()


def reply(id: str, type: str = "test.answered", **attributes: str) -> web.Response:
    """A binary CloudEvent as an answer."""
    return web.Response(body=b'{"answer":42}', headers=binary_headers(id, type=type, **attributes))


async def start_process(home: Path, *options: str) -> tuple[asyncio.subprocess.Process, str]:
    """A Broker in a process of its own, and its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.headrace.local.events.broker_process", str(home), *options),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[4],
    )
    assert process.stdout is not None
    url = (await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)).decode().strip()
    assert url
    return process, url


async def burst(url: str, prefix: str, acknowledged: set[str]) -> None:
    """Post from 8 connections until the Broker dies, and note every 202."""

    async def post_on(connection: int) -> None:
        async with aiohttp.ClientSession() as session:
            for i in range(100_000):
                id = f"{prefix}{connection}-{i}"
                headers = binary_headers(id)
                async with session.post(url, headers=headers, data=b"{}") as answer:
                    if answer.status == 202:
                        acknowledged.add(id)

    await asyncio.gather(*(post_on(n) for n in range(8)), return_exceptions=True)
