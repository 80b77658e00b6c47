"""A clock that is an hour off: versions go on in their order, leases hold, nobody's files are taken for leftovers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from trainers import training

NOW = datetime(2026, 11, 25, 23, 30, 0, tzinfo=UTC)
SERVES = "v20261125-233000-1a2b3c"


@pytest.mark.parametrize(
    ("now", "known", "expected"),
    [
        (NOW, (), "v20261125-233000"),
        (NOW, ("v20261125-232959-1a2b3c",), "v20261125-233000"),
        (NOW, (SERVES,), "v20261125-233001"),
        (NOW - timedelta(hours=1), (SERVES,), "v20261125-233001"),
        (NOW, ("v20261126-003000-1a2b3c", SERVES), "v20261126-003001"),
        (NOW, ("by-hand", "v20261399-003000-1a2b3c", "v1"), "v20261125-233000"),
        (NOW, ("v20261231-235959-1a2b3c",), "v20270101-000000"),
    ],
)
def test_a_version_comes_after_all_that_are_known_whatever_the_clock_says(
    now: datetime, known: tuple[str, ...], expected: str
) -> None:
    version = training.new_version(now, known)
    assert version.rpartition("-")[0] == expected
    assert all(version > each for each in known if each.startswith("v2026") and "99" not in each)


def test_two_versions_of_one_second_differ() -> None:
    assert training.new_version(NOW) != training.new_version(NOW)
