"""Promises of the object store."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eventing.errors import Misconfigured
from headrace.local.objects import objects
from headrace.local.objects.objects import AlreadyExists, Conflict, Expired, Invalid, NotFound, Objects

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Objects:
    return Objects(tmp_path / "objects.db", clock=lambda: NOW)


def config_map(name: str, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "headrace", **more.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}, **more}


def pod(name: str, *owners: dict[str, Any], finalizers: list[str] | None = None) -> dict[str, Any]:
    references = [
        {"apiVersion": o["apiVersion"], "kind": o["kind"], "name": o["metadata"]["name"], "uid": o["metadata"]["uid"]}
        for o in owners
    ]
    metadata = {"name": name, "namespace": "headrace", "ownerReferences": references, "finalizers": finalizers or []}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}}


def test_a_created_object_gets_what_only_the_server_may_set(store: Objects) -> None:
    meta = store.create(config_map("a"))["metadata"]
    assert meta["creationTimestamp"] == "2026-01-02T03:04:05Z"
    assert meta["resourceVersion"] == "1"
    assert len(meta["uid"]) == 36


def test_a_second_object_of_the_same_name_is_refused(store: Objects) -> None:
    store.create(config_map("a"))
    with pytest.raises(AlreadyExists, match='configmaps "a" already exists'):
        store.create(config_map("a"))


def test_a_name_is_made_from_generate_name(store: Objects) -> None:
    first, second = (store.create(pod("") | {"metadata": {"generateName": "x-"}}) for _ in range(2))
    assert first["metadata"]["name"].startswith("x-")
    assert first["metadata"]["name"] != second["metadata"]["name"]


def test_an_object_without_a_name_is_invalid(store: Objects) -> None:
    with pytest.raises(Invalid, match="name or generateName is required"):
        store.create({"apiVersion": "v1", "kind": "ConfigMap"})


def test_what_a_caller_does_to_an_object_afterwards_changes_nothing(store: Objects) -> None:
    mine = config_map("a")
    got = store.create(mine)
    mine["data"]["a"] = got["data"]["a"] = store.list("ConfigMap")[0]["data"]["a"] = "changed"
    read = store.get("ConfigMap", "headrace", "a")
    assert read is not None
    assert read["data"] == {"a": "1"}


def test_a_stale_resource_version_is_a_conflict(store: Objects) -> None:
    first = store.create(config_map("a"))
    store.update(first | {"data": {"a": "2"}})
    with pytest.raises(Conflict, match="the object has been modified"):
        store.update(first | {"data": {"a": "3"}})


def test_without_a_resource_version_the_last_write_wins(store: Objects) -> None:
    store.create(config_map("a"))
    assert store.update(config_map("a", data={"a": "3"}))["data"] == {"a": "3"}


def test_an_update_that_changes_nothing_leaves_the_resource_version(store: Objects) -> None:
    first = store.create(config_map("a"))
    assert store.update(config_map("a")) == first
    assert store.resource_version == 1


def test_the_status_is_written_through_its_subresource_alone(store: Objects) -> None:
    created = store.create({"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "b"}})
    both = created | {"spec": {"delivery": {"retry": 3}}, "status": {"seen": 1}}
    assert "status" not in store.update(both)
    both["metadata"].pop("resourceVersion")
    updated = store.update(both | {"spec": {}}, subresource="status")
    assert updated["status"] == {"seen": 1}
    assert updated["spec"] == {"delivery": {"retry": 3}}


def test_the_generation_counts_changes_of_the_spec_alone(store: Objects) -> None:
    broker = store.create({"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "b"}})
    broker = store.update(broker | {"status": {"seen": 1}}, subresource="status")
    broker["metadata"]["labels"] = {"a": "b"}
    broker = store.update(broker)
    assert broker["metadata"]["generation"] == 1
    broker["spec"]["delivery"] = {"retry": 1}
    assert store.update(broker)["metadata"]["generation"] == 2


def test_lists_select_by_namespace_and_labels(store: Objects) -> None:
    store.create(config_map("a", metadata={"labels": {"x": "1", "y": "2"}}))
    store.create(config_map("b", metadata={"labels": {"x": "1"}}))
    store.create(config_map("c", metadata={"namespace": "other", "labels": {"x": "1", "y": "2"}}))
    assert [o["metadata"]["name"] for o in store.list("ConfigMap", "headrace", {"x": "1", "y": "2"})] == ["a"]
    assert len(store.list("ConfigMap")) == 3


def test_deleting_an_owner_deletes_what_it_owns_and_what_that_owns(store: Objects) -> None:
    owner = store.create(config_map("owner"))
    middle = store.create(pod("middle", owner))
    store.create(pod("last", middle))
    store.delete("ConfigMap", "headrace", "owner")
    assert store.list("Pod") == []


def test_what_has_another_living_owner_stays(store: Objects) -> None:
    one, two = store.create(config_map("one")), store.create(config_map("two"))
    store.create(pod("shared", one, two))
    store.delete("ConfigMap", "headrace", "one")
    assert [r["name"] for r in store.list("Pod")[0]["metadata"]["ownerReferences"]] == ["two"]


def test_orphans_stay_when_they_are_asked_to(store: Objects) -> None:
    owner = store.create(config_map("owner"))
    store.create(pod("child", owner))
    store.delete("ConfigMap", "headrace", "owner", propagation="Orphan")
    assert store.list("Pod")[0]["metadata"]["ownerReferences"] == []


def test_deleting_a_namespace_deletes_all_that_is_in_it(store: Objects) -> None:
    store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "headrace"}})
    store.create(config_map("inside"))
    store.create(config_map("outside", metadata={"namespace": "other"}))
    store.delete("Namespace", "", "headrace")
    assert [o["metadata"]["name"] for o in store.list("ConfigMap")] == ["outside"]


def test_an_object_with_a_finalizer_goes_when_the_finalizer_does(store: Objects) -> None:
    store.create(pod("held", finalizers=["headrace.dev/stop"]))
    held = store.delete("Pod", "headrace", "held")
    assert held["metadata"]["deletionTimestamp"]
    held["metadata"]["finalizers"] = []
    store.update(held)
    assert store.get("Pod", "headrace", "held") is None


def test_a_failed_precondition_deletes_nothing(store: Objects) -> None:
    store.create(config_map("a"))
    with pytest.raises(Conflict, match="Precondition failed"):
        store.delete("ConfigMap", "headrace", "a", uid="another")
    assert store.list("ConfigMap")


def test_deleting_what_is_not_there_is_not_found(store: Objects) -> None:
    with pytest.raises(NotFound, match=r'jobs\.batch "x" not found'):
        store.delete("Job", "headrace", "x")


def test_watchers_hear_every_change_in_order_even_when_one_of_them_writes(store: Objects) -> None:
    heard: list[tuple[str, str]] = []

    def writes(type: str, obj: dict[str, Any]) -> None:
        if type == objects.ADDED and obj["metadata"]["name"] == "a":
            store.create(config_map("b"))

    store.watch(writes)
    stop = store.watch(lambda type, obj: heard.append((type, obj["metadata"]["name"])))
    store.create(config_map("a"))
    store.delete("ConfigMap", "headrace", "a")
    stop()
    store.delete("ConfigMap", "headrace", "b")
    assert heard == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]


def test_a_watcher_that_fails_keeps_nobody_else_from_hearing(store: Objects, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def fails(type: str, obj: dict[str, Any]) -> None:
        raise RuntimeError("broken watcher")

    store.watch(fails)
    store.watch(lambda type, obj: heard.append(type))
    store.create(config_map("a"))
    assert heard == ["ADDED"]
    assert "broken watcher" in caplog.text


def test_changes_can_be_asked_for_from_a_resource_version_on(store: Objects) -> None:
    start = int(store.create(config_map("a"))["metadata"]["resourceVersion"])
    store.create(config_map("b"))
    store.delete("ConfigMap", "headrace", "a")
    assert [(c.type, c.name) for c in store.changes_since(start)] == [("ADDED", "b"), ("DELETED", "a")]


def test_changes_from_before_the_history_are_expired(tmp_path: Path) -> None:
    first = Objects(tmp_path / "objects.db")
    first.create(config_map("a"))
    first.create(config_map("b"))
    first.close()
    with pytest.raises(Expired):
        Objects(tmp_path / "objects.db").changes_since(1)


def test_objects_and_their_counting_survive_a_restart(tmp_path: Path) -> None:
    first = Objects(tmp_path / "objects.db")
    kept = first.create(config_map("kept"))
    first.create(config_map("gone"))
    first.delete("ConfigMap", "headrace", "gone")
    first.close()
    second = Objects(tmp_path / "objects.db")
    assert second.list("ConfigMap") == [kept]
    assert int(second.create(config_map("next"))["metadata"]["resourceVersion"]) == 4


def test_what_was_written_survives_a_kill(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from headrace.local.objects.objects import Objects\n"
        "store = Objects(Path(sys.argv[1]))\n"
        "for i in range(10**9):\n"
        "    store.create({'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': f'c{i}', 'namespace': 'n'}})\n"
        "    print(i, flush=True)\n"
    )
    path = tmp_path / "objects.db"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        while int(writer.stdout.readline()) < 50:
            pass
        os.kill(writer.pid, signal.SIGKILL)
        told = [int(line) for line in writer.stdout.read().split("\n")[:-1]]
    store = Objects(path)
    assert store.get("ConfigMap", "n", f"c{max(told, default=50)}") is not None
    assert store.resource_version == len(store.list("ConfigMap"))


def test_a_second_process_is_told_that_the_file_is_held(tmp_path: Path, store: Objects) -> None:
    with pytest.raises(Misconfigured, match="no other process holds"):
        Objects(tmp_path / "objects.db")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "objects.db").write_text("not a database, though long enough to look like one" * 100)
    with pytest.raises(Misconfigured, match="SQLite"):
        Objects(tmp_path / "objects.db")


def test_a_write_that_fails_on_disk_changes_nothing_in_memory(store: Objects) -> None:
    store.create(config_map("a"))
    heard: list[str] = []
    store.watch(lambda type, obj: heard.append(type))
    store.close()
    with pytest.raises(sqlite3.ProgrammingError):
        store.create(config_map("b"))
    assert store.get("ConfigMap", "headrace", "b") is None
    assert heard == []


def test_a_condition_keeps_its_time_until_its_value_changes() -> None:
    status: dict[str, Any] = {}
    objects.set_condition(status, "Ready", "False", "Waiting", now=NOW)
    objects.set_condition(status, "Ready", "False", "StillWaiting", now=NOW + timedelta(minutes=1))
    assert status["conditions"][0]["lastTransitionTime"] == "2026-01-02T03:04:05Z"
    assert status["conditions"][0]["reason"] == "StillWaiting"
    objects.set_condition(status, "Ready", "True", now=NOW + timedelta(minutes=2))
    assert status["conditions"] == [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:06:05Z"}]


def test_a_job_gets_the_defaults_and_labels_that_its_pods_are_found_by(store: Objects) -> None:
    spec = {"template": {"spec": {"restartPolicy": "Never", "containers": []}}}
    job = store.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}, "spec": spec})
    assert (job["spec"]["parallelism"], job["spec"]["completions"], job["spec"]["backoffLimit"]) == (1, 1, 6)
    assert job["spec"]["selector"]["matchLabels"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert job["spec"]["template"]["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "train"
