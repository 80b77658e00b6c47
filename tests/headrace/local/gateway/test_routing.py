"""Host and path to Service and tag; shares in exact proportion."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.local.gateway import routing
from headrace.local.gateway.routing import Address, Route, Shares, Target

ROUTES = {
    "flights": Route("headrace", "flights", (Target("flights-1", 80), Target("flights-2", 20, "canary"))),
    "canary-flights": Route("headrace", "canary-flights", (Target("other-1", 100),)),
    "a-b": Route("headrace", "a-b", (Target("a-b-1", 100, "x-y"),)),
}


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("flights.headrace.localhost", Address("headrace", "flights", "/p?q")),
        ("Flights.Headrace.example.com:8080", Address("headrace", "flights", "/p?q")),
        ("flights.headrace", Address("headrace", "flights", "/p?q")),
        ("localhost", None),
        (".headrace.x", None),
    ],
)
def test_a_host_names_service_and_namespace(host: str, address: Address | None) -> None:
    assert routing.by_host(host, "/p?q") == address


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/svc/headrace/flights", Address("headrace", "flights", "/", "/svc/headrace/flights")),
        ("/svc/headrace/flights?x=/y", Address("headrace", "flights", "/?x=/y", "/svc/headrace/flights")),
        (
            "/svc/headrace/flights/v2/models%2Fm?x",
            Address("headrace", "flights", "/v2/models%2Fm?x", "/svc/headrace/flights"),
        ),
        ("/svc/headrace/flights//x", Address("headrace", "flights", "//x", "/svc/headrace/flights")),
        ("/svc/headrace/", None),
        ("/broker/headrace/default", None),
    ],
)
def test_a_path_names_service_and_namespace(path: str, address: Address | None) -> None:
    assert routing.by_path(path) == address


@pytest.mark.parametrize(
    ("label", "name", "tag"),
    [
        ("flights", "flights", None),
        ("canary-flights", "canary-flights", None),  # a Service of that name, rather than a tag of flights
        ("x-y-a-b", "a-b", "x-y"),
        ("a-b", "a-b", None),
    ],
)
def test_a_label_means_the_service_of_that_name_or_a_tag(label: str, name: str, tag: str | None) -> None:
    found = routing.resolve(label, ROUTES.get)
    assert found is not None
    assert (found[0].name, found[1]) == (name, tag)


@pytest.mark.parametrize("label", ["latest-flights", "flight", "-flights", "canary-", "x-a-b"])
def test_a_label_that_fits_nothing_means_nothing(label: str) -> None:
    assert routing.resolve(label, ROUTES.get) is None


def test_a_route_is_what_the_status_tells() -> None:
    service = {
        "metadata": {"name": "f", "namespace": "n"},
        "status": {
            "traffic": [{"revisionName": "f-1", "percent": 100}, {"revisionName": "f-2", "tag": "t"}, {"tag": "u"}]
        },
    }
    assert Route.of(service) == Route("n", "f", (Target("f-1", 100), Target("f-2", 0, "t")))
    assert Route.of({"metadata": {"name": "f", "namespace": "n"}}) == Route("n", "f")


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 100), max_size=5), st.integers(1, 3))
def test_each_full_turn_holds_exactly_its_shares(percents: dict[str, int], turns: int) -> None:
    shares = Shares([Target(revision, percent) for revision, percent in percents.items()])
    total = sum(percents.values())
    served = Counter(shares.next() for _ in range(total * turns))
    assert served == {revision: percent * turns for revision, percent in percents.items() if percent}


def test_a_revision_named_twice_gets_both_its_shares() -> None:
    shares = Shares([Target("a", 50), Target("b", 25), Target("a", 25, "t")])
    assert Counter(shares.next() for _ in range(4)) == {"a": 3, "b": 1}


def test_without_shares_nobody_is_next() -> None:
    assert Shares([Target("a", 0, "t")]).next() is None
