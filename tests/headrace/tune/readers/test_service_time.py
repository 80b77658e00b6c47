"""What a caller saw, taken apart into cold start, waiting and service."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.tune.readers import service_time


def test_a_slow_request_after_a_silence_met_a_cold_start_and_so_did_who_came_before_its_pod_was_up() -> None:
    starts = np.array([*np.arange(0.0, 100.0), 400.0, 401.0, 402.9, *np.arange(404.0, 500.0)])
    latency = np.full(starts.size, 0.2)
    latency[100], latency[101] = 3.2, 2.2  # up at 403
    found = service_time.cold_starts(starts, latency, after_s=60.0)
    assert found is not None and found.cold_start_s == pytest.approx([3.0])
    assert np.flatnonzero(found.touched).tolist() == [100, 101, 102]


def test_a_request_after_a_silence_that_was_as_quick_as_others_met_a_pod_that_had_stayed() -> None:
    starts = np.array([0.0, 1.0, 2.0, 100.0, 101.0])
    found = service_time.cold_starts(starts, np.full(5, 0.2), after_s=60.0)
    assert found is not None and (found.cold_start_s.size, found.candidates) == (0, 1)


def test_with_nothing_to_compare_with_no_cold_start_is_claimed() -> None:
    starts = np.array([0.0, 1000.0, 2000.0])
    found = service_time.cold_starts(starts, np.array([9.0, 3.0, 3.0]), after_s=60.0)
    assert found is None or found.cold_start_s.size == 0
    assert service_time.flagged(starts, np.full(3, 3.0), np.ones(3, dtype=np.bool_)) is None


def test_each_pod_has_places_of_its_own() -> None:
    starts = np.array([0.0, 0.0, 0.1, 0.1])
    ends = np.array([1.0, 1.0, 2.0, 2.0])
    pods = np.array([0, 1, 0, 1])
    assert service_time.without_waiting(starts, ends, pods, 1) == pytest.approx([1, 1, 1, 1])
    assert service_time.without_waiting(starts, ends, np.zeros(4, dtype=np.int64), 4) == pytest.approx(ends - starts)


def test_who_overtook_others_keeps_the_whole_latency() -> None:
    starts, ends = np.array([0.0, 0.1]), np.array([5.0, 1.1])
    assert service_time.without_waiting(starts, ends, np.zeros(2, dtype=np.int64), 1) == pytest.approx([5, 1])
