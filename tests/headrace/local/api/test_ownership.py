"""Promises of managed fields and server-side apply."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.local.api import ownership
from headrace.local.objects.object_errors import Conflict

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"


def pod(*containers: dict[str, Any], **labels: str) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": "p"} | ({"labels": labels} if labels else {})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": list(containers)}}


def apply(live: dict[str, Any] | None, config: dict[str, Any], manager: str, force: bool = False) -> dict[str, Any]:
    return ownership.apply(live, config, manager, force, NOW)


def test_what_is_applied_is_recorded_as_fields_v1() -> None:
    (entry,) = apply(None, pod({"name": "a", "image": "x"}, team="data"), "one")["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"], entry["time"]) == ("one", "Apply", NOW)
    assert entry["fieldsV1"] == {
        "f:metadata": {"f:labels": {"f:team": {}}},
        "f:spec": {"f:containers": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:image": {}}}},
    }


def test_two_managers_share_a_list_item_by_item() -> None:
    live = apply(None, pod({"name": "a", "image": "x"}), "one")
    live = apply(live, pod({"name": "b", "image": "y"}), "two")
    live = apply(live, pod(team="data"), "one")
    assert live["spec"]["containers"] == [{"name": "b", "image": "y"}]


def test_an_item_that_another_still_lists_stays_with_its_fields_alone() -> None:
    live = apply(None, pod({"name": "a", "image": "x"}), "one")
    live = apply(live, pod({"name": "a", "workingDir": "/"}), "two")
    live = apply(live, pod(team="data"), "one")
    assert live["spec"]["containers"] == [{"name": "a", "workingDir": "/"}]


def test_an_object_left_empty_is_removed_with_its_last_field() -> None:
    live = apply(None, pod(team="data"), "one")
    assert "labels" not in apply(live, pod(), "one")["metadata"]


def test_the_same_value_is_owned_by_both_and_stays_until_neither_lists_it() -> None:
    live = apply(None, pod(team="data"), "one")
    live = apply(live, pod(team="data"), "two")
    live = apply(live, pod(), "one")
    assert live["metadata"]["labels"] == {"team": "data"}
    assert "labels" not in apply(live, pod(), "two")["metadata"]


def test_a_forced_apply_takes_the_field_from_its_owner() -> None:
    live = apply(None, pod(team="data"), "one")
    live = apply(live, pod(team="ops"), "two", force=True)
    assert live["metadata"]["labels"] == {"team": "ops"}
    assert apply(live, pod(), "one")["metadata"]["labels"] == {"team": "ops"}


def test_a_conflict_names_manager_and_field() -> None:
    live = apply(None, pod({"name": "a", "image": "x"}), "one")
    with pytest.raises(Conflict, match=r'conflict with "one": \.spec\.containers\[name="a"\]\.image'):
        apply(live, pod({"name": "a", "image": "y"}), "two")


def test_an_update_takes_changed_fields_from_those_who_applied_them() -> None:
    live = apply(None, pod(team="data", tier="1"), "one")
    edited = pod(team="ops", tier="1") | {}
    live = ownership.update(live, edited, "editor", NOW)
    with pytest.raises(Conflict, match=r'conflict with "editor": \.metadata\.labels\.team'):
        apply(live, pod(team="data", tier="1"), "one")


def test_an_apply_of_the_same_keeps_the_time_of_the_first() -> None:
    live = apply(None, pod(team="data"), "one")
    assert ownership.apply(live, pod(team="data"), "one", False, LATER) == live
