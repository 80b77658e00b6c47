"""Server reflection: grpcurl and its kind ask the server itself what it speaks, and need no .proto."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from functions.predictor.grpc_server.open_inference_pb2 import DESCRIPTOR
from functions.predictor.grpc_server.service import NAME


def add_to(server: grpc.Server) -> None:
    pool = DESCRIPTOR.pool  # our own, which knows none of the others yet
    for other in (health_pb2, reflection_pb2):
        pool.AddSerializedFile(other.DESCRIPTOR.serialized_pb)
    reflection.enable_server_reflection((NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), server, pool)
