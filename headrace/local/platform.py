"""`headrace up`: every stand-in of headrace.local in one process, behind one port.

    request ─► door ─┬─ Host NAME.NAMESPACE.…, /svc/…   gateway (its HTTP/2 side: `headrace.local.gateway.streams`)
                     ├─ /broker/…, /jobsink/…           broker, job sinks
                     ├─ /journal/…                      what the broker has seen
                     ├─ /api, /apis, /openapi, …        Kubernetes API
                     └─ /console, /metrics              a page, figures

The same manifests as in a cluster are applied through the same API as kubectl's; only the ConfigMap `headrace` is given
the laptop's values. `python -m headrace.local`; started by `headrace up`, which waits for `platform.json` in the home.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import json
import logging
import os
import secrets
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import prometheus_client
import yaml
from aiohttp import web

from eventing.errors import HeadraceError, Misconfigured
from headrace import config
from headrace import manifests as of_rooms
from headrace.local import disk, http1, platform_state
from headrace.local.addresses import Addresses
from headrace.local.api.api import KubernetesAPI
from headrace.local.console.console import Console
from headrace.local.controllers.reconciler import Reconciler
from headrace.local.events.broker import Broker
from headrace.local.events.job_sink import JobSinks
from headrace.local.gateway.gateway import Gateway
from headrace.local.gateway.request_journal import RequestJournal
from headrace.local.gateway.scaler import Scaler
from headrace.local.gateway.streams import Streams
from headrace.local.http2.doorway import Doorway
from headrace.local.objects.objects import Objects
from headrace.local.pods.process import Processes

log = logging.getLogger("headrace.platform")

# Not that of `headrace deploy`: what a laptop's platform brings itself `undeploy` leaves alone, and a `deploy` that
# would change it hears of a conflict.
FIELD_MANAGER = "headrace-up"
STOP_S = 15.0  # for requests in flight and processes, before the rest is killed
REQUEST_JOURNAL_MIB = 256  # about 1.5 million requests
API_PATHS = ("/api", "/apis", "/openapi", "/version", "/healthz", "/readyz", "/livez")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Part(Protocol):
    """One stand-in: started in order, stopped in the opposite one."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """One running platform."""

    home: Path
    """Everything that is kept."""
    port: int = config.DEFAULT_PORT
    """The one port; 0 lets the system choose."""
    images: Mapping[str, str] = field(default_factory=dict)
    """Image repository to the Python interpreter that stands for it; others run on this process's own."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Keys of the ConfigMap `headrace` beside the place's own, e.g. HEADRACE_CANARY_S."""
    request_journal_mib: int = REQUEST_JOURNAL_MIB
    """MiB that the gateway's journal of requests may take in the home; 0 keeps none."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """As `headrace up` passes them on. Raises Misconfigured with the key."""
        port = environ.get("HEADRACE_PORT", str(config.DEFAULT_PORT))
        if not port.isdecimal() or int(port) > 65535:
            raise Misconfigured("HEADRACE_PORT", port, "a port number, 0 to 65535")
        journal_mib = environ.get("HEADRACE_REQUEST_JOURNAL_MIB", str(REQUEST_JOURNAL_MIB))
        if not journal_mib.isdecimal():
            raise Misconfigured("HEADRACE_REQUEST_JOURNAL_MIB", journal_mib, "whole MiB, 0 for no journal")
        return cls(
            home=config.Config.from_environment(environ).home,
            port=int(port),
            images=_pairs("HEADRACE_IMAGES", environ.get("HEADRACE_IMAGES", "")),
            values=_pairs("HEADRACE_VALUES", environ.get("HEADRACE_VALUES", "")),
            request_journal_mib=int(journal_mib),
        )


def _pairs(key: str, text: str) -> dict[str, str]:
    """`A=B` lines as a mapping."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if "=" not in line:
            raise Misconfigured(key, line, "lines of KEY=VALUE")
    return dict(line.split("=", 1) for line in lines)


def manifests(values: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The rooms' manifests, as in a cluster, the ConfigMap `headrace` carrying `values`."""
    for manifest in of_rooms.read(laptop=True):
        if manifest["kind"] == "ConfigMap" and manifest["metadata"]["name"] == config.CONFIG_MAP:
            manifest["data"] = {**manifest.get("data", {}), **values}
        yield manifest


class Platform:
    """The stand-ins, wired together. `serve` runs until `stop` is called."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self.settings = settings
        self._listener = listener
        home = settings.home
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.addresses = Addresses(self.url)
        self.kubeconfig = home / "kubeconfig"
        self.token = _token(home / "token")
        self._stopped = asyncio.Event()
        registry = prometheus_client.CollectorRegistry()
        self.objects = Objects(home / "objects.db")
        self.processes = Processes(self.objects, home=home, images=settings.images, environment=self._account)
        self.reconciler = Reconciler(self.objects, self.processes, self.addresses)
        kept = settings.request_journal_mib * 2**20
        self.request_journal = RequestJournal(self.objects, home, kept) if kept else None
        self.gateway = Gateway(self.objects, self.processes.endpoints, registry=registry, journal=self.request_journal)
        self.streams = Streams(self.gateway)
        self.processes.subscribe(self.gateway.endpoints_changed)
        self.scaler = Scaler(self.objects, self.gateway, self.processes.endpoints, self.reconciler.scale)
        self.broker = Broker(self.objects, home / "events.db", self.addresses)
        self.job_sinks = JobSinks(self.objects, home, self.addresses)
        self.api = KubernetesAPI(self.objects, self.token, self.processes.log_file, self.scaler.report)
        self.console = Console(self.objects, self._newest_events, (home / "store").as_uri(), registry)

    async def serve(self) -> None:
        """Start everything, apply the manifests, tell where it answers, and wait for `stop`."""
        server = http1.server(self.door)
        runner = web.ServerRunner(server, handle_signals=False, access_log=None)
        await runner.setup()
        parts: tuple[Part, ...] = (
            *((self.request_journal,) if self.request_journal else ()),
            self.processes,
            self.reconciler,
            self.gateway,
            self.streams,
            self.scaler,
            self.broker,
            self.job_sinks,
            self.console,
        )
        door: asyncio.Server | None = None
        started: list[Part] = []
        try:
            await self.api.start()
            started.append(self.api)
            # Before any pod starts again: what the last run's ConfigMap says is of other settings, or of another home.
            await self._apply_manifests()
            for part in parts:
                await part.start()
                started.append(part)
            loop = asyncio.get_running_loop()
            door = await loop.create_server(lambda: Doorway(server, self.streams.protocol), sock=self._listener)
            platform_state.Running(os.getpid(), self.url, str(self.kubeconfig)).write(self.settings.home)
            log.info("ready at %s", self.url)
            gc.freeze()  # what lives as long as the platform need not be looked at by each collection
            await self._stopped.wait()
        finally:
            platform_state.forget(self.settings.home)
            log.info("stopping")
            if door is not None:
                door.close()
            for part in reversed(started):  # what never started cannot stop
                with contextlib.suppress(asyncio.CancelledError):
                    await part.stop()
            await runner.cleanup()
            self.objects.close()

    def stop(self) -> None:
        self._stopped.set()

    async def door(self, request: web.BaseRequest) -> web.StreamResponse:
        """Which stand-in a request is for, by Host first, then by path."""
        host = (request.headers.get("Host") or "").rsplit(":", 1)[0].strip("[]").lower()
        path = request.path
        if not _is_loopback(host):
            if host.startswith("broker-ingress.knative-eventing"):
                return await self.broker.handle(request, prefix="")
            if host.startswith("job-sink.knative-eventing"):
                return await self.job_sinks.handle(request, prefix="")
            return await self.gateway.handle_host(request, host)
        if path.startswith("/svc/"):
            return await self.gateway.handle_path(request)
        if path.startswith("/broker/"):
            return await self.broker.handle(request, prefix="/broker")
        if path.startswith("/journal/"):
            return await self.broker.handle_journal(request)
        if path.startswith(("/jobsink/", "/namespaces/")):
            return await self.job_sinks.handle(request, prefix="/jobsink")
        if path.startswith(("/console", "/metrics")) or path == "/":
            return await self.console.handle(request)
        if path.startswith(API_PATHS):
            return await self.api.handle(request)
        return web.json_response(
            {"error": f"nothing answers at {path}; try /svc/NAMESPACE/NAME/…, /broker/NAMESPACE/NAME, /console"},
            status=404,
        )

    def _account(self, namespace: str) -> dict[str, str]:
        """What stands for a pod's service account: a kubeconfig whose namespace is the pod's, as in a cluster."""
        if namespace == config.NAMESPACE:
            return {"KUBECONFIG": str(self.kubeconfig)}
        own = self.kubeconfig.with_name(f"kubeconfig-{namespace}")
        _write_private(own, yaml.safe_dump(self.api.kubeconfig(self.url, self.token, namespace)))
        return {"KUBECONFIG": str(own)}

    @contextlib.asynccontextmanager
    async def _api_alone(self) -> AsyncIterator[str]:
        """The Kubernetes API at an address of its own, while nothing else answers yet."""
        runner = web.ServerRunner(web.Server(self.api.handle), handle_signals=False, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0]
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()

    async def _newest_events(self, count: int) -> list[dict[str, Any]]:
        return await self.broker.newest(config.NAMESPACE, config.BROKER, count)

    async def _apply_manifests(self) -> None:
        """The rooms' YAML through our own API, by server-side apply, as `kubectl apply --server-side` would."""
        _write_private(self.kubeconfig, yaml.safe_dump(self.api.kubeconfig(self.url, self.token, config.NAMESPACE)))
        store = self.settings.home / "store"
        drop = self.settings.home / "drop"
        for folder in (store, drop):
            folder.mkdir(exist_ok=True)
        values = {
            "HEADRACE_STORE": store.as_uri(),
            "HEADRACE_DROP": str(drop),
            "HEADRACE_JOURNAL": f"{self.url}/journal/{config.NAMESPACE}/{config.BROKER}",
            "K_SINK": self.addresses.broker(config.NAMESPACE, config.BROKER),
            **self.settings.values,
        }
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/apply-patch+yaml"}
        async with self._api_alone() as api, aiohttp.ClientSession(headers=headers) as session:
            for manifest in manifests(values):
                path = self.api.path_of(manifest)
                url = f"{api}{path}?fieldManager={FIELD_MANAGER}&force=true&fieldValidation=Strict"
                async with session.patch(url, data=json.dumps(manifest)) as answer:
                    if answer.status >= 300:
                        said = await answer.text()
                        with contextlib.suppress(ValueError, KeyError, TypeError):
                            said = str(json.loads(said)["message"])
                        raise HeadraceError(
                            f"manifest {manifest['kind']} {manifest['metadata']['name']} was refused: {said}"
                        )


def _is_loopback(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _token(path: Path) -> str:
    """The bearer token of this home: made once, readable by its owner alone, kept over restarts."""
    if not path.exists():
        _write_private(path, secrets.token_urlsafe(32))
    return path.read_text(encoding="utf-8").strip()


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, and for the owner's eyes alone."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as e:
        listener.close()
        raise HeadraceError(f"port {port} of 127.0.0.1 cannot be had ({e.strerror}); choose one with --port") from e
    listener.listen(1024)
    return listener


async def _run(settings: Settings) -> None:
    platform = Platform(settings, _listen(settings.port))
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, platform.stop)
    await platform.serve()


def main() -> int:
    """Entry of the platform's process: exit 0 after a stop, 1 when it could not start, 78 for a bad setting."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    try:
        settings = Settings.from_environment(os.environ)
        with platform_state.hold(settings.home):
            asyncio.run(_run(settings))
    except Misconfigured as e:
        log.error("%s", e)
        return os.EX_CONFIG
    except HeadraceError as e:
        log.error("%s", e)
        return 1
    except (OSError, sqlite3.Error) as e:
        if not disk.is_at_fault(e):
            raise
        log.error("the home %s cannot be written to: %s", settings.home, e)
        return 1
    return 0
