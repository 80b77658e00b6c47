"""Where an obvious reading of the rules and Knative's own code part: each line was answered by that code."""

from __future__ import annotations

import math
import struct

import pytest

from eventing.errors import Misconfigured
from knative import autoscaler, powers
from knative.autoscaler import Config, Decision, Life, Observation, Scrape
from knative.literals import INT64_MAX, SECOND, seconds
from knative.settings import panic_window_ns

GROUP = "autoscaling.knative.dev"
SMALLEST = -(2**31)


def decided(
    keys: dict[str, str],
    config: dict[str, str],
    *concurrency: float,
    ready: int = 1,
    at_s: float | None = None,
    container_concurrency: int = 0,
) -> Decision:
    """The decision after one scrape per second."""
    annotations = {f"{GROUP}/{key}": value for key, value in keys.items()}
    spec = autoscaler.resolve(annotations, Config.from_map(config), container_concurrency)
    scrapes = tuple(Scrape(second + 0.5, value) for second, value in enumerate(concurrency))
    now_s = len(concurrency) - 0.1 if at_s is None else at_s
    return autoscaler.decide(autoscaler.start(spec, 0, 0.0), Observation(ready, scrapes), now_s)[1]


@pytest.mark.parametrize(
    ("buckets", "bits"),
    # C's exp answers otherwise for exactly these; the others below 42 agree, and beyond it the weight is 0.2.
    [(24, 0x3FD465B5F317CCEE), (25, 0x3FD3B90A9762C476), (31, 0x3FD0734754586290), (34, 0x3FCE5FE48A6C07A8),
     (35, 0x3FCD9DB5727D3CC8), (9, 0x3FE47FF2A61354F0)],
)  # fmt: skip
def test_a_weight_is_gos_to_the_last_bit(buckets: int, bits: int) -> None:
    weight = 1 - powers.power(0.0001, 1 / buckets)
    assert struct.unpack("<Q", struct.pack("<d", weight))[0] == bits


@pytest.mark.parametrize("x", [-9.2, -1.0, -0.3, -1e-9, 0.0, 0.25, 3.0, 700.0, -700.0])
def test_the_exponential_is_the_exponential(x: float) -> None:
    assert powers.exp(x) == pytest.approx(math.exp(x), rel=1e-15)


def test_a_weighted_average_over_25_seconds_has_gos_last_digit() -> None:
    keys = {"metric-aggregation-algorithm": "weighted-exponential", "panic-window-percentage": "41"}
    one = decided(keys, {}, 1.0)
    assert one.panic == 0.3081690290810636  # with C's exp it ends in 635


@pytest.mark.parametrize(
    ("config", "concurrency", "ready", "desired"),
    [
        ({"max-scale-up-rate": "Inf"}, 1e15, 1, SMALLEST),  # more pods than an int32 counts
        ({"max-scale-up-rate": "NaN"}, 1.0, 1, SMALLEST),
        ({"max-scale-down-rate": "NaN"}, 1.0, 4, SMALLEST),
        ({"max-scale-down-rate": "Inf"}, 0.0, 4, 0),
        ({"max-scale-up-rate": "Inf"}, 1e9, 1, 14285715),
    ],
)
def test_what_no_int32_holds_is_the_smallest_one(
    config: dict[str, str], concurrency: float, ready: int, desired: int
) -> None:
    # Panic would hide it: it takes the larger of this and zero.
    calm = {"panic-threshold-percentage": "NaN"}
    assert decided(calm, config, concurrency, ready=ready).desired == desired


@pytest.mark.parametrize(
    ("owner", "metric", "total"),
    [
        ({}, "concurrency", 5.0),
        ({"class": "hpa.autoscaling.knative.dev"}, "cpu", 20.0),
        ({"class": "other.example.com"}, "", 20.0),
        ({"class": "other.example.com", "metric": "concurrency"}, "concurrency", 5.0),
    ],
)
def test_the_metric_nobody_names_is_its_autoscalers(owner: dict[str, str], metric: str, total: float) -> None:
    keys = {f"{GROUP}/{key}": value for key, value in {**owner, "target": "20"}.items()}
    spec = autoscaler.resolve(keys, Config(), 5)
    assert (spec.metric, spec.total_value) == (metric, total)


@pytest.mark.parametrize(("at_s", "valid"), [(7.5, True), (8.4, False)])
def test_a_window_that_ends_within_a_second_is_over_with_it(at_s: float, valid: bool) -> None:
    assert decided({"window": "6.5s"}, {}, 1.0, 1.0, at_s=at_s).valid is valid


@pytest.mark.parametrize(
    ("window_ns", "percentage", "panic_s"),
    [(1000, 2147483648.0, 21), (60 * SECOND, math.nan, 1), (60 * SECOND, -5.0, 1), (60 * SECOND, 1e300, 1)],
)
def test_the_panic_window_of_an_absurd_share(window_ns: int, percentage: float, panic_s: int) -> None:
    assert panic_window_ns(window_ns, percentage) == panic_s * SECOND


def test_the_longest_delay_there_is_counts_as_whole_seconds() -> None:
    assert Config.from_map({"scale-down-delay": f"{INT64_MAX}ns"}).scale_down_delay_ns == INT64_MAX
    with pytest.raises(Misconfigured):
        Config.from_map({"scale-down-delay": f"{INT64_MAX - 1}ns"})


def test_a_length_in_seconds_is_gos_to_the_last_bit() -> None:
    assert seconds(6_560_000_000) == 6.5600000000000005
    assert seconds(-1_500_000_000) == -1.5


def test_after_a_timeout_the_condition_dates_from_the_next_look() -> None:
    """Its reason changes from TimedOut to NoTraffic, and the grace period is counted from there."""
    spec = autoscaler.resolve({"serving.knative.dev/progress-deadline": "5s"}, Config())
    life, plan = autoscaler.reconcile(spec, Life(), 0, 0, 40.0)
    assert (plan.pods, life.reason) == (0, "TimedOut")
    life, plan = autoscaler.reconcile(spec, life, 0, 0, 70.0)
    assert (plan.pods, life.reason, life.since_ns) == (0, "NoTraffic", 70 * SECOND)
    assert autoscaler.reconcile(spec, life, 0, 0, 99.9)[1].pods is None


def test_a_timeout_stays_while_enough_pods_are_ready_and_nothing_is_decided() -> None:
    spec = autoscaler.resolve({"serving.knative.dev/progress-deadline": "5s"}, Config())
    life, _ = autoscaler.reconcile(spec, Life(), 0, 0, 40.0)
    assert autoscaler.reconcile(spec, life, None, 1, 41.0)[0].reason == "TimedOut"
    assert autoscaler.reconcile(spec, life, None, 0, 41.0)[0].reason == "NoTraffic"


def test_a_longer_window_may_find_data_again_of_nothing() -> None:
    short = autoscaler.resolve({f"{GROUP}/window": "6s"}, Config())
    long = autoscaler.resolve({f"{GROUP}/window": "60s"}, Config())
    state = autoscaler.record(autoscaler.start(short, 0, 0.0), Scrape(0.5, 7.0))
    assert not autoscaler.decide(state, Observation(1), 20.0)[1].valid
    decision = autoscaler.decide(autoscaler.respecified(state, long, 20.0), Observation(1), 20.0)[1]
    assert (decision.valid, decision.stable) == (True, 0.0)
