"""Nobody asks, nothing runs; somebody asks, it is there. How long the way from zero took is told, by phase."""

from __future__ import annotations

import json
import logging
import re
import time

import pytest

from eventing.contract import ModelPromoted
from tests.answers import Answer
from tests.end_to_end import tables
from tests.end_to_end.conftest import Open
from tests.end_to_end.house import House, until

MODEL = "idle"
FUNCTIONS = ("promoter", "drift-watch", "job-watch", "dead-letters")
# What the gateway saw of an activation: the Pod object, its process, its readiness; all of these are `activation`.
PHASES = ("activation", "schedule", "start", "ready", "answer")
# What the predictor's own log tells of its start.
START = ("interpreter", "imports", "fetch", "load", "self_test", "ready")
SHORT = {
    "autoscaling.knative.dev/window": "6s",  # Knative takes no shorter one
    "autoscaling.knative.dev/scale-to-zero-pod-retention-period": "0s",
}

log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def house(open_another: Open, tmp_path_factory: pytest.TempPathFactory) -> House:
    """A model whose stable window and grace period are as short as Knative lets them be; what ops would type."""
    house = open_another()
    verdict = house.learn(tables.table(tmp_path_factory.mktemp("idle") / "idle.csv", seed=51), MODEL)
    assert verdict.type == ModelPromoted.TYPE
    house.kubectl("create", "namespace", "knative-serving")
    settings = ("--from-literal=scale-to-zero-grace-period=1s", "--from-literal=stable-window=6s")
    house.kubectl("create", "configmap", "config-autoscaler", "-n", "knative-serving", *settings)
    patch = json.dumps({"spec": {"template": {"metadata": {"annotations": SHORT}}}})
    for name in (MODEL, *FUNCTIONS):
        house.kubectl("patch", "ksvc", name, "--type=merge", "-p", patch)
    house.kubectl("wait", "--for=condition=Ready", "ksvc", "--all", "--timeout=60s")
    # The one before keeps its own window, which is longer than any training: minutes.
    house.kubectl("delete", "revision", "job-watch-00001")
    return house


def test_a_model_that_nobody_asks_costs_no_process(house: House) -> None:
    house.predictions(MODEL, tables.questions(1, seed=52))
    _at_zero(house)
    assert house.items("pods", f"serving.knative.dev/service={MODEL}") == []
    for revision in house.items("revisions", f"serving.knative.dev/service={MODEL}"):
        assert not revision["status"].get("actualReplicas")


def test_the_next_request_is_answered_and_tells_where_its_time_went(house: House) -> None:
    before = _from_zero(house)
    phases = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", before.headers["Server-Timing"])}
    assert set(PHASES) <= set(phases)
    # The three are what an activation consists of, but for the moments between them.
    assert sum(phases[p] for p in ("schedule", "start", "ready")) <= phases["activation"] + 5


def test_a_predictor_logs_the_phases_of_its_start(house: House) -> None:
    _from_zero(house)
    (pod,) = house.items("pods", f"serving.knative.dev/service={MODEL}")
    logged = house.kubectl("logs", pod["metadata"]["name"])
    told = next(line for line in logged.splitlines() if "self_test" in line)
    log.info("the predictor's start: %s", told)
    assert [p for p in START if f"{p} " not in told] == []


def test_a_pod_that_starts_is_asked_as_often_as_it_takes(house: House) -> None:
    """A period of its own would make the first request wait for the next look, not for the predictor."""
    for revision in house.items("revisions", f"serving.knative.dev/service={MODEL}"):
        assert "periodSeconds" not in revision["spec"]["containers"][0]["readinessProbe"]


def test_a_request_from_a_warm_pod_has_no_activation(house: House) -> None:
    house.predictions(MODEL, tables.questions(1, seed=53))
    assert "Server-Timing" not in house.ask(MODEL, tables.questions(1, seed=54)).headers


def _from_zero(house: House) -> Answer:
    _at_zero(house)
    began = time.monotonic()
    answer = house.ask(MODEL, tables.questions(1, seed=55))
    took = time.monotonic() - began
    assert answer.status == 200, answer.body
    log.info("from zero to the answer: %.2f s; %s", took, answer.headers.get("Server-Timing"))
    return answer


def _at_zero(house: House) -> None:
    until("no predictor", lambda: not house.pods_running("functions.predictor"))


def test_what_is_left_when_nothing_happens_is_the_platform_and_its_folder_source(house: House) -> None:
    """Promoter, drift watch and dead letters go too."""
    modules = ("functions.predictor", *(f"functions.{name.replace('-', '_')}" for name in FUNCTIONS))
    until("nothing else", lambda: not any(house.pods_running(module) for module in modules))
    assert len(house.pods_running("eventing.source")) == 1
