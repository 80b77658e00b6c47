"""The one place where `headrace tune` comes into `tests.bench.replay`: what it says of a case beforehand."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.tune.traffic import Traffic
from knative import autoscaler
from tests.bench.replay_cases import CAPACITY, GROUP, START_S, STOP_S, TIMEOUT_S, Case

PHASES_S = tuple(n * autoscaler.DECISION_INTERVAL_S / 8 for n in range(8))


@dataclass(frozen=True, slots=True)
class Figures:
    """What is predicted and measured of one run. Latencies in seconds; pods: at once, the most."""

    p50_s: float
    p95_s: float
    p99_s: float
    cold_share: float
    failed_share: float
    pod_seconds: float
    pods: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """figures: at the moment of the autoscaler's clock at which the run began. p95_s, pod_seconds: least and most over
    all moments: decisions come every two seconds, and a burst just before one is not one just after.
    """

    figures: Figures
    p95_s: tuple[float, float]
    pod_seconds: tuple[float, float]


def predict(case: Case, traffic: Traffic, began_s: float, colds_s: Sequence[float]) -> Prediction | None:
    """What `headrace tune` says; None where it cannot simulate.

    Told: the traffic and when it came, the setting, and the cold starts as measured in this run, all of which its own
    readers would find in the gateway's journal. Not told: anything of latencies, pods or decisions.
    """
    if importlib.util.find_spec("headrace.tune.simulation") is None:
        return None
    here = _simulated(case, traffic, colds_s, began_s % autoscaler.DECISION_INTERVAL_S)
    all_phases = [here, *(_simulated(case, traffic, colds_s, phase_s) for phase_s in PHASES_S)]
    p95s, pod_seconds = [f.p95_s for f in all_phases], [f.pod_seconds for f in all_phases]
    return Prediction(here, (min(p95s), max(p95s)), (min(pod_seconds), max(pod_seconds)))


def _simulated(case: Case, traffic: Traffic, colds_s: Sequence[float], phase_s: float) -> Figures:
    """With second 0 of the traffic so long after a beat of the autoscaler's clock."""
    simulation = importlib.import_module("headrace.tune.simulation")
    world = importlib.import_module("headrace.tune.world")
    setting = world.Setting.of({f"{GROUP}/{k}": v for k, v in case.annotations.items()}, case.container_concurrency)
    laptop = world.World(
        cold_starts_s=tuple(colds_s) or (START_S,),
        pod_capacity=CAPACITY,
        timeout_s=TIMEOUT_S,
        path="laptop",
        stop_s=STOP_S,
    )
    shifted = dataclasses.replace(traffic, starts_s=traffic.starts_s + phase_s)
    found = simulation.simulate(shifted, setting, laptop, end_s=case.seconds + phase_s)
    return Figures(
        p50_s=found.p50_s,
        p95_s=found.p95_s,
        p99_s=found.p99_s,
        cold_share=found.cold_share,
        failed_share=found.failed_share,
        pod_seconds=found.pod_seconds - phase_s * case.initial_scale,  # of the time before second 0
        pods=found.most_pods,
    )


def off(seen: Figures, said: Figures) -> tuple[float, float]:
    """How far the predicted p95 and pod-seconds are from the measured ones, as shares of these."""
    return said.p95_s / seen.p95_s - 1, said.pod_seconds / seen.pod_seconds - 1
