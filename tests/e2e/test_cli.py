"""The same commands against a cluster, from a machine that has a kubeconfig and the store's keys and nothing else.

No model is needed here, nor trained: events of nobody's type pass the Broker, and the journal keeps them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.place import Deployed, until

pytestmark = pytest.mark.cluster

LEAST = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: least}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: least}
rules:
  - {apiGroups: [""], resources: [configmaps], verbs: [get]}
  - {apiGroups: [serving.knative.dev], resources: [services], verbs: [get, list]}
  - {apiGroups: [eventing.knative.dev], resources: [brokers, triggers], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: least}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: least}
subjects: [{kind: ServiceAccount, name: least}]
"""


@pytest.fixture(scope="module")
def outside(deployed: Deployed) -> Deployed:
    """The same place without a gateway that is told: what is left is the API server."""
    environ = {k: v for k, v in deployed.environ.items() if k != "HEADRACE_GATEWAY"}
    return dataclasses.replace(deployed, environ=environ)


@pytest.fixture(scope="module")
def least(outside: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Somebody who may see the parts, and nothing through the API server."""
    outside.kubectl("apply", "-f", "-", given=LEAST)
    token = outside.kubectl("create", "token", "least").strip()
    theirs: dict[str, Any] = yaml.safe_load(outside.kubeconfig.read_text())
    theirs["users"] = [{"name": "least", "user": {"token": token}}]
    for context in theirs["contexts"]:
        context["context"]["user"] = "least"
    own = tmp_path_factory.mktemp("least") / "kubeconfig"
    own.write_text(yaml.safe_dump(theirs))
    yield dataclasses.replace(outside, kubeconfig=own)
    outside.kubectl("delete", "rolebinding/least", "role/least", "serviceaccount/least")


def greet(place: Deployed) -> str:
    """An event of nobody's type, sent; its id."""
    id = f"greeted-{uuid.uuid4().hex[:8]}"
    event = {"specversion": "1.0", "id": id, "source": "/tests/e2e", "type": "dev.example.greeted.v1"}
    assert place.headrace("send", "-", given=json.dumps(event)) == f"{id}\n"
    return id


def ids(place: Deployed) -> list[str]:
    return [event["id"] for event in place.events()]


def test_an_event_sent_through_the_api_server_stands_in_the_journal_once(outside: Deployed) -> None:
    id = greet(outside)
    event = {"specversion": "1.0", "id": id, "source": "/tests/e2e", "type": "dev.example.greeted.v1"}
    outside.headrace("send", "-", given=json.dumps(event))
    until("the event in the journal", lambda: id in ids(outside))
    assert ids(outside).count(id) == 1
    assert id in outside.headrace("why", id)


def test_a_killed_journal_loses_and_doubles_nothing(outside: Deployed) -> None:
    sent = [greet(outside)]
    until("a pod of the journal", lambda: outside.items("pods", "serving.knative.dev/service=journal"))
    outside.kubectl("delete", "pods", "-l", "serving.knative.dev/service=journal", "--grace-period=0", "--force")
    sent += [greet(outside) for _ in range(5)]
    until("all of them in the journal", lambda: set(sent) <= set(ids(outside)))
    found = ids(outside)
    assert [found.count(id) for id in sent] == [1] * len(sent)


def test_who_follows_hears_what_comes(outside: Deployed) -> None:
    where = ["--kubeconfig", str(outside.kubeconfig), "-n", outside.namespace]
    command = [sys.executable, "-m", "headrace.cli", "events", "--follow", "-o", "json", *where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        id = greet(outside)
        heard = (json.loads(line)["event"]["id"] for line in following.stdout)
        assert id in heard
        following.kill()


def test_dead_letters_are_listed_from_the_store_and_replayed_through_the_api_server(outside: Deployed) -> None:
    """Nobody's type, so that its replay ends in the journal; the letter is what the function would have kept."""
    id = f"dead-{uuid.uuid4().hex[:8]}"
    letter = {"specversion": "1.0", "id": id, "source": "/tests/e2e", "type": "dev.example.died.v1"}
    bucket = outside.get("configmap", "headrace")["data"]["HEADRACE_STORE"]
    path = f"dead-letters/{id}.json"
    write = f"from functions.store import Store; Store.open({bucket!r}).write_json({path!r}, {letter!r})"
    environ = {**os.environ, **outside.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", write], env=environ, check=True)
    assert id in outside.headrace("dead-letters", "list")
    assert outside.headrace("dead-letters", "replay", id) == f"{id}\n"
    assert id not in outside.headrace("dead-letters", "list")
    until("the replayed event", lambda: id in ids(outside))


def test_the_parts_and_their_logs_are_told(outside: Deployed) -> None:
    report = json.loads(outside.run("status", "-o", "json").stdout)
    parts = {(part["kind"], part["name"]) for part in report["parts"]}
    assert {("Service", "journal"), ("Broker", "default"), ("Trigger", "journal"), ("JobSink", "neural-net")} <= parts
    assert {scale["revision"] for scale in report["scales"]} >= {"journal-00001", "promoter-00001"}
    assert report["notes"] == []
    id = greet(outside)
    until("the event in the journal", lambda: id in ids(outside))
    assert "listening on" in outside.headrace("logs", "journal")


def test_a_url_that_does_not_answer_here_is_told_with_what_is_needed(outside: Deployed) -> None:
    done = outside.run("url", "broker")
    assert (done.returncode, done.stdout) == (1, "")
    assert "/services/http:broker-ingress:80/proxy/" in done.stderr
    told = json.loads(outside.headrace("url", "broker", "-o", "json"))
    assert told["url"].endswith(f"/{outside.namespace}/default")


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (["send", "-"], "create services/proxy, name http:broker-ingress:80, namespace knative-eventing"),
        (["events"], "get services/proxy, name http:activator-service:80, namespace knative-serving"),
    ],
)
def test_a_right_that_is_missing_is_named(least: Deployed, words: list[str], right: str) -> None:
    event = '{"specversion": "1.0", "id": "x", "source": "/t", "type": "t"}'
    done = least.run(*words, given=event)
    assert (done.returncode, done.stdout) == (1, "")
    assert right in done.stderr


def test_who_may_see_less_is_shown_less_and_told_so(least: Deployed) -> None:
    report = json.loads(least.run("status", "-o", "json").stdout)
    assert ("Broker", "default") in {(part["kind"], part["name"]) for part in report["parts"]}
    assert any("PodAutoscalers are not shown" in note for note in report["notes"])


def test_a_store_without_an_address_or_keys_says_what_to_set(outside: Deployed) -> None:
    inside = dataclasses.replace(outside, environ={})
    done = inside.run("models")
    assert done.returncode == 1
    assert "answers inside the cluster alone; set AWS_ENDPOINT_URL" in done.stderr
    endpoint = {k: v for k, v in outside.environ.items() if k == "AWS_ENDPOINT_URL"}
    done = dataclasses.replace(outside, environ=endpoint).run("models")
    assert done.returncode == 1
    assert "AWS_ACCESS_KEY_ID" in done.stderr
