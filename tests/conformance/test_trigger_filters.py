"""Which events a Trigger gets: every dialect of filters, asked of the same three events."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.conformance import manifests
from tests.conformance.api import Object, until
from tests.conformance.differences import differs
from tests.conformance.place import Place
from tests.conformance.wire import binary

EVENTS: dict[str, dict[str, str]] = {
    "a": {
        "type": "com.shop.order.created.v1",
        "source": "/shop/7",
        "subject": "apples",
        "region": "eu",
        "amount": "12",
    },
    "b": {"type": "com.shop.order.deleted.v1", "source": "/shop/8", "subject": "pears", "region": "us", "amount": "7"},
    "c": {"type": "com.shop.user.created.v1", "source": "/shop/7"},
}
CREATED, DELETED = {"suffix": {"type": ".created.v1"}}, {"suffix": {"type": ".deleted.v1"}}
APPLES = {"exact": {"subject": "apples"}}

# By the name of the case, which is the Trigger's too: its spec, and the events that it gets.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "no-filter": ({}, "abc"),
    "empty-list": ({"filters": []}, "abc"),
    "no-attributes": ({"filter": {"attributes": {}}}, "abc"),
    "attributes": ({"filter": {"attributes": {"type": "com.shop.order.created.v1"}}}, "a"),
    "attributes-all-of-them": ({"filter": {"attributes": {"source": "/shop/7", "subject": "apples"}}}, "a"),
    "attributes-any-value": ({"filter": {"attributes": {"type": "", "source": "/shop/7"}}}, "ac"),
    "attributes-present": ({"filter": {"attributes": {"region": ""}}}, "ab"),
    "attributes-no-prefix": ({"filter": {"attributes": {"type": "com.shop.order"}}}, ""),
    "exact": ({"filters": [{"exact": {"type": "com.shop.order.deleted.v1"}}]}, "b"),
    "exact-all-of-them": ({"filters": [{"exact": {"source": "/shop/7", "region": "us"}}]}, ""),
    "exact-extension": ({"filters": [{"exact": {"amount": "12"}}]}, "a"),
    "exact-case": ({"filters": [{"exact": {"subject": "Apples"}}]}, ""),
    "exact-absent": ({"filters": [{"exact": {"colour": "red"}}]}, ""),
    "prefix": ({"filters": [{"prefix": {"type": "com.shop.order."}}]}, "ab"),
    "prefix-all-of-them": ({"filters": [{"prefix": {"type": "com.shop.", "subject": "p"}}]}, "b"),
    "suffix": ({"filters": [CREATED]}, "ac"),
    "all": ({"filters": [{"all": [CREATED, APPLES]}]}, "a"),
    "any": ({"filters": [{"any": [DELETED, APPLES]}]}, "ab"),
    "not": ({"filters": [{"not": CREATED}]}, "b"),
    "not-absent": ({"filters": [{"not": {"exact": {"colour": "red"}}}]}, "abc"),
    "nested": ({"filters": [{"not": {"any": [DELETED, {"all": [CREATED, APPLES]}]}}]}, "c"),
    "list-means-all": ({"filters": [CREATED, {"prefix": {"subject": "app"}}]}, "a"),
    "filters-before-filter": ({"filters": [CREATED], "filter": {"attributes": {"subject": "pears"}}}, "ac"),
    "cesql-equal": ({"filters": [{"cesql": "subject = 'apples'"}]}, "a"),
    "cesql-like": ({"filters": [{"cesql": "type LIKE 'com.shop.%.created.v_'"}]}, "ac"),
    "cesql-in": ({"filters": [{"cesql": "source IN ('/shop/1', '/shop/8')"}]}, "b"),
    "cesql-exists": ({"filters": [{"cesql": "EXISTS region"}]}, "ab"),
    "cesql-logic": ({"filters": [{"cesql": "NOT (region = 'us') AND (amount > 10 OR FALSE)"}]}, "a"),
    "cesql-arithmetic": ({"filters": [{"cesql": "amount * 2 - 4 = 10"}]}, "b"),
    "cesql-functions": ({"filters": [{"cesql": "LENGTH(type) < 25 OR UPPER(LEFT(subject, 3)) = 'APP'"}]}, "ac"),
    "cesql-fails-on-absent": ({"filters": [{"cesql": "colour = 'red'"}]}, ""),
    "cesql-among-others": ({"filters": [{"not": {"cesql": "subject = 'apples'"}}, {"any": [DELETED, APPLES]}]}, "b"),
}


def shown(place: Place) -> dict[str, Future[Object]]:
    """Send the events to a Broker of their own once its Triggers are Ready, until all have what they are to get.

    More than once, for what is sent while a cluster's channel learns of its Triggers may be lost. How each Trigger's
    making ended.
    """

    def made(case: str) -> Object:
        return place.ready_trigger(case, f"/box/{case}", "filters", **CASES[case][0])

    def seen_by_all() -> bool:
        for id, event in EVENTS.items():
            assert place.send(binary(id, **event), broker="filters").status == 202
        return all(set(wanted) <= ids(place, case) for case, (_, wanted) in CASES.items())

    with ThreadPoolExecutor(8) as pool:
        triggers = {case: pool.submit(made, case) for case in CASES}
    with contextlib.suppress(AssertionError):  # each case says for itself what it has not got
        until("every event at each Trigger that wants it", seen_by_all)
    return triggers


def ids(place: Place, case: str) -> set[str]:
    return {request.headers["ce-id"] for request in place.box(case)}


@pytest.mark.parametrize("case", CASES)
def test_a_trigger_gets_what_its_filters_pass(place: Place, case: str) -> None:
    place.stage.once("filters", lambda: shown(place))[case].result()
    assert ids(place, case) == set(CASES[case][1])


@pytest.mark.parametrize(
    "filters",
    [
        [{"exact": {"type": "a"}, "prefix": {"type": "a"}}],
        [{"exact": {"Type": "a"}}],
        [{"prefix": {"my-type": "a"}}],
        [{"all": [{"exact": {"a b": "c"}}]}],
        [{"cesql": "type ="}],
    ],
    ids=["two-dialects", "upper-case", "hyphen", "nested", "broken-cesql"],
)
def test_a_filter_that_means_nothing_is_refused(place: Place, filters: list[Any]) -> None:
    made = manifests.trigger("meaningless", {"uri": "http://example.test/"}, filters=filters)
    reply = place.api("POST", place.api.path("Trigger"), {"fieldValidation": "Strict"}, body=made)
    assert reply.status == 400, reply
    assert "filters" in reply.message


def test_a_filter_with_an_empty_value(place: Place) -> None:
    """A cluster takes it and passes over it, so that the Trigger gets every event."""
    made = manifests.trigger(
        "empty-value", {"uri": "http://example.test/"}, manifests.SILENT, filters=[{"exact": {"type": ""}}]
    )
    reply = place.api("POST", place.api.path("Trigger"), {"fieldValidation": "Strict"}, body=made)
    assert reply.status == (400 if differs(place, 'a filter with an empty value, `exact: {type: ""}`') else 201), reply


def test_a_filter_that_says_nothing_is_taken(place: Place) -> None:
    made = manifests.trigger("says-nothing", {"uri": "http://example.test/"}, manifests.SILENT, filters=[{}])
    reply = place.api("POST", place.api.path("Trigger"), {"fieldValidation": "Strict"}, body=made)
    assert reply.status == 201, reply


def test_the_name_of_an_attribute_in_a_filter_is_checked(place: Place) -> None:
    wanted = {"attributes": {"my-type": "a"}}
    made = manifests.trigger("meaningless", {"uri": "http://example.test/"}, filter=wanted)
    reply = place.api("POST", place.api.path("Trigger"), {"fieldValidation": "Strict"}, body=made)
    assert reply.status == 400, reply
    assert "my-type" in reply.message
