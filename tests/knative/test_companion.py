"""knative.companion: a Service that follows another one, by version, whatever their revisions are called."""

from __future__ import annotations

from typing import Any

import pytest

from knative import companion, rollout

Object = dict[str, Any]
LATEST: Object = {"latestRevision": True, "percent": 100}


def service(name: str, version: str, *traffic: Object, labels: dict[str, str] | None = None) -> Object:
    env = [{"name": "HEADRACE_MODEL", "value": "flights"}, {"name": "HEADRACE_MODEL_VERSION", "value": version}]
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "resourceVersion": "7", "uid": f"uid-{name}", "labels": labels or {}},
        "spec": {
            "template": {"spec": {"containers": [{"name": "predictor", "env": env}]}},
            "traffic": list(traffic or [LATEST]),
        },
    }


def revision(name: str, version: str, ready: str = "True") -> Object:
    env = [{"name": "HEADRACE_MODEL_VERSION", "value": version}]
    return {
        "metadata": {"name": name, "labels": {companion.GENERATION_LABEL: str(int(name.rpartition("-")[2]))}},
        "spec": {"containers": [{"env": env}]},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def pinned(name: str, percent: int, tag: str | None = None) -> Object:
    return {"revisionName": name, "latestRevision": False, "percent": percent} | ({"tag": tag} if tag else {})


def newest(percent: int, tag: str | None = None) -> Object:
    return {"latestRevision": True, "percent": percent} | ({"tag": tag} if tag else {})


LEADING = [revision("flights-00001", "v1"), revision("flights-00002", "v2")]
FOLLOWING = [revision("flights-grpc-00004", "v1"), revision("flights-grpc-00005", "v2")]


@pytest.mark.parametrize(
    ("leader", "following", "version", "traffic"),
    [
        pytest.param(
            service("flights", "v2", pinned("flights-00001", 100, "champion"), newest(0, "canary")),
            FOLLOWING[:1],
            "v2",
            [pinned("flights-grpc-00004", 100, "champion"), newest(0, "canary")],
            id="a canary starts",
        ),
        pytest.param(
            service("flights", "v2", pinned("flights-00001", 80, "champion"), pinned("flights-00002", 20, "canary")),
            FOLLOWING,
            "v2",
            [pinned("flights-grpc-00004", 80, "champion"), pinned("flights-grpc-00005", 20, "canary")],
            id="it gets its share",
        ),
        pytest.param(
            service("flights", "v2", LATEST, pinned("flights-00001", 0, "previous")),
            FOLLOWING,
            "v2",
            [LATEST, pinned("flights-grpc-00004", 0, "previous")],
            id="it is promoted",
        ),
        pytest.param(
            service("flights", "v2", LATEST, pinned("flights-00001", 0, "previous")),
            FOLLOWING[1:],
            "v2",
            [LATEST],
            id="a tag to what the companion never had leads nowhere",
        ),
        pytest.param(
            service("flights", "v1", pinned("flights-00001", 100, "champion")),
            [*FOLLOWING, revision("flights-grpc-00006", "v1", "Unknown")],
            "v1",
            [pinned("flights-grpc-00004", 100, "champion")],
            id="it is taken back, through a revision that is ready",
        ),
        pytest.param(
            service("flights", "v1", pinned("flights-00001", 100)),
            FOLLOWING[1:],
            "v1",
            [LATEST],
            id="back to what the companion never had, as soon as that is ready",
        ),
        pytest.param(
            service("flights", "v2", pinned("flights-00001", 80, "champion"), pinned("flights-00002", 20, "canary")),
            [revision("flights-grpc-00001", "v0")],
            "v1",
            [LATEST],
            id="what has a share and was never there comes first, alone",
        ),
    ],
)
def test_the_companion_serves_the_same_versions_with_the_same_shares(
    leader: Object, following: list[Object], version: str, traffic: list[Object]
) -> None:
    patch = companion.following_patch(leader, LEADING, service("flights-grpc", "v0", LATEST), following)
    assert patch is not None
    assert rollout.version_of(patch["spec"]["template"]) == version
    seen = patch["spec"].get("traffic", [LATEST])
    assert seen == traffic
    assert patch["metadata"]["resourceVersion"] == "7"


def test_what_is_there_already_is_not_written_again() -> None:
    leader = service("flights", "v2", LATEST, pinned("flights-00001", 0, "previous"))
    there = service("flights-grpc", "v2", LATEST, pinned("flights-grpc-00004", 0, "previous"))
    assert companion.following_patch(leader, LEADING, there, FOLLOWING) is None


def test_a_share_of_a_revision_that_nobody_knows_changes_nothing() -> None:
    leader = service("flights", "v2", pinned("flights-00009", 100))
    assert companion.following_patch(leader, LEADING, service("flights-grpc", "v2"), FOLLOWING) is None


def test_what_ops_set_on_the_companion_stays() -> None:
    there = service("flights-grpc", "v1", LATEST, pinned("flights-grpc-00004", 0, "mine"))
    there["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "LOG_LEVEL", "value": "debug"})
    patch = companion.following_patch(service("flights", "v2"), LEADING, there, FOLLOWING)
    assert patch is not None
    assert "traffic" not in patch["spec"]
    env = patch["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "LOG_LEVEL", "value": "debug"} in env


def test_a_first_companion_serves_what_most_requests_reach_and_belongs_to_its_leader() -> None:
    leader = service("flights", "v2", pinned("flights-00001", 80, "champion"), pinned("flights-00002", 20, "canary"))
    version = companion.serving_version(leader, LEADING)
    assert version == "v1"
    made = companion.first(service("predictor-grpc", ""), leader, version)
    assert (made["metadata"]["name"], rollout.model_of(made)) == ("flights-grpc", "flights")
    assert rollout.version_of(made["spec"]["template"]) == "v1"
    assert companion.is_companion(made, "flights")
    assert not companion.is_companion(made, "other")
    owner = made["metadata"]["ownerReferences"]
    assert owner == [
        {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "flights", "uid": "uid-flights"}
    ]
