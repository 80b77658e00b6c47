"""What answers inside a cluster is asked through its API server."""

from __future__ import annotations

from typing import Any

import pytest

from knative import inside
from knative.inside import Inside


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (
            "http://broker-ingress.knative-eventing.svc.cluster.local/shop/default",
            Inside("http", "knative-eventing", "broker-ingress", 80, "/shop/default"),
        ),
        ("https://sink.eventing.svc.corp.example/a?b=c", Inside("https", "eventing", "sink", 443, "/a?b=c")),
        ("http://journal.shop.svc", Inside("http", "shop", "journal", 80, "/")),
        ("http://S3.store.svc.cluster.local:8333/", Inside("http", "store", "s3", 8333, "/")),
        ("http://flights.shop.example.com/v1", None),
        ("http://previous-flights.shop.svc-a.example/", None),
        ("http://127.0.0.1:8080/svc/shop/flights", None),
        ("s3://models.shop.svc/x", None),
    ],
)
def test_a_name_of_the_clusters_own_domain_leads_to_a_service_and_no_other_does(url: str, place: Inside | None) -> None:
    assert inside.of(url) == place


def test_the_proxys_path_keeps_the_query_and_names_scheme_and_port() -> None:
    place = Inside("http", "knative-eventing", "broker-ingress", 80, "/shop/default?x=1")
    assert place.proxy_name == "http:broker-ingress:80"
    assert place.proxy_path == (
        "/api/v1/namespaces/knative-eventing/services/http:broker-ingress:80/proxy/shop/default?x=1"
    )


def service(*traffic: tuple[str, int | None]) -> dict[str, Any]:
    return {"status": {"traffic": [{"revisionName": name, "percent": percent} for name, percent in traffic]}}


def test_revisions_are_picked_by_their_shares_and_a_tag_without_a_share_never() -> None:
    split = service(("old", 80), ("new", 20), ("tagged", 0), ("unset", None))
    picked = [inside.pick(split, chance / 1000) for chance in range(1000)]
    assert {name: picked.count(name) for name in set(picked)} == {"old": 800, "new": 200}


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_one_revision_answers_every_request_whatever_the_chance(chance: float) -> None:
    assert inside.pick(service(("tagged", 0), ("only", 100)), chance) == "only"


@pytest.mark.parametrize("nothing", [{}, {"status": {}}, service(), service(("tagged", 0))])
def test_before_anything_has_traffic_there_is_none_to_pick(nothing: dict[str, Any]) -> None:
    assert inside.pick(nothing, 0.5) is None
