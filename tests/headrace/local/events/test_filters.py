"""Which events a Trigger gets, by its filters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.local.events import filters

EVENT = {
    "id": "1",
    "source": "/shop/7",
    "type": "dev.headrace.dataset.arrived.v1",
    "subject": "flights",
    "trainer": "neural_net",
    "datacontenttype": "application/json; charset=utf-8",
    "sampled": True,
    "partition": 3,
    "empty": "",
}


@pytest.mark.parametrize(
    ("spec", "passes"),
    [
        ({}, True),
        ({"filter": {}}, True),
        ({"filter": {"attributes": {}}}, True),
        ({"filter": {"attributes": {"type": "dev.headrace.dataset.arrived.v1"}}}, True),
        ({"filter": {"attributes": {"type": "dev.headrace.dataset"}}}, False),
        ({"filter": {"attributes": {"type": "", "subject": "flights"}}}, True),
        ({"filter": {"attributes": {"trainer": "neural_net"}}}, True),
        ({"filter": {"attributes": {"absent": ""}}}, False),
        ({"filter": {"attributes": {"empty": ""}}}, False),
        ({"filter": {"attributes": {"partition": "3", "sampled": "true"}}}, True),
        ({"filter": {"attributes": {"time": ""}}}, False),
        ({"filters": []}, True),
        ({"filters": [{}]}, True),
        ({"filters": [{"exact": {"subject": "flights"}}]}, True),
        ({"filters": [{"exact": {"subject": "flights", "trainer": "random_forest"}}]}, False),
        ({"filters": [{"prefix": {"type": "dev.headrace."}}]}, True),
        ({"filters": [{"prefix": {"absent": "x"}}]}, False),
        ({"filters": [{"suffix": {"type": ".v1"}}]}, True),
        ({"filters": [{"suffix": {"type": ".v2"}}]}, False),
        ({"filters": [{"exact": {"subject": "flights"}}, {"suffix": {"type": ".v2"}}]}, False),
        ({"filters": [{"any": [{"suffix": {"type": ".v2"}}, {"exact": {"subject": "flights"}}]}]}, True),
        ({"filters": [{"all": [{"suffix": {"type": ".v1"}}, {"exact": {"subject": "houses"}}]}]}, False),
        ({"filters": [{"not": {"exact": {"trainer": "neural_net"}}}]}, False),
        ({"filters": [{"not": {"exact": {"absent": "x"}}}]}, True),
        ({"filters": [{"not": {}}]}, True),
        ({"filters": [{"cesql": "subject = 'flights' AND partition = 3"}]}, True),
        ({"filters": [{"cesql": "absent = 'x'"}]}, False),
        ({"filters": [{"not": {"cesql": "absent = 'x'"}}]}, True),
        ({"filters": [{"cesql": ""}]}, True),
        ({"filters": [{"exact": {"datamediatype": "application/json"}}]}, True),
        ({"filters": [{"exact": {"datacontenttype": "application/json"}}]}, False),
        ({"filter": {"attributes": {"type": "other"}}, "filters": [{"exact": {"subject": "flights"}}]}, True),
        ({"filter": {"attributes": {"subject": "flights"}}, "filters": [{"exact": {"type": "other"}}]}, False),
    ],
)
def test_a_trigger_gets_what_its_filters_pass(spec: dict[str, Any], passes: bool) -> None:
    assert filters.matcher(spec)(EVENT) is passes


@pytest.mark.parametrize(
    ("filter_", "says"),
    [
        ({"cesql": "type ="}, "cesql is no CloudEvents SQL expression: found the end at character 7"),
        ({"cesql": 5}, "expected a CloudEvents SQL expression"),
        ({"exact": {"type": "a"}, "prefix": {"type": "a"}}, "only one dialect"),
        ({"exact": {"Type": "a"}}, "lower-case letters"),
        ({"exact": {"type": ""}}, "is empty"),
        ({"prefix": {"type": 3}}, "expected a string"),
        ({"regex": {"type": "a"}}, "regex; expected one of exact"),
        ({"all": {"exact": {"type": "a"}}}, "expected a list"),
        ({"any": ["exact"]}, "expected an object"),
        ({"not": {"not": {"cesql": "("}}}, "not.not.cesql"),
        ({"exact": ["type"]}, "expected an object of attribute names"),
    ],
)
def test_a_filter_that_cannot_be_evaluated_is_refused_with_its_path(filter_: dict[str, Any], says: str) -> None:
    with pytest.raises(filters.InvalidFilter, match=r"spec\.filters\[0\]") as refused:
        filters.matcher({"filters": [filter_]})
    assert says in str(refused.value)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(filters.InvalidFilter) as refused:
        filters.matcher({"filters": [{"exact": {"UP": "", "b": ""}}, {"cesql": "("}]})
    assert len(refused.value.faults) == 4


NAMES = st.sampled_from(["type", "source", "subject", "trainer", "absent"])
LEAVES = st.builds(
    lambda dialect, name, value: {dialect: {name: value}},
    st.sampled_from(["exact", "prefix", "suffix"]),
    NAMES,
    st.sampled_from(["a", "ab", "b", "flights"]),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda fs: {"all": fs}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda fs: {"any": fs}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda f: {"not": f}, inner),
    ),
    max_leaves=8,
)
EVENTS = st.dictionaries(NAMES.filter(lambda n: n != "absent"), st.sampled_from(["a", "ab", "abb", "flights"]))


def meaning(tree: dict[str, Any], event: dict[str, str]) -> bool:
    """The filter read aloud, with nothing of the code under test."""
    (dialect, value), *_ = tree.items()
    if dialect == "not":
        return not meaning(value, event)
    if dialect in ("all", "any"):
        return (all if dialect == "all" else any)(meaning(f, event) for f in value)
    compare = {"exact": str.__eq__, "prefix": str.startswith, "suffix": str.endswith}[dialect]
    return all(name in event and compare(event[name], wanted) for name, wanted in value.items())


@settings(deadline=None)  # a busy machine is no fault
@given(TREES, EVENTS)
def test_nested_filters_mean_what_they_say(tree: dict[str, Any], event: dict[str, str]) -> None:
    assert filters.matcher({"filters": [tree]})(event) is meaning(tree, event)


@settings(deadline=None)  # a busy machine is no fault
@given(st.lists(TREES, min_size=1, max_size=3), EVENTS)
def test_a_list_of_filters_passes_what_all_of_them_pass(trees: list[dict[str, Any]], event: dict[str, str]) -> None:
    expected = all(filters.matcher({"filters": [tree]})(event) for tree in trees)
    assert filters.matcher({"filters": trees})(event) is expected


@settings(deadline=None)  # a busy machine is no fault
@given(
    st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.sampled_from(["exact", "not", "any", "x"]), v),
    )
)
def test_whatever_stands_in_a_filter_it_is_compiled_or_refused(value: Any) -> None:
    try:
        filters.matcher({"filters": [value]})({"type": "a"})
    except filters.InvalidFilter as refused:
        assert refused.faults
