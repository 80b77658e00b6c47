from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest

from headrace.local.console import costs
from headrace.local.gateway.request_metrics import RequestMetrics
from headrace.local.objects.objects import Objects

BEGIN = 1_767_225_600.0  # 2026-01-01T00:00:00Z


class Clock:
    now = BEGIN

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[Objects]:
    objects = Objects(tmp_path / "objects.db")
    yield objects
    objects.close()


def pod(name: str, labels: dict[str, str]) -> dict[str, Any]:
    meta = {"name": name, "namespace": "headrace", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def start(objects: Objects, pod: dict[str, Any], at: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    created = objects.create(pod)
    return objects.update({**created, "status": {"phase": "Running", "startTime": at}}, subresource="status")


SERVED = {"serving.knative.dev/service": "flights"}


def test_a_running_pod_costs_its_seconds_so_far(objects: Objects) -> None:
    clock = Clock()
    counted = costs.Costs(objects, clock)
    counted.start()
    start(objects, pod("a", SERVED))
    clock.now += 12
    assert counted.pod_seconds("headrace", "flights") == 12


def test_two_pods_cost_twice_and_an_ended_one_no_more_after_its_end(objects: Objects) -> None:
    clock = Clock()
    counted = costs.Costs(objects, clock)
    counted.start()
    start(objects, pod("a", SERVED))
    start(objects, pod("b", SERVED))
    clock.now += 10
    objects.delete("Pod", "headrace", "a")
    clock.now += 5
    assert counted.pod_seconds("headrace", "flights") == 10 + 15


def test_a_pod_from_before_the_start_costs_from_the_start_on(objects: Objects) -> None:
    start(objects, pod("a", SERVED), at="2025-12-31T23:00:00Z")
    clock = Clock()
    counted = costs.Costs(objects, clock)
    counted.start()
    clock.now += 3
    assert (counted.since, counted.pod_seconds("headrace", "flights")) == (BEGIN, 3)


def test_a_training_costs_until_its_pod_succeeded(objects: Objects) -> None:
    clock = Clock()
    counted = costs.Costs(objects, clock)
    counted.start()
    running = start(objects, pod("a", {"batch.kubernetes.io/job-name": "forest-1"}))
    clock.now += 20
    objects.update({**running, "status": {**running["status"], "phase": "Succeeded"}}, subresource="status")
    clock.now += 100
    assert counted.job_seconds("headrace", "forest-1") == 20
    assert counted.pod_seconds("headrace", "forest-1") == 0


def test_after_stop_nothing_is_counted(objects: Objects) -> None:
    clock = Clock()
    counted = costs.Costs(objects, clock)
    counted.start()
    counted.stop()
    start(objects, pod("a", SERVED))
    clock.now += 9
    assert counted.pod_seconds("headrace", "flights") == 0


def test_requests_errors_and_latencies_are_told_per_revision() -> None:
    registry, metrics = prometheus_client.CollectorRegistry(), RequestMetrics()
    registry.register(metrics)
    requests = metrics.of("headrace", "flights-00001", SERVED)
    for _ in range(98):
        requests.count(200, 0.004)
    requests.count(404, 0.004)
    requests.count(503, 0.9)
    told = costs.work(registry.collect())["headrace", "flights-00001"]
    assert (told.requests, told.errors) == (100, 1)
    assert 0 < told.p50_ms <= 5
    assert 0 < told.p95_ms <= 5


@pytest.mark.parametrize(
    ("q", "expected"),
    [(0.25, 5.0), (0.5, 10.0), (0.75, 15.0), (1.0, 20.0)],
)
def test_a_quantile_lies_within_its_bucket(q: float, expected: float) -> None:
    assert costs.quantile({10.0: 50, 20.0: 100, float("inf"): 100}, q) == expected


def test_a_quantile_over_the_last_bound_is_that_bound() -> None:
    assert costs.quantile({10.0: 1, float("inf"): 10}, 0.95) == 10.0
