"""The drawn shapes are what their names say: counted, at fixed seeds, within what chance allows (5 sigma)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.tune import shapes
from headrace.tune.traffic import BadTraffic

SEEDS = (0, 1, 7)


def within_chance(count: int, expected: float) -> bool:
    return abs(count - expected) <= 5 * np.sqrt(expected) + 1


def counts(name: str, seconds: float, peak_rps: float, parts: int, seed: int) -> list[int]:
    of = shapes.shape(name, seconds, peak_rps, 0.1, seed)
    found, _ = np.histogram(of.starts_s, bins=parts, range=(0, seconds))
    return [int(c) for c in found]


@pytest.mark.parametrize("seed", SEEDS)
def test_steady_keeps_its_rate_and_its_gaps_are_exponential(seed: int) -> None:
    assert all(within_chance(c, 50 * 60) for c in counts("steady", 600, 50, 10, seed))
    gaps = np.diff(shapes.shape("steady", 2000, 50, 0.1, seed).starts_s)
    # Of an exponential the standard deviation is the mean, and 1/e of all are longer than it.
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.03)
    assert (gaps > gaps.mean()).mean() == pytest.approx(1 / np.e, abs=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_ramp_rises_evenly_from_nothing_to_the_peak(seed: int) -> None:
    found = counts("ramp", 600, 100, 10, seed)
    assert all(within_chance(c, 100 * 60 * (i + 0.5) / 10) for i, c in enumerate(found))


@pytest.mark.parametrize("seed", SEEDS)
def test_burst_jumps_to_the_peak_three_times_for_a_twentieth_of_the_time(seed: int) -> None:
    found = counts("burst", 1000, 100, 20, seed)
    for i, count in enumerate(found):
        assert within_chance(count, 100 * 50 * (1.0 if i in (4, 10, 16) else shapes.REST_SHARE)), i


@pytest.mark.parametrize("seed", SEEDS)
def test_diurnal_is_quiet_at_midnight_and_at_its_peak_at_noon_each_day(seed: int) -> None:
    found = counts("diurnal", 2 * shapes.DAY_S, 2, 48, seed)
    hours = (np.arange(480_000) + 0.5) / 10_000
    share = shapes.NIGHT_SHARE + (1 - shapes.NIGHT_SHARE) * np.sin(np.pi * hours / 24) ** 2
    expected = share.reshape(48, -1).mean(axis=1) * 2 * 3600
    assert all(within_chance(c, e) for c, e in zip(found, expected, strict=True))


def test_diurnal_holds_a_whole_day_when_the_time_is_shorter() -> None:
    found = counts("diurnal", 600, 200, 4, 0)
    assert min(found[1], found[2]) > 3 * max(found[0], found[3])


@pytest.mark.parametrize("seed", SEEDS)
def test_sparse_is_silent_long_enough_for_the_way_to_zero_between_short_visits(seed: int) -> None:
    of = shapes.shape("sparse", 20_000, 20, 0.1, seed)
    silences = np.flatnonzero(np.diff(of.starts_s) > 60)
    assert (np.diff(of.starts_s)[silences] > shapes.SILENCE_S).all()
    visits = np.split(of.starts_s, silences + 1)
    assert all(v[-1] - v[0] < shapes.VISIT_S for v in visits)
    mean_cycle_s = shapes.VISIT_S + shapes.SILENCE_S + shapes.MORE_SILENCE_S
    assert len(visits) == pytest.approx(20_000 / mean_cycle_s, abs=5 * np.sqrt(20_000 / mean_cycle_s))
    assert of.starts_s[0] < 1


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_service_times_have_the_mean_and_the_spread_that_are_promised(name: str) -> None:
    service_s = shapes.shape(name, 20_000, 50, 0.2, 3).service_s
    assert service_s.mean() == pytest.approx(0.2, rel=0.02)
    assert np.log(service_s).std() == pytest.approx(shapes.SIGMA, rel=0.02)


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_the_same_seed_gives_the_same_traffic_and_another_seed_another(name: str) -> None:
    one, same, other = (shapes.shape(name, 300, 20, 0.1, seed) for seed in (5, 5, 6))
    assert np.array_equal(one.starts_s, same.starts_s) and np.array_equal(one.service_s, same.service_s)
    assert not np.array_equal(one.starts_s, other.starts_s)


@given(
    name=st.sampled_from(sorted(shapes.SHAPES)),
    seconds=st.floats(1, 5000),
    peak_rps=st.floats(0.01, 20),
    seed=st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None)
def test_any_shape_lies_within_its_time_and_says_that_it_is_drawn(
    name: str, seconds: float, peak_rps: float, seed: int
) -> None:
    of = shapes.shape(name, seconds, peak_rps, 0.1, seed)
    assert of.span_s <= seconds and of.repairs and name in of.source


@pytest.mark.parametrize(
    ("name", "seconds", "peak_rps", "service_s", "said"),
    [
        ("square", 1, 1, 1, "there are: steady, ramp, burst, diurnal, sparse"),
        ("steady", 0, 1, 1, "seconds is 0"),
        ("steady", 1, -1, 1, "peak_rps is -1"),
        ("steady", 1, 1, float("nan"), "service_s is nan"),
        ("steady", 1e9, 1e3, 1, "give a shorter time or a lower peak"),
    ],
)
def test_what_gives_no_traffic_is_refused(
    name: str, seconds: float, peak_rps: float, service_s: float, said: str
) -> None:
    with pytest.raises(BadTraffic, match=said):
        shapes.shape(name, seconds, peak_rps, service_s)
