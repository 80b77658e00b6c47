"""Knative's decisions, recorded ones and our own tables of them."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventing.errors import Misconfigured
from knative import autoscaler
from knative.autoscaler import Config, Life, Observation, Scrape, Spec
from knative.literals import SECOND, nanoseconds
from knative.windows import Window

GROUP = "autoscaling.knative.dev"


def spec_of(config: dict[str, str] | None = None, concurrency: int = 0, reachable: bool = True, **keys: str) -> Spec:
    annotations = {f"{GROUP}/{key.replace('_', '-')}": value for key, value in keys.items()}
    return autoscaler.resolve(annotations, Config.from_map(config or {}), concurrency, reachable)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("keys", "concurrency", "config", "target", "total"),
    [
        ({}, 0, {}, 70.0, 100.0),
        ({}, 10, {}, 7.0, 10.0),
        ({"target": "200"}, 10, {}, 7.0, 10.0),  # never above what a pod takes
        ({"target": "5", "target_utilization_percentage": "50"}, 10, {}, 2.5, 5.0),
        ({"metric": "rps"}, 10, {}, 140.0, 200.0),
        ({"metric": "rps", "target": "300"}, 10, {"requests-per-second-target-default": "50"}, 210.0, 300.0),
        ({"target": "0.01"}, 0, {}, 0.01, 0.01),
        ({}, 0, {"container-concurrency-target-percentage": "1"}, 100.0, 100.0),  # 1 is all of it, not a hundredth
        ({"target": "abc"}, 0, {}, 70.0, 100.0),
    ],
)
def test_the_target_per_pod(
    keys: dict[str, str], concurrency: int, config: dict[str, str], target: float, total: float
) -> None:
    spec = spec_of(config, concurrency, **keys)
    assert (spec.target_value, spec.total_value) == (pytest.approx(target), total)


@pytest.mark.parametrize(
    ("window", "percentage", "seconds"),
    [("60s", "10", 6), ("45s", "10", 5), ("6s", "10", 1), ("1h", "1", 36), ("10s", "1", 1), ("60s", "33", 20)],
)
def test_the_panic_window_is_a_share_of_the_stable_one_in_whole_seconds(
    window: str, percentage: str, seconds: int
) -> None:
    assert spec_of(window=window, panic_window_percentage=percentage).panic_window_ns == seconds * SECOND


def test_a_revision_without_a_route_keeps_no_minimum() -> None:
    assert spec_of(min_scale="3", reachable=False).min_scale == 0
    assert spec_of(min_scale="3").min_scale == 3


def test_an_initial_scale_of_zero_needs_the_clusters_leave() -> None:
    assert spec_of(initial_scale="0").initial_scale == 1
    assert spec_of({"allow-zero-initial-scale": "true"}, initial_scale="0").initial_scale == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stable-window", "5s"), ("stable-window", "60"), ("stable-window", "6.5s"), ("max-scale-up-rate", "1"),
        ("max-scale-down-rate", "x"), ("target-burst-capacity", "-2"), ("enable-scale-to-zero", "yes"),
        ("panic-window-percentage", "0.5"), ("initial-scale", "0"), ("min-scale", "-1"), ("max-scale-limit", "5"),
        ("container-concurrency-target-percentage", "101"), ("scale-to-zero-grace-period", "0s"),
    ],
)  # fmt: skip
def test_a_config_that_cannot_work_is_refused_with_its_key(key: str, value: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        Config.from_map({key: value})
    if key != "max-scale-limit":  # its own fault is that max-scale has no bound
        assert refusal.value.key == f"config-autoscaler {key}"


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize(
    ("writes", "at", "average"),
    [
        ([(0, 4.0)], 0, 4.0),
        ([(0, 4.0), (1, 2.0)], 1, 3.0),
        ([(0, 4.0), (0, 2.0)], 0, 6.0),  # two scrapes of one second add up
        ([(0, 6.0), (2, 3.0)], 2, 3.0),  # the gap is a zero
        ([(0, 6.0), (1, 6.0)], 3, 6.0),  # two silent seconds are no idleness: over the two that were seen
        ([(0, 5.0), (9, 5.0)], 9, 5.0),  # after a window of silence it counts afresh
        ([(5, 1.0), (1, 8.0)], 5, 1.0),  # a window too late
        ([(5, 1.0), (2, 8.0)], 5, 2.25),  # late, yet within the window
        ([(0, 1.0)], 4, 0.0),
        ([(0, 1.0), (1, 1.0), (2, 0.0)], 2, 0.666667),
    ],
)
def test_linear_averages_over_four_seconds(writes: list[tuple[int, float]], at: int, average: float) -> None:
    window = Window.empty(4, weighted=False)
    for second, value in writes:
        window = window.record(second, value)
    assert window.average(at) == average


def test_weighted_averages_favour_the_newest() -> None:
    window = Window.empty(4, weighted=True)
    for second, value in enumerate((10.0, 10.0, 5.0, 5.0)):
        window = window.record(second, value)
    m = 1 - 0.0001 ** (1 / 4)
    assert window.average(3) == pytest.approx(5 * m + 5 * m * (1 - m) + 10 * m * (1 - m) ** 2 + 10 * m * (1 - m) ** 3)


def test_a_window_is_a_value() -> None:
    window = Window.empty(6, weighted=False).record(0, 1.0)
    window.record(1, 5.0)
    assert window.average(0) == 1.0


def test_a_resized_window_keeps_what_fits() -> None:
    window = Window.empty(4, weighted=False)
    for second in range(4):
        window = window.record(second, float(second))
    assert window.resized(2, 3).average(3) == 2.5
    assert window.resized(8, 3).average(3) == 1.5


# ---------------------------------------------------------------- decisions


def decided(spec: Spec, ready: int, *concurrency: float) -> autoscaler.Decision:
    """The decision after one scrape per second."""
    state = autoscaler.start(spec, min(ready, 1), 0.0)
    scrapes = tuple(Scrape(second + 0.5, value) for second, value in enumerate(concurrency))
    return autoscaler.decide(state, Observation(ready, scrapes), len(concurrency) - 0.1)[1]


def test_without_data_nothing_is_decided() -> None:
    assert not decided(spec_of(), 1).valid


@pytest.mark.parametrize(
    ("spec", "ready", "concurrency", "desired"),
    [
        (spec_of(), 1, 0.0, 0),
        (spec_of(), 1, 0.001, 1),
        (spec_of(), 1, 70.0, 1),
        (spec_of(), 1, 70.1, 2),
        (spec_of({"max-scale-up-rate": "1.1"}), 2, 1000.0, 3),  # by one at least
        (spec_of(), 10, 0.0, 5),  # at most by half in one step
        (spec_of(reachable=False), 10, 0.0, 0),  # without a route, at once
        (spec_of(activation_scale="4"), 1, 1.0, 4),
        (spec_of(activation_scale="4"), 1, 0.0, 0),
        (spec_of(target="NaN"), 1, 5.0, -(2**31)),  # as Go's int32(NaN); the webhook lets NaN through
        (spec_of(target="Inf"), 1, 5.0, 0),
    ],
)
def test_desired_pods(spec: Spec, ready: int, concurrency: float, desired: int) -> None:
    assert decided(spec, ready, concurrency).desired == desired


def test_panic_answers_the_largest_and_says_so() -> None:
    spec = spec_of(target="5")
    state = autoscaler.start(spec, 1, 0.0)
    state, first = autoscaler.decide(state, Observation(2, (Scrape(0.5, 12.0),)), 0.9)
    assert (first.desired, first.panicking) == (4, True)
    assert first.reason == ("panic: 12 in flight on average over the last 6s would need 4 pods of 3.5, 2 are ready")
    state, later = autoscaler.decide(state, Observation(4, (Scrape(1.5, 0.0), Scrape(2.5, 0.0))), 2.9)
    assert later.desired == 4
    assert later.reason.endswith("panic never lowers, so 4 stay")
    state, over = autoscaler.decide(state, Observation(4, (Scrape(60.5, 0.0),)), 61.0)
    assert (over.desired, over.panicking) == (2, False)


def test_a_restart_above_one_pod_begins_in_panic() -> None:
    state = autoscaler.start(spec_of(), 5, 0.0)
    assert autoscaler.decide(state, Observation(0, (Scrape(0.5, 0.0),)), 1.0)[1].desired == 5


def test_the_scale_down_delay_keeps_the_largest_wish() -> None:
    state = autoscaler.start(spec_of(scale_down_delay="10s", target="1", window="6s"), 1, 0.0)
    wishes = []
    for second in range(0, 40, 2):
        load = 1.4 if second < 4 else 0.0
        observation = Observation(1, (Scrape(second + 0.5, load), Scrape(second + 1.5, load)))
        state, decision = autoscaler.decide(state, observation, second + 1.9)
        wishes.append(decision.desired)
    assert wishes[0] > 0
    assert wishes[-1] == 0
    undelayed = autoscaler.start(spec_of(target="1", window="6s"), 1, 0.0)
    assert undelayed.delay_slots == 0


@pytest.mark.parametrize(
    ("burst", "ready", "panic", "excess"),
    [("-1", 1, 5.0, -1), ("0", 1, 5.0, 0), ("10", 2, 5.5, 184), ("200", 1, 1.0, -101)],
)
def test_excess_burst_capacity(burst: str, ready: int, panic: float, excess: int) -> None:
    assert decided(spec_of(target_burst_capacity=burst), ready, panic).excess_burst_capacity == excess


# ---------------------------------------------------------------- from a wish to pods


def lived(spec: Spec, *steps: tuple[float, int | None, int]) -> list[tuple[int, int | None, str]]:
    """(want, pods, condition Active) after each step of (now_s, desired, ready)."""
    life, out = Life(), []
    for now_s, desired, ready in steps:
        life, plan = autoscaler.reconcile(spec, life, desired, ready, now_s)
        out.append((plan.want, plan.pods, life.active))
    return out


def test_the_long_way_to_zero() -> None:
    assert lived(
        spec_of(),
        (0, None, 0), (2, 0, 0), (3, 0, 1), (5, 0, 1), (62.9, 0, 1), (63, 0, 1), (92.9, 0, 1), (93, 0, 1), (95, 0, 0),
    ) == [
        (-1, None, "Unknown"), (-1, None, "Unknown"), (-1, None, "True"),
        (1, 1, "True"), (1, 1, "True"),  # active: one pod for a whole stable window
        (0, None, "False"), (0, None, "False"),  # inactive: the grace period
        (0, 0, "False"), (0, 0, "False"),
    ]  # fmt: skip


def test_a_request_within_the_grace_period_makes_it_active_again() -> None:
    steps = lived(spec_of(), (0, None, 1), (60, 0, 1), (75, 1, 1), (77, 0, 1), (135, 0, 1))
    assert steps[1:] == [(0, None, "False"), (1, 1, "True"), (1, 1, "True"), (0, None, "False")]


@pytest.mark.parametrize(
    ("spec", "gone_after_s"),
    [
        (spec_of(), 30),
        (spec_of(scale_to_zero_pod_retention_period="1m5s"), 65),
        (spec_of(scale_to_zero_pod_retention_period="5s"), 30),
        (spec_of(scale_to_zero_pod_retention_period="1m5s", reachable=False), 30),
        (spec_of({"scale-to-zero-grace-period": "10s"}), 10),
    ],
)
def test_the_last_pod_stays_for_grace_or_retention_whichever_is_longer(spec: Spec, gone_after_s: int) -> None:
    inactive = Life("False", 0, True)
    assert autoscaler.reconcile(spec, inactive, 0, 1, gone_after_s - 0.1)[1].pods is None
    assert autoscaler.reconcile(spec, inactive, 0, 1, gone_after_s)[1].pods == 0


def test_without_scale_to_zero_the_last_pod_stays() -> None:
    spec = spec_of({"enable-scale-to-zero": "false"})
    assert autoscaler.reconcile(spec, Life("False", 0, True), 0, 1, 1e6)[1].pods == 1


def test_min_scale_keeps_pods_and_max_scale_ends_them() -> None:
    assert autoscaler.reconcile(spec_of(min_scale="2"), Life("True", 0, True), 0, 2, 1e6)[1].pods == 2
    assert autoscaler.reconcile(spec_of(max_scale="3"), Life("True", 0, True), 9, 3, 1.0)[1].pods == 3


def test_the_initial_scale_is_a_minimum_until_it_was_reached() -> None:
    spec = spec_of(initial_scale="3")
    assert autoscaler.first_pods(spec) == 3
    life, plan = autoscaler.reconcile(spec, Life(), 0, 2, 1.0)
    assert (plan.pods, life.active) == (3, "Unknown")
    life, plan = autoscaler.reconcile(spec, life, 0, 3, 2.0)
    assert (life.active, life.initialized) == ("True", True)
    assert autoscaler.reconcile(spec, life, 0, 3, 3.0)[1].pods == 1


def test_what_never_gets_ready_is_given_up_after_its_deadline() -> None:
    spec = autoscaler.resolve({"serving.knative.dev/progress-deadline": "60s"}, Config())
    assert autoscaler.reconcile(spec, Life(), 0, 0, 90.0)[1].pods is None
    life, plan = autoscaler.reconcile(spec, Life(), 0, 0, 90.1)
    assert (plan.pods, life.active, life.reason) == (0, "False", "TimedOut")


def test_a_revision_at_rest_stays_at_rest_without_a_decision() -> None:
    life, plan = autoscaler.reconcile(spec_of(), Life("False", 0, True), None, 0, 1e6)
    assert (plan.want, plan.pods, life.active) == (-1, None, "False")


# ---------------------------------------------------------------- for any settings and traffic

texts = st.sampled_from(["0", "1", "2", "5", "0.5", "7", "70", "100", "-1", "10s", "1m", "x", "NaN", "Inf", "1e3", ""])
annotation_sets = st.dictionaries(
    st.sampled_from(
        [f"{GROUP}/{k}" for k in (
            "target", "metric", "min-scale", "max-scale", "initial-scale", "activation-scale", "scale-down-delay",
            "window", "panic-window-percentage", "panic-threshold-percentage", "target-utilization-percentage",
            "target-burst-capacity", "metric-aggregation-algorithm", "scale-to-zero-pod-retention-period",
        )]
    ),
    texts,
)  # fmt: skip
loads = st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 50)), min_size=1, max_size=30)


configs = st.sampled_from(
    [
        {}, {"max-scale-up-rate": "1.1", "max-scale-down-rate": "1.1"}, {"max-scale-up-rate": "Inf"},
        {"max-scale-down-rate": "NaN"}, {"max-scale": "7", "min-scale": "2"},
        {"max-scale": "3", "max-scale-limit": "9"},
        {"allow-zero-initial-scale": "true", "initial-scale": "0"}, {"enable-scale-to-zero": "false"},
        {"stable-window": "6s", "scale-down-delay": "20s"}, {"target-burst-capacity": "-1"},
    ]
)  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(
    annotations=annotation_sets, config=configs, concurrency=st.integers(0, 1000), reachable=st.booleans(), load=loads
)
def test_pods_stay_within_their_bounds(
    annotations: dict[str, str],
    config: dict[str, str],
    concurrency: int,
    reachable: bool,
    load: list[tuple[float, int]],
) -> None:
    spec = autoscaler.resolve(annotations, Config.from_map(config), concurrency, reachable)
    state, life = autoscaler.start(spec, 0, 0.0), Life()
    highest = spec.max_scale if spec.max_scale > 0 else math.inf
    for number, (value, ready) in enumerate(load):
        now_s = 2.0 * number + 1.9
        observation = Observation(ready, (Scrape(now_s - 0.4, value, value),))
        state, decision = autoscaler.decide(state, observation, now_s)
        initial = 0 if life.initialized or not reachable else spec.initial_scale
        life, plan = autoscaler.reconcile(spec, life, decision.desired if decision.valid else None, ready, now_s)
        if plan.pods is not None:
            lowest = min(spec.min_scale, highest) if plan.pods else 0
            assert lowest <= plan.pods <= max(highest, spec.min_scale, initial)
        assert plan.pods is None or 0 <= plan.pods < 2**31


@settings(max_examples=100, deadline=None)
@given(one=annotation_sets, other=annotation_sets, load=loads, surge=loads)
def test_no_state_leaks_between_revisions(
    one: dict[str, str], other: dict[str, str], load: list[tuple[float, int]], surge: list[tuple[float, int]]
) -> None:
    """Decided in turns, two revisions want what each wants alone, and what was handed on once stays as it was."""

    def steps(annotations: dict[str, str], load: list[tuple[float, int]]) -> Iterator[tuple[autoscaler.State, object]]:
        spec = autoscaler.resolve(annotations, Config())
        state, life = autoscaler.start(spec, load[0][1], 0.0), Life()
        for number, (value, ready) in enumerate(load):
            now_s = 2.0 * number + 1.9
            before, kept = state, copy.deepcopy(state)
            observation = Observation(ready, (Scrape(now_s - 0.4, value, value),))
            state, decision = autoscaler.decide(state, observation, now_s)
            life, plan = autoscaler.reconcile(spec, life, decision.desired, ready, now_s)
            assert repr(before) == repr(kept)
            yield state, repr((decision, life, plan))  # a NaN is no NaN's equal

    alone = [said for _, said in steps(one, load)], [said for _, said in steps(other, surge)]
    turns: tuple[list[object], list[object]] = [], []
    for left, right in itertools.zip_longest(steps(one, load), steps(other, surge)):
        for said, step in zip(turns, (left, right), strict=True):
            said.extend([step[1]] if step else [])
    assert turns == alone


def test_a_spec_may_change_while_it_runs() -> None:
    state = autoscaler.start(spec_of(target="10"), 1, 0.0)
    for second in range(20):
        state = autoscaler.record(state, Scrape(second + 0.5, 7.0))
    state = autoscaler.respecified(state, spec_of(target="1", window="10s"), 20.0)
    _, decision = autoscaler.decide(state, Observation(10, ()), 20.0)
    assert decision.stable == pytest.approx(7.0)
    assert decision.desired == 10
    assert dataclasses.replace(state, spec=spec_of()).spec == spec_of()
    assert nanoseconds(20.0) == 20 * SECOND
