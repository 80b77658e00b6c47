"""The page for people without kubectl: what is served, how good it is, what it cost, what changed and why.

Reads what the other stand-ins keep and changes nothing, and reads only while somebody looks: the page asks every few
seconds, and all pages share one answer. `/console` is the page, `/console/data` its figures as JSON, `/console/why/ID`
one chain, `/metrics` the platform's series for Prometheus.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib.resources
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

import orjson
import prometheus_client
from aiohttp import web

from headrace import config
from headrace.local.console import costs, shelf, timeline
from headrace.local.objects.objects import Objects

log = logging.getLogger(__name__)

EVENTS_READ = 100  # at each look; more only where more has happened since the last one
EVENTS_READ_AT_MOST = 6_400
EVENTS_SEARCHED = 20_000  # for a chain; a prediction's causes are far back, its training is not
EMPTY: Mapping[str, Any] = {"serving": None, "versions": [], "drift": None, "faults": []}  # not yet in the store
FRESH_S = 1.0  # pages that ask within it share an answer
Read = Callable[[int], Awaitable[list[dict[str, Any]]]]
Row = dict[str, Any]


class Console:
    """The page and its figures.

    read: the newest n entries of the journal, oldest first, as `GET /journal` writes them.
    """

    def __init__(
        self, objects: Objects, read: Read, store_url: str, registry: prometheus_client.CollectorRegistry
    ) -> None:
        self._objects = objects
        self._read = read
        self._registry = registry
        self._costs = costs.Costs(objects)
        self._page = importlib.resources.files("headrace.local.console").joinpath("console.html").read_bytes()
        self._headers = {
            "Content-Security-Policy": policy(self._page.decode()),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        self._shelf = shelf.Shelf(store_url)
        self._seen = timeline.Seen()
        self._turn = asyncio.Lock()
        self._answer: tuple[float, Row] = (-math.inf, {})

    async def start(self) -> None:
        self._costs.start()

    async def stop(self) -> None:
        self._costs.stop()
        self._shelf.forget()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.rstrip("/")
        if request.method not in ("GET", "HEAD"):
            return _json({"error": f"{request.method} does nothing here; this page only shows"}, 405)
        if not path:
            raise web.HTTPFound("/console")
        if path == "/console":
            return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=self._headers)
        if path == "/console/data":
            return _json(await self.data())
        if path.startswith("/console/why/"):
            chain = await self._why(unquote(path.removeprefix("/console/why/")))
            return _json(chain) if chain else _json({"error": "no event of the journal is or names this"}, 404)
        if path == "/metrics":
            body = prometheus_client.generate_latest(self._registry)
            return web.Response(body=body, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})
        return _json({"error": f"nothing is shown at {path}; try /console or /metrics"}, 404)

    async def data(self) -> Row:
        """Everything the page shows, as of now."""
        async with self._turn:
            at, answer = self._answer
            if time.monotonic() - at >= FRESH_S:
                answer = await self._look()
                self._answer = (time.monotonic(), answer)
            return answer

    async def _look(self) -> Row:
        await self._catch_up()
        values = self._objects.get("ConfigMap", config.NAMESPACE, config.CONFIG_MAP) or {}
        models, fault = await self._shelf.models(values.get("data") or {})
        services = costs.services(self._objects, self._costs, self._registry.collect())
        names = sorted({name for name, s in services.items() if s["is_model"]} | models.keys())
        return {
            "models": [{"name": n, "service": services.get(n), **models.get(n, EMPTY)} for n in names],
            "store_fault": fault,
            "timeline": await asyncio.to_thread(self._seen.lines),
            "trainings": costs.trainings(self._objects, self._costs),
            "parts": costs.parts(self._objects, services),
            "since": self._costs.since,
        }

    async def _catch_up(self) -> None:
        count = EVENTS_READ
        lines = await self._read(count)
        while len(lines) == count < EVENTS_READ_AT_MOST and lines[0]["seq"] > self._seen.newest + 1:
            count *= 4
            lines = await self._read(count)
        # Off the loop: the first look digests thousands of events, and requests go through this process.
        await asyncio.to_thread(self._seen.take, lines, count)

    async def _why(self, id: str) -> list[Row]:
        lines = await self._read(EVENTS_SEARCHED)
        return await asyncio.to_thread(timeline.chain, lines, id)


def policy(page: str) -> str:
    """The page's Content-Security-Policy: its own script and style, by digest, its own origin, and nothing else."""
    own = []
    for tag in ("script", "style"):
        texts = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        own.append(f"{tag}-src " + " ".join(f"'sha256-{digest}'" for digest in digests))
    others = "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return f"default-src 'none'; {'; '.join(own)}; connect-src 'self'; {others}"


def _json(value: Any, code: int = 200) -> web.Response:
    body = orjson.dumps(value, default=str)
    return web.Response(body=body, status=code, content_type="application/json", headers={"Cache-Control": "no-store"})
