"""What `tests.bench.replay` replays: shapes of traffic, and the settings that they meet.

Pure; the manifests are as anybody would write them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace import config
from headrace.tune import shapes
from headrace.tune.traffic import Traffic
from tests.bench import sleeper

TIMEOUT_S = 120.0
START_S = 1.5  # what the service takes to start, besides its process and its probe
STOP_S = 0.1  # and to end, once it is told to and nothing is in flight: its own doing too
GROUP = "autoscaling.knative.dev"
CAPACITY = 1000  # requests that one sleeping pod serves at once without slowing


@dataclass(frozen=True, slots=True)
class Case:
    """One shape with one setting. annotations: without their group."""

    shape: str
    peak_rps: float
    service_s: float
    container_concurrency: int
    annotations: Mapping[str, str]
    seconds: float = 150.0
    seed: int = 1

    @property
    def initial_scale(self) -> int:
        """Pods at second 0."""
        return max(int(self.annotations.get(key, "1")) for key in ("initial-scale", "min-scale"))

    @property
    def name(self) -> str:
        return f"{self.shape}-cc{self.container_concurrency}"

    def traffic(self) -> Traffic:
        return shapes.shape(self.shape, self.seconds, self.peak_rps, self.service_s, self.seed)

    def manifest(self) -> dict[str, Any]:
        """The Service, as somebody would write it."""
        command = ["python", str(Path(sleeper.__file__).resolve()), "--start-s", str(START_S)]
        template = {
            "metadata": {"annotations": {f"{GROUP}/{key}": value for key, value in self.annotations.items()}},
            "spec": {
                "containerConcurrency": self.container_concurrency,
                "timeoutSeconds": int(TIMEOUT_S),
                "containers": [{"name": "sleeper", "image": "sleeper", "command": command}],
            },
        }
        meta = {"name": self.name, "namespace": config.NAMESPACE}
        kind = {"apiVersion": "serving.knative.dev/v1", "kind": "Service"}
        return {**kind, "metadata": meta, "spec": {"template": template}}


# What runs side by side. Each round has the machine to itself: two bursts at once would start more processes than it
# has time for.
ROUNDS = (
    (
        Case("steady", 20, 0.2, 2, {"target": "2"}),
        Case("ramp", 40, 0.2, 0, {"target": "3"}),
        # Without a maximum its bursts bring 134 pods, and what is measured is how fast this machine starts processes.
        Case("burst", 30, 0.3, 1, {"max-scale": "12"}),
        Case("diurnal", 30, 0.2, 0, {"metric": "rps", "target": "10", "window": "30s"}),
    ),
    (
        Case("steady", 20, 0.2, 0, {"target": "2", "initial-scale": "4"}),
        Case("ramp", 40, 0.2, 4, {"target-utilization-percentage": "50", "window": "30s"}),
        Case("burst", 30, 0.3, 0, {"target": "5", "target-burst-capacity": "0", "scale-down-delay": "20s"}),
        Case("diurnal", 30, 0.2, 10, {"target": "3", "min-scale": "1", "panic-threshold-percentage": "150"}),
    ),
    # The silences are of two minutes and more: a seed that meets two visits.
    (
        Case("sparse", 8, 0.25, 5, {"window": "20s"}, seconds=165.0, seed=8),
        Case("sparse", 8, 0.25, 1, {"max-scale": "8", "window": "30s"}, seconds=165.0, seed=8),
    ),
)
