"""The statistics, and the decision that tells one drift once."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing.errors import Rejected
from monitoring import drift

EDGES = [float(i) for i in range(1, 10)]
NUMERIC: dict[str, Any] = {"kind": "numeric", "edges": EDGES, "shares": [0.1] * 10, "missing": 0.0}
CARRIER: dict[str, Any] = {"kind": "categorical", "shares": {"AA": 0.6, "UA": 0.3}, "other": 0.1, "missing": 0.2}
BASELINE = drift.Baseline.from_json(
    {"rows": 10_000, "features": {"delay": NUMERIC, "carrier": CARRIER}, "outputs": {"score": NUMERIC}}
)
LIMITS = drift.Limits(min_rows=200, threshold=0.25, clear=0.1, cool_down_s=100)


def rows(n: int, seed: int, low: float = 0.0, missing: float = 0.2) -> tuple[tuple[int, ...], ...]:
    """Rows as the baseline's, or with delays from `low` on and another share of carriers missing."""
    rng = random.Random(seed)
    carriers = [None if rng.random() < missing else rng.choices(["AA", "UA", "B6"], [6, 3, 1])[0] for _ in range(n)]
    delays = [rng.uniform(low, 10) for _ in range(n)]
    return BASELINE.rows_of({"delay": delays, "carrier": carriers}, {"score": [rng.uniform(0, 10) for _ in range(n)]})


def start(size: int = 500) -> drift.State:
    return drift.State(drift.Window.empty(BASELINE, size))


@pytest.mark.parametrize(
    ("value", "bin"),
    [
        (None, 0),
        (math.nan, 0),
        ("", 0),
        ("late", 0),
        (0.5, 1),
        (1.0, 1),
        (1.5, 2),
        ("1.5", 2),
        (9.5, 10),
        (1e300, 10),
        (-1e300, 1),
    ],
)
def test_a_number_falls_into_its_interval_and_an_edge_belongs_below(value: object, bin: int) -> None:
    assert BASELINE.columns[0].bin(value) == bin


def test_a_number_is_compared_as_the_float32_that_the_model_reads() -> None:
    edge = 0.699999988079071  # 0.7 in float32
    column = drift.Column.from_baseline("x", "feature", {"kind": "numeric", "edges": [edge], "shares": [0.5, 0.5]})
    assert column.bin(0.7) == 1


@pytest.mark.parametrize(("value", "bin"), [("AA", 1), ("UA", 2), ("B6", 3), (None, 0), ("", 0)])
def test_a_category_falls_into_its_own_bin_or_into_the_others(value: object, bin: int) -> None:
    assert BASELINE.columns[1].bin(value) == bin


@pytest.mark.parametrize(
    ("value", "bin"),
    [("true", 1), (True, 1), ("True", 1), ("TRUE", 1), ("FALSE", 2), (False, 2), ("NA", 0), ("null", 0), ("maybe", 3)],
)
def test_what_is_one_to_the_model_is_one_category_and_what_is_missing_to_it_is_missing(value: object, bin: int) -> None:
    """A file's NA, repeated in a request, is no new category, nor is JSON's true where the file says `true`."""
    flags = {"kind": "categorical", "shares": {"true": 0.6, "false": 0.4}, "other": 0.0, "missing": 0.1}
    assert drift.Column.from_baseline("flag", "feature", flags).bin(value) == bin


@pytest.mark.parametrize("value", [1, 1.0, "1"])
def test_a_label_is_one_category_whatever_protocol_spelled_it(value: object) -> None:
    column = drift.Column.from_baseline("label", "output", {"kind": "categorical", "shares": {"0": 0.5, "1": 0.5}})
    assert column.bin(value) == 2


def test_shares_add_up_with_the_missing_however_they_were_counted() -> None:
    assert sum(BASELINE.columns[1].shares) == pytest.approx(1)
    assert BASELINE.columns[1].shares == pytest.approx((0.2, 0.48, 0.24, 0.08))
    of_all = {"kind": "categorical", "shares": {"AA": 0.48, "UA": 0.24}, "other": 0.08, "missing": 0.2}
    assert drift.Column.from_baseline("c", "feature", of_all).shares == pytest.approx((0.2, 0.48, 0.24, 0.08))


def test_a_column_that_was_never_there_in_training_is_understood() -> None:
    empty = drift.Column.from_baseline(
        "x", "feature", {"kind": "numeric", "edges": [], "shares": [0.0], "missing": 1.0}
    )
    assert empty.shares == (1.0, 0.0)
    assert (empty.bin(None), empty.bin(3)) == (0, 1)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"kind": "numeric", "edges": [1, 1], "shares": [1, 1, 1]},
        {"kind": "numeric", "edges": [1], "shares": [1]},
        {"kind": "categorical", "shares": {}},
    ],
)
def test_a_baseline_that_describes_nothing_is_rejected_by_name(value: dict[str, Any]) -> None:
    with pytest.raises(Rejected, match="'delay'"):
        drift.Baseline.from_json({"rows": 1, "features": {"delay": value}})


def test_columns_of_different_lengths_are_rejected() -> None:
    with pytest.raises(Rejected, match="1, 2 rows"):
        BASELINE.rows_of({"delay": [1.0], "carrier": ["AA", "UA"]}, None)


def test_a_column_that_is_not_told_counts_nowhere() -> None:
    window = drift.Window.empty(BASELINE, 10).add(BASELINE.rows_of({"delay": [1.0, 2.0]}, None))
    assert [sum(c) for c in window.counts] == [2, 0, 0]
    assert [m.name for m in drift.measure(window, BASELINE, 0.25)] == ["delay"]


@given(st.lists(st.integers(1, 7), max_size=12), st.integers(1, 10))
def test_a_window_holds_the_last_rows_and_their_counts(sizes: list[int], size: int) -> None:
    window = drift.Window.empty(BASELINE, size)
    added: list[tuple[int, ...]] = []
    for i, n in enumerate(sizes):
        some = rows(n, seed=i)
        added += some
        window = window.add(some)
    assert window.rows == tuple(added[-size:])
    for column, count in enumerate(window.counts):
        assert [sum(r[column] == b for r in window.rows) for b in range(len(count))] == list(count)


def test_psi_is_small_for_the_same_and_known_for_another() -> None:
    assert drift.psi([1000] * 10, [0.1] * 10, 10_000) == pytest.approx(0, abs=1e-9)
    # (0.8 - 0.5)·ln(0.8/0.5) + (0.2 - 0.5)·ln(0.2/0.5), by hand
    assert drift.psi([80_000, 20_000], [0.5, 0.5], 100_000) == pytest.approx(0.4159, abs=1e-3)
    assert math.isfinite(drift.psi([0, 100], [1.0, 0.0], 1000))


@pytest.mark.parametrize(("bins", "quantile"), [(2, 3.841), (5, 9.488), (10, 16.919), (101, 124.342)])
def test_what_chance_explains_is_the_quantile_of_chi_squared(bins: int, quantile: float) -> None:
    assert drift.by_chance(1000, 10**9, bins, 0.05) == pytest.approx(quantile / 1000, rel=0.03)


def test_unchanged_rows_hardly_ever_look_like_drift() -> None:
    told = 0
    for seed in range(200):
        _, decision = drift.decide(start(), rows(250, seed), 0, BASELINE, drift.Limits(200, 0.001, 0.001, 0))
        told += decision.drift
    assert told <= 2  # 200 windows at one in a thousand, the threshold being chance alone


def test_too_few_rows_decide_nothing() -> None:
    _, decision = drift.decide(start(), rows(199, 1, low=8), 0, BASELINE, LIMITS)
    assert (decision.drift, decision.reason) == (False, "199 rows in the window; 200 are needed")


def test_a_drift_names_the_feature_that_moved_furthest() -> None:
    _, decision = drift.decide(start(), rows(300, 1, low=6), 0, BASELINE, LIMITS)
    assert decision.drift
    assert (decision.measures[0].name, decision.measures[0].kind) == ("delay", "feature")
    assert "feature delay has psi" in decision.reason and "threshold 0.25" in decision.reason


def test_a_feed_that_breaks_is_a_drift_of_its_missing_share() -> None:
    _, decision = drift.decide(start(), rows(300, 1, missing=1.0), 0, BASELINE, LIMITS)
    assert [m.name for m in decision.over] == ["carrier"]


def test_one_drift_is_told_once_until_it_is_over_and_the_cool_down_has_passed() -> None:
    drifted, usual = {"low": 6.0}, {"low": 0.0}
    table = [
        # now_s, rows, what is told, words
        (0, drifted, True, "a drift"),
        (50, drifted, False, "still the drift"),
        (500, drifted, False, "still the drift"),  # the cool-down alone does not begin another
        (510, usual, False, "is over"),
        (520, usual, False, "no drift"),
        (530, drifted, True, "a drift"),
        (540, usual, False, "is over"),
        (550, drifted, False, "cool-down ends in 80 s"),
        (629, drifted, False, "cool-down ends in 1 s"),
        (630, drifted, True, "a drift"),
    ]
    state = start()
    for seed, (now_s, kind, told, words) in enumerate(table):
        state, decision = drift.decide(state, rows(500, seed, **kind), now_s, BASELINE, LIMITS)
        assert (decision.drift, words in decision.reason) == (told, True), (now_s, decision.reason)


def test_a_drift_told_by_a_clock_that_was_ahead_does_not_hold_up_the_next_for_longer_than_the_cool_down() -> None:
    ahead_s = 1e9
    state, _ = drift.decide(start(), rows(500, 1, low=6), ahead_s, BASELINE, LIMITS)
    state, _ = drift.decide(state, rows(500, 2), 10, BASELINE, LIMITS)
    assert not state.drifting
    _, early = drift.decide(state, rows(500, 3, low=6), 109, BASELINE, LIMITS)
    _, later = drift.decide(state, rows(500, 3, low=6), 110, BASELINE, LIMITS)
    assert (early.drift, later.drift) == (False, True)


def test_a_value_between_clear_and_threshold_ends_no_drift() -> None:
    state, _ = drift.decide(start(), rows(500, 1, low=6), 0, BASELINE, LIMITS)
    state, decision = drift.decide(state, rows(500, 2, low=0.8), 1, BASELINE, LIMITS)
    assert 0.1 < decision.measures[0].value < 0.25
    assert state.drifting and not decision.drift
