"""The overlay `keda` in a cluster with KEDA itself, the metrics server and Prometheus.

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
from tests.e2e import probes, store
from tests.e2e.images import reference
from tests.e2e.kustomization import patch
from tests.e2e.operators import load, prometheus
from tests.e2e.operators.prometheus import Prometheus
from tests.e2e.place import until
from tests.e2e.plain import Plain
from tests.manifests.kustomized import objects
from tests.running import flights_csv

# The first of them builds KEDA, once per machine.
pytestmark = [pytest.mark.operator, pytest.mark.timeout(10_000)]

NAMESPACE = time.strftime("headrace-e2e-keda-%H%M%S")
# Five minutes as Kubernetes has it. With 7 in progress per pod so many clients want four pods or more.
STABILIZATION_S = 15
CPU_REQUESTED_M, CPU_TARGET_M = 40, 700
CLIENTS, ROWS, WANTED = 40, 3000, 4
SCALED_S = 240.0

Figure = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """The overlay, a model in it, and who watches it."""

    plain: Plain
    prometheus: Prometheus

    @property
    def url(self) -> str:
        address = self.plain.get("service", "flights")["spec"]["clusterIP"]
        return f"http://{address}/v1/models/flights:predict"

    def scaled_object(self) -> dict[str, Any]:
        return self.plain.get("scaledobject", "flights")

    def condition(self, kind: str) -> str | None:
        found = self.scaled_object().get("status", {}).get("conditions", ())
        return next((str(c["status"]) for c in found if c["type"] == kind), None)

    def autoscaler(self) -> dict[str, Any]:
        return self.plain.get("hpa", "keda-hpa-flights")

    def ready(self) -> int:
        return int(self.plain.flights()["status"].get("readyReplicas", 0))

    def wanted(self) -> int:
        return int(self.plain.flights()["spec"]["replicas"])


@pytest.fixture(scope="module")
def place(
    kubeconfig: Path, watching: Prometheus, keda: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    with store.running(kubeconfig) as s3:
        here = Plain(kubeconfig, NAMESPACE, "", s3.outside)
        with overlay.applied(here, "keda", s3, tmp_path_factory.mktemp("overlay"), _of_the_place(watching)):
            try:
                yield Place(here, watching)
            finally:
                # While KEDA is there to let it go.
                here.try_kubectl("delete", "scaledobject", "--all", "--timeout=60s")


def _of_the_place(watching: Prometheus) -> list[Mapping[str, Any]]:
    """What docs/ops.md has users set, address and namespace; patience; and the same 0.7 cores, of a request for
    which a small node has room.
    """
    query = objects("overlays/keda")["ScaledObject flights"]["spec"]["triggers"][0]["metadata"]["query"]
    assert '"headrace"' in query
    behavior = {"scaleDown": {"stabilizationWindowSeconds": STABILIZATION_S}}
    requested = "/spec/template/spec/containers/0/resources/requests/cpu"
    told = {
        "/spec/triggers/0/metadata/serverAddress": watching.url,
        "/spec/triggers/0/metadata/query": query.replace('"headrace"', f'"{NAMESPACE}"'),
        "/spec/triggers/1/metadata/value": str(CPU_TARGET_M * 100 // CPU_REQUESTED_M),
        "/spec/fallback/failureThreshold": 3,
        "/spec/advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
    }
    return [
        patch("Deployment", "flights", "replace", requested, f"{CPU_REQUESTED_M}m"),
        *(patch("ScaledObject", "flights", "add", path, value) for path, value in told.items()),
    ]


@pytest.fixture(scope="module")
def served(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The place with a model that answers, and one pod of it."""
    for name in ("trainings", "promoter", "flights"):
        until(f"a pod of {name}", lambda name=name: place.plain.is_running(name))
    place.plain.drop(flights_csv(tmp_path_factory.mktemp("months") / "january.csv", rows=400))
    until("a version that serves", place.plain.serves)
    return place


@pytest.fixture(scope="module")
def rows() -> bytes:
    return json.dumps({"instances": [{"distance": 700, "hour": 21, "carrier": "B6"}] * ROWS}).encode()


def test_the_scaled_object_is_taken_as_it_is_and_becomes_ready(place: Place) -> None:
    until("the ScaledObject Ready", lambda: place.condition("Ready") == "True")
    spec = until("an autoscaler by KEDA", place.autoscaler)["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 10)
    assert {m["type"] for m in spec["metrics"]} == {"External", "Resource"}
    assert [o["metadata"]["name"] for o in place.plain.items("hpa")] == ["keda-hpa-flights"]


def test_a_model_without_a_version_waits_in_one_pod(place: Place) -> None:
    until("a pod of flights", lambda: place.plain.is_running("flights"))
    prometheus.scraping(place.prometheus, NAMESPACE)
    until("a measured zero", lambda: _averages(place).get("External") == "0", SCALED_S)
    # Until one was scraped there may have been three.
    until("one pod", lambda: place.wanted() == 1 and place.condition("Fallback") == "False", SCALED_S)


def test_prometheus_finds_the_predictors_and_nobody_else(served: Place) -> None:
    found = prometheus.scraping(served.prometheus, NAMESPACE)
    pods = {pod["metadata"]["name"] for pod in served.plain.items("pod", "headrace.dev/model=flights")}
    assert {t["labels"]["pod"] for t in found} <= pods
    assert {t["scrapeUrl"].rpartition(":")[2] for t in found} == {"8080/metrics"}


def test_a_stranger_may_ask_the_model_and_nobody_behind_it(served: Place) -> None:
    monitoring = served.prometheus.place
    forever = ("--command", "--", "python", "-c", "import signal; signal.pause()")
    monitoring.kubectl("run", "stranger", f"--image={reference('functions')}", *forever)
    monitoring.kubectl("wait", "pod/stranger", "--for=condition=Ready", "--timeout=120s")
    hosts = {"flights": True, "trainings": False, "drift-watch": False}
    wanted = {name: (f"{name}.{NAMESPACE}.svc.cluster.local", 80, opens) for name, opens in hosts.items()}
    words = ("python", "-c", probes.CLIENT, json.dumps(wanted), str(probes.SETTLED_S))
    assert json.loads(monitoring.kubectl("exec", "stranger", "--", *words)) == hosts


def test_both_targets_are_measured(served: Place, rows: bytes) -> None:
    with load.asking(served.url, rows, 1, pause_s=0.2):
        until("both metrics", lambda: set(_averages(served)) == {"Resource", "External"}, SCALED_S)


def _averages(place: Place) -> dict[str, Any]:
    """What the autoscaler has measured per pod, by kind of metric: requests as a quantity, per cent of CPU."""
    metrics = place.autoscaler().get("status", {}).get("currentMetrics") or ()
    told = {m["type"]: (m.get("resource") or m.get("external") or {}).get("current", {}) for m in metrics if m["type"]}
    averages = {
        kind: at.get("averageValue" if kind == "External" else "averageUtilization") for kind, at in told.items()
    }
    return {kind: average for kind, average in averages.items() if average is not None}


def test_requests_in_progress_bring_pods_and_quiet_brings_them_back_without_one_that_fails(
    served: Place, rows: bytes, figure: Figure
) -> None:
    until("one pod", lambda: served.wanted() == served.ready() == 1, SCALED_S)
    began = time.monotonic()
    with load.asking(served.url, rows, CLIENTS) as many:
        until(f"{WANTED} pods", lambda: served.ready() >= WANTED, SCALED_S)
        up_s = time.monotonic() - began
        until("the ScaledObject Active", lambda: served.condition("Active") == "True", SCALED_S)
    began = time.monotonic()
    # One client stays, so that somebody would notice a pod that leaves with a request.
    with load.asking(served.url, rows, 1, pause_s=0.05) as few:
        until("one pod again", lambda: served.wanted() == served.ready() == 1, SCALED_S)
        down_s = time.monotonic() - began
    assert many.failed + few.failed == []
    assert many.answered > CLIENTS and few.answered > 0
    figure(f"KEDA: {CLIENTS} requests in progress, from one pod to {WANTED} ready ones: {up_s:.0f} s")
    figure(f"KEDA: back to one, with {STABILIZATION_S} s of stabilization: {down_s:.0f} s")
    figure(f"KEDA: requests meanwhile, none of which failed: {many.answered + few.answered}")


def test_without_prometheus_three_pods_run_and_with_it_one_again(served: Place, rows: bytes, figure: Figure) -> None:
    began = time.monotonic()
    with load.asking(served.url, rows, 1, pause_s=0.05) as few:
        served.prometheus.away()
        try:
            until("three pods", lambda: served.ready() == 3, SCALED_S)
            figure(f"KEDA: three pods, after Prometheus went away: {time.monotonic() - began:.0f} s")
            until("the fallback told", lambda: served.condition("Fallback") == "True", SCALED_S)
        finally:
            served.prometheus.back()
        until("no fallback", lambda: served.condition("Fallback") == "False", SCALED_S)
        until("one pod again", lambda: served.wanted() == served.ready() == 1, SCALED_S)
    assert few.failed == []


def test_a_prometheus_that_scrapes_none_of_the_pods_counts_as_none(served: Place) -> None:
    query = "/spec/triggers/0/metadata/query"
    right = served.scaled_object()["spec"]["triggers"][0]["metadata"]["query"]

    def set_to(value: str) -> None:
        words = json.dumps([{"op": "replace", "path": query, "value": value}])
        served.plain.kubectl("patch", "scaledobject", "flights", "--type=json", "-p", words)

    set_to(right.replace(NAMESPACE, "headrace-where-nothing-is"))
    try:
        until("three pods", lambda: served.ready() == 3, SCALED_S)
        until("the fallback told", lambda: served.condition("Fallback") == "True", SCALED_S)
    finally:
        set_to(right)
    until("no fallback", lambda: served.condition("Fallback") == "False", SCALED_S)
    until("one pod again", lambda: served.wanted() == served.ready() == 1, SCALED_S)


def test_without_prometheus_what_runs_keeps_running(served: Place, rows: bytes) -> None:
    with load.asking(served.url, rows, CLIENTS) as many:
        until(f"{WANTED} pods", lambda: served.ready() >= WANTED, SCALED_S)
        served.prometheus.away()
    try:
        until("the fallback", lambda: served.condition("Fallback") == "True", SCALED_S)
        began, least = time.monotonic(), served.wanted()
        # As long as quiet takes to bring pods back, and as long again.
        while time.monotonic() - began < 4 * STABILIZATION_S:
            least = min(least, served.wanted())
            time.sleep(1)
        assert least >= WANTED
    finally:
        served.prometheus.back()
    until("one pod again", lambda: served.wanted() == served.ready() == 1, SCALED_S)
    assert many.failed == []
