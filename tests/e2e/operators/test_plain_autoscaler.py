"""The overlay `plain` and its HorizontalPodAutoscaler, with the metrics server and prometheus-adapter.

The autoscaler's patience is shortened; who decides, and by what, is as in the overlay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace.status import condition
from tests.e2e import plain as overlay
from tests.e2e.kit import Kit
from tests.e2e.kustomization import patch
from tests.e2e.operators import load, prometheus_adapter, scaled
from tests.e2e.operators.prometheus import Prometheus
from tests.e2e.operators.prometheus_adapter import Adapter
from tests.e2e.operators.scaled import BODY, CLIENTS, Scaled
from tests.e2e.plain import Plain
from tests.e2e.store import S3

pytestmark = [pytest.mark.operator, pytest.mark.timeout(10_000)]

NAMESPACE = time.strftime("headrace-e2e-autoscaler-%H%M%S")
METRIC = "headrace_requests_in_progress"
AUTOSCALER = "HorizontalPodAutoscaler"
PER_CENT = "/spec/metrics/0/resource/target/averageUtilization"


@dataclass(frozen=True)
class Place(Scaled):
    """The overlay, and who tells its autoscaler of requests."""

    adapter: Adapter

    def autoscaler(self) -> dict[str, Any]:
        return self.plain.get("hpa", "flights")

    def measured(self) -> set[str]:
        return set(scaled.measured(self.autoscaler()))


@pytest.fixture(scope="module")
def place(
    kubeconfig: Path, kit: Kit, s3: S3, watching: Prometheus, keda: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    of_the_place = [
        scaled.SMALL,
        patch(AUTOSCALER, "flights", "add", "/spec/behavior", scaled.BEHAVIOR),
        patch(AUTOSCALER, "flights", "replace", PER_CENT, scaled.CPU_PER_CENT),
    ]
    with prometheus_adapter.running(kit, watching) as adapter:
        here = Plain(kubeconfig, NAMESPACE, "", s3.outside)
        with overlay.applied(here, "plain", s3, tmp_path_factory.mktemp("overlay"), of_the_place):
            yield Place(here, adapter)


@pytest.fixture(scope="module")
def served(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The place with a model that answers."""
    place.learn(tmp_path_factory.mktemp("months"))
    return place


def test_by_the_rule_of_the_docs_each_predictor_is_told_of_and_nobody_else(served: Place) -> None:
    found = served.wait("numbers of the adapter", lambda: served.adapter.values(NAMESPACE, METRIC))
    assert set(found) <= served.pods()


def test_the_autoscaler_reads_both_targets(served: Place) -> None:
    with load.asking(served.url, BODY, 1, pause_s=0.2):
        served.wait("both metrics", lambda: served.measured() == {"Resource", "Pods"})
        assert condition(served.autoscaler(), "ScalingActive")["status"] == "True"


def test_requests_in_progress_bring_pods_and_quiet_brings_them_back_without_one_that_fails(
    served: Place, figure: Callable[[str], None]
) -> None:
    served.grows_and_shrinks("HPA", figure)


def test_without_the_adapter_pods_are_added_by_cpu_alone_and_none_is_taken_away(served: Place) -> None:
    served.rests()
    served.adapter.away()
    try:
        served.wait("the adapter's silence noticed", lambda: served.measured() <= {"Resource"})
        with load.asking(served.url, BODY, CLIENTS) as many:
            served.wait("more pods", lambda: served.ready() > 1)
        served.keeps(served.wanted())
    finally:
        served.adapter.back()
    served.rests()
    assert many.failed == []
