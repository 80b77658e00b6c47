"""Whatever a file holds, what is made of it is traffic, and nothing is lost or changed without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headrace.tune import readers
from headrace.tune.readers import recording
from headrace.tune.readers.options import UNTOLD, Options
from headrace.tune.readers.recording import Recording
from headrace.tune.traffic import BadTraffic, Traffic

AT = 1_767_225_600.0
PATH = Path("trace.csv")

times = st.one_of(st.floats(0, 1e6), st.just(float("nan")))
durations = st.one_of(st.floats(0, 100), st.floats(-5, 0), st.sampled_from([float("nan"), float("inf"), -1.0]))


def traffic(at_s: object, duration_s: object, options: Options = UNTOLD, **fields: object) -> Traffic:
    at, took = np.array(at_s, dtype=float), None if duration_s is None else np.array(duration_s, dtype=float)
    return recording.traffic(Recording(at, took, absolute=False, **fields), PATH, "CSV", options)  # type: ignore[arg-type]


@given(
    rows=st.lists(st.tuples(times, durations), min_size=1, max_size=60),
    good=st.integers(0, 3000),
    at_end=st.booleans(),
    whole=st.booleans(),
    cold_after=st.none() | st.floats(1, 1000),
)
@settings(max_examples=200, deadline=None)
def test_repaired_or_refused_its_counts_are_kept_or_told(
    rows: list[tuple[float, float]], good: int, at_end: bool, whole: bool, cold_after: float | None
) -> None:
    at = np.array([r[0] for r in rows] + [float(i) for i in range(good)])
    took = np.array([r[1] for r in rows] + [0.25] * good)
    unreadable, broken = int(np.isnan(at).sum()), ~(np.isfinite(took) & (took >= 0)) & ~np.isnan(at)
    options = Options(cold_after_s=cold_after)
    try:
        of = traffic(at, took, options, at_end=at_end, whole_seconds=whole)
    except BadTraffic as e:
        refused = unreadable > 0.01 * at.size or broken.sum() > 0.01 * (at.size - unreadable)
        assert refused or unreadable == at.size or "no request for" in str(e)
        return
    assert of.count == at.size - unreadable
    assert (np.diff(of.starts_s) >= 0).all() and np.isfinite(of.starts_s).all() and of.starts_s[0] == 0
    assert np.isfinite(of.service_s).all() and (of.service_s >= 0).all()
    assert unreadable == 0 or any(f"{unreadable:,} rows without a readable time were left out" in r for r in of.repairs)
    assert not broken.any() or any(f"{broken.sum():,} durations were missing or negative" in r for r in of.repairs)
    descending = int((np.diff(at[~np.isnan(at)]) < 0).sum())
    assert not descending or any(
        f"{descending:,} of {of.count:,} requests have an earlier time" in r for r in of.repairs
    )


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0.001, 50)), min_size=1, max_size=200))
@settings(max_examples=200, deadline=None)
def test_what_needs_no_repair_is_unchanged(rows: list[tuple[float, float]]) -> None:
    rows.sort()
    of = traffic([r[0] for r in rows], [r[1] for r in rows])
    assert np.array_equal(of.starts_s, np.array([r[0] for r in rows]) - rows[0][0])
    assert np.array_equal(of.service_s, [r[1] for r in rows])


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0.01, 20)), min_size=1, max_size=100), st.randoms())
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_rows_does_not_matter(rows: list[tuple[float, float]], random: object) -> None:
    assume(len({r[0] for r in rows}) == len(rows))
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (traffic([r[0] for r in of], [r[1] for r in of]) for of in (rows, shuffled))
    assert np.array_equal(one.starts_s, other.starts_s) and np.array_equal(one.service_s, other.service_s)


@given(
    starts=st.lists(st.floats(0, 50), min_size=1, max_size=40),
    service=st.lists(st.floats(0.01, 3), min_size=40, max_size=40),
    places=st.integers(1, 4),
)
@settings(max_examples=200, deadline=None)
def test_waiting_that_was_first_come_first_served_is_taken_off_exactly(
    starts: list[float], service: list[float], places: int
) -> None:
    # One pod, its places given out in the order of arrival, all of one length: then ends are in order too.
    starts_s, took = np.sort(starts), service[0]
    free = [0.0] * places
    latency = []
    for at in starts_s:
        begin = max(at, min(free))
        free[free.index(min(free))] = begin + took
        latency.append(begin + took - at)
    of = traffic(starts_s, latency, Options(container_concurrency=places), pods=np.zeros(len(starts), dtype=np.int64))
    assert of.service_s == pytest.approx(np.full(len(starts), took), abs=1e-9)


def test_every_request_of_a_table_comes_out_of_a_file_as_it_went_in(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    at, took = np.sort(rng.random(5000)) * 3600 + AT, rng.lognormal(-3, 1, 5000)
    path = tmp_path / "trace.csv"
    path.write_text("start,duration_ms\n" + "".join(f"{a:.6f},{t * 1000:.6f}\n" for a, t in zip(at, took, strict=True)))
    of = readers.read(path)
    assert of.starts_s == pytest.approx(at - at[0], abs=2e-6) and of.service_s == pytest.approx(took, abs=1e-9)
