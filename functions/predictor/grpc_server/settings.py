"""What the gRPC door reads from its environment, besides all that every predictor reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eventing import settings

METRICS_PORT = "HEADRACE_METRICS_PORT"
# Triton's. Of a pod's ports Knative keeps 8008, 8012, 8013, 8022, 9090 and 9091 for its queue-proxy.
# Source: knative/serving pkg/apis/serving/k8s_validation.go, reservedPorts.
IN_A_POD = 8002


@dataclass(frozen=True)
class DoorSettings:
    """The gRPC door of one predictor process."""

    metrics_port: int = 0
    """HEADRACE_METRICS_PORT: where /metrics answers HTTP, which the gRPC port cannot. 0 is any free one, the default
    outside a pod, where several processes share the addresses."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> DoorSettings:
        """The settings in `environ`. Raises Misconfigured naming the key of what cannot work."""
        default = IN_A_POD if environ.get("KUBERNETES_SERVICE_HOST") else cls.metrics_port
        return cls(metrics_port=settings.whole_number(environ, METRICS_PORT, default, 0, 65535))
