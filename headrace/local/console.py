"""The page for people without kubectl: what is served, how good it is, what it cost, what changed and why.

Reads what the other stand-ins keep and changes nothing. `/console` is the page, `/console/data` its figures as JSON,
`/console/why/ID` one chain, `/metrics` the platform's series for Prometheus.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import unquote

import orjson
import prometheus_client
from aiohttp import web

from eventing.errors import Verdict
from functions.store import Store
from headrace import journal, status, why
from headrace.local.costs import Costs
from headrace.local.objects import Objects

log = logging.getLogger(__name__)

EVENTS_SHOWN = 60
EVENTS_SEARCHED = 20_000  # for a chain; a prediction's causes are far back, its training is not
MODELS_FRESH_S = 5.0  # manifests change with a training, the page asks every few seconds
SCORES = ("roc_auc", "accuracy", "log_loss")
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"

Read = Callable[[int], Awaitable[list[dict[str, Any]]]]


class Console:
    """The page and its figures.

    read: the newest n entries of the journal, oldest first, as `GET /journal` writes them.
    """

    def __init__(
        self, objects: Objects, read: Read, store_url: str, registry: prometheus_client.CollectorRegistry
    ) -> None:
        self._objects = objects
        self._read = read
        self._store_url = store_url
        self._registry = registry
        self._costs = Costs(objects)
        self._page = importlib.resources.files("headrace.local").joinpath("console.html").read_bytes()
        self._models: tuple[float, list[dict[str, Any]]] = (-MODELS_FRESH_S, [])

    async def start(self) -> None:
        self._costs.start(time.time())

    async def stop(self) -> None:
        self._costs.stop()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.rstrip("/")
        if request.method not in ("GET", "HEAD"):
            return web.json_response({"error": f"{request.method} does nothing here; this page only shows"}, status=405)
        if path == "":
            raise web.HTTPFound("/console")
        if path == "/console":
            headers = {"Content-Security-Policy": PAGE_POLICY, "X-Frame-Options": "DENY"}
            return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=headers)
        if path == "/console/data":
            return _json(await self.data())
        if path.startswith("/console/why/"):
            chain = await self._why(unquote(path.removeprefix("/console/why/")))
            return _json(chain) if chain else _json({"error": "no event of the journal is or names this"}, 404)
        if path == "/metrics":
            body = prometheus_client.generate_latest(self._registry)
            return web.Response(body=body, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})
        return _json({"error": f"nothing is shown at {path}; try /console or /metrics"}, 404)

    async def data(self) -> dict[str, Any]:
        """Everything the page shows, as of now."""
        entries = [journal.entry(line) for line in await self._read(EVENTS_SHOWN)]
        parts = [asdict(status.part(o)) for kind in status.CONDITIONED for o in self._objects.list(kind)]
        return {
            "services": [self._service(o) for o in self._objects.list("Service")],
            "models": await self._known_models(),
            "jobs": [asdict(status.job(o)) for o in self._objects.list("Job")],
            "parts": parts,
            "events": [_shown(e) for e in reversed(entries)],
            "since": self._costs.since,
        }

    def _service(self, service: Mapping[str, Any]) -> dict[str, Any]:
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        current = service.get("status") or {}
        autoscalers = self._objects.list("PodAutoscaler", namespace, {"serving.knative.dev/service": name})
        pods = sum((a.get("status") or {}).get("actualScale") or 0 for a in autoscalers)
        reasons = [r for a in autoscalers if (r := status.condition(a, "Active").get("message"))]
        return {
            "name": name,
            "url": (current.get("address") or {}).get("url"),
            "ready": status.condition(dict(service), "Ready").get("status", "Unknown"),
            "pods": pods,
            "reason": reasons[-1] if reasons else "",
            "pod_seconds": round(self._costs.pod_seconds(namespace, name, time.time()), 1),
            "traffic": [
                {k: t.get(k) for k in ("revisionName", "percent", "tag")} | {"version": self._version(namespace, t)}
                for t in current.get("traffic") or []
            ],
        }

    def _version(self, namespace: str, target: Mapping[str, Any]) -> str | None:
        revision = self._objects.get("Revision", namespace, target.get("revisionName") or "")
        containers: Iterable[Mapping[str, Any]] = (revision or {}).get("spec", {}).get("containers", ())
        variables = {v["name"]: v.get("value") for c in containers for v in c.get("env") or ()}
        return variables.get("HEADRACE_MODEL_VERSION")

    async def _known_models(self) -> list[dict[str, Any]]:
        at, known = self._models
        if time.monotonic() - at >= MODELS_FRESH_S:
            known = await asyncio.to_thread(_models, self._store_url)
            self._models = (time.monotonic(), known)
        return known

    async def _why(self, id: str) -> list[dict[str, Any]]:
        entries = [journal.entry(line) for line in await self._read(EVENTS_SEARCHED)]
        chain = why.explain(entries, id)
        return [] if chain is None else [_shown(k.entry) | {"asked": k.asked} for k in chain.links]


def _models(store_url: str) -> list[dict[str, Any]]:
    store = Store.open(store_url)
    rows = []
    for name in store.models():
        serving = store.serving(name)
        for version in reversed(store.versions(name)):
            try:
                manifest = store.manifest(name, version)
            except Verdict as e:  # one broken package must not blind the page to the others
                rows.append({"model": name, "version": version, "fault": str(e)})
                continue
            scores = {s: manifest.scores[s] for s in SCORES if s in manifest.scores}
            rows.append(
                {
                    "model": name,
                    "version": version,
                    "serves": bool(serving and serving.version == version),
                    "trainer": manifest.trainer,
                    "rows": manifest.dataset.get("rows"),
                    "created": manifest.created,
                    "parity": dict(manifest.parity),
                    **scores,
                }
            )
    return rows


def _shown(entry: journal.Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": entry.received.isoformat(),
        "noun": why.noun(entry),
        "says": why.describe(entry),
        "cause": entry.cause,
        "undelivered": [d["trigger"] for d in entry.deliveries if d["state"] not in ("delivered", "pending")],
    }


def _json(value: Any, code: int = 200) -> web.Response:
    body = orjson.dumps(value, default=str)
    return web.Response(body=body, status=code, content_type="application/json", headers={"Cache-Control": "no-store"})
