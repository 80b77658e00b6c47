"""A model in an overlay without Knative, whose pods somebody scales: what any such somebody is told, and asked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.kustomization import patch
from tests.e2e.operators import load
from tests.e2e.place import until
from tests.e2e.plain import Plain
from tests.running import flights_csv

# Five minutes as Kubernetes has it.
STABILIZATION_S = 15
BEHAVIOR = {"scaleDown": {"stabilizationWindowSeconds": STABILIZATION_S}}
# 0.7 cores as the overlays have it, of a request for which a small node has room.
CPU_REQUESTED_M = 40
CPU_PER_CENT = 700 * 100 // CPU_REQUESTED_M
SMALL = patch(
    "Deployment", "flights", "replace", "/spec/template/spec/containers/0/resources/requests/cpu", f"{CPU_REQUESTED_M}m"
)
# With 7 in progress per pod so many clients want four pods or more.
CLIENTS, WANTED = 40, 4
BODY = json.dumps({"instances": [{"distance": 700, "hour": 21, "carrier": "B6"}] * 3000}).encode()
SCALED_S = 240.0


@dataclass(frozen=True)
class Scaled:
    """The overlay, with a model `flights` in it."""

    plain: Plain

    @property
    def url(self) -> str:
        address = self.plain.get("service", "flights")["spec"]["clusterIP"]
        return f"http://{address}/v1/models/flights:predict"

    def ready(self) -> int:
        return int(self.plain.flights()["status"].get("readyReplicas", 0))

    def wanted(self) -> int:
        return int(self.plain.flights()["spec"]["replicas"])

    def pods(self) -> set[str]:
        return {pod["metadata"]["name"] for pod in self.plain.items("pod", "headrace.dev/model=flights")}

    def wait(self, what: str, condition: Callable[[], Any]) -> Any:
        """`until`, with an autoscaler's patience."""
        return until(what, condition, SCALED_S)

    def rests(self) -> None:
        self.wait("one pod", lambda: self.wanted() == self.ready() == 1)

    def learn(self, folder: Path) -> None:
        """Have a version that answers."""
        for name in ("trainings", "promoter", "flights"):
            until(f"a pod of {name}", lambda name=name: self.plain.is_running(name))
        self.plain.drop(flights_csv(folder / "january.csv", rows=400))
        until("a version that serves", self.plain.serves)

    def keeps(self, number: int) -> None:
        """Fails where fewer pods are wanted before quiet has brought some back, and as long again."""
        ends = time.monotonic() + 4 * STABILIZATION_S
        while time.monotonic() < ends:
            assert self.wanted() >= number
            time.sleep(1)

    def grows_and_shrinks(
        self, by: str, figure: Callable[[str], None], busy: Callable[[], object] = lambda: None
    ) -> None:
        """From one pod to WANTED while many ask, and back to one, without a request that fails.

        busy: called while all of them run.
        """
        self.rests()
        began = time.monotonic()
        with load.asking(self.url, BODY, CLIENTS) as many:
            self.wait(f"{WANTED} pods", lambda: self.ready() >= WANTED)
            up_s = time.monotonic() - began
            busy()
        began = time.monotonic()
        # One client stays, so that somebody would notice a pod that leaves with a request.
        with load.asking(self.url, BODY, 1, pause_s=0.05) as few:
            self.rests()
            down_s = time.monotonic() - began
        assert many.failed + few.failed == []
        assert many.answered > CLIENTS and few.answered > 0
        figure(f"{by}: {CLIENTS} requests in progress, from one pod to {WANTED} ready ones: {up_s:.0f} s")
        figure(f"{by}: back to one, with {STABILIZATION_S} s of stabilization: {down_s:.0f} s")
        figure(f"{by}: requests meanwhile, none of which failed: {many.answered + few.answered}")


def measured(autoscaler: Mapping[str, Any]) -> dict[str, str | int]:
    """What an autoscaler has a number of, per pod, by kind of metric: requests as a quantity, per cent of CPU."""
    metrics = autoscaler.get("status", {}).get("currentMetrics") or ()
    found = {}
    for kind, key, number in (
        ("External", "external", "averageValue"),
        ("Pods", "pods", "averageValue"),
        ("Resource", "resource", "averageUtilization"),
    ):
        for metric in metrics:
            value = (metric.get(key) or {}).get("current", {}).get(number)
            if metric["type"] == kind and value is not None:
                found[kind] = value
    return found
