"""The gRPC predictor: `python -m functions.predictor.grpc_server`.

The port opens first and readiness says NOT_SERVING, until the models have proved themselves. On SIGTERM readiness fails
at once, calls still arriving are answered for the drain time, those in flight to their end.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from prometheus_client import start_http_server

from eventing.errors import Misconfigured
from eventing.settings import run
from functions.predictor import ENTERED, statistics
from functions.predictor.grpc_server import reflection, server
from functions.predictor.grpc_server.health import Health
from functions.predictor.grpc_server.service import Service
from functions.predictor.grpc_server.settings import METRICS_PORT, DoorSettings
from functions.predictor.phases import Start, process_birth
from functions.predictor.process import Process
from functions.predictor.settings import Settings

log = logging.getLogger(__name__)


def main(environ: Mapping[str, str]) -> None:
    settings, door = Settings.from_environment(environ), DoorSettings.from_environment(environ)
    process = Process(settings, Start(process_birth(ENTERED), ENTERED))
    service = Service(process.catalog, process.admission.requests, process.repository)
    health = Health(process.catalog)

    def leave() -> None:
        process.leave()
        health.refresh()

    _open_metrics(door.metrics_port, settings.host)
    server.serve(
        (service.add_to, health.add_to, reflection.add_to),
        settings.port,
        settings.host,
        threads=process.threads,
        max_message_bytes=settings.max_body_bytes,
        drain_s=settings.drain_s,
        on_listening=process.listening,
        on_stopping=leave,
        on_drained=process.flush,
    )


def _open_metrics(port: int, host: str) -> None:
    """Show the metrics on a port of their own: the gRPC port speaks no HTTP/1. Raises Misconfigured."""
    statistics.expose()
    try:
        metrics_server, _ = start_http_server(port, host)
    except OSError as e:
        raise Misconfigured(METRICS_PORT, port, f"a port that is free on {host} ({e.strerror})") from e
    log.info("metrics on http://%s:%d/metrics", host, metrics_server.server_port)


if __name__ == "__main__":
    run(main, os.environ)
