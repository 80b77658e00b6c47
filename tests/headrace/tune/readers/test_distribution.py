"""Distributions: what is drawn is what was known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.tune.readers import distribution
from headrace.tune.traffic import BadTraffic


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=300))
@settings(max_examples=100, deadline=None)
def test_what_is_drawn_lies_within_what_was_measured(seconds: list[float]) -> None:
    known = distribution.of_samples(seconds)
    drawn = known.draw(500, np.random.default_rng(0))
    assert min(seconds) - 1e-9 <= drawn.min() and drawn.max() <= max(seconds) + 1e-9


@given(
    # Apart: between neighbours among the floats nothing can lie.
    bounds=st.lists(st.integers(1, 100_000).map(lambda ms: ms / 1000), min_size=1, max_size=12, unique=True),
    counts=st.lists(st.integers(0, 1000), min_size=13, max_size=13),
)
@settings(max_examples=100, deadline=None)
def test_as_many_fall_in_each_bucket_as_were_counted(bounds: list[float], counts: list[int]) -> None:
    upper = [*sorted(bounds), np.inf]
    per_bucket = np.array(counts[: len(upper)])
    if per_bucket.sum() == 0:
        with pytest.raises(BadTraffic, match="no observation"):
            distribution.of_buckets(upper, np.cumsum(per_bucket), "x")
        return
    drawn = distribution.of_buckets(upper, np.cumsum(per_bucket), "x").draw(20_000, np.random.default_rng(1))
    for i, bound in enumerate(upper[:-1]):
        share = per_bucket[: i + 1].sum() / per_bucket.sum()
        below = (drawn < bound).mean() if i == len(upper) - 2 else (drawn <= bound).mean()
        assert below == pytest.approx(share, abs=0.02)


def test_the_mean_and_the_percentiles_are_those_that_were_given() -> None:
    known = distribution.of_percentiles([0, 50, 100], [0.0, 0.1, 1.1])
    assert known.mean_s == pytest.approx(0.5 * 0.05 + 0.5 * 0.6)
    drawn = known.draw(50_000, np.random.default_rng(2))
    assert drawn.mean() == pytest.approx(known.mean_s, rel=0.02) and np.median(drawn) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("seconds", [[0.2, 0.1], [-0.1, 0.1], [0.1, np.nan], [0.1, np.inf]])
def test_what_is_no_distribution_is_refused(seconds: list[float]) -> None:
    with pytest.raises(BadTraffic, match="ascending with their shares"):
        distribution.of_percentiles([0, 100], seconds)
