"""Promises of the Kubernetes API, over HTTP and through the official Python client."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import kubernetes
import pytest
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError

from headrace.local.api.api_request import Selector
from tests.headrace.local.api import api_server

SERVICES = "/apis/serving.knative.dev/v1/namespaces/default/services"
MAPS = "/api/v1/namespaces/default/configmaps"
JOBS = "/apis/batch/v1/namespaces/default/jobs"


class Client:
    """Plain HTTP with the token."""

    def __init__(self, server: api_server.Running) -> None:
        self.server = server
        self.headers = {"Authorization": f"Bearer {api_server.TOKEN}"}

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        status, _, answer = self.raw(method, path, body, **headers)
        return status, json.loads(answer)

    def raw(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, bytes]:
        given = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection = http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=30)
        text = body if isinstance(body, str | bytes) or body is None else json.dumps(body)
        connection.request(method, path, text, {name: value for name, value in given.items() if value})
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response.status, response.headers, answer

    def apply(self, path: str, obj: dict[str, Any], manager: str, query: str = "") -> tuple[int, dict[str, Any]]:
        where = f"{path}?fieldManager={manager}{query}"
        return self("PATCH", where, obj, Content_Type="application/apply-patch+yaml")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with api_server.serve(tmp_path) as server:
        yield Client(server)


def config_map(name: str = "c", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def service(name: str = "hello", **spec: Any) -> dict[str, Any]:
    template = {"spec": {"containers": [{"image": "functions"}]}}
    meta = {"name": name, "namespace": "default"}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"template": template, **spec},
    }


def job(name: str = "train") -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "trainers"}]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": {"spec": pod}}}


# ---------------------------------------------------------------- the door


@pytest.mark.parametrize("authorization", ["", "Bearer wrong", "Basic !!!", "Basic aGVhZHJhY2U6d3Jvbmc="])
def test_nobody_comes_in_without_the_token(client: Client, authorization: str) -> None:
    status, answer = client("GET", MAPS, Authorization=authorization)
    assert (status, answer["kind"], answer["reason"]) == (401, "Status", "Unauthorized")


@pytest.mark.parametrize("path", ["/version", "/healthz", "/readyz", "/livez"])
def test_health_and_version_need_no_token(client: Client, path: str) -> None:
    assert client.raw("GET", path, Authorization="")[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "10.0.0.1"])
def test_a_name_that_is_not_the_loopback_is_refused(client: Client, host: str) -> None:
    assert client("GET", "/version", Host=host)[0] == 421


def test_what_is_not_served_is_not_found(client: Client) -> None:
    for path in ("/apis/apps/v1/namespaces/default/deployments", "/api/v1/nodes", "/apis/foo/v1", "/nothing"):
        status, answer = client("GET", path)
        assert (status, answer["message"]) == (404, "the server could not find the requested resource")


def test_a_body_that_no_object_can_be_made_of_is_a_bad_request(client: Client) -> None:
    unstorable = [f'{{"metadata": {{"name": "c"}}, "data": {value}}}' for value in ("NaN", str(2**70), '"\\ud800"')]
    for body in ("{", "[1, 2", b"\xff\xfe", b"k8s\x00\xff", "just text", "[]", "[" * 100_000, *unstorable):
        assert client("POST", MAPS, body)[0] == 400


# ---------------------------------------------------------------- writes


def test_a_created_object_is_read_back(client: Client) -> None:
    status, created = client("POST", MAPS, config_map(a="1"))
    assert status == 201
    assert client("GET", f"{MAPS}/c") == (200, created)


def test_creating_twice_is_a_conflict(client: Client) -> None:
    client("POST", MAPS, config_map())
    status, answer = client("POST", MAPS, config_map())
    assert (status, answer["reason"]) == (409, "AlreadyExists")


def test_a_stale_update_is_a_conflict(client: Client) -> None:
    _, first = client("POST", MAPS, config_map(a="1"))
    client("PUT", f"{MAPS}/c", first | {"data": {"a": "2"}})
    status, answer = client("PUT", f"{MAPS}/c", first | {"data": {"a": "3"}})
    assert (status, answer["reason"]) == (409, "Conflict")


def test_a_dry_run_judges_and_stores_nothing(client: Client) -> None:
    assert client("POST", f"{MAPS}?dryRun=All", config_map())[0] == 201
    assert client("GET", f"{MAPS}/c")[0] == 404
    client("POST", MAPS, config_map(a="1"))
    status, answer = client("PUT", f"{MAPS}/c?dryRun=All", config_map(a="2"))
    assert (status, answer["data"]) == (200, {"a": "2"})
    assert client("GET", f"{MAPS}/c")[1]["data"] == {"a": "1"}
    assert client("DELETE", f"{MAPS}/c?dryRun=All")[0] == 200
    assert client("GET", f"{MAPS}/c")[0] == 200


def test_unknown_fields_of_builtin_kinds_are_warned_of_and_dropped_unless_strict(client: Client) -> None:
    misspelt = config_map() | {"dta": {"a": "1"}}
    status, headers, answer = client.raw("POST", MAPS, misspelt)
    assert (status, headers["Warning"]) == (201, '299 - "unknown field \\"dta\\""')
    assert "dta" not in json.loads(answer)
    assert client("POST", f"{MAPS}?fieldValidation=Strict", misspelt)[0] == 400


def test_unknown_fields_of_knative_kinds_are_always_refused(client: Client) -> None:
    status, answer = client("POST", f"{SERVICES}?fieldValidation=Ignore", service(trafic=[]))
    assert status == 400
    assert answer["message"].endswith('strict decoding error: unknown field "spec.trafic"')


def test_a_field_given_twice_is_refused(client: Client) -> None:
    text = '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1", "a": "2"}}'
    status, answer = client("POST", f"{MAPS}?fieldValidation=Strict", text)
    assert status == 400
    assert 'duplicate field "data.a"' in answer["message"]


def test_every_fault_of_an_object_is_named_at_once(client: Client) -> None:
    broken = job()
    broken["spec"] |= {"backoffLimit": "six", "parallelism": -1}
    broken["spec"]["template"]["spec"]["containers"] = [{"name": "main", "image": 5}]
    status, answer = client("POST", JOBS, broken)
    assert status == 422
    assert {cause["field"] for cause in answer["details"]["causes"]} == {
        "spec.backoffLimit",
        "spec.parallelism",
        "spec.template.spec.containers[0].image",
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"traffic": [{"latestRevision": True, "percent": 80}]}, "Traffic targets sum to 80, want 100: spec.traffic"),
        (
            {"traffic": [{"percent": 100, "latestRevision": False}]},
            "may not set revisionName '' when latestRevision is false: spec.traffic[0].latestRevision",
        ),
        (
            {"traffic": [{"percent": 100, "configurationName": "hello"}]},
            "must not set the field(s): spec.traffic[0].configurationName",
        ),
        ({"traffic": [{"percent": 100, "url": "http://x"}]}, "must not set the field(s): spec.traffic[0].url"),
        ({"traffic": [{"percent": 100, "tag": "a" * 64}]}, "spec.traffic[0].tag"),
        ({"template": {"spec": {}}}, "missing field(s): spec.template.spec.containers"),
        (
            {"template": {"spec": {"timeoutSeconds": 601, "containers": [{"image": "x"}]}}},
            "expected 0 <= 601 <= 600: spec.template.spec.timeoutSeconds",
        ),
        (
            {"template": {"spec": {"containers": [{"image": "x", "env": [{"name": "PORT", "value": "1"}]}]}}},
            '"PORT" is a reserved environment variable: spec.template.spec.containers[0].env[0].name',
        ),
    ],
)
def test_what_knatives_webhook_refuses_is_refused(client: Client, change: dict[str, Any], said: str) -> None:
    status, answer = client("POST", SERVICES, service(**change))
    assert status == 400
    assert said in answer["message"]


def test_traffic_that_names_no_revision_is_the_latest_ones(client: Client) -> None:
    assert client("POST", SERVICES, service(traffic=[{"percent": 100}, {"tag": "now"}]))[0] == 201


def test_a_service_name_must_be_a_dns_label(client: Client) -> None:
    assert "not a DNS 1035 label" in client("POST", SERVICES, service("1st"))[1]["message"]


def test_a_service_gets_knatives_defaults(client: Client) -> None:
    _, created = client("POST", SERVICES, service())
    assert created["spec"]["traffic"] == [{"latestRevision": True, "percent": 100}]
    assert created["spec"]["template"]["spec"]["timeoutSeconds"] == 300


def test_a_jobs_template_is_immutable(client: Client) -> None:
    _, created = client("POST", JOBS, job())
    created["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
    status, answer = client("PUT", f"{JOBS}/train", created)
    assert (status, answer["details"]["causes"][0]["field"]) == (422, "spec.template")


def test_a_revisions_spec_is_immutable(client: Client) -> None:
    path = "/apis/serving.knative.dev/v1/namespaces/default/revisions"
    revision = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Revision",
        "metadata": {"name": "r"},
        "spec": {"containers": [{"image": "a"}]},
    }
    client("POST", path, revision)
    revision["spec"] = {"containers": [{"image": "b"}]}
    status, answer = client("PUT", f"{path}/r", revision)
    assert status == 400
    assert "Immutable fields changed" in answer["message"]


def test_the_broker_of_a_trigger_is_immutable(client: Client) -> None:
    path = "/apis/eventing.knative.dev/v1/namespaces/default/triggers"
    spec = {"broker": "default", "subscriber": {"uri": "http://127.0.0.1:1"}}
    trigger = {"apiVersion": "eventing.knative.dev/v1", "kind": "Trigger", "metadata": {"name": "t"}, "spec": spec}
    assert client("POST", path, trigger)[0] == 201
    status, answer = client("PUT", f"{path}/t", trigger | {"spec": spec | {"broker": "other"}})
    assert status == 400
    assert "Immutable fields changed (-old +new): broker, spec" in answer["message"]


def test_further_faults_come_from_the_admit_hook(tmp_path: Path) -> None:
    with api_server.serve(tmp_path, admit=lambda obj: [f"{obj['kind']} is not wanted"]) as server:
        status, answer = Client(server)("POST", MAPS, config_map())
    assert status == 400
    assert "ConfigMap is not wanted" in answer["message"]


def test_the_status_is_dropped_from_a_create_and_written_by_its_subresource(client: Client) -> None:
    _, created = client("POST", SERVICES, service() | {"status": {"url": "http://x"}})
    assert "status" not in created
    patch = {"spec": {"traffic": []}, "status": {"url": "http://y"}}
    merge = "application/merge-patch+json"
    _, patched = client("PATCH", f"{SERVICES}/hello/status", patch, Content_Type=merge)
    assert patched["status"] == {"url": "http://y"}
    assert patched["spec"] == created["spec"]


@pytest.mark.parametrize(
    ("status", "path"),
    [
        ("fine", "status"),
        ({"conditions": 5}, "status.conditions"),
        ({"conditions": [{"type": "Ready"}]}, "status.conditions[0].status"),
    ],
)
def test_a_status_that_nobody_could_read_is_refused(client: Client, status: Any, path: str) -> None:
    client("POST", SERVICES, service())
    code, answer = client("PUT", f"{SERVICES}/hello/status", service() | {"status": status})
    assert (code, answer["details"]["causes"][0]["field"]) == (422, path)


def test_a_json_patch_applies_whole_or_not_at_all(client: Client) -> None:
    client("POST", MAPS, config_map(a="1"))
    both = [
        {"op": "replace", "path": "/data/a", "value": "2"},
        {"op": "test", "path": "/data/a", "value": "1"},
    ]
    status, refused = client("PATCH", f"{MAPS}/c", both, Content_Type="application/json-patch+json")
    assert status == 422
    assert "operation 1 of the JSON patch does not apply" in refused["message"]
    assert "details" not in refused  # with them kubectl would not print the message
    assert client("PATCH", f"{MAPS}/c", [1], Content_Type="application/json-patch+json")[0] == 400
    assert client("GET", f"{MAPS}/c")[1]["data"] == {"a": "1"}
    assert client("PATCH", f"{MAPS}/c", both[:1], Content_Type="application/json-patch+json")[1]["data"] == {"a": "2"}


def test_what_a_full_disk_does_not_keep_is_refused_with_that_reason(client: Client) -> None:
    client("POST", MAPS, config_map(a="1"))
    # As small as it is already: what SQLite says of a full disk.
    client.server.run(lambda: client.server.objects._file._db.execute("PRAGMA max_page_count=1"))
    status, answer = client(
        "PATCH", f"{MAPS}/c", {"data": {"a": "x" * 100_000}}, Content_Type="application/merge-patch+json"
    )
    assert (status, answer["kind"], answer["reason"]) == (500, "Status", "InternalError")
    assert "database or disk is full" in answer["message"]
    client.server.run(lambda: client.server.objects._file._db.execute("PRAGMA max_page_count=1000000"))
    assert client("GET", f"{MAPS}/c")[1]["data"] == {"a": "1"}
    assert client("PATCH", f"{MAPS}/c", {"data": {"a": "2"}}, Content_Type="application/merge-patch+json")[0] == 200


def test_the_autoscalers_configmap_needs_no_namespace_first_and_takes_only_what_works(client: Client) -> None:
    maps = "/api/v1/namespaces/knative-serving/configmaps"
    status, refused = client("POST", maps, config_map("config-autoscaler", **{"stable-window": "1s"}))
    assert status == 400
    assert 'webhook "config.webhook.serving.knative.dev" denied the request' in refused["message"]
    assert "config-autoscaler stable-window" in refused["message"]
    assert client("POST", maps, config_map("config-autoscaler", **{"stable-window": "30s"}))[0] == 201
    patch = {"data": {"enable-scale-to-zero": "perhaps"}}
    path = f"{maps}/config-autoscaler"
    assert client("PATCH", path, patch, Content_Type="application/merge-patch+json")[0] == 400
    assert client("GET", path)[1]["data"] == {"stable-window": "30s"}
    # Whoever calls another one so may write into it what he likes.
    assert client("POST", MAPS, config_map("config-autoscaler", **{"stable-window": "1s"}))[0] == 201


def test_the_autoscalers_configmap_holds_for_the_annotations_of_services(client: Client) -> None:
    zero = {
        "metadata": {"annotations": {"autoscaling.knative.dev/initial-scale": "0"}},
        "spec": {"containers": [{"image": "x"}]},
    }
    assert client("POST", SERVICES, service(template=zero))[0] == 400
    maps = "/api/v1/namespaces/knative-serving/configmaps"
    client("POST", maps, config_map("config-autoscaler", **{"allow-zero-initial-scale": "true"}))
    assert client("POST", SERVICES, service(template=zero))[0] == 201


def test_a_field_behind_a_feature_is_taken_once_the_feature_is_on(client: Client) -> None:
    variable = {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    wanted = service(template={"spec": {"containers": [{"image": "x", "env": [variable]}], "nodeSelector": {"a": "b"}}})
    status, refused = client("POST", SERVICES, wanted)
    assert (status, "kubernetes.podspec-fieldref" in refused["message"]) == (400, True)
    features = {"kubernetes.podspec-fieldref": "Enabled", "kubernetes.podspec-nodeselector": "disabled"}
    maps = "/api/v1/namespaces/knative-serving/configmaps"
    assert client("POST", maps, config_map("config-features", **features))[0] == 201
    status, refused = client("POST", SERVICES, wanted)
    assert (status, "fieldref" in refused["message"], "nodeselector" in refused["message"]) == (400, False, True)
    allowed = {"data": {"kubernetes.podspec-nodeselector": "allowed"}}
    client("PATCH", f"{maps}/config-features", allowed, Content_Type="application/merge-patch+json")
    assert client("POST", SERVICES, wanted)[0] == 201


def test_a_field_that_a_kind_is_not_selected_by_is_refused(client: Client) -> None:
    """With != it would be everything that `kubectl delete --field-selector` goes on to delete."""
    client("POST", MAPS, config_map())
    for query in ("status.phse!=Running", "data.a==1", "spec.nodeName=x"):
        for method in ("GET", "DELETE"):
            status, refused = client(method, f"{MAPS}?fieldSelector={quote(query)}")
            assert (status, "field label not supported" in refused["message"]) == (400, True)
    assert [
        each["metadata"]["name"] for each in client("GET", f"{MAPS}?fieldSelector=metadata.name%3Dc")[1]["items"]
    ] == ["c"]
    done = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "done"}, "status": {"succeeded": 2}}
    assert Selector.parse("", "status.successful=2", "Job").matches(done)
    assert Selector.parse("", "status.successful=0", "Job").matches(done | {"status": {}})


def test_a_strategic_patch_merges_the_conditions_of_a_status(client: Client) -> None:
    client("POST", JOBS, job())
    strategic = "application/strategic-merge-patch+json"
    for type in ("Suspended", "Mine"):
        patch = {"status": {"conditions": [{"type": type, "status": "True"}]}}
        _, patched = client("PATCH", f"{JOBS}/train/status", patch, Content_Type=strategic)
    assert [c["type"] for c in patched["status"]["conditions"]] == ["Suspended", "Mine"]


def test_every_fault_is_told_at_once(client: Client) -> None:
    wrong = job()
    wrong["spec"] |= {"backoffLimit": -1, "completionMode": "Odd"}
    wrong["spec"]["template"]["spec"] |= {"restartPolicy": "Always"}
    status, answer = client("POST", JOBS, wrong)
    fields = [cause["field"] for cause in answer["details"]["causes"]]
    assert (status, sorted(fields)) == (
        422,
        ["spec.backoffLimit", "spec.completionMode", "spec.template.spec.restartPolicy"],
    )


def test_an_apply_names_its_manager(client: Client) -> None:
    content = "application/apply-patch+yaml"
    status, answer = client("PATCH", f"{MAPS}/c", config_map(), Content_Type=content)
    assert (status, answer["reason"], answer["details"]["causes"][0]["field"]) == (422, "Invalid", "fieldManager")


def test_a_list_in_pages_is_of_one_moment(client: Client) -> None:
    for name in "abcd":
        client("POST", MAPS, config_map(name))
    _, first = client("GET", f"{MAPS}?limit=2")
    client("POST", MAPS, config_map("bb"))
    client("DELETE", f"{MAPS}/d")
    _, second = client("GET", f"{MAPS}?limit=2&continue={first['metadata']['continue']}")
    assert [o["metadata"]["name"] for o in first["items"] + second["items"]] == ["a", "b", "c", "d"]
    assert second["metadata"] == {"resourceVersion": first["metadata"]["resourceVersion"]}


def test_the_rest_of_a_list_of_a_platform_before_is_expired(tmp_path: Path) -> None:
    with api_server.serve(tmp_path) as server:
        for name in "ab":
            Client(server)("POST", MAPS, config_map(name))
        token = Client(server)("GET", f"{MAPS}?limit=1")[1]["metadata"]["continue"]
        Client(server)("POST", MAPS, config_map("c"))
    with api_server.serve(tmp_path) as server:
        status, answer = Client(server)("GET", f"{MAPS}?limit=1&continue={token}")
    assert (status, answer["reason"]) == (410, "Expired")


def test_custom_resources_take_no_strategic_patch(client: Client) -> None:
    client("POST", SERVICES, service())
    patch = "application/strategic-merge-patch+json"
    assert client("PATCH", f"{SERVICES}/hello", {}, Content_Type=patch)[0] == 415


def test_an_apply_that_changes_nothing_leaves_the_resource_version(client: Client) -> None:
    status, first = client.apply(f"{SERVICES}/hello", service(), "one")
    assert status == 201
    assert client.apply(f"{SERVICES}/hello", service(), "one") == (200, first)


def test_an_apply_leaves_what_others_own_and_takes_away_what_it_owned(client: Client) -> None:
    client.apply(f"{MAPS}/c", config_map(mine="1", both="1"), "one")
    client.apply(f"{MAPS}/c", config_map(theirs="2", both="1"), "two")
    _, applied = client.apply(f"{MAPS}/c", config_map(), "one")
    assert applied["data"] == {"theirs": "2", "both": "1"}


def test_an_apply_over_anothers_value_is_a_conflict_that_names_it(client: Client) -> None:
    client.apply(f"{MAPS}/c", config_map(a="1"), "one")
    status, answer = client.apply(f"{MAPS}/c", config_map(a="2"), "two")
    assert (status, answer["message"]) == (409, 'Apply failed with 1 conflict: conflict with "one": .data.a')
    assert answer["details"]["causes"][0]["reason"] == "FieldManagerConflict"
    assert client.apply(f"{MAPS}/c", config_map(a="2"), "two", "&force=true")[1]["data"] == {"a": "2"}


def test_an_apply_owns_containers_item_by_item(client: Client) -> None:
    path = "/api/v1/namespaces/default/pods/p"

    def pod(*containers: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": list(containers)}}

    client.apply(path, pod({"name": "a", "image": "x"}), "one")
    env = [{"name": "K", "value": "v"}]
    status, patched = client.apply(path, pod({"name": "a", "env": env}), "two", "&dryRun=All")
    assert status == 422  # a pod's containers cannot change; but the merge is seen in what was judged
    assert patched["details"]["causes"][0]["field"] == "spec.containers"


def test_deleting_answers_a_status_and_a_second_time_not_found(client: Client) -> None:
    client("POST", MAPS, config_map())
    status, answer = client("DELETE", f"{MAPS}/c")
    assert (status, answer["status"], answer["details"]["name"]) == (200, "Success", "c")
    assert client("DELETE", f"{MAPS}/c")[0] == 404


def test_a_collection_is_deleted_by_selector(client: Client) -> None:
    for name, label in (("a", "x"), ("b", "y")):
        made = config_map(name)
        made["metadata"]["labels"] = {"l": label}
        client("POST", MAPS, made)
    client("DELETE", f"{MAPS}?labelSelector=l%3Dx")
    assert [o["metadata"]["name"] for o in client("GET", MAPS)[1]["items"]] == ["b"]


# ---------------------------------------------------------------- watches, through the official client


@pytest.fixture
def dynamic(client: Client) -> DynamicClient:
    configuration = kubernetes.config.new_client_from_config(str(client.server.kubeconfig))
    return DynamicClient(configuration)


def test_the_python_client_discovers_creates_patches_and_lists(dynamic: DynamicClient) -> None:
    services = dynamic.resources.get(api_version="serving.knative.dev/v1", kind="Service")
    services.create(body=service(), namespace="default")
    patch = {"metadata": {"labels": {"a": "b"}}}
    services.patch(body=patch, name="hello", namespace="default", content_type="application/merge-patch+json")
    found = services.get(namespace="default", label_selector="a=b")
    assert [item.metadata.name for item in found.items] == ["hello"]
    services.delete(name="hello", namespace="default")
    with pytest.raises(NotFoundError):
        services.get(name="hello", namespace="default")


def test_the_python_client_sees_conflicts(dynamic: DynamicClient) -> None:
    services = dynamic.resources.get(api_version="serving.knative.dev/v1", kind="Service")
    stale = services.create(body=service(), namespace="default").to_dict()
    services.patch(
        body={"metadata": {"labels": {"a": "b"}}},
        name="hello",
        namespace="default",
        content_type="application/merge-patch+json",
    )
    stale["metadata"]["labels"] = {"a": "c"}
    with pytest.raises(ConflictError):
        services.replace(body=stale, namespace="default")


def test_custom_objects_api_works(client: Client) -> None:
    api = kubernetes.client.CustomObjectsApi(kubernetes.config.new_client_from_config(str(client.server.kubeconfig)))
    where = ("serving.knative.dev", "v1", "default", "services")
    api.create_namespaced_custom_object(*where, service())
    assert api.get_namespaced_custom_object(*where, "hello")["spec"]["traffic"][0]["percent"] == 100
    with pytest.raises(ApiException) as refused:
        api.create_namespaced_custom_object(*where, service("other", nonsense=1))
    assert refused.value.status == 400


def test_a_watch_goes_on_from_a_resource_version(client: Client) -> None:
    _, first = client("POST", MAPS, config_map("a"))
    client("POST", MAPS, config_map("b"))
    client("DELETE", f"{MAPS}/a")
    since = first["metadata"]["resourceVersion"]
    _, _, lines = client.raw("GET", f"{MAPS}?watch=true&timeoutSeconds=1&resourceVersion={since}")
    events = [json.loads(line) for line in lines.splitlines()]
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in events] == [("ADDED", "b"), ("DELETED", "a")]


def test_a_watch_from_too_long_ago_is_gone(tmp_path: Path) -> None:
    with api_server.serve(tmp_path) as server:
        Client(server)("POST", MAPS, config_map())
    with api_server.serve(tmp_path) as server:
        status, answer = Client(server)("GET", f"{MAPS}?watch=true&resourceVersion=1")
    assert (status, answer["reason"]) == (410, "Expired")


def test_a_watch_by_label_sees_objects_come_into_view_and_leave(client: Client) -> None:
    _, made = client("POST", MAPS, config_map("a"))
    since = made["metadata"]["resourceVersion"]
    for label in ("yes", "no"):
        patch = {"metadata": {"labels": {"in": label}}}
        client("PATCH", f"{MAPS}/a", patch, Content_Type="application/merge-patch+json")
    query = f"watch=true&timeoutSeconds=1&labelSelector=in%3Dyes&resourceVersion={since}"
    _, _, lines = client.raw("GET", f"{MAPS}?{query}")
    assert [json.loads(line)["type"] for line in lines.splitlines()] == ["ADDED", "DELETED"]


def test_a_watch_list_ends_its_start_with_a_bookmark(client: Client) -> None:
    client("POST", MAPS, config_map("a"))
    query = "watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    _, _, lines = client.raw("GET", f"{MAPS}?{query}&timeoutSeconds=1")
    added, bookmark = (json.loads(line) for line in lines.splitlines()[:2])
    assert added["type"] == "ADDED"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_the_python_client_watches(client: Client) -> None:
    api = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(str(client.server.kubeconfig)))
    seen: list[tuple[str, str]] = []
    ready = threading.Event()

    def look() -> None:
        watch = kubernetes.watch.Watch()
        for event in watch.stream(api.list_namespaced_config_map, "default", timeout_seconds=30):
            seen.append((event["type"], event["object"].metadata.name))
            ready.set()
            if len(seen) == 3:
                watch.stop()

    client("POST", MAPS, config_map("first"))
    looker = threading.Thread(target=look)
    looker.start()
    assert ready.wait(30)
    client("POST", MAPS, config_map("second"))
    client("DELETE", f"{MAPS}/first")
    looker.join(30)
    assert seen == [("ADDED", "first"), ("ADDED", "second"), ("DELETED", "first")]


def test_watches_end_when_the_platform_stops(tmp_path: Path) -> None:
    with api_server.serve(tmp_path) as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
        connection.request("GET", f"{MAPS}?watch=true", headers={"Authorization": f"Bearer {api_server.TOKEN}"})
        response = connection.getresponse()
    assert response.read() == b""
    connection.close()


# ---------------------------------------------------------------- what it says of itself


def test_the_path_of_an_object_is_where_it_answers(client: Client) -> None:
    from headrace.local.api.api import KubernetesAPI

    api = client.server.run(lambda: KubernetesAPI(client.server.objects, "t", lambda namespace, pod: None))
    assert api.path_of(service()) == f"{SERVICES}/hello"
    assert client.apply(api.path_of(service()), service(), "me")[0] == 201


def test_aggregated_and_plain_discovery_agree(client: Client) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    aggregated = set()
    for path in ("/api", "/apis"):
        for group in client("GET", path, Accept=accept)[1]["items"]:
            for version in group["versions"]:
                of = "/".join(filter(None, (group["metadata"]["name"], version["version"])))
                aggregated |= {(of, resource["resource"]) for resource in version["resources"]}
    plain = set()
    groups = [group["preferredVersion"]["groupVersion"] for group in client("GET", "/apis")[1]["groups"]]
    for path in ["/api/v1", *(f"/apis/{group}" for group in groups)]:
        listed = client("GET", path)[1]
        plain |= {(listed["groupVersion"], r["name"]) for r in listed["resources"] if "/" not in r["name"]}
    assert plain - {("authorization.k8s.io/v1", "selfsubjectaccessreviews")} == aggregated


def test_every_schema_that_a_document_refers_to_is_in_it(client: Client) -> None:
    for place in client("GET", "/openapi/v3")[1]["paths"].values():
        _, _, text = client.raw("GET", place["serverRelativeURL"])
        schemas = json.loads(text)["components"]["schemas"]
        referred = {part.split('"')[0] for part in text.decode().split("#/components/schemas/")[1:]}
        assert referred <= schemas.keys()


# ---------------------------------------------------------------- the autoscaler's decisions


def test_a_podautoscaler_tells_of_its_last_decision_and_cannot_be_told(tmp_path: Path) -> None:
    decisions = {("default", "r"): {"mode": "panic"}}
    made = {
        "apiVersion": "autoscaling.internal.knative.dev/v1alpha1",
        "kind": "PodAutoscaler",
        "metadata": {"name": "r", "namespace": "default"},
        "spec": {},
    }
    with api_server.serve(tmp_path, read_decision=lambda namespace, name: decisions.get((namespace, name))) as server:
        client = Client(server)
        for name in ("r", "new"):
            obj = made | {"metadata": {"name": name, "namespace": "default"}}
            server.run(lambda obj=obj: server.objects.create(obj))
        where = "/apis/autoscaling.internal.knative.dev/v1alpha1/namespaces/default/podautoscalers"
        assert client("GET", f"{where}/r/decision") == (200, {"mode": "panic"})
        assert client("GET", f"{where}/new/decision") == (200, {})  # not taken up yet
        assert client("GET", f"{where}/absent/decision")[0] == 404
        assert client("PUT", f"{where}/r/decision", made)[0] == 405
        assert client("PATCH", f"{where}/r/decision", {}, Content_Type="application/merge-patch+json")[0] == 405
