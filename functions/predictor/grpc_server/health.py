"""grpc.health.v1: how kubelet, load balancers and Envoy ask a gRPC server whether it is well.

The empty name is the server's readiness, a model's name is that model's, and `liveness` is a process that answers: the
names that a probe may give in its `service`.
Source: github.com/grpc/grpc, doc/health-checking.md; kubernetes.io, "Define a gRPC liveness probe".
"""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from functions.predictor.catalog import Catalog
from functions.predictor.grpc_server import service

SERVER, LIVENESS = "", "liveness"
LOOK_S = 0.5  # between two looks at the catalog, once somebody watches; probes and most balancers only check


class Health(health.HealthServicer):
    """Check answers what the catalog says now; who watches is told of a change within LOOK_S."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__()
        self._catalog = catalog
        self._told: dict[str, int] = {}
        self._looking: threading.Thread | None = None
        self._beginning = threading.Lock()

    def add_to(self, server: grpc.Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def refresh(self) -> None:
        """Tell who watches of what has changed."""
        for name in (SERVER, service.NAME, LIVENESS, *self._catalog.models()):
            status = self._status(name)
            if status is not None and self._told.get(name) != status:
                self._told[name] = status
                self.set(name, status)

    def Watch(  # Any: two overloads of the library's own, one for each way in which it is called
        self, request: HealthCheckRequest, context: grpc.ServicerContext, send_response_callback: Any = None
    ) -> Any:
        with self._beginning:
            self.refresh()
            if self._looking is None:
                self._looking = threading.Thread(target=self._look, name="health", daemon=True)
                self._looking.start()
        return super().Watch(request, context, send_response_callback)

    def _look(self) -> None:
        while True:
            time.sleep(LOOK_S)
            self.refresh()

    def Check(self, request: HealthCheckRequest, context: grpc.ServicerContext) -> HealthCheckResponse:
        status = self._status(request.service)
        if status is None:
            known = ", ".join((LIVENESS, *self._catalog.models()))
            context.abort(
                grpc.StatusCode.NOT_FOUND, f"{request.service!r:.100} is not known here; known are: {known:.1000}"
            )
        return HealthCheckResponse(status=status)

    def _status(self, name: str) -> int | None:
        """None for a name that is not known here."""
        if name == LIVENESS:
            well = True
        elif name in (SERVER, service.NAME):
            well = self._catalog.ready
        elif name in self._catalog.models():
            well = self._catalog.entry(name).served is not None and not self._catalog.draining
        else:
            return None
        return HealthCheckResponse.SERVING if well else HealthCheckResponse.NOT_SERVING
