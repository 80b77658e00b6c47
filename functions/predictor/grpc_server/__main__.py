"""The gRPC predictor's process: `python -m functions.predictor.grpc_server`.

The port opens first and readiness says NOT_SERVING; the models are fetched, loaded and proved beside it. On SIGTERM
readiness fails at once, calls still arriving are answered for the drain time, those in flight to their end.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from prometheus_client import start_http_server

from eventing.errors import Misconfigured
from eventing.settings import run
from functions.predictor import ENTERED, statistics
from functions.predictor.admission import Admission
from functions.predictor.catalog import Catalog
from functions.predictor.grpc_server import reflection, server
from functions.predictor.grpc_server.health import Health
from functions.predictor.grpc_server.service import Service
from functions.predictor.grpc_server.settings import METRICS_PORT, DoorSettings
from functions.predictor.phases import Start, process_birth
from functions.predictor.repository import Repository
from functions.predictor.settings import Settings
from functions.store import Store

if TYPE_CHECKING:
    from functions.predictor.failures import Failures
    from functions.predictor.sampler import Sampler

FLUSH_S = 5.0  # what waits to be told to the sink may take this long after the last answer
SPARE_THREADS = 8  # beside those of the requests that are taken: for probes, metadata and refusals

log = logging.getLogger(__name__)


class Process:
    """One gRPC predictor, from its start to its last answer. Raises Misconfigured for a setting that cannot work."""

    def __init__(self, settings: Settings, door: DoorSettings, phases: Start) -> None:
        self._settings = settings
        self._door = door
        self._phases = phases
        self._stopping = threading.Event()
        self._catalog = Catalog([(m.name, m.version or "") for m in settings.models], settings.labels)
        self._admission = Admission(settings.concurrency, settings.waiting, settings.wait_s)
        store = Store.open(settings.store)
        self._repository = Repository(settings, store, self._catalog, self._stopping, self._admission.inferences)
        self._service = Service(self._catalog, self._admission.requests, self._repository)
        self._health = Health(self._catalog)
        self._sampler: Sampler | None = None
        self._failures: Failures | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT and the drain after it. To be called from the main thread."""
        settings = self._settings
        self._open_metrics()
        server.serve(
            (self._service.add_to, self._health.add_to, reflection.add_to),
            settings.port,
            settings.host,
            threads=self._admission.requests.count + SPARE_THREADS,
            max_message_bytes=settings.max_body_bytes,
            drain_s=settings.drain_s,
            on_listening=self._listening,
            on_stopping=self._leave,
            on_drained=self._flush,
        )

    def _open_metrics(self) -> None:
        statistics.expose()
        port, host = self._door.metrics_port, self._settings.host
        try:
            metrics_server, _ = start_http_server(port, host)
        except OSError as e:
            raise Misconfigured(METRICS_PORT, port, f"a port that is free on {host} ({e.strerror})") from e
        log.info("metrics on http://%s:%d/metrics", host, metrics_server.server_port)

    def _listening(self, port: int) -> None:
        threading.Thread(target=self._start, name="start", daemon=True).start()

    def _leave(self) -> None:
        self._catalog.draining = True
        self._health.refresh()
        self._stopping.set()

    def _start(self) -> None:
        """Make the models ready, beside the open port."""
        try:
            import functions.model  # noqa: F401 - numpy and onnxruntime: most of a cold start, hence not before
            from functions.predictor import failures, sampler

            self._phases.imported()
            self._sampler = self._repository.teller = sampler.of(self._settings)
            self._failures = self._repository.failures = failures.of(self._settings, self._stopping)
            self._repository.start(self._phases)
        except Exception as e:
            log.exception("the predictor cannot start")
            for wanted in self._settings.models:
                self._catalog.fails(wanted.name, wanted.version or "", f"the start failed: {type(e).__name__}: {e}")

    def _flush(self) -> None:
        for told in (self._failures, self._sampler):
            if told is not None:
                told.close(FLUSH_S)


def main(environ: Mapping[str, str]) -> None:
    settings, door = Settings.from_environment(environ), DoorSettings.from_environment(environ)
    Process(settings, door, Start(process_birth(ENTERED), ENTERED)).run()


if __name__ == "__main__":
    run(main, os.environ)
