"""One of many, by its name."""

from __future__ import annotations

import pytest

from headrace.tune.readers import selection
from headrace.tune.traffic import BadTraffic

COUNTS = {"a": 1, "ab": 5, "b": 2, "c1": 0, "c2": 9}


@pytest.mark.parametrize(("only", "name"), [("a", "a"), ("ab", "ab"), ("b", "b"), ("c1", "c1")])
def test_a_full_name_or_the_beginning_of_one_alone_is_meant(only: str, name: str) -> None:
    assert selection.choose(COUNTS, only, "function") == name


def test_the_only_one_needs_no_name() -> None:
    assert selection.choose({"a": 1}, None, "function") == "a"


@pytest.mark.parametrize(
    ("only", "said"),
    [(None, "holds 5 functions"), ("c", "more than one function"), ("x", "no function"), ("", "no function")],
)
def test_none_or_several_are_refused_with_the_busiest(only: str | None, said: str) -> None:
    with pytest.raises(BadTraffic, match=rf"{said}.*the busiest are: c2 \(9 requests\), ab \(5 requests\)"):
        selection.choose(COUNTS, only, "function")
