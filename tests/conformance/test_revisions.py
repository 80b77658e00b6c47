"""How a Service becomes revisions, when they get traffic, and how many pods they have."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.conformance import manifests
from tests.conformance.api import until
from tests.conformance.place import Place
from tests.conformance.test_service import answered_by


def test_a_service_makes_a_configuration_a_route_and_a_revision(place: Place) -> None:
    service = place.service("echo")
    for kind in ("Configuration", "Route"):
        made = place.api.get(kind, "echo")
        assert made is not None
        assert made["metadata"]["ownerReferences"][0]["uid"] == service["metadata"]["uid"]
        assert made["metadata"]["labels"]["serving.knative.dev/service"] == "echo"
    revision = place.api.get("Revision", service["status"]["latestReadyRevisionName"])
    assert revision is not None
    labels = revision["metadata"]["labels"]
    assert labels["serving.knative.dev/configuration"] == labels["serving.knative.dev/service"] == "echo"
    assert labels["serving.knative.dev/configurationGeneration"] == "1"
    assert revision["metadata"]["name"] == "echo-00001"


def test_a_ready_service_tells_all_of_its_conditions(place: Place) -> None:
    told = {c["type"]: c["status"] for c in place.service("echo")["status"]["conditions"]}
    assert told == {"Ready": "True", "ConfigurationsReady": "True", "RoutesReady": "True"}
    revision = place.api.get("Revision", "echo-00001") or {}
    told = {c["type"]: c["status"] for c in revision["status"]["conditions"]}
    assert {told[type] for type in ("Ready", "ContainerHealthy", "ResourcesAvailable")} == {"True"}


def test_a_service_tells_its_traffic_and_its_address(place: Place) -> None:
    status = place.service("echo")["status"]
    assert status["traffic"] == [{"latestRevision": True, "percent": 100, "revisionName": "echo-00001"}]
    assert status["latestCreatedRevisionName"] == status["latestReadyRevisionName"] == "echo-00001"
    assert status["address"]["url"].startswith("http://")
    assert status["observedGeneration"] == 1


def test_a_changed_template_is_a_new_revision_that_takes_the_traffic(place: Place) -> None:
    before = place.service("changed", environment={"VERSION": "1"})["status"]["latestReadyRevisionName"]
    place.api.apply(manifests.service(place.image, "changed", environment={"VERSION": "2"}))
    service = place.api.until_condition("Service", "changed")
    after = service["status"]["latestReadyRevisionName"]
    assert (before, after) == ("changed-00001", "changed-00002")
    until("the new revision's traffic", lambda: answered_by(place, service["status"]["url"]) == after)
    assert place.api.get("Revision", before) is not None


def test_a_changed_label_is_no_new_revision(place: Place) -> None:
    place.service("labelled")
    place.api.merge("Service", "labelled", {"metadata": {"labels": {"team": "blue"}}})
    service = place.api.until_condition("Service", "labelled")
    assert service["status"]["latestCreatedRevisionName"] == "labelled-00001"


def test_a_revision_that_cannot_start_leaves_the_old_one_serving(place: Place) -> None:
    place.service("steady")
    broken = manifests.service(place.image, "steady", word="fail")
    broken["spec"]["template"]["metadata"]["annotations"]["serving.knative.dev/progress-deadline"] = "30s"
    place.api.apply(broken)
    service = place.api.until_condition("Service", "steady", "ConfigurationsReady", "False")
    assert service["status"]["latestReadyRevisionName"] == "steady-00001"
    assert service["status"]["latestCreatedRevisionName"] == "steady-00002"
    assert place.api.condition("Service", "steady", "ConfigurationsReady")["reason"] == "RevisionFailed"
    assert place.api.condition("Revision", "steady-00002")["status"] == "False"
    assert answered_by(place, service["status"]["url"]) == "steady-00001"


def test_a_revision_whose_probe_fails_gets_no_traffic_until_it_succeeds(place: Place) -> None:
    place.service("probed")
    slow = manifests.service(place.image, "probed", environment={"START_S": "3"})
    slow["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/status/200"}}
    place.api.apply(slow)
    url = place.url("probed")
    while (place.api.get("Service", "probed") or {})["status"].get("latestReadyRevisionName") == "probed-00001":
        assert answered_by(place, url) in ("probed-00001", "probed-00002")
    place.api.until_condition("Service", "probed")
    until("the new revision's traffic", lambda: answered_by(place, url) == "probed-00002")


def test_traffic_to_a_revision_that_is_not_there_is_told(place: Place) -> None:
    place.service("misrouted")
    shares = [{"revisionName": "misrouted-absent", "percent": 100}]
    place.api.apply(manifests.service(place.image, "misrouted", traffic=shares))
    service = place.api.until_condition("Service", "misrouted", "RoutesReady", "False")
    assert place.api.condition("Service", "misrouted", "RoutesReady")["reason"] == "RevisionMissing"
    assert answered_by(place, service["status"]["url"]) == "misrouted-00001"  # the last good split stays


def test_without_requests_there_are_no_pods_and_the_service_stays_ready(place: Place) -> None:
    place.service("idle", annotations=manifests.SOON_ZERO)
    place.until_zero("idle")
    assert place.api.condition("Service", "idle")["status"] == "True"
    revision = place.service("idle")["status"]["latestReadyRevisionName"]
    assert place.api.condition("Revision", revision, "Active")["reason"] == "NoTraffic"


def test_a_request_at_zero_waits_for_a_pod(place: Place) -> None:
    place.service("sleeper", annotations=manifests.SOON_ZERO)
    place.until_zero("sleeper")
    assert place.ask(place.url("sleeper"), "/").status == 200


def test_min_scale_pods_stay_without_requests(place: Place) -> None:
    place.service("pair", scale=(2, 2))
    place.until_pods("pair", 2)
    revision = place.service("pair")["status"]["latestReadyRevisionName"]
    assert place.api.condition("Revision", revision, "Active")["status"] == "True"


def test_more_requests_than_a_pod_may_have_bring_more_pods(place: Place) -> None:
    place.service("wide", scale=(0, 3), annotations=manifests.SOON_ZERO, containerConcurrency=1)
    url = place.url("wide")
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(place.ask, url, "/sleep?seconds=4") for _ in range(6)]
        place.until_pods("wide", 2)
        assert {each.result().status for each in asked} == {200}


def test_initial_scale_zero_waits_for_no_pod(place: Place) -> None:
    """Knative allows it only where its ConfigMap config-autoscaler says so, which its defaults do not."""
    made = manifests.service(place.image, "nothing", annotations={"autoscaling.knative.dev/initial-scale": "0"})
    reply = place.api("POST", place.api.path("Service"), {"fieldValidation": "Strict"}, body=made)
    assert reply.status == 400, reply
    assert "initial-scale" in reply.message


def test_a_deleted_service_takes_its_revisions_along(place: Place) -> None:
    place.service("passing")
    url = place.url("passing")
    place.api.delete("Service", "passing")
    until("the end of its revision", lambda: place.api.get("Revision", "passing-00001") is None)
    until("the end of its route", lambda: place.ask(url, "/").status == 404)
