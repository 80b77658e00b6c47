"""Traffic is what the simulation may rely on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from headrace.tune.traffic import BadTraffic, Traffic


def traffic(starts_s: object, service_s: object, **fields: object) -> Traffic:
    given = {"began": None, "source": "a test", "cold_start_s": [], "repairs": (), **fields}
    return Traffic(starts_s=starts_s, service_s=service_s, **given)  # type: ignore[arg-type]


def test_its_arrays_are_floats_that_nobody_can_write() -> None:
    of = traffic([0, 1, 1, 4], [1, 2, 3, 4])
    assert of.starts_s.dtype == of.service_s.dtype == of.cold_start_s.dtype == np.float64
    assert (of.count, of.span_s) == (4, 4.0)
    with pytest.raises(ValueError, match="read-only"):
        of.starts_s[0] = 3.0


def test_without_a_request_it_is_still_traffic() -> None:
    of = traffic([], [])
    assert (of.count, of.span_s) == (0, 0.0)


@pytest.mark.parametrize(
    ("starts_s", "service_s", "said"),
    [
        ([0, 2, 1], [1, 1, 1], r"starts_s\[2\] is 1, before starts_s\[1\], 2"),
        ([0, 1], [1], "2 starts_s and 1 service_s"),
        ([0, np.nan], [1, 1], r"starts_s\[1\] is nan"),
        ([0, 1], [1, -1], r"service_s\[1\] is -1"),
        ([0, 1], [1, np.inf], r"service_s\[1\] is inf"),
        ([[0, 1]], [1, 1], "one dimension"),
    ],
)
def test_what_does_not_belong_together_is_refused(starts_s: object, service_s: object, said: str) -> None:
    with pytest.raises(BadTraffic, match=said):
        traffic(starts_s, service_s)


def test_its_beginning_is_in_utc() -> None:
    assert traffic([], [], began=datetime(2026, 1, 1, tzinfo=UTC)).began is not None
    with pytest.raises(BadTraffic, match="UTC"):
        traffic([], [], began=datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))))
    with pytest.raises(BadTraffic, match="UTC"):
        traffic([], [], began=datetime(2026, 1, 1))
