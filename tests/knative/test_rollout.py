"""knative.rollout: a Knative Service read and changed, with patches applied as an API server would (RFC 7386)."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from knative import rollout
from knative.canary import Canary, Readiness

STATE = Canary("v2", "v1", "flights-00001", since=1000.0, phase="starting", phase_since=1000.0, event="e-1")
TEMPLATE: dict[str, Any] = {
    "metadata": {"annotations": {"autoscaling.knative.dev/target": "7"}},
    "spec": {
        "containerConcurrency": 4,
        "containers": [
            {"name": "sidecar", "image": "logs:1"},
            {
                "name": "predictor",
                "image": "functions:1",
                "env": [
                    {"name": "HEADRACE_MODEL", "value": "flights"},
                    {"name": "HEADRACE_MODEL_VERSION", "value": "v1"},
                    {"name": "LOG_LEVEL", "value": "debug"},
                ],
                "resources": {"limits": {"memory": "1Gi"}},
            },
        ],
    },
}


def service(**changes: Any) -> dict[str, Any]:
    """A Service that serves v1 with revision flights-00001."""
    made: dict[str, Any] = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "flights", "namespace": "headrace", "resourceVersion": "41", "generation": 3},
        "spec": {"template": deepcopy(TEMPLATE), "traffic": [{"latestRevision": True, "percent": 100}]},
        "status": {
            "observedGeneration": 3,
            "latestCreatedRevisionName": "flights-00001",
            "latestReadyRevisionName": "flights-00001",
            "address": {"url": "http://flights.headrace.svc.cluster.local"},
            "traffic": [{"revisionName": "flights-00001", "latestRevision": True, "percent": 100}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    made["spec"] |= changes.pop("spec", {})
    made["status"] |= changes.pop("status", {})
    return made


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merged(out.get(key), value)
    return out


def test_the_start_makes_the_challengers_revision_while_the_champion_keeps_all_traffic() -> None:
    after = merged(service(), rollout.start_patch(service(), STATE))
    assert rollout.version_of(after["spec"]["template"]) == "v2"
    assert after["spec"]["traffic"] == [
        {"revisionName": "flights-00001", "latestRevision": False, "percent": 100, "tag": "champion"},
        {"latestRevision": True, "percent": 0, "tag": "canary"},
    ]
    assert rollout.canary_of(after) == STATE


def test_a_patch_changes_the_version_and_leaves_all_else_of_the_template_to_ops() -> None:
    after = merged(service(), rollout.start_patch(service(), STATE))
    expected = deepcopy(TEMPLATE)
    expected["spec"]["containers"][1]["env"][1]["value"] = "v2"
    assert after["spec"]["template"] == expected


def test_a_revision_name_given_by_hand_is_taken_off_a_changed_template() -> None:
    named = service()
    named["spec"]["template"]["metadata"]["name"] = "flights-by-hand"
    after = merged(named, rollout.start_patch(named, STATE))
    assert after["spec"]["template"]["metadata"] == TEMPLATE["metadata"]


def test_every_patch_carries_the_version_of_the_object_it_was_made_from() -> None:
    patches = [
        rollout.start_patch(service(), STATE),
        rollout.shift_patch(service(), replace(STATE, revision="flights-00002"), 20),
        rollout.promote_patch(service(), STATE),
        rollout.revert_patch(service(), STATE),
        rollout.finish_patch(service(), settled=True),
        rollout.promotion_patch(service(), "v2"),
        rollout.rollback_patch(service(), "v1", "flights-00001"),
        rollout.settle_patch(service()),
    ]
    assert {patch["metadata"]["resourceVersion"] for patch in patches} == {"41"}


def test_the_shift_splits_the_traffic_between_two_named_revisions() -> None:
    after = merged(service(), rollout.shift_patch(service(), replace(STATE, revision="flights-00002"), 20))
    shares = {t["revisionName"]: (t["percent"], t["tag"]) for t in after["spec"]["traffic"]}
    assert shares == {"flights-00001": (80, "champion"), "flights-00002": (20, "canary")}


def test_after_a_promotion_the_newest_revision_serves_and_the_old_one_stays_reachable() -> None:
    promoted = merged(service(), rollout.promote_patch(service(), STATE))
    over = merged(promoted, rollout.finish_patch(promoted, settled=True))
    assert over["spec"]["traffic"] == [
        {"latestRevision": True, "percent": 100},
        {"revisionName": "flights-00001", "latestRevision": False, "percent": 0, "tag": "previous"},
    ]
    assert rollout.canary_of(over) is None


def test_a_rollback_pins_the_champion_at_once_and_reverts_the_template() -> None:
    started = merged(service(), rollout.start_patch(service(), STATE))
    after = merged(started, rollout.revert_patch(started, replace(STATE, phase="reverting")))
    assert after["spec"]["traffic"][0]["revisionName"] == "flights-00001"
    assert after["spec"]["traffic"][0]["percent"] == 100
    assert after["spec"]["template"] == TEMPLATE
    over = merged(after, rollout.finish_patch(after, settled=True))
    assert over["spec"]["traffic"] == [{"latestRevision": True, "percent": 100}]


def test_a_champion_whose_new_revision_never_got_ready_stays_pinned() -> None:
    reverted = merged(service(), rollout.revert_patch(service(), replace(STATE, phase="reverting")))
    over = merged(reverted, rollout.finish_patch(reverted, settled=False))
    assert (over["spec"], rollout.canary_of(over)) == (reverted["spec"], None)


def test_tags_that_ops_made_outlive_a_rollout() -> None:
    blue = {"revisionName": "flights-00000", "percent": 0, "tag": "blue"}
    tagged = service(spec={"traffic": [{"latestRevision": True, "percent": 100}, blue]})
    for patch in (rollout.start_patch(tagged, STATE), rollout.promote_patch(tagged, STATE)):
        assert blue in patch["spec"]["traffic"]


def test_a_first_service_serves_the_model_from_the_manifest_and_notes_its_rollout() -> None:
    manifest = {"metadata": {"name": "model"}, "spec": {"template": {"spec": {"containers": [{"image": "i"}]}}}}
    made = rollout.first_service(manifest, "flights", replace(STATE, champion=None, champion_revision=None))
    assert (made["metadata"]["name"], rollout.model_of(made)) == ("flights", "flights")
    assert rollout.version_of(made["spec"]["template"]) == "v2"
    assert rollout.canary_of(made) is not None
    assert manifest["metadata"] == {"name": "model"}


def test_a_promotion_by_hand_ends_a_running_canary() -> None:
    started = merged(service(), rollout.start_patch(service(), STATE))
    after = merged(started, rollout.promotion_patch(started, "v3"))
    assert rollout.canary_of(after) is None
    assert rollout.version_of(after["spec"]["template"]) == "v3"
    assert after["spec"]["traffic"][0] == {"latestRevision": True, "percent": 100}


def test_a_rollback_by_hand_serves_at_once_from_a_revision_that_is_still_there() -> None:
    after = merged(service(), rollout.rollback_patch(service(), "v0", "flights-00000"))
    assert after["spec"]["traffic"] == [{"revisionName": "flights-00000", "latestRevision": False, "percent": 100}]
    assert rollout.version_of(after["spec"]["template"]) == "v0"
    settled = merged(after, rollout.settle_patch(after))
    assert settled["spec"]["traffic"] == [{"latestRevision": True, "percent": 100}]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, "True"),
        ({"observedGeneration": 2}, "Unknown"),  # speaks of an older spec
        ({"conditions": []}, "Unknown"),
        ({"conditions": [{"type": "Ready", "status": "False", "reason": "R", "message": "m"}]}, "False"),
    ],
)
def test_readiness_speaks_of_the_newest_spec_alone(status: dict[str, Any], expected: str) -> None:
    assert rollout.readiness(service(status=status)).status == expected


def test_a_pod_that_no_node_has_room_for_yet_is_waited_for() -> None:
    said = {"type": "Ready", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}
    waiting = rollout.readiness(service(status={"conditions": [said]}))
    assert waiting == Readiness("Unknown", "Unschedulable: 0/1 nodes are available")


def test_readiness_says_why_not() -> None:
    broken = service(status={"conditions": [{"type": "Ready", "status": "False", "reason": "R", "message": "m"}]})
    assert rollout.readiness(broken) == Readiness("False", "R: m")


@pytest.mark.parametrize(
    ("traffic", "serving"),
    [
        ([{"revisionName": "a", "percent": 100}, {"revisionName": "b", "percent": 0, "tag": "x"}], "a"),
        ([{"revisionName": "a", "percent": 80}, {"revisionName": "a", "percent": 20, "tag": "x"}], "a"),
        ([{"revisionName": "a", "percent": 80}, {"revisionName": "b", "percent": 20}], None),
        ([], None),
    ],
)
def test_the_serving_revision_is_the_one_with_all_the_traffic(
    traffic: list[dict[str, Any]], serving: str | None
) -> None:
    assert rollout.serving_revision(service(status={"traffic": traffic})) == serving


def test_a_split_is_what_the_spec_asks_for() -> None:
    half = [{"revisionName": name, "percent": 50} for name in ("a", "b")]
    assert rollout.is_split(service(spec={"traffic": half}))
    assert not rollout.is_split(service(status={"traffic": half}))


UNREADY = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
SHARED = {"traffic": [{"revisionName": "flights-00001", "percent": 80}, {"revisionName": "b", "percent": 20}]}
PINNED = {"traffic": [{"revisionName": "flights-00001", "percent": 100}]}


@pytest.mark.parametrize(
    ("spec", "status", "moving"),
    [
        ({}, {}, False),
        ({}, SHARED, True),  # asked for one, still two
        ({}, {"traffic": []}, False),  # nothing ever served
        ({}, UNREADY, False),  # who serves is the newest already
        ({}, {**UNREADY, "latestCreatedRevisionName": "flights-00002"}, True),
        ({}, {"observedGeneration": 2}, True),  # a newer spec has not been looked at
        (PINNED, {**UNREADY, "latestCreatedRevisionName": "flights-00002"}, False),  # by name: it stays
    ],
)
def test_traffic_that_is_on_its_way_is_told_from_traffic_that_stays(
    spec: dict[str, Any], status: dict[str, Any], moving: bool
) -> None:
    assert rollout.is_moving(service(spec=spec, status=status)) is moving


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        # In a cluster each tag has a name of its own inside; the public domain may be unknown there.
        ("http://flights.headrace.svc.cluster.local", "http://canary-flights.headrace.svc.cluster.local"),
        # On a laptop the address is a path.
        ("http://127.0.0.1:8080/svc/headrace/flights", "http://127.0.0.1:8080/svc/headrace/canary-flights"),
        ("http://flights.headrace.localhost:8080", "http://canary-flights.headrace.localhost:8080"),
        ("http://elsewhere/", None),
    ],
)
def test_a_tag_is_reached_where_the_service_is(address: str, expected: str | None) -> None:
    routed = [{"tag": "canary", "revisionName": "flights-00002", "percent": 0}]
    seen = service(status={"address": {"url": address}, "traffic": routed})
    assert rollout.tag_url(seen, "canary") == expected


def test_a_tag_without_a_route_has_no_address() -> None:
    assert rollout.tag_url(service(), "canary") is None
