"""The Kubernetes API: writes and their conflicts, patches by managers, refusals, lists, watches, deletions."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from tests.conformance import manifests
from tests.conformance.api import APPLY, JSON_PATCH, MERGE, STRATEGIC, TABLE, Object, Reply, until
from tests.conformance.differences import differs
from tests.conformance.place import Place

STRICT = {"fieldValidation": "Strict"}
DEFAULTS = "defaults within a pod's template"


def made(place: Place, name: str, data: dict[str, str] | None = None, **meta: Any) -> Object:
    """A ConfigMap, created."""
    return place.api.create(manifests.config_map(name, data or {"a": "1"}, **meta))


def apply(place: Place, name: str, data: dict[str, str], manager: str, **query: Any) -> Reply:
    path = place.api.path("ConfigMap", name)
    return place.api(
        "PATCH", path, {"fieldManager": manager, **query}, body=manifests.config_map(name, data), content=APPLY
    )


def patch(place: Place, name: str, body: Any, content: str, kind: str = "ConfigMap", **query: Any) -> Reply:
    return place.api("PATCH", place.api.path(kind, name), query, body=body, content=content)


# ---- writes ------------------------------------------------------------------------------------------------------


def test_a_created_object_has_what_the_server_sets(place: Place) -> None:
    meta = made(place, "fresh")["metadata"]
    assert re.fullmatch(r"[0-9a-f-]{36}", meta["uid"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", meta["creationTimestamp"])
    assert meta["resourceVersion"].isdecimal()
    assert meta["namespace"] == place.api.namespace
    assert meta["managedFields"][0]["operation"] == "Update"


def test_a_name_that_is_taken_is_a_conflict(place: Place) -> None:
    made(place, "taken")
    reply = place.api("POST", place.api.path("ConfigMap"), body=manifests.config_map("taken"))
    assert (reply.status, reply.reason) == (409, "AlreadyExists")
    assert reply.message == 'configmaps "taken" already exists'


def test_what_is_not_there_is_not_found(place: Place) -> None:
    reply = place.api("GET", place.api.path("Service", "absent"))
    assert (reply.status, reply.reason) == (404, "NotFound")
    assert reply.message == 'services.serving.knative.dev "absent" not found'
    assert reply.body["details"] == {"name": "absent", "group": "serving.knative.dev", "kind": "services"}


def test_a_name_is_made_where_only_its_beginning_is_given(place: Place) -> None:
    names = {
        place.api("POST", place.api.path("ConfigMap"), body={"metadata": {"generateName": "made-"}}).body["metadata"][
            "name"
        ]
        for _ in range(3)
    }
    assert len(names) == 3
    assert all(re.fullmatch(r"made-[a-z0-9]{5}", name) for name in names)


def test_a_stale_resource_version_is_a_conflict(place: Place) -> None:
    stale = made(place, "stale")
    place.api.merge("ConfigMap", "stale", {"data": {"a": "2"}})
    stale["data"]["a"] = "3"
    reply = place.api("PUT", place.api.path("ConfigMap", "stale"), body=stale)
    assert (reply.status, reply.reason) == (409, "Conflict")
    assert "the object has been modified" in reply.message
    assert place.api.get("ConfigMap", "stale")["data"] == {"a": "2"}  # type: ignore[index]


def test_a_merge_patch_with_a_stale_resource_version_is_a_conflict(place: Place) -> None:
    version = made(place, "stale-patch")["metadata"]["resourceVersion"]
    place.api.merge("ConfigMap", "stale-patch", {"data": {"a": "2"}})
    body = {"metadata": {"resourceVersion": version}, "data": {"a": "3"}}
    assert patch(place, "stale-patch", body, MERGE).status == 409


def test_an_update_without_a_resource_version_is_taken(place: Place) -> None:
    made(place, "blind")
    reply = place.api("PUT", place.api.path("ConfigMap", "blind"), body=manifests.config_map("blind", {"b": "2"}))
    assert (reply.status, reply.body["data"]) == (200, {"b": "2"})


def test_a_write_that_changes_nothing_leaves_the_resource_version(place: Place) -> None:
    before = made(place, "same")
    after = place.api.merge("ConfigMap", "same", {"data": {"a": "1"}})
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_a_dry_run_tells_what_would_be_and_writes_nothing(place: Place) -> None:
    dry = place.api("POST", place.api.path("ConfigMap"), {"dryRun": "All"}, body=manifests.config_map("dry"))
    assert (dry.status, bool(dry.body["metadata"]["uid"])) == (201, True)
    assert place.api.get("ConfigMap", "dry") is None


def test_a_namespace_that_is_not_there_takes_nothing(place: Place) -> None:
    path = place.api.path("ConfigMap").replace(f"/{place.api.namespace}/", "/absent/")
    reply = place.api("POST", path, body=manifests.config_map("lost"))
    assert (reply.status, reply.message) == (404, 'namespaces "absent" not found')


def test_the_name_in_the_body_is_the_one_in_the_path(place: Place) -> None:
    made(place, "one-name")
    reply = place.api("PUT", place.api.path("ConfigMap", "one-name"), body=manifests.config_map("other"))
    assert (reply.status, reply.reason) == (400, "BadRequest")


# ---- patches and managers ----------------------------------------------------------------------------------------


def test_a_merge_patch_takes_away_what_is_null_and_replaces_lists(place: Place) -> None:
    made(place, "merged", {"a": "1", "b": "2"})
    reply = patch(place, "merged", {"data": {"a": None, "c": "3"}}, MERGE)
    assert (reply.status, reply.body["data"]) == (200, {"b": "2", "c": "3"})


def test_a_json_patch_applies_whole_or_not_at_all(place: Place) -> None:
    made(place, "jsonpatched")
    both = [{"op": "replace", "path": "/data/a", "value": "2"}, {"op": "test", "path": "/data/a", "value": "1"}]
    assert patch(place, "jsonpatched", both, JSON_PATCH).status == 422
    assert (place.api.get("ConfigMap", "jsonpatched") or {})["data"] == {"a": "1"}
    assert patch(place, "jsonpatched", both[:1], JSON_PATCH).body["data"] == {"a": "2"}


def test_a_custom_resource_takes_no_strategic_patch(place: Place) -> None:
    place.broker()
    reply = patch(place, "default", {}, STRATEGIC, "Broker")
    assert (reply.status, reply.reason) == (415, "UnsupportedMediaType")


def test_a_strategic_patch_merges_lists_by_their_key(place: Place) -> None:
    job = manifests.job(place.image, "strategic", suspend=True)
    place.api.create(job)
    condition = {"status": {"conditions": [{"type": "Mine", "status": "True"}]}}
    path = place.api.path("Job", "strategic", "status")
    until("the Job's own condition", lambda: place.api.condition("Job", "strategic", "Suspended"))
    reply = place.api("PATCH", path, body=condition, content=STRATEGIC)
    assert reply.status == 200, reply
    assert {c["type"] for c in reply.body["status"]["conditions"]} == {"Suspended", "Mine"}


def test_a_patch_of_an_unknown_type_is_refused(place: Place) -> None:
    made(place, "untyped")
    assert patch(place, "untyped", {}, "application/x-patch").status == 415


def test_an_apply_creates_and_then_changes_nothing(place: Place) -> None:
    first = apply(place, "applied", {"a": "1"}, "one")
    again = apply(place, "applied", {"a": "1"}, "one")
    assert (first.status, again.status) == (201, 200)
    assert first.body == again.body


def test_an_apply_needs_a_manager(place: Place) -> None:
    path = place.api.path("ConfigMap", "unmanaged")
    reply = place.api("PATCH", path, body=manifests.config_map("unmanaged"), content=APPLY)
    assert (reply.status, reply.reason) == (422, "Invalid")
    assert "fieldManager" in reply.message


def test_an_apply_leaves_what_others_own_and_takes_away_what_it_owned(place: Place) -> None:
    apply(place, "shared", {"mine": "1", "both": "1"}, "one")
    apply(place, "shared", {"theirs": "2", "both": "1"}, "two")
    assert apply(place, "shared", {}, "one").body["data"] == {"theirs": "2", "both": "1"}


def test_an_apply_over_anothers_value_is_a_conflict_that_names_it(place: Place) -> None:
    apply(place, "contested", {"a": "1"}, "one")
    reply = apply(place, "contested", {"a": "2"}, "two")
    assert (reply.status, reply.reason) == (409, "Conflict")
    assert reply.message == 'Apply failed with 1 conflict: conflict with "one": .data.a'
    (cause,) = reply.body["details"]["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.a")
    assert apply(place, "contested", {"a": "2"}, "two", force="true").body["data"] == {"a": "2"}


def test_an_update_takes_a_field_from_who_applied_it(place: Place) -> None:
    apply(place, "taken-over", {"a": "1", "b": "1"}, "one")
    patch(place, "taken-over", {"data": {"a": "2"}}, MERGE, fieldManager="editor")
    fields = (place.api.get("ConfigMap", "taken-over") or {})["metadata"]["managedFields"]
    owned = {(entry["manager"], entry["operation"]): entry["fieldsV1"]["f:data"].keys() for entry in fields}
    assert owned["editor", "Update"] >= {"f:a"}
    assert "f:a" not in owned["one", "Apply"]
    assert 'conflict with "editor"' in apply(place, "taken-over", {"a": "1", "b": "1"}, "one").message


# ---- refusals ----------------------------------------------------------------------------------------------------


def test_unknown_fields_are_refused_all_at_once_under_strict_validation(place: Place) -> None:
    wrong = manifests.job(place.image, "misspelt", backofLimit=1)
    wrong["spec"]["template"]["spec"]["containers"][0]["comand"] = ["x"]
    reply = place.api("POST", place.api.path("Job"), STRICT, body=wrong)
    assert (reply.status, reply.reason) == (400, "BadRequest")
    assert 'unknown field "spec.backofLimit"' in reply.message
    assert 'unknown field "spec.template.spec.containers[0].comand"' in reply.message


def test_unknown_fields_of_a_custom_resource_are_refused_under_strict_validation(place: Place) -> None:
    wrong = manifests.service(place.image, "misspelt")
    wrong["spec"]["template"]["spec"]["containerConcurency"] = 1
    reply = place.api("POST", place.api.path("Service"), STRICT, body=wrong)
    assert reply.status == 400
    assert "containerConcurency" in reply.message


def test_unknown_fields_are_warned_of_otherwise(place: Place) -> None:
    wrong = manifests.config_map("warned") | {"dta": {}}
    reply = place.api("POST", place.api.path("ConfigMap"), body=wrong)
    assert reply.status == 201
    assert any('unknown field \\"dta\\"' in warning for warning in reply.warnings), reply.warnings
    assert "dta" not in reply.body


@pytest.mark.parametrize("name", ["Upper", "under_score", "-dash", "a" * 254])
def test_a_name_that_is_none_is_refused(place: Place, name: str) -> None:
    reply = place.api("POST", place.api.path("ConfigMap"), body=manifests.config_map(name))
    assert (reply.status, reply.reason) == (422, "Invalid")
    assert reply.body["details"]["causes"][0]["field"] == "metadata.name"


def test_every_wrong_value_is_named(place: Place) -> None:
    wrong = manifests.job(place.image, "wrong", backoffLimit=-1)
    wrong["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    reply = place.api("POST", place.api.path("Job"), STRICT, body=wrong)
    assert (reply.status, reply.reason) == (422, "Invalid")
    fields = {cause["field"] for cause in reply.body["details"]["causes"]}
    assert fields >= {"spec.backoffLimit", "spec.template.spec.restartPolicy"}


def test_a_value_of_another_type_is_refused(place: Place) -> None:
    wrong = manifests.service(place.image, "wrong-type", containerConcurrency="many")
    reply = place.api("POST", place.api.path("Service"), STRICT, body=wrong)
    assert 400 <= reply.status < 500
    assert "containerConcurrency" in reply.message


@pytest.mark.parametrize(
    ("annotation", "value"),
    [("max-scale", "many"), ("window", "1s"), ("target", "0"), ("metric", "dreams"), ("min-scale", "-1")],
)
def test_an_autoscaling_annotation_that_cannot_work_is_refused(place: Place, annotation: str, value: str) -> None:
    key = f"autoscaling.knative.dev/{annotation}"
    wrong = manifests.service(place.image, "unscalable", annotations={key: value})
    reply = place.api("POST", place.api.path("Service"), STRICT, body=wrong)
    assert reply.status == 400, reply
    assert key in reply.message


def test_traffic_that_does_not_add_up_is_refused(place: Place) -> None:
    wrong = manifests.service(place.image, "uneven", traffic=[{"latestRevision": True, "percent": 90}])
    reply = place.api("POST", place.api.path("Service"), STRICT, body=wrong)
    assert reply.status == 400
    assert "Traffic targets sum to 90, want 100: spec.traffic" in reply.message


def test_a_body_that_is_no_json_is_refused(place: Place) -> None:
    reply = place.api("POST", place.api.path("ConfigMap"), body=b"{")
    assert (reply.status, reply.reason) == (400, "BadRequest")


# ---- defaults and what cannot change -----------------------------------------------------------------------------


def test_a_service_is_given_knatives_defaults(place: Place) -> None:
    service = place.service("echo")
    template = service["spec"]["template"]["spec"]
    told = {key: template[key] for key in ("containerConcurrency", "timeoutSeconds", "enableServiceLinks")}
    assert told == {"containerConcurrency": 0, "timeoutSeconds": 300, "enableServiceLinks": False}
    assert service["spec"]["traffic"] == [{"latestRevision": True, "percent": 100}]


def test_a_job_is_given_kubernetes_defaults(place: Place) -> None:
    spec = place.api.create(manifests.job(place.image, "defaulted", suspend=True))["spec"]
    told = {key: spec[key] for key in ("completions", "parallelism", "completionMode", "manualSelector") if key in spec}
    assert told == {"completions": 1, "parallelism": 1, "completionMode": "NonIndexed", "manualSelector": False}
    assert spec["template"]["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "defaulted"


def test_defaults_in_a_pods_template(place: Place) -> None:
    """A cluster fills in what its nodes act on, and a name for Knative's container; the laptop, what it acts on."""
    pod = place.api.create(manifests.job(place.image, "defaulted-pod", suspend=True))["spec"]["template"]["spec"]
    container = place.service("echo")["spec"]["template"]["spec"]["containers"][0]
    filled_in = not differs(place, DEFAULTS)
    assert ("dnsPolicy" in pod, container.get("name") == "user-container") == (filled_in, filled_in)


def test_the_template_of_a_job_cannot_change(place: Place) -> None:
    job = place.api.create(manifests.job(place.image, "fixed", suspend=False))
    reply = patch(place, job["metadata"]["name"], {"spec": {"completionMode": "Indexed"}}, MERGE, "Job")
    assert (reply.status, reply.body["details"]["causes"][0]["field"]) == (422, "spec.completionMode")


def test_the_spec_of_a_revision_cannot_change(place: Place) -> None:
    place.service("echo")
    reply = patch(place, "echo-00001", {"spec": {"timeoutSeconds": 7}}, MERGE, "Revision")
    assert reply.status == 400
    assert "Immutable fields changed" in reply.message


def test_the_broker_of_a_trigger_cannot_change(place: Place) -> None:
    place.api.apply(manifests.trigger("loyal", {"uri": "http://example.test/"}, manifests.SILENT))
    reply = patch(place, "loyal", {"spec": {"broker": "other"}}, MERGE, "Trigger")
    assert reply.status == 400
    assert "Immutable fields changed" in reply.message


def test_the_generation_counts_changes_of_the_spec_alone(place: Place) -> None:
    place.api.apply(manifests.trigger("generations", {"uri": "http://example.test/a"}, manifests.SILENT))
    labelled = place.api.merge("Trigger", "generations", {"metadata": {"labels": {"a": "b"}}})
    changed = place.api.merge("Trigger", "generations", {"spec": {"subscriber": {"uri": "http://example.test/b"}}})
    assert (labelled["metadata"]["generation"], changed["metadata"]["generation"]) == (1, 2)


def test_a_status_is_written_by_its_subresource_alone(place: Place) -> None:
    place.api.create(manifests.job(place.image, "status", suspend=True))
    until("the Job's status", lambda: place.api.condition("Job", "status", "Suspended"))
    ready = {"status": {"ready": 7}}
    assert place.api.merge("Job", "status", ready)["status"].get("ready") != 7
    patched = place.api(
        "PATCH", place.api.path("Job", "status", "status"), body={"spec": {"parallelism": 5}}, content=MERGE
    )
    assert (patched.status, patched.body["spec"]["parallelism"]) == (200, 1)


# ---- lists -------------------------------------------------------------------------------------------------------


def labelled(place: Place, prefix: str, count: int) -> str:
    """The selector of so many ConfigMaps, PREFIX-0 and on, with a label n from 0 on."""
    for number in range(count):
        made(place, f"{prefix}-{number}", labels={"of": prefix, "n": str(number)})
    return f"of={prefix}"


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("n=1", "1"),
        ("n!=1", "02"),
        ("n in (0,2)", "02"),
        ("n notin (0,2)", "1"),
        ("n", "012"),
        ("!n", ""),
        ("n==2", "2"),
    ],
)
def test_a_list_is_chosen_by_labels(place: Place, selector: str, found: str) -> None:
    of = place.stage.once("labelled", lambda: labelled(place, "chosen", 3))
    names = [obj["metadata"]["name"] for obj in place.api.list("ConfigMap", labelSelector=f"{of},{selector}")]
    assert names == [f"chosen-{n}" for n in found]


def test_a_list_is_chosen_by_name(place: Place) -> None:
    made(place, "by-name")
    found = place.api.list("ConfigMap", fieldSelector="metadata.name=by-name")
    assert [obj["metadata"]["name"] for obj in found] == ["by-name"]


def test_a_selector_that_cannot_be_read_is_refused(place: Place) -> None:
    assert place.api("GET", place.api.path("ConfigMap"), {"labelSelector": "a in"}).status == 400


def test_a_list_comes_in_pages_of_one_moment(place: Place) -> None:
    of = labelled(place, "paged", 5)
    query = {"labelSelector": of, "limit": 2}
    first = place.api("GET", place.api.path("ConfigMap"), query).body
    assert [obj["metadata"]["name"] for obj in first["items"]] == ["paged-0", "paged-1"]
    made(place, "paged-3a", labels={"of": "paged"})  # came after the first page: of no page
    place.api.delete("ConfigMap", "paged-4")  # went after it: still of the last one
    names, reply = [], first
    while token := reply["metadata"].get("continue"):
        reply = place.api("GET", place.api.path("ConfigMap"), {**query, "continue": token}).body
        assert reply["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [obj["metadata"]["name"] for obj in reply["items"]]
    assert names == ["paged-2", "paged-3", "paged-4"]


def test_a_page_that_nobody_gave_is_refused(place: Place) -> None:
    reply = place.api("GET", place.api.path("ConfigMap"), {"limit": 2, "continue": "nonsense"})
    assert (reply.status, reply.reason) == (400, "BadRequest")


def test_a_table_has_columns_and_rows(place: Place) -> None:
    place.service("echo")
    table = place.api("GET", place.api.path("Service"), accept=TABLE).body
    assert table["kind"] == "Table"
    names = [column["name"] for column in table["columnDefinitions"]]
    assert names == ["Name", "URL", "LatestCreated", "LatestReady", "Ready", "Reason"]
    (row,) = [row for row in table["rows"] if row["cells"][0] == "echo"]
    assert row["cells"][2:5] == ["echo-00001", "echo-00001", "True"]
    assert row["object"]["kind"] == "PartialObjectMetadata"


# ---- watches -----------------------------------------------------------------------------------------------------


def test_a_watch_goes_on_from_a_resource_version(place: Place) -> None:
    first = made(place, "watched-a", labels={"of": "watched"})
    made(place, "watched-b", labels={"of": "watched"})
    place.api.merge("ConfigMap", "watched-b", {"data": {"a": "2"}})
    place.api.delete("ConfigMap", "watched-a")
    since = first["metadata"]["resourceVersion"]
    seen = place.api.watch("ConfigMap", resourceVersion=since, labelSelector="of=watched", timeoutSeconds=2)
    told = [(event["type"], event["object"]["metadata"]["name"]) for event in seen]
    assert told == [("ADDED", "watched-b"), ("MODIFIED", "watched-b"), ("DELETED", "watched-a")]


def test_a_watch_tells_of_a_change_as_it_comes(place: Place) -> None:
    version = place.api("GET", place.api.path("ConfigMap"), {"limit": 1}).body["metadata"]["resourceVersion"]
    query = {"fieldSelector": "metadata.name=live", "resourceVersion": version, "timeoutSeconds": 30}
    later = threading.Timer(0.5, lambda: made(place, "live"))
    later.start()
    event = next(place.api.watch("ConfigMap", **query))
    later.join()
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "live")


def test_a_watch_by_label_sees_objects_come_into_view_and_leave(place: Place) -> None:
    version = made(place, "viewed")["metadata"]["resourceVersion"]
    for label in ("yes", "no"):
        place.api.merge("ConfigMap", "viewed", {"metadata": {"labels": {"viewed": label}}})
    seen = place.api.watch("ConfigMap", resourceVersion=version, labelSelector="viewed=yes", timeoutSeconds=2)
    assert [event["type"] for event in seen] == ["ADDED", "DELETED"]


def test_a_watch_that_lists_first_tells_where_the_list_ends(place: Place) -> None:
    made(place, "initial", labels={"of": "initial"})
    query = {"sendInitialEvents": "true", "allowWatchBookmarks": "true", "resourceVersionMatch": "NotOlderThan"}
    seen = place.api.watch("ConfigMap", labelSelector="of=initial", timeoutSeconds=2, **query)
    added, bookmark, *_ = seen
    assert (added["type"], bookmark["type"]) == ("ADDED", "BOOKMARK")
    assert bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"


def test_a_watch_from_long_ago_is_expired_or_whole(place: Place) -> None:
    """Which of the two is a matter of how much a server keeps; a stream with a gap would be neither."""
    made(place, "long-ago")
    query = {"watch": "true", "resourceVersion": "1", "timeoutSeconds": 2, "fieldSelector": "metadata.name=long-ago"}
    reply = place.api("GET", place.api.path("ConfigMap"), query)
    told = reply.body.get("object", reply.body)  # a refusal before the stream, or its first and only event
    assert (told.get("code"), told.get("reason")) == (410, "Expired") or told["metadata"]["name"] == "long-ago"


# ---- deletions ---------------------------------------------------------------------------------------------------


def owned(place: Place, name: str) -> Object:
    """A ConfigMap NAME and one that it owns, NAME-child; the owner."""
    owner = made(place, name)
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner["metadata"]["uid"]}
    made(place, f"{name}-child", ownerReferences=[reference])
    return owner


def test_what_an_object_owns_goes_with_it(place: Place) -> None:
    owned(place, "owner")
    place.api.delete("ConfigMap", "owner")
    until("the end of what it owned", lambda: place.api.get("ConfigMap", "owner-child") is None)


def test_orphans_stay_without_their_owner(place: Place) -> None:
    owned(place, "parent")
    place.api("DELETE", place.api.path("ConfigMap", "parent"), body={"propagationPolicy": "Orphan"})
    until("the end of the owner", lambda: place.api.get("ConfigMap", "parent") is None)
    child = place.api.get("ConfigMap", "parent-child")
    assert child is not None
    assert not child["metadata"].get("ownerReferences")


def test_an_object_with_a_finalizer_stays_until_it_is_taken_away(place: Place) -> None:
    made(place, "held", finalizers=["example.test/hold"])
    place.api.delete("ConfigMap", "held")
    held = place.api.get("ConfigMap", "held")
    assert held is not None
    assert held["metadata"]["deletionTimestamp"]
    place.api.merge("ConfigMap", "held", {"metadata": {"finalizers": None}})
    assert place.api.get("ConfigMap", "held") is None


def test_a_deletion_may_ask_for_the_object_that_it_means(place: Place) -> None:
    made(place, "precise")
    body = {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}
    reply = place.api("DELETE", place.api.path("ConfigMap", "precise"), body=body)
    assert (reply.status, reply.reason) == (409, "Conflict")


def test_a_collection_is_deleted_by_selector(place: Place) -> None:
    of = labelled(place, "swept", 3)
    place.api("DELETE", place.api.path("ConfigMap"), {"labelSelector": f"{of},n!=1"})
    assert [obj["metadata"]["name"] for obj in place.api.list("ConfigMap", labelSelector=of)] == ["swept-1"]
