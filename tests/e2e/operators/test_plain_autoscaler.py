"""The overlay `plain` and its HorizontalPodAutoscaler, with the metrics server and prometheus-adapter.

The autoscaler's patience is shortened; who decides, and by what, is as in the overlay.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import plain as overlay
from tests.e2e import store
from tests.e2e.kit import Kit
from tests.e2e.kustomization import patch
from tests.e2e.operators import load, prometheus_adapter
from tests.e2e.operators.prometheus import Prometheus
from tests.e2e.operators.prometheus_adapter import Adapter
from tests.e2e.place import until
from tests.e2e.plain import Plain
from tests.running import flights_csv

pytestmark = [pytest.mark.operator, pytest.mark.timeout(10_000)]

NAMESPACE = time.strftime("headrace-e2e-autoscaler-%H%M%S")
METRIC = "headrace_requests_in_progress"
# Five minutes as Kubernetes has it. With 7 in progress per pod so many clients want four pods or more.
STABILIZATION_S = 15
CPU_REQUESTED_M, CPU_TARGET_M = 40, 700
CLIENTS, ROWS, WANTED = 40, 3000, 4
SCALED_S = 240.0

Figure = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """The overlay, a model in it, and who tells its autoscaler of requests."""

    plain: Plain
    adapter: Adapter

    @property
    def url(self) -> str:
        address = self.plain.get("service", "flights")["spec"]["clusterIP"]
        return f"http://{address}/v1/models/flights:predict"

    def autoscaler(self) -> dict[str, Any]:
        return self.plain.get("hpa", "flights")

    def condition(self, kind: str) -> str | None:
        found = self.autoscaler().get("status", {}).get("conditions", ())
        return next((str(c["status"]) for c in found if c["type"] == kind), None)

    def measured(self) -> set[str]:
        """The kinds of metrics that the autoscaler has a number of."""
        return {m["type"] for m in self.autoscaler().get("status", {}).get("currentMetrics") or () if m["type"]}

    def ready(self) -> int:
        return int(self.plain.flights()["status"].get("readyReplicas", 0))

    def wanted(self) -> int:
        return int(self.plain.flights()["spec"]["replicas"])


@pytest.fixture(scope="module")
def place(
    kubeconfig: Path, kit: Kit, watching: Prometheus, keda: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    with store.running(kubeconfig) as s3, prometheus_adapter.running(kit, watching) as adapter:
        here = Plain(kubeconfig, NAMESPACE, "", s3.outside)
        with overlay.applied(here, "plain", s3, tmp_path_factory.mktemp("overlay"), _of_the_place()):
            yield Place(here, adapter)


def _of_the_place() -> list[Mapping[str, Any]]:
    """Patience, and the same 0.7 cores, of a request for which a small node has room."""
    behavior = {"scaleDown": {"stabilizationWindowSeconds": STABILIZATION_S}}
    requested = "/spec/template/spec/containers/0/resources/requests/cpu"
    utilization = CPU_TARGET_M * 100 // CPU_REQUESTED_M
    return [
        patch("Deployment", "flights", "replace", requested, f"{CPU_REQUESTED_M}m"),
        patch("HorizontalPodAutoscaler", "flights", "add", "/spec/behavior", behavior),
        patch(
            "HorizontalPodAutoscaler",
            "flights",
            "replace",
            "/spec/metrics/0/resource/target/averageUtilization",
            utilization,
        ),
    ]


@pytest.fixture(scope="module")
def served(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The place with a model that answers."""
    for name in ("trainings", "promoter", "flights"):
        until(f"a pod of {name}", lambda name=name: place.plain.is_running(name))
    place.plain.drop(flights_csv(tmp_path_factory.mktemp("months") / "january.csv", rows=400))
    until("a version that serves", place.plain.serves)
    return place


@pytest.fixture(scope="module")
def rows() -> bytes:
    return json.dumps({"instances": [{"distance": 700, "hour": 21, "carrier": "B6"}] * ROWS}).encode()


def test_by_the_rule_of_the_docs_each_predictor_is_told_of_and_nobody_else(served: Place) -> None:
    found = until("numbers of the adapter", lambda: served.adapter.values(NAMESPACE, METRIC), SCALED_S)
    pods = {pod["metadata"]["name"] for pod in served.plain.items("pod", "headrace.dev/model=flights")}
    assert set(found) <= pods


def test_the_autoscaler_reads_both_targets(served: Place, rows: bytes) -> None:
    with load.asking(served.url, rows, 1, pause_s=0.2):
        until("both metrics", lambda: served.measured() == {"Resource", "Pods"}, SCALED_S)
        assert served.condition("ScalingActive") == "True"


def test_requests_in_progress_bring_pods_and_quiet_brings_them_back_without_one_that_fails(
    served: Place, rows: bytes, figure: Figure
) -> None:
    until("one pod", lambda: served.wanted() == served.ready() == 1, SCALED_S)
    began = time.monotonic()
    with load.asking(served.url, rows, CLIENTS) as many:
        until(f"{WANTED} pods", lambda: served.ready() >= WANTED, SCALED_S)
        up_s = time.monotonic() - began
    began = time.monotonic()
    # One client stays, so that somebody would notice a pod that leaves with a request.
    with load.asking(served.url, rows, 1, pause_s=0.05) as few:
        until("one pod again", lambda: served.wanted() == served.ready() == 1, SCALED_S)
        down_s = time.monotonic() - began
    assert many.failed + few.failed == []
    assert many.answered > CLIENTS and few.answered > 0
    figure(f"HPA: {CLIENTS} requests in progress, from one pod to {WANTED} ready ones: {up_s:.0f} s")
    figure(f"HPA: back to one, with {STABILIZATION_S} s of stabilization: {down_s:.0f} s")
    figure(f"HPA: requests meanwhile, none of which failed: {many.answered + few.answered}")


def test_without_the_adapter_pods_are_added_by_cpu_alone_and_none_is_taken_away(served: Place, rows: bytes) -> None:
    until("one pod", lambda: served.wanted() == served.ready() == 1, SCALED_S)
    served.adapter.away()
    try:
        until("the adapter's silence noticed", lambda: served.measured() <= {"Resource"}, SCALED_S)
        with load.asking(served.url, rows, CLIENTS) as many:
            until("more pods", lambda: served.ready() > 1, SCALED_S)
        began, most = time.monotonic(), served.wanted()
        # As long as quiet takes to bring pods back, and as long again.
        while time.monotonic() - began < 4 * STABILIZATION_S:
            assert served.wanted() >= most
            time.sleep(1)
    finally:
        served.adapter.back()
    until("one pod again", lambda: served.wanted() == served.ready() == 1, SCALED_S)
    assert many.failed == []
