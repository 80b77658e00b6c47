"""`headrace deploy` and `undeploy` as processes, against the laptop's Kubernetes API, looked at with kubectl."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import running as a_platform
from tests.running import Platform

Object = dict[str, Any]
running = pytest.fixture(scope="module")(a_platform.platform)


@pytest.fixture
def place(running: Platform, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A namespace of the platform in which nothing is yet."""
    name = f"t{zlib.crc32(request.node.name.encode())}"
    yield Place(running, name)
    running.call(*Place(running, name).words("undeploy", "--timeout", "1s"))


class Place:
    """One namespace, and the commands that act there."""

    def __init__(self, running: Platform, namespace: str) -> None:
        self.running, self.namespace = running, namespace

    def words(self, command: str, *more: str) -> list[str]:
        kubeconfig = str(self.running.home / "kubeconfig")
        return [command, "--kubeconfig", kubeconfig, "--namespace", self.namespace, *more]

    def deploy(self, *more: str) -> subprocess.CompletedProcess[str]:
        broker = self.running.run("url", "broker").strip().replace("/headrace/", f"/{self.namespace}/")
        store = (self.running.home / "store").as_uri()
        values = ("--set", f"K_SINK={broker}", "--set", f"HEADRACE_DROP={self.running.home}/drop")
        return self.running.call(*self.words("deploy", "--store", store, *values, *more))

    def undeploy(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.running.call(*self.words("undeploy", *more))

    def kubectl(self, *words: str) -> str:
        program = shutil.which("kubectl")
        if program is None:
            pytest.skip("there is no `kubectl` here")
        kubeconfig = str(self.running.home / "kubeconfig")
        done = subprocess.run(
            [program, "--kubeconfig", kubeconfig, "-n", self.namespace, *words],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def names(self, kinds: str) -> set[str]:
        return set(self.kubectl("get", kinds, "-o", "name").split())


def test_everything_becomes_ready_and_a_second_time_changes_nothing(place: Place) -> None:
    first = place.deploy()
    assert first.returncode == 0, first.stderr
    assert place.names("ksvc") == {
        f"service.serving.knative.dev/{name}"
        for name in ("dead-letters", "drift-watch", "job-watch", "journal", "promoter")
    }
    again = json.loads(place.deploy("-o", "json").stdout)
    assert again["healthy"] is True
    assert {d["change"] for d in again["differences"]} == {"unchanged"}
    assert len(again["ready"]) == 15 and all(again["ready"].values())
    assert again["notes"] == []


def test_a_dry_run_shows_the_fields_that_would_change_and_changes_none(place: Place) -> None:
    before = place.deploy("--dry-run")
    assert before.returncode == 0
    assert "would be created Broker default" in " ".join(before.stdout.split())
    assert f"namespace/{place.namespace}" not in place.names("ns")
    assert place.deploy().returncode == 0
    shown = json.loads(
        place.deploy(
            "--dry-run", "--image", "functions=reg.example/f:2", "--image", "predictor=reg.example/p:2", "-o", "json"
        ).stdout
    )
    changed = {d["name"]: d["fields"] for d in shown["differences"] if d["change"] == "changed"}
    assert set(changed) == {
        "headrace", "dead-letters", "drift-watch", "job-watch", "journal", "promoter", "folder",
    }  # fmt: skip
    assert [field["path"] for field in changed["headrace"]] == ["data.HEADRACE_PREDICTOR_PATCH"]
    values, image = changed["promoter"]
    assert values["path"] == "spec.template.metadata.annotations[headrace.dev/values]"
    assert image == {
        "path": "spec.template.spec.containers[name=promoter].image",
        "before": "ghcr.io/headrace/functions:0.1.0",
        "after": "reg.example/f:2",
    }
    assert "reg.example" not in place.kubectl("get", "ksvc", "promoter", "-o", "yaml")


def test_what_ops_have_set_is_kept_and_a_conflict_is_told_and_not_forced(place: Place) -> None:
    assert place.deploy().returncode == 0
    place.kubectl("annotate", "ksvc", "promoter", "ops.example.com/owner=me")
    slower = '{"spec":{"template":{"spec":{"timeoutSeconds":200}}}}'
    place.kubectl("patch", "ksvc", "promoter", "--type", "merge", "-p", slower)
    refused = place.deploy("--set", "HEADRACE_CANARY_S=7")
    assert refused.returncode == 1
    assert "spec.template.spec.timeoutSeconds is kubectl-patch's" in refused.stderr
    assert "would be changed ConfigMap headrace" in refused.stdout
    # Nothing was applied while one object was in conflict.
    assert "HEADRACE_CANARY_S" not in place.kubectl("get", "configmap", "headrace", "-o", "yaml")
    assert place.deploy("--force-conflicts").returncode == 0
    service = json.loads(place.kubectl("get", "ksvc", "promoter", "-o", "json"))
    assert service["spec"]["template"]["spec"]["timeoutSeconds"] == 300
    assert service["metadata"]["annotations"]["ops.example.com/owner"] == "me"


def test_an_object_of_somebody_else_is_neither_changed_nor_removed(place: Place) -> None:
    place.kubectl("create", "namespace", place.namespace)
    place.kubectl("create", "configmap", "headrace", "--from-literal", "theirs=1")
    refused = place.deploy()
    assert refused.returncode == 1
    assert "ConfigMap headrace: is there already and is not Headrace's" in refused.stderr
    assert place.names("ksvc,brokers") == set()
    assert place.undeploy().returncode == 0
    assert "theirs" in place.kubectl("get", "configmap", "headrace", "-o", "yaml")


MODEL = """
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: {name}
  labels: {{app.kubernetes.io/part-of: headrace, app.kubernetes.io/component: predictor}}
spec:
  template:
    spec:
      containers: [{{image: ghcr.io/headrace/predictor:0.1.0, command: [sleep, "1000"]}}]
"""


def test_models_of_the_promoter_go_and_those_that_somebody_applied_stay(place: Place, tmp_path: Path) -> None:
    assert place.deploy().returncode == 0
    for verb, name in (("create", "flights"), ("apply", "theirs")):
        (tmp_path / name).write_text(MODEL.format(name=name))
        place.kubectl(verb, "-f", str(tmp_path / name))
    assert place.undeploy("--timeout", "1s").returncode == 0
    assert place.names("ksvc") == {"service.serving.knative.dev/theirs"}


def test_a_deployment_that_says_nothing_of_the_store_keeps_it_where_it_is(place: Place) -> None:
    """A bucket's name without its endpoint is Amazon's bucket of that name."""
    where = ("--set", "AWS_ENDPOINT_URL=http://minio.example:9000", "--set", "HEADRACE_STORE_NETWORKS=192.0.2.0/24")
    assert place.deploy(*where, "--set", "HEADRACE_CANARY_S=7").returncode == 0

    def changed(*words: str) -> set[str]:
        again = place.running.call(*place.words("deploy", "--dry-run", "-o", "json", *words))
        (config_map,) = (d for d in json.loads(again.stdout)["differences"] if d["kind"] == "ConfigMap")
        return {field["path"].removeprefix("data.") for field in config_map["fields"]}

    others = {"K_SINK", "HEADRACE_DROP", "HEADRACE_CANARY_S"}
    assert changed() == others
    assert changed("--set", "AWS_ENDPOINT_URL=http://new.example:9000") == {*others, "AWS_ENDPOINT_URL"}
    all_of_it = {*others, "AWS_ENDPOINT_URL", "HEADRACE_STORE_NETWORKS", "HEADRACE_STORE"}
    assert changed("--store", "s3://other") == changed("--set", "HEADRACE_STORE=s3://other") == all_of_it


def test_a_source_that_is_no_longer_wanted_goes_and_that_is_told(place: Place) -> None:
    assert place.deploy().returncode == 0
    assert "would be removed ContainerSource folder" in " ".join(
        place.deploy("--drop", "none", "--dry-run").stdout.split()
    )
    assert "folder" in place.kubectl("get", "containersources", "-o", "name")
    done = place.deploy("--drop", "none")
    assert done.returncode == 0 and "removed ContainerSource folder" in " ".join(done.stdout.split())
    assert place.kubectl("get", "containersources", "-o", "name") == ""


def test_undeploy_takes_all_that_is_ours_and_not_the_namespace_with_what_is_not(place: Place) -> None:
    assert place.deploy().returncode == 0
    place.kubectl("create", "secret", "generic", "kept", "--from-literal", "a=b")
    tried = place.undeploy("--dry-run")
    assert "Secret kept" in tried.stdout
    assert place.names("ksvc")
    done = place.undeploy("--timeout", "3s")
    assert done.returncode == 0
    assert f"Namespace {place.namespace}: in it are Secret kept" in done.stdout
    assert place.names("ksvc,brokers,triggers,jobsinks,containersources,roles") == set()
    assert "secret/kept" in place.names("secrets")
    assert f"namespace/{place.namespace}" in place.names("ns")


def test_a_namespace_of_ours_goes_when_nothing_else_is_in_it(place: Place) -> None:
    assert place.deploy().returncode == 0
    assert f"Namespace {place.namespace}" in place.undeploy().stdout
    assert f"namespace/{place.namespace}" not in place.names("ns")


def test_what_a_laptop_brings_itself_is_not_touched(running: Platform) -> None:
    place = Place(running, "headrace")
    refused = running.call(*place.words("deploy", "--store", "s3://models"))
    assert refused.returncode == 1
    assert "data.HEADRACE_STORE is headrace-up's" in refused.stderr
    assert "nothing of Headrace's" in place.undeploy().stdout
    running.run("status")


def test_a_part_that_does_not_become_ready_is_told_by_its_cause(place: Place) -> None:
    failed = place.deploy("--set", "HEADRACE_STORE=nowhere-at-all", "--timeout", "4s")
    assert failed.returncode == 1
    assert "Service dead-letters: " in failed.stderr


# ---------------------------------------------------------------- a cluster without, or with an old, Knative


GROUPS = {
    "/api/v1": ["namespaces", "configmaps", "serviceaccounts"],
    "/apis/rbac.authorization.k8s.io/v1": ["roles", "rolebindings"],
    "/apis/serving.knative.dev/v1": ["services"],
    "/apis/eventing.knative.dev/v1": ["brokers", "triggers"],
    "/apis/sources.knative.dev/v1": ["containersources"],
}


@pytest.mark.parametrize(
    ("without", "said"),
    [
        (("serving.knative.dev",), ["Knative Serving is absent"]),
        (("eventing.knative.dev", "sources.knative.dev"), ["Knative Eventing is absent", "1.15"]),
        ((), ["Knative Eventing is too old", "JobSink", "1.15"]),
    ],
)
def test_a_cluster_without_what_is_needed_is_told_what_to_install(
    tmp_path: Path, running: Platform, without: tuple[str, ...], said: list[str]
) -> None:
    """All asked here have no JobSink, as before Eventing 1.15."""
    groups = {path: names for path, names in GROUPS.items() if not any(group in path for group in without)}

    class Discovery(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = groups.get(self.path)
            body = json.dumps({"resources": [{"name": name} for name in known or ()]}).encode()
            self.send_response(404 if known is None else 200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Discovery)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    chosen = {"name": "old", "context": {"cluster": "c", "user": "u"}}
    kubeconfig.write_text(
        yaml.safe_dump({"clusters": [cluster], "contexts": [chosen], "users": [{"name": "u", "user": {}}]})
    )
    try:
        done = running.call("deploy", "--kubeconfig", str(kubeconfig), "--context", "old")
    finally:
        server.shutdown()
    assert done.returncode == 1
    assert all(word in done.stderr for word in said), done.stderr
