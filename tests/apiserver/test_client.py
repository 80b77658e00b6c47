"""knative.client against a real API server: what the laptop's promises, and what only the real one says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from knative import client
from tests.apiserver.control_plane import ControlPlane

Object = dict[str, Any]


@pytest.fixture
def cluster(api: ControlPlane, namespace: str) -> client.Cluster:
    return api.connect(namespace)


def config_map(name: str, **data: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"of": name[0]}},
        "data": data,
    }


def test_an_object_is_created_read_listed_patched_and_deleted(cluster: client.Cluster) -> None:
    cluster.create(config_map("a1", k="1", gone="soon"))
    cluster.create(config_map("b1", k="2"))
    assert [o["metadata"]["name"] for o in cluster.list("ConfigMap", {"of": "b"})] == ["b1"]
    assert cluster.patch("ConfigMap", "a1", {"data": {"gone": None}})["data"] == {"k": "1"}
    cluster.delete("ConfigMap", "a1")
    assert cluster.get("ConfigMap", "a1") is None
    with pytest.raises(client.NotFound):
        cluster.delete("ConfigMap", "a1")


def test_of_two_writers_one_is_told_conflict(cluster: client.Cluster) -> None:
    read = cluster.create(config_map("a", k="1"))
    with pytest.raises(client.Conflict, match="already exists"):
        cluster.create(config_map("a"))
    patch = {"metadata": {"resourceVersion": read["metadata"]["resourceVersion"]}, "data": {"k": "2"}}
    assert cluster.patch("ConfigMap", "a", patch)["data"] == {"k": "2"}
    with pytest.raises(client.Conflict):
        cluster.patch("ConfigMap", "a", patch)
    with pytest.raises(client.Conflict):
        cluster.replace(read)


def test_an_apply_without_force_names_the_fields_of_others_and_changes_nothing(cluster: client.Cluster) -> None:
    broker: Object = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "b"}}
    cluster.apply({**broker, "spec": {"delivery": {"retry": 3}}}, field_manager="ops")
    with pytest.raises(client.Conflict) as refused:
        cluster.apply({**broker, "spec": {"delivery": {"retry": 5}}}, force=False)
    assert refused.value.fields == (client.OwnedField("spec.delivery.retry", "ops"),)
    found = cluster.get("Broker", "b")
    assert found is not None and found["spec"]["delivery"]["retry"] == 3


@pytest.mark.parametrize("spec", [{"delivary": {}}, {"delivery": {"retry": "ten"}}])
def test_an_unknown_field_or_a_wrong_type_is_refused_for_good_however_it_is_written(
    cluster: client.Cluster, spec: Object
) -> None:
    """A server-side apply of it is answered 500, as if the server had broken down."""
    broker: Object = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "b"}}
    wrong = {**broker, "spec": spec}
    for write in (lambda: cluster.apply(wrong), lambda: cluster.create(wrong)):
        with pytest.raises(client.Refused) as refused:
            write()
        assert next(iter(spec)) in refused.value.reason
    kept = cluster.create(broker)
    with pytest.raises(client.Refused):
        cluster.patch("Broker", "b", {"spec": spec})
    with pytest.raises(client.Refused):
        cluster.replace({**kept, "spec": spec})


def test_a_dry_run_writes_nothing(cluster: client.Cluster) -> None:
    assert cluster.apply(config_map("a", k="1"), dry_run=True)["data"] == {"k": "1"}
    assert cluster.get("ConfigMap", "a") is None


def test_a_watch_tells_what_is_there_and_then_what_changes(cluster: client.Cluster) -> None:
    cluster.create(config_map("a", k="1"))
    cluster.create(config_map("b"))
    watch = cluster.watch("ConfigMap", name="a", timeout_s=60)
    seen = [next(watch)]
    cluster.patch("ConfigMap", "b", {"data": {"not": "asked for"}})
    cluster.patch("ConfigMap", "a", {"data": {"k": "2"}})
    seen.append(next(watch))
    cluster.delete("ConfigMap", "a")
    seen.append(next(watch))
    watch.close()
    assert [(change, o["data"]["k"]) for change, o in seen] == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


def test_a_watch_ends_after_its_time(cluster: client.Cluster) -> None:
    assert [change for change, o in cluster.watch("Broker", timeout_s=0.3)] == []


def test_a_right_that_is_not_given_is_told_as_403_and_a_wrong_token_as_401(api: ControlPlane, namespace: str) -> None:
    with pytest.raises(client.Refused, match='User "ops" cannot list resource "brokers"') as refused:
        api.connect(namespace, "ops").list("Broker")
    assert refused.value.status == 403
    with pytest.raises(client.Refused) as refused:
        api.connect(namespace, "stranger", "stolen").list("Broker")
    assert refused.value.status == 401


@pytest.mark.parametrize(
    ("cluster_says", "user_says", "said"),
    [
        ({"certificate-authority": None}, {}, "CERTIFICATE_VERIFY_FAILED"),
        ({"server": "https://localhost:{port}"}, {}, "not valid for 'localhost'"),
        ({"certificate-authority": None, "certificate-authority-data": "aGVsbG8="}, {}, "certificate"),
        ({}, {"client-certificate-data": "aGVsbG8=", "client-key-data": "aGVsbG8="}, "SSL"),
        ({"server": "https://localhost:{port}", "tls-server-name": "127.0.0.1"}, {}, None),
        ({"certificate-authority": None, "insecure-skip-tls-verify": True}, {}, None),
    ],
)
def test_a_certificate_that_is_not_trusted_is_told_as_that_and_what_the_kubeconfig_says_of_it_holds(
    api: ControlPlane, namespace: str, tmp_path: Path, cluster_says: Object, user_says: Object, said: str | None
) -> None:
    whole = yaml.safe_load(api.kubeconfig(namespace).read_text())
    port = api.url.rpartition(":")[2]
    its = whole["clusters"][0]["cluster"]
    its |= {k: v.format(port=port) if isinstance(v, str) else v for k, v in cluster_says.items()}
    whole["clusters"][0]["cluster"] = {k: v for k, v in its.items() if v is not None}
    whole["users"][0]["user"] |= user_says
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(whole))
    cluster = client.Cluster.connect(str(file))
    if said is None:
        assert cluster.get("ConfigMap", "absent") is None
    else:
        with pytest.raises(client.Unreachable, match=said):
            cluster.get("ConfigMap", "absent")


def test_the_kinds_that_are_served_are_known_by_their_version(cluster: client.Cluster) -> None:
    assert cluster.serves("JobSink")
    assert cluster.serves("Job")
    with pytest.raises(client.NotFound):
        cluster.serves("Brokr")


def test_the_contents_of_a_namespace_are_of_every_kind_and_of_no_other_namespace(cluster: client.Cluster) -> None:
    cluster.create(config_map("a"))
    cluster.create({"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "b"}})
    assert {(o["kind"], o["metadata"]["name"]) for o in cluster.contents()} == {("ConfigMap", "a"), ("Broker", "b")}
