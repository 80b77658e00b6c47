"""Options that can never work are refused at once, with their key."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventing.errors import Misconfigured
from headrace.tune.readers.options import Options


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("duration_unit", "min"),
        ("time_unit", "S"),
        ("service_s", 0.0),
        ("service_s", float("nan")),
        ("cold_start_s", -1.0),
        ("cold_after_s", float("inf")),
        ("container_concurrency", 0),
        ("seed", -1),
        ("time_zone", "Mars/Olympus"),
        ("time_zone", "../etc"),
    ],
)
def test_a_bad_value_is_refused_with_its_key(key: str, value: object) -> None:
    with pytest.raises(Misconfigured) as refused:
        Options(**{key: value})  # type: ignore[arg-type]
    assert refused.value.key == key


def test_a_mean_and_a_file_are_not_given_both() -> None:
    with pytest.raises(Misconfigured, match="service_from"):
        Options(service_s=1.0, service_from=Path("a"))
