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

from headrace.status import condition
from tests.e2e import plain as overlay
from tests.e2e import probes
from tests.e2e.images import reference
from tests.e2e.kustomization import patch
from tests.e2e.operators import load, prometheus, scaled
from tests.e2e.operators.prometheus import Prometheus
from tests.e2e.operators.scaled import BODY, CLIENTS, WANTED, Scaled
from tests.e2e.place import until
from tests.e2e.plain import Plain
from tests.e2e.store import S3
from tests.manifests.kustomized import objects

# The first of them builds KEDA, once per machine.
pytestmark = [pytest.mark.operator, pytest.mark.timeout(10_000)]

NAMESPACE = time.strftime("headrace-e2e-keda-%H%M%S")
Figure = Callable[[str], None]


@dataclass(frozen=True)
class Place(Scaled):
    """The overlay, and who watches it."""

    prometheus: Prometheus

    def scaled_object(self) -> dict[str, Any]:
        return self.plain.get("scaledobject", "flights")

    def condition(self, kind: str) -> str | None:
        return condition(self.scaled_object(), kind).get("status")

    def autoscaler(self) -> dict[str, Any]:
        return self.plain.get("hpa", "keda-hpa-flights")

    def measured(self) -> dict[str, str | int]:
        return scaled.measured(self.autoscaler())


@pytest.fixture(scope="module")
def place(
    kubeconfig: Path, s3: S3, watching: Prometheus, keda: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    here = Plain(kubeconfig, NAMESPACE, "", s3.outside)
    with overlay.applied(here, "keda", s3, tmp_path_factory.mktemp("overlay"), _of_the_place(watching)):
        try:
            yield Place(here, watching)
        finally:
            # While KEDA is there to let it go.
            here.try_kubectl("delete", "scaledobject", "--all", "--timeout=60s")


def _of_the_place(watching: Prometheus) -> list[Mapping[str, Any]]:
    """What docs/ops.md has users set, address and namespace; and patience."""
    query = objects("overlays/keda")["ScaledObject flights"]["spec"]["triggers"][0]["metadata"]["query"]
    assert '"headrace"' in query
    told = {
        "/spec/triggers/0/metadata/serverAddress": watching.url,
        "/spec/triggers/0/metadata/query": query.replace('"headrace"', f'"{NAMESPACE}"'),
        "/spec/triggers/1/metadata/value": str(scaled.CPU_PER_CENT),
        "/spec/fallback/failureThreshold": 3,
        "/spec/advanced": {"horizontalPodAutoscalerConfig": {"behavior": scaled.BEHAVIOR}},
    }
    return [
        scaled.SMALL,
        *(patch("ScaledObject", "flights", "add", path, value) for path, value in told.items()),
    ]


@pytest.fixture(scope="module")
def served(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The place with a model that answers."""
    place.learn(tmp_path_factory.mktemp("months"))
    return place


def test_the_scaled_object_is_taken_as_it_is_and_becomes_ready(place: Place) -> None:
    until("the ScaledObject Ready", lambda: place.condition("Ready") == "True")
    spec = until("an autoscaler by KEDA", place.autoscaler)["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 10)
    assert {m["type"] for m in spec["metrics"]} == {"External", "Resource"}
    assert [o["metadata"]["name"] for o in place.plain.items("hpa")] == ["keda-hpa-flights"]


def test_a_model_without_a_version_waits_in_one_pod(place: Place) -> None:
    until("a pod of flights", lambda: place.plain.is_running("flights"))
    prometheus.scraping(place.prometheus, NAMESPACE)
    place.wait("a measured zero", lambda: place.measured().get("External") == "0")
    # Until one was scraped there may have been three.
    place.wait("one pod", lambda: place.wanted() == 1 and place.condition("Fallback") == "False")


def test_prometheus_finds_the_predictors_and_nobody_else(served: Place) -> None:
    found = prometheus.scraping(served.prometheus, NAMESPACE)
    assert {t["labels"]["pod"] for t in found} <= served.pods()
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


def test_both_targets_are_measured(served: Place) -> None:
    with load.asking(served.url, BODY, 1, pause_s=0.2):
        served.wait("both metrics", lambda: set(served.measured()) == {"Resource", "External"})


def test_requests_in_progress_bring_pods_and_quiet_brings_them_back_without_one_that_fails(
    served: Place, figure: Figure
) -> None:
    def busy() -> None:
        served.wait("the ScaledObject Active", lambda: served.condition("Active") == "True")

    served.grows_and_shrinks("KEDA", figure, busy)


def test_without_prometheus_three_pods_run_and_with_it_one_again(served: Place, figure: Figure) -> None:
    began = time.monotonic()
    with load.asking(served.url, BODY, 1, pause_s=0.05) as few:
        served.prometheus.away()
        try:
            served.wait("three pods", lambda: served.ready() == 3)
            figure(f"KEDA: three pods, after Prometheus went away: {time.monotonic() - began:.0f} s")
            served.wait("the fallback told", lambda: served.condition("Fallback") == "True")
        finally:
            served.prometheus.back()
        served.wait("no fallback", lambda: served.condition("Fallback") == "False")
        served.rests()
    assert few.failed == []


def test_a_prometheus_that_scrapes_none_of_the_pods_counts_as_none(served: Place) -> None:
    query = "/spec/triggers/0/metadata/query"
    right = served.scaled_object()["spec"]["triggers"][0]["metadata"]["query"]

    def set_to(value: str) -> None:
        words = json.dumps([{"op": "replace", "path": query, "value": value}])
        served.plain.kubectl("patch", "scaledobject", "flights", "--type=json", "-p", words)

    set_to(right.replace(NAMESPACE, "headrace-where-nothing-is"))
    try:
        served.wait("three pods", lambda: served.ready() == 3)
        served.wait("the fallback told", lambda: served.condition("Fallback") == "True")
    finally:
        set_to(right)
    served.wait("no fallback", lambda: served.condition("Fallback") == "False")
    served.rests()


def test_without_prometheus_what_runs_keeps_running(served: Place) -> None:
    with load.asking(served.url, BODY, CLIENTS) as many:
        served.wait(f"{WANTED} pods", lambda: served.ready() >= WANTED)
        served.prometheus.away()
    try:
        served.wait("the fallback", lambda: served.condition("Fallback") == "True")
        served.keeps(WANTED)
    finally:
        served.prometheus.back()
    served.rests()
    assert many.failed == []
