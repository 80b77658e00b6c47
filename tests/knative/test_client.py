"""knative.client against the laptop's Kubernetes API, over HTTP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventing.errors import Misconfigured, RetryLater
from knative import answers, client
from tests.knative import local_api
from tests.knative.local_api import LocalAPI


@pytest.fixture
def api(tmp_path: Path) -> Iterator[LocalAPI]:
    with local_api.serving(tmp_path) as served:
        yield served


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"of": name[0]}},
        "data": data,
    }


def pod(name: str, job: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"batch.kubernetes.io/job-name": job}},
        "spec": {"containers": [{"name": "main", "image": "trainers:1"}]},
    }


def test_the_namespace_is_the_contexts_and_the_server_has_no_credentials(api: LocalAPI) -> None:
    cluster = api.connect()
    assert (cluster.namespace, cluster.server) == ("headrace", api.url)


def test_an_object_is_created_read_and_listed_by_label(api: LocalAPI) -> None:
    cluster = api.connect()
    cluster.create(config_map("a1", k="1"))
    cluster.create(config_map("b1", k="2"))
    found = cluster.get("ConfigMap", "a1")
    assert found is not None
    assert found["data"] == {"k": "1"}
    listed = cluster.list("ConfigMap", {"of": "b"})
    assert [(o["kind"], o["apiVersion"], o["metadata"]["name"]) for o in listed] == [("ConfigMap", "v1", "b1")]


def test_what_is_not_there_is_none_to_get_and_not_found_to_delete(api: LocalAPI) -> None:
    cluster = api.connect()
    assert cluster.get("Service", "flights") is None
    with pytest.raises(client.NotFound):
        cluster.delete("ConfigMap", "none")


def test_a_second_creation_is_a_conflict(api: LocalAPI) -> None:
    cluster = api.connect()
    cluster.create(config_map("a"))
    with pytest.raises(client.Conflict, match="already exists"):
        cluster.create(config_map("a"))


def test_a_patch_made_from_an_older_object_is_a_conflict(api: LocalAPI) -> None:
    cluster = api.connect()
    read = cluster.create(config_map("a", k="1"))
    patch = {"metadata": {"resourceVersion": read["metadata"]["resourceVersion"]}, "data": {"k": "2"}}
    assert cluster.patch("ConfigMap", "a", patch)["data"] == {"k": "2"}
    with pytest.raises(client.Conflict):
        cluster.patch("ConfigMap", "a", patch)
    with pytest.raises(client.Conflict):
        cluster.replace(read)


def test_a_patch_removes_what_is_none_and_leaves_the_rest(api: LocalAPI) -> None:
    cluster = api.connect()
    cluster.create(config_map("a", k="1", l="2"))
    assert cluster.patch("ConfigMap", "a", {"data": {"k": None}})["data"] == {"l": "2"}


def test_an_apply_creates_and_then_leaves_the_fields_of_others_alone(api: LocalAPI) -> None:
    cluster = api.connect()
    cluster.apply(config_map("a", k="1"))
    cluster.patch("ConfigMap", "a", {"data": {"ops": "theirs"}})
    assert cluster.apply(config_map("a", k="2"))["data"] == {"k": "2", "ops": "theirs"}


def test_a_refusal_carries_the_servers_own_reason(api: LocalAPI) -> None:
    with pytest.raises(client.Refused, match=r"spec\.tempalte") as refused:
        api.connect().create(
            {
                "apiVersion": "serving.knative.dev/v1",
                "kind": "Service",
                "metadata": {"name": "flights"},
                "spec": {"tempalte": {}},
            }
        )
    assert refused.value.status in (400, 422)


def test_a_wrong_token_is_refused_and_not_unreachable(api: LocalAPI, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(api.kubeconfig.read_text().replace(local_api.TOKEN, "stolen"))
    with pytest.raises(client.Refused) as refused:
        client.Cluster.connect(str(other)).get("ConfigMap", "a")
    assert refused.value.status == 401


def test_an_api_that_is_away_is_worth_another_try(api: LocalAPI, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.write_text(api.kubeconfig.read_text().replace(api.url.rpartition(":")[2], "1"))
    with pytest.raises(client.Unreachable) as raised:
        client.Cluster.connect(str(gone)).get("ConfigMap", "a")
    assert isinstance(raised.value, RetryLater)
    assert local_api.TOKEN not in str(raised.value)


@pytest.mark.parametrize("text", ["", "{}", "apiVersion: v1\nkind: Config\n", ": no yaml :\n  -"])
def test_a_kubeconfig_that_names_no_cluster_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken"
    path.write_text(text)
    with pytest.raises(Misconfigured, match="KUBECONFIG"):
        client.Cluster.connect(str(path))


def test_a_watch_tells_what_is_there_and_then_what_changes(api: LocalAPI) -> None:
    cluster = api.connect()
    cluster.create(config_map("a", k="1"))
    cluster.create(config_map("b"))
    watch = cluster.watch("ConfigMap", name="a", timeout_s=30)
    seen = [_told(next(watch))]
    cluster.patch("ConfigMap", "b", {"data": {"not": "asked for"}})
    cluster.patch("ConfigMap", "a", {"data": {"k": "2"}})
    seen.append(_told(next(watch)))
    cluster.delete("ConfigMap", "a")
    seen.append(_told(next(watch)))
    watch.close()
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


def test_a_watch_ends_after_its_time(api: LocalAPI) -> None:
    cluster = api.connect()
    assert list(cluster.watch("ConfigMap", name="none", timeout_s=0.3)) == []


def test_a_watch_goes_on_when_the_api_went_away_and_came_again(tmp_path: Path) -> None:
    with local_api.serving(tmp_path) as first:
        first.connect().create(config_map("a", k="1"))
        first.connect().create(config_map("b", k="1"))
        watch = first.connect().watch("ConfigMap", timeout_s=60)
        seen = [_told(next(watch)), _told(next(watch))]
        port = int(first.url.rpartition(":")[2])
    with local_api.serving(tmp_path, port=port) as second:
        cluster = second.connect()
        cluster.patch("ConfigMap", "a", {"data": {"k": "2"}})
        cluster.delete("ConfigMap", "b")
        seen += sorted([_told(next(watch)), _told(next(watch))])
        watch.close()
    assert seen == [("ADDED", "1"), ("ADDED", "1"), ("DELETED", "1"), ("MODIFIED", "2")]


def test_the_logs_of_a_job_are_its_newest_pods_lines(api: LocalAPI, tmp_path: Path) -> None:
    cluster = api.connect()
    (tmp_path / "pod.log").write_text("read 100 rows\nfitted\n")
    cluster.create(pod("train-1-x", "train-1"))
    assert list(cluster.logs("train-1")) == ["read 100 rows", "fitted"]
    with pytest.raises(client.NotFound, match="Job train-2 has no pod"):
        list(cluster.logs("train-2"))


def test_importing_the_client_does_not_load_kubernetes() -> None:
    program = "import sys, knative.client; sys.exit('kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def _told(change: tuple[str, dict[str, Any]]) -> tuple[str, str]:
    return change[0], change[1]["data"]["k"]


def test_an_apply_without_force_names_the_fields_of_others_and_changes_nothing(api: LocalAPI) -> None:
    cluster = api.connect()
    cluster.apply(config_map("a", k="1"), field_manager="ops")
    with pytest.raises(client.Conflict) as refused:
        cluster.apply(config_map("a", k="2"), force=False)
    assert refused.value.fields == (client.OwnedField("data.k", "ops"),)
    found = cluster.get("ConfigMap", "a")
    assert found is not None and found["data"] == {"k": "1"}


def test_a_dry_run_answers_what_would_be_and_writes_nothing(api: LocalAPI) -> None:
    cluster = api.connect()
    assert cluster.apply(config_map("a", k="1"), dry_run=True)["data"] == {"k": "1"}
    assert cluster.get("ConfigMap", "a") is None


def test_the_contents_of_a_namespace_are_of_every_kind_and_of_no_other_namespace(api: LocalAPI) -> None:
    cluster = api.connect()
    cluster.apply(config_map("a", k="1"))
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "b"}})
    elsewhere = config_map("c", k="1")
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    cluster.apply({**elsewhere, "metadata": {**elsewhere["metadata"], "namespace": "other"}})
    found = {(o["kind"], o["metadata"]["name"]) for o in cluster.contents()}
    assert found == {("ConfigMap", "a"), ("ServiceAccount", "b")}


@pytest.mark.parametrize(
    ("date", "now", "ahead_s"),
    [
        ("Wed, 25 Nov 2026 23:00:00 GMT", 1795647600.0, 0.0),
        ("Wed, 25 Nov 2026 23:00:00 GMT", 1795647601.9, 0.0),  # whole seconds, and on its way for one
        ("Wed, 25 Nov 2026 23:00:00 GMT", 1795647600.0 - 3600, 3600.0),
        ("Wed, 25 Nov 2026 23:00:00 GMT", 1795647600.0 + 3600, -3600.0),
        ("yesterday", 1795647600.0, 0.0),
        (None, 1795647600.0, 0.0),
    ],
)
def test_the_servers_clock_is_known_by_its_answers(date: str | None, now: float, ahead_s: float) -> None:
    assert answers.skew(date, now) == ahead_s
