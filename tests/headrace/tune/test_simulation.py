"""The simulation: against a plain one written apart, against theory, and against what must hold for any traffic."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventing.errors import Misconfigured
from headrace.tune import shapes
from headrace.tune.simulation import Outcome, latencies, simulate
from headrace.tune.traffic import Traffic
from headrace.tune.world import KNATIVE, LAPTOP, Setting, World
from knative.autoscaler import Config
from tests.headrace.tune.plain import Plain

GROUP = "autoscaling.knative.dev"


def setting(limit: int = 0, **keys: str) -> Setting:
    return Setting.of({f"{GROUP}/{key.replace('_', '-')}": value for key, value in keys.items()}, limit)


def traffic(starts_s: Any, service_s: Any) -> Traffic:
    starts = np.asarray(starts_s, np.float64)
    services = np.broadcast_to(np.asarray(service_s, np.float64), starts.shape)
    return Traffic(starts, services, None, "test", np.empty(0), ())


def poisson(rate: float, seconds: float, mean_s: float, seed: int = 1) -> Traffic:
    """Poisson arrivals, exponential service: M/M/…"""
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.random(rng.poisson(rate * seconds))) * seconds
    return traffic(starts, rng.exponential(mean_s, starts.size))


# ---------------------------------------------------------------- the same as plainly

PLAIN = [
    pytest.param(setting(1, target="1"), World(path=LAPTOP), "burst", 8.0, id="one at a time"),
    pytest.param(setting(3, window="10s"), World(path=LAPTOP, pod_capacity=2, cold_starts_s=(1.3,)), "sparse", 20.0,
                 id="pods that serve fewer than they hold"),
    pytest.param(setting(0, target="2", scale_down_delay="10s"), World(path=LAPTOP, pod_capacity=3), "ramp", 15.0,
                 id="without a limit"),
    pytest.param(setting(2, target="2", max_scale="2"), World(path=LAPTOP, timeout_s=1.5, pod_capacity=2), "burst",
                 60.0, id="overload with timeouts"),
    pytest.param(setting(1, metric="rps", target="5", max_scale="1"), World(path=LAPTOP, pod_capacity=1), "burst", 40.0,
                 id="a line that is full"),
    pytest.param(setting(5, min_scale="0", activation_scale="3", window="6s", scale_to_zero_pod_retention_period="1m"),
                 World(path=LAPTOP, pod_capacity=5, stop_s=7.0), "sparse", 10.0, id="from zero to three"),
    pytest.param(setting(4, target_burst_capacity="-1", window="8s"), World(path=LAPTOP, pod_capacity=4), "sparse", 9.0,
                 id="the activator always in the path"),
    pytest.param(setting(2, target_burst_capacity="0", window="8s"), World(path=LAPTOP, pod_capacity=2), "sparse", 0.5,
                 id="the activator never in the path"),
    pytest.param(setting(1, initial_scale="6", target_utilization_percentage="100",
                         metric_aggregation_algorithm="weighted-exponential"),
                 World(path=LAPTOP, pod_capacity=1, cold_starts_s=(0.0,)), "steady", 20.0, id="weighted averages"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "world", "shape", "peak"), PLAIN)
@pytest.mark.parametrize("seed", [0, 1])
def test_it_does_what_a_plain_simulation_does(given: Setting, world: World, shape: str, peak: float, seed: int) -> None:
    drawn = shapes.shape(shape, 400, peak, 0.15, seed)
    plain = Plain(drawn, given, world, 400.0)
    outcome = simulate(drawn, given, world, end_s=400.0)
    answered = np.sort([s for s in plain.latencies if s != math.inf])
    assert outcome.answered == answered.size
    assert outcome.refused + outcome.timed_out == drawn.count - answered.size
    assert outcome.cold == plain.cold
    assert outcome.pod_seconds == pytest.approx(plain.pod_seconds)
    assert outcome.mean_s == pytest.approx(float(answered.mean()), rel=1e-5)
    for seen, quantile in ((outcome.p50_s, 0.5), (outcome.p95_s, 0.95), (outcome.p99_s, 0.99)):
        assert seen == pytest.approx(answered[math.ceil(quantile * answered.size) - 1], rel=1e-5)


@given(st.lists(st.one_of(st.floats(0, 9, width=32), st.sampled_from([0.5, 1.0])), min_size=1, max_size=80),
       st.integers(0, 9), st.booleans())  # fmt: skip
def test_quantiles_are_those_of_all_that_were_answered(answered: list[float], failed: int, keep: bool) -> None:
    rng = np.random.default_rng(len(answered))
    all_ = rng.permutation(np.array([*answered, *[math.inf] * failed], np.float32))
    seen = latencies(all_, len(answered), keep=keep)
    ordered = sorted(np.array(answered, np.float32).tolist())
    ranks = [math.ceil(q * len(ordered)) - 1 for q in (0.5, 0.95, 0.99)]
    assert seen[:3] == tuple(ordered[rank] for rank in ranks)
    assert seen[3] == pytest.approx(math.fsum(ordered) / len(ordered), rel=1e-6)


# ---------------------------------------------------------------- theory


def erlang_c(servers: int, load: float) -> float:
    """The share of arrivals that wait. load: arrivals times mean service. Source: Erlang (1917)."""
    inverse = 1.0
    for n in range(1, servers + 1):
        inverse = 1 + inverse * n / load  # of Erlang B
    blocked = 1 / inverse
    return servers * blocked / (servers - load * (1 - blocked))


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (2, 1.5), (5, 4.0), (20, 17.0)])
@pytest.mark.parametrize("pods", ["many", "one"])
def test_a_fixed_number_of_places_waits_as_erlang_says(servers: int, load: float, pods: str) -> None:
    """One line before c pods of one place, and one pod with c places, are both M/M/c."""
    mean_s, seconds = 0.1, 40_000.0
    drawn = poisson(load / mean_s, seconds, mean_s)
    if pods == "many":
        fixed = setting(1, min_scale=str(servers), max_scale=str(servers), initial_scale=str(servers))
        world = World(path=LAPTOP, pod_capacity=1)
    else:
        fixed, world = setting(0, min_scale="1", max_scale="1"), World(path=LAPTOP, pod_capacity=servers)
    outcome = simulate(drawn, fixed, world)
    wait_s = erlang_c(servers, load) * mean_s / (servers - load)
    assert outcome.answered == drawn.count
    assert outcome.mean_s - float(drawn.service_s.mean()) == pytest.approx(wait_s, rel=0.06)
    assert outcome.pod_seconds == pytest.approx((servers if pods == "many" else 1) * outcome.end_s)


def test_two_random_choices_wait_longer_than_one_line_and_shorter_than_one_choice() -> None:
    """Past the activator each pod has a line of its own: between M/M/c and c times M/M/1."""
    servers, mean_s, load = 10, 0.1, 8.0
    drawn = poisson(load / mean_s, 20_000.0, mean_s)
    fixed = setting(1, min_scale="10", max_scale="10", initial_scale="10", target_burst_capacity="0")
    outcome = simulate(drawn, fixed, World(pod_capacity=1))
    wait_s = outcome.mean_s - float(drawn.service_s.mean())
    one_line = erlang_c(servers, load) * mean_s / (servers - load)
    own_lines = mean_s * 0.8 / (1 - 0.8)
    assert 1.2 * one_line < wait_s < 0.6 * own_lines


# ---------------------------------------------------------------- what single requests meet


def test_a_request_to_a_revision_at_zero_waits_for_one_cold_start() -> None:
    drawn = traffic([0.0, 1000.0], 0.2)
    outcome = simulate(drawn, setting(1), World(cold_starts_s=(1.7,)))
    assert outcome.cold == 1
    assert outcome.p99_s == pytest.approx(1.9)
    assert outcome.p50_s == pytest.approx(0.2)


def test_the_last_pod_goes_a_window_and_a_grace_period_after_the_last_request() -> None:
    """Requests until 120 s; idle when the window is empty, then 30 s of grace, then 30 s to stop."""
    drawn = traffic(np.arange(0, 120, 0.5), 0.1)
    outcome = simulate(drawn, setting(0, target_burst_capacity="0"), World(), end_s=1000.0)
    assert outcome.pod_seconds == pytest.approx(120 + 60 + 30 + 30, abs=5)


def test_a_request_that_waits_too_long_gets_504_at_its_deadline() -> None:
    """One pod, one place: the second waits 2 s, more than its patience; the first is served for 1.5 s of 3 s."""
    drawn = traffic([0.0, 0.5], [3.0, 0.1])
    outcome = simulate(drawn, setting(1, max_scale="1"), World(timeout_s=1.5, pod_capacity=1))
    assert (outcome.timed_out, outcome.answered) == (1, 1)
    assert outcome.p99_s == pytest.approx(1.1)


@pytest.mark.parametrize(("path", "held"), [(LAPTOP, 1 + 100), (KNATIVE, 1 + 10)])
def test_a_full_line_refuses(path: str, held: int) -> None:
    """A pod of one place; the laptop's line holds 100 at least, queue-proxy's ten for a place."""
    drawn = traffic(np.linspace(10, 10.1, 300), 60.0)
    fixed = setting(1, max_scale="1", min_scale="1", target_burst_capacity="0")
    outcome = simulate(drawn, fixed, World(path=path, timeout_s=1e6, pod_capacity=1))
    assert outcome.refused == 300 - held


# ---------------------------------------------------------------- for any traffic

_ANY = st.lists(
    st.tuples(st.floats(0, 30, allow_nan=False), st.one_of(st.just(0.0), st.floats(0, 20))), min_size=0, max_size=60
)


@settings(max_examples=200, deadline=None)
@given(
    _ANY,
    st.sampled_from([0, 1, 2, 7]),
    st.sampled_from([1, 3, 100]),
    st.sampled_from([KNATIVE, LAPTOP]),
    st.floats(0.05, 40),
    st.fixed_dictionaries(
        {},
        optional={
            "min_scale": st.sampled_from(["0", "2"]),
            "max_scale": st.sampled_from(["0", "3"]),
            "target_burst_capacity": st.sampled_from(["-1", "0", "7"]),
            "window": st.just("6s"),
            "activation_scale": st.just("3"),
        },
    ),
)
def test_each_request_is_answered_once_or_fails_once(
    rows: list[tuple[float, float]], limit: int, capacity: int, path: str, timeout_s: float, keys: dict[str, str]
) -> None:
    gaps, services = [r[0] for r in rows], [r[1] for r in rows]
    drawn = traffic(np.cumsum(gaps), services)
    world = World(path=path, timeout_s=timeout_s, pod_capacity=capacity, cold_starts_s=(0.5, 3.0))
    outcome = simulate(drawn, setting(limit, **keys), world, series=True)
    assert outcome.answered + outcome.refused + outcome.timed_out == drawn.count
    if outcome.answered:
        assert min(services) <= outcome.p50_s * (1 + 1e-6) + 1e-9
        assert outcome.p99_s <= timeout_s * (1 + 1e-6)
    over_time = outcome.series
    assert over_time is not None
    assert over_time.pods.sum() * over_time.bin_s == pytest.approx(outcome.pod_seconds)
    assert over_time.requests.sum() == drawn.count
    assert over_time.failed.sum() == outcome.refused + outcome.timed_out
    assert outcome.pod_seconds <= (outcome.starts + 10) * outcome.end_s


def test_the_same_seed_gives_the_same_outcome_and_another_one_another() -> None:
    drawn = shapes.shape("sparse", 3600, 20, 0.1)
    world = World(cold_starts_s=(0.7, 1.1, 1.9, 4.0), pod_capacity=2)

    def once(seed: int) -> dict[str, Any]:
        return dataclasses.asdict(simulate(drawn, setting(0, target="1"), world, seed=seed))

    assert once(5) == once(5)
    assert once(5) != once(6)


def test_empty_traffic_costs_the_first_pod_alone() -> None:
    outcome = simulate(traffic([], []), setting(), World(), end_s=300.0)
    assert (outcome.requests, outcome.cold_share, outcome.failed_share) == (0, 0.0, 0.0)
    assert math.isnan(outcome.p95_s)
    # A window and the time to stop; the activator was in the path all along, so that no grace period is left.
    assert outcome.pod_seconds == pytest.approx(90, abs=4)


def test_more_pods_than_can_be_simulated_are_told() -> None:
    drawn = traffic(np.linspace(0, 5, 30_000), 30.0)
    outcome: Outcome = simulate(drawn, setting(1, target="1"), World(pod_capacity=1, timeout_s=100.0))
    assert outcome.clipped
    assert outcome.answered + outcome.refused + outcome.timed_out == drawn.count


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"path": "istio"}, "path"),
        ({"cold_starts_s": ()}, "cold starts"),
        ({"cold_starts_s": (-1.0,)}, "cold starts"),
        ({"pod_capacity": 0}, "pod capacity"),
        ({"stop_s": math.inf}, "stop"),
        ({"timeout_s": 0.0}, "timeout"),
    ],
)
def test_a_world_that_cannot_be_is_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(Misconfigured, match=named):
        World(**{"config": Config(), **wrong})
