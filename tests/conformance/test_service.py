"""A request to a Service: which revision gets it, what the container sees, what comes back."""

from __future__ import annotations

import hashlib
import http.client
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance import manifests, wire
from tests.conformance.api import Object, until
from tests.conformance.place import Place


def host_of(url: str) -> str:
    return url.partition("://")[2]


def split(place: Place) -> str:
    """The URL of a Service of two revisions, 80 to 20, the newer one tagged; and a third tag without traffic."""

    def make() -> str:
        place.service("split", revision="split-one")
        shares: list[Object] = [
            {"revisionName": "split-one", "percent": 80, "tag": "old"},
            {"revisionName": "split-two", "percent": 20, "tag": "new"},
        ]
        place.api.apply(manifests.service(place.image, "split", revision="split-two", traffic=shares))
        return str(place.api.until_condition("Service", "split")["status"]["url"])

    return str(place.stage.once("split", make))


def answered_by(place: Place, url: str) -> str:
    """The revision that answers."""
    return str(place.ask(url, "/").json()["environment"]["K_REVISION"])


def test_a_service_answers_at_its_url(place: Place) -> None:
    seen = place.echo("/some/path?q=a%20b&r=1")
    assert (seen.method, seen.path) == ("GET", "/some/path?q=a%20b&r=1")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_passes(place: Place, method: str) -> None:
    body = b"body" if method in ("POST", "PUT", "PATCH") else None
    seen = place.echo("/", method, body=body)
    assert (seen.method, seen.body) == (method, body or b"")


def test_a_head_request_has_its_length_and_no_body(place: Place) -> None:
    answer = place.ask(place.url("echo"), "/bytes/15", "HEAD")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "15", b"")


def test_an_escaped_slash_in_a_path_stays_escaped(place: Place) -> None:
    assert place.echo("/a%2Fb/%C3%BC").path == "/a%2Fb/%C3%BC"


def test_the_container_sees_the_host_that_was_asked_for(place: Place) -> None:
    assert place.echo().headers["host"].partition(":")[0] == host_of(place.url("echo")).partition(":")[0]


def test_the_container_sees_the_headers_of_the_client(place: Place) -> None:
    given = {"X-Mine": "1", "Authorization": "Bearer t", "Accept": "text/plain", "User-Agent": "conformance"}
    seen = place.echo(headers=given).headers
    assert {name: seen[name.lower()] for name in given} == given


def test_the_container_is_told_where_the_request_came_from(place: Place) -> None:
    seen = place.echo(headers={"X-Forwarded-For": "192.0.2.9"}).headers
    assert seen["x-forwarded-for"].startswith("192.0.2.9")
    assert len(seen["x-forwarded-for"].split(",")) >= 2
    assert seen["x-forwarded-proto"] == "http"


def test_each_request_has_an_id_to_follow_it_by(place: Place) -> None:
    assert place.echo().headers["x-request-id"] != place.echo().headers["x-request-id"]


def test_headers_between_neighbours_do_not_pass(place: Place) -> None:
    seen = place.echo(headers={"Connection": "X-Hop", "X-Hop": "1"}).headers
    assert "x-hop" not in seen


def test_the_container_is_told_its_port_and_what_it_is_of(place: Place) -> None:
    environment = place.echo().environment
    revision = place.service("echo")["status"]["latestReadyRevisionName"]
    assert environment["PORT"].isdecimal()
    assert [environment[name] for name in ("K_SERVICE", "K_CONFIGURATION", "K_REVISION")] == ["echo", "echo", revision]


def test_the_environment_of_a_manifest_reaches_the_container(place: Place) -> None:
    place.api.apply(manifests.config_map("settings", {"FROM_MAP": "yes"}))
    made = manifests.service(place.image, "configured", environment={"FIRST": "one", "SECOND": "$(FIRST)-two"})
    made["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    place.api.apply(made)
    url = place.api.until_condition("Service", "configured")["status"]["url"]
    environment = place.ask(url, "/").json()["environment"]
    assert [environment[name] for name in ("FIRST", "SECOND", "FROM_MAP")] == ["one", "one-two", "yes"]


@pytest.mark.parametrize("status", [201, 204, 302, 404, 418, 500, 503])
def test_the_status_of_the_container_is_the_answers(place: Place, status: int) -> None:
    answer = place.ask(place.url("echo"), f"/status/{status}")
    assert answer.status == status
    assert answer.headers["location"] == "/elsewhere"
    assert answer.body == (b"" if status == 204 else b"as asked")


def test_large_bodies_pass_whole_both_ways(place: Place) -> None:
    body = bytes(range(256)) * 4096 * 8
    answer = place.ask(place.url("echo"), "/digest", "POST", body=body)
    assert answer.json() == {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    assert place.ask(place.url("echo"), "/bytes/8388608").body == b"x" * 8388608


def test_a_body_without_a_length_passes(place: Place) -> None:
    parts = [b"a" * 1000, b"b" * 70_000, b"c"]
    answer = place.ask(place.url("echo"), "/digest", "POST", body=iter(parts))
    assert answer.json()["sha256"] == hashlib.sha256(b"".join(parts)).hexdigest()


def test_an_answer_streams_as_it_is_written(place: Place) -> None:
    with place.asked(place.url("echo"), "/stream?lines=3&every=1") as answer:
        began = time.monotonic()
        assert answer.readline() == b"0\n"
        first_s = time.monotonic() - began
        assert answer.read() == b"1\n2\n"
        whole_s = time.monotonic() - began
    assert whole_s - first_s >= 1.5  # the first line did not wait for the last


def test_a_host_that_nobody_has_answers_404(place: Place) -> None:
    address, host, _ = place.where(place.url("echo"))
    for unknown in (host.replace("echo.", "absent."), host.replace(place.api.namespace, "elsewhere")):
        assert wire.ask(address, "/", headers={"Host": unknown}).status == 404


def test_a_host_may_be_written_in_capitals(place: Place) -> None:
    address, host, _ = place.where(place.url("echo"))
    assert wire.ask(address, "/", headers={"Host": host.upper()}).status == 200


def test_a_tag_has_a_host_of_its_own(place: Place) -> None:
    split(place)
    traffic = (place.api.get("Service", "split") or {})["status"]["traffic"]
    urls = {target["tag"]: target["url"] for target in traffic}
    assert {tag: answered_by(place, url) for tag, url in urls.items()} == {"old": "split-one", "new": "split-two"}
    assert urls["new"] == split(place).replace("://split", "://new-split")


def test_a_tag_that_nobody_has_answers_404(place: Place) -> None:
    address, host, _ = place.where(split(place))
    assert wire.ask(address, "/", headers={"Host": f"absent-{host}"}).status == 404


def test_requests_are_shared_out_as_the_traffic_says(place: Place) -> None:
    """At 80 to 20 the newer one gets 8 to 34 of 100: beyond that lies a chance of one in two thousand."""
    url = split(place)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: answered_by(place, url), range(100)))
    assert set(answers) <= {"split-one", "split-two"}
    assert 8 <= answers.count("split-two") <= 34


def test_no_more_than_container_concurrency_are_in_a_container_at_once(place: Place) -> None:
    place.service("limited", scale=(1, 1), containerConcurrency=2)
    url = place.url("limited")
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: place.ask(url, "/sleep?seconds=0.2"), range(10)))
    assert {answer.status for answer in answers} == {200}
    assert max(answer.json()["most"] for answer in answers) == 2


def test_no_answer_within_timeout_seconds_is_504(place: Place) -> None:
    place.service("hurried", timeoutSeconds=2)
    assert place.ask(place.url("hurried"), "/sleep?seconds=20").status == 504
    assert place.ask(place.url("hurried"), "/").status == 200


def test_a_container_that_crashes_on_a_request_answers_502_and_comes_back(place: Place) -> None:
    place.service("fragile", scale=(1, 1))
    answer = place.ask(place.url("fragile"), "/crash", "POST", body=b"x")
    assert answer.status == 502

    def back() -> bool:
        try:
            return place.ask(place.url("fragile"), "/").status == 200
        except (OSError, http.client.HTTPException):
            return False

    until("the container's return", back)


def test_a_connection_serves_many_requests(place: Place) -> None:
    address, host, _ = place.where(place.url("echo"))
    connection = http.client.HTTPConnection(address, timeout=wire.ANSWER_S)
    try:
        for _ in range(5):
            connection.request("GET", "/", headers={"Host": host})
            answer = connection.getresponse()
            assert answer.status == 200
            answer.read()
            assert connection.sock is not None  # it was not closed
    finally:
        connection.close()
