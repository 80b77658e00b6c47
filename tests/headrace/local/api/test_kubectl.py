"""The Kubernetes API as kubectl sees it: the real kubectl, against the real server."""

from __future__ import annotations

import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.headrace.local.api import api_server

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

SERVICE = """
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: hello}
spec:
  template:
    metadata: {annotations: {autoscaling.knative.dev/max-scale: "1"}}
    spec:
      containerConcurrency: 1
      containers:
        - {image: functions, command: [python, -m, functions.predictor], ports: [{name: http1, containerPort: 8080}]}
"""
JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: train}
spec:
  backoffLimit: 2
  podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [65]}}]}
  template:
    spec: {restartPolicy: Never, containers: [{name: main, image: trainers, env: [{name: A, value: b}]}]}
"""
OTHERS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: headrace}
data: {K_SINK: http://broker}
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default}
spec: {delivery: {retry: 3, backoffPolicy: exponential, backoffDelay: PT1S}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: promoter}
spec:
  broker: default
  filters: [{exact: {type: dev.headrace.model.trained.v1}}]
  subscriber: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: hello}}
---
apiVersion: sinks.knative.dev/v1alpha1
kind: JobSink
metadata: {name: forest}
spec: {job: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: trainers}]}}}}}
---
apiVersion: sources.knative.dev/v1
kind: ContainerSource
metadata: {name: folder}
spec:
  template: {spec: {containers: [{name: source, image: functions}]}}
  sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}
"""
EVERYTHING = f"{SERVICE}---{JOB}---{OTHERS}"


class Kubectl:
    def __init__(self, server: api_server.Running) -> None:
        self.server = server
        self._arguments = ["kubectl", "--kubeconfig", str(server.kubeconfig), "--cache-dir", str(server.logs / "cache")]

    def __call__(self, *arguments: str, given: str = "") -> str:
        """What kubectl prints; it must succeed."""
        done = self.run(*arguments, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str, given: str = "") -> str:
        """What kubectl complains of; it must fail."""
        done = self.run(*arguments, given=given)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def run(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._arguments, *arguments], input=given, capture_output=True, text=True, timeout=60)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*self._arguments, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def kubectl(tmp_path: Path) -> Iterator[Kubectl]:
    with api_server.serve(tmp_path) as server:
        yield Kubectl(server)


def a_pod_of_the_job(kubectl: Kubectl, phase: str) -> None:
    job = kubectl.server.run(lambda: kubectl.server.objects.get("Job", "default", "train"))
    assert job is not None
    obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "train-x", "labels": job["spec"]["template"]["metadata"]["labels"]},
        "spec": job["spec"]["template"]["spec"],
        "status": {"phase": phase},
    }
    kubectl.server.run(lambda: kubectl.server.objects.create(obj))


def test_what_is_applied_twice_is_unchanged(kubectl: Kubectl) -> None:
    created = kubectl("apply", "-f", "-", given=EVERYTHING)
    assert created.count(" created") == 7
    again = kubectl("apply", "-f", "-", given=EVERYTHING)
    assert again.count(" unchanged") == 7


def test_server_side_apply_takes_away_what_it_no_longer_lists_and_no_more(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", "-", given=SERVICE)
    kubectl("annotate", "ksvc", "hello", "mine=kept")
    without = SERVICE.replace("      containerConcurrency: 1\n", "      timeoutSeconds: 60\n")
    kubectl("apply", "--server-side", "-f", "-", given=without)
    shown = kubectl("get", "ksvc", "hello", "-o", "jsonpath={.metadata.annotations.mine} {.spec.template.spec}")
    assert shown.startswith("kept ")
    assert '"containerConcurrency":0' in shown  # the default again
    assert '"timeoutSeconds":60' in shown


def test_server_side_apply_of_another_managers_field_is_a_conflict_until_forced(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", "-", given=SERVICE)
    other = SERVICE.replace("containerConcurrency: 1", "containerConcurrency: 9")
    refused = kubectl.refused("apply", "--server-side", "--field-manager=other", "-f", "-", given=other)
    assert 'conflict with "kubectl": .spec.template.spec.containerConcurrency' in refused
    kubectl("apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-", given=other)
    assert kubectl("get", "ksvc", "hello", "-o", "jsonpath={.spec.template.spec.containerConcurrency}") == "9"


def test_a_job_is_patched_strategically(kubectl: Kubectl) -> None:
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: main, image: a}]}\n"
    kubectl("apply", "-f", "-", given=pod)
    kubectl("apply", "-f", "-", given=JOB)
    assert "unchanged" in kubectl("apply", "-f", "-", given=pod)
    assert "configured" in kubectl("apply", "-f", "-", given=JOB.replace("backoffLimit: 2", "backoffLimit: 3"))


def test_every_misspelt_field_is_named_at_once(kubectl: Kubectl) -> None:
    misspelt = SERVICE.replace("containerConcurrency", "containerConcurency").replace("command", "comand")
    refused = kubectl.refused("apply", "-f", "-", given=misspelt)
    assert 'strict decoding error: unknown field "spec.template.spec.containerConcurency"' in refused
    assert 'unknown field "spec.template.spec.containers[0].comand"' in refused


def test_a_wrong_type_is_refused_with_what_was_expected(kubectl: Kubectl) -> None:
    refused = kubectl.refused("apply", "-f", "-", given=JOB.replace("backoffLimit: 2", "backoffLimit: many"))
    assert 'The Job "train" is invalid: spec.backoffLimit: Invalid value: "many"' in refused
    assert "must be of type integer" in refused


def test_an_autoscaling_annotation_that_cannot_work_is_refused(kubectl: Kubectl) -> None:
    refused = kubectl.refused("apply", "-f", "-", given=SERVICE.replace('max-scale: "1"', 'max-scale: "many"'))
    assert "invalid value: many" in refused
    assert "autoscaling.knative.dev/max-scale" in refused


def test_an_unknown_kind_has_no_match(kubectl: Kubectl) -> None:
    refused = kubectl.refused("apply", "-f", "-", given="apiVersion: foo.dev/v1\nkind: Foo\nmetadata: {name: x}\n")
    assert 'no matches for kind "Foo" in version "foo.dev/v1"' in refused
    assert 'the server doesn\'t have a resource type "foos"' in kubectl.refused("get", "foos")


def test_the_columns_are_those_of_a_cluster(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=EVERYTHING)
    heads = {
        "ksvc": "NAME URL LATESTCREATED LATESTREADY READY REASON",
        "jobs": "NAME STATUS COMPLETIONS DURATION AGE",
        "brokers": "NAME URL AGE READY REASON",
        "triggers": "NAME BROKER SUBSCRIBER_URI AGE READY REASON",
        "jobsinks": "NAME URL AGE READY REASON",
    }
    shown = {kind: " ".join(kubectl("get", kind).splitlines()[0].split()) for kind in heads}
    assert shown == heads
    assert kubectl("get", "jobs").splitlines()[1].split()[:3] == ["train", "Running", "0/1"]


def test_revisions_and_pods_show_their_replicas_and_restarts(kubectl: Kubectl) -> None:
    labels = {"serving.knative.dev/configuration": "hello", "serving.knative.dev/configurationGeneration": "1"}
    revision = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Revision",
        "metadata": {"name": "hello-00001", "labels": labels},
        "status": {"actualReplicas": 2, "desiredReplicas": 3, "conditions": [{"type": "Ready", "status": "True"}]},
    }
    kubectl.server.run(lambda: kubectl.server.objects.create(revision))
    head, row = kubectl("get", "revisions").splitlines()
    assert " ".join(head.split()) == "NAME CONFIG NAME GENERATION READY REASON ACTUAL REPLICAS DESIRED REPLICAS"
    assert row.split() == ["hello-00001", "hello", "1", "True", "2", "3"]
    kubectl("apply", "-f", "-", given=JOB)
    a_pod_of_the_job(kubectl, "Running")
    assert kubectl("get", "pods").splitlines()[1].split()[:4] == ["train-x", "0/1", "Running", "0"]
    assert "revision.serving.knative.dev/hello-00001" in kubectl("get", "all")


def test_short_names_work(kubectl: Kubectl) -> None:
    for short in ("ksvc", "kservice", "rev", "rt", "cfg", "kpa", "po", "cm", "ns", "sa", "ev"):
        kubectl("get", short)


def test_explain_tells_what_a_field_means(kubectl: Kubectl) -> None:
    assert "Retries before the Job has failed" in kubectl("explain", "job.spec.backoffLimit")
    assert "FIELD: backoffLimit <integer>" in kubectl("explain", "job.spec.backoffLimit")
    assert "FIELD: spec <JobSpec>" in kubectl("explain", "job.spec")


def test_the_parts_of_a_custom_resource_have_no_names(kubectl: Kubectl) -> None:
    assert "FIELD: template <Object>" in kubectl("explain", "ksvc.spec.template")
    assert "FIELD: metadata <ObjectMeta>" in kubectl("explain", "ksvc.metadata")
    assert "FIELD: not <Object>" in kubectl("explain", "trigger.spec.filters.not")  # a filter in a filter


def test_a_watch_shows_changes_as_rows(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=SERVICE)
    with kubectl.start("get", "ksvc", "-w") as watch:
        assert watch.stdout is not None
        lines = [watch.stdout.readline(), watch.stdout.readline()]
        status = '{"status":{"url":"http://hello.test","conditions":[{"type":"Ready","status":"True"}]}}'
        kubectl("patch", "ksvc", "hello", "--subresource=status", "--type=merge", "-p", status)
        lines.append(watch.stdout.readline())
        watch.terminate()
    assert lines[0].startswith("NAME")
    assert lines[2].split() == ["hello", "http://hello.test", "True"]


def test_wait_returns_when_a_condition_holds(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=SERVICE)
    with kubectl.start("wait", "--for=condition=Ready", "ksvc/hello", "--timeout=30s") as wait:
        status = '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}'
        kubectl("patch", "ksvc", "hello", "--subresource=status", "--type=merge", "-p", status)
        assert wait.wait(60) == 0


def test_logs_of_a_job_are_those_of_its_pod(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=JOB)
    a_pod_of_the_job(kubectl, "Succeeded")
    (kubectl.server.logs / "train-x.log").write_text("one\ntwo\nthree\n")
    assert kubectl("logs", "job/train") == "one\ntwo\nthree\n"
    assert kubectl("logs", "job/train", "--tail=2") == "two\nthree\n"
    assert kubectl("logs", "job/train", "--limit-bytes=5") == "one\nt"


def test_followed_logs_end_with_the_pod(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=JOB)
    a_pod_of_the_job(kubectl, "Running")
    log = kubectl.server.logs / "train-x.log"
    log.write_text("one\n")
    with kubectl.start("logs", "-f", "train-x") as follow:
        assert follow.stdout is not None
        assert follow.stdout.readline() == "one\n"
        with log.open("a") as f:
            f.write("two\n")
        kubectl(
            "patch", "pod", "train-x", "--subresource=status", "--type=merge", "-p", '{"status":{"phase":"Failed"}}'
        )
        assert follow.stdout.read() == "two\n"
        assert follow.wait(60) == 0


def test_describe_works_for_services_and_jobs(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=EVERYTHING)
    assert "Container Concurrency:  1" in kubectl("describe", "ksvc", "hello")
    assert "Backoff Limit:    2" in kubectl("describe", "job", "train")


def test_labels_select(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=SERVICE)
    kubectl("label", "ksvc", "hello", "team=data")
    for selector in ("team=data", "team in (data, ops)", "team", "!missing", "team!=ops", "team notin (ops)"):
        assert kubectl("get", "ksvc", "-l", selector, "-o", "name") == "service.serving.knative.dev/hello\n"
    assert kubectl("get", "ksvc", "-l", "team!=data", "-o", "name") == ""
    assert kubectl("get", "ksvc", "--field-selector=metadata.name=other", "-o", "name") == ""


def test_deleting_a_file_deletes_what_it_lists(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=EVERYTHING)
    kubectl("delete", "-f", "-", given=EVERYTHING)
    assert kubectl("get", "ksvc,jobs,brokers,triggers,jobsinks,containersources,configmaps", "-o", "name") == ""


def test_typed_commands_work(kubectl: Kubectl) -> None:
    """kubectl sends these bodies as protobuf."""
    kubectl("create", "namespace", "other")
    kubectl("create", "configmap", "c", "--from-literal=a=b", "-n", "other")
    kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    kubectl("create", "role", "r", "--verb=get", "--resource=pods")
    kubectl("create", "rolebinding", "rb", "--role=r", "--serviceaccount=default:default")
    assert kubectl("get", "configmap", "c", "-n", "other", "-o", "jsonpath={.data.a}") == "b"
    assert kubectl("get", "secret", "s", "-o", "jsonpath={.data.a}") == "Yg=="
    assert kubectl("auth", "can-i", "create", "pods") == "yes\n"
    kubectl("delete", "namespace", "other")
    assert kubectl("get", "configmaps", "-A", "-o", "name") == ""


def test_nothing_is_created_in_an_absent_namespace(kubectl: Kubectl) -> None:
    assert 'namespaces "nope" not found' in kubectl.refused("apply", "-n", "nope", "-f", "-", given=JOB)


def test_diff_shows_what_an_apply_would_change(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=SERVICE)
    changed = SERVICE.replace("containerConcurrency: 1", "containerConcurrency: 3")
    done = kubectl.run("diff", "-f", "-", given=changed)
    assert done.returncode == 1
    assert "+      containerConcurrency: 3" in done.stdout
    assert kubectl("diff", "-f", "-", given=SERVICE) == ""


def test_edit_changes_an_object(kubectl: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl("apply", "-f", "-", given=SERVICE)
    editor = tmp_path / "editor"
    editor.write_text(
        textwrap.dedent("""\
        #!/bin/sh
        sed -i 's/containerConcurrency: 1/containerConcurrency: 7/' "$1"
        """)
    )
    editor.chmod(0o755)
    monkeypatch.setenv("KUBE_EDITOR", str(editor))
    kubectl("edit", "ksvc", "hello")
    assert kubectl("get", "ksvc", "hello", "-o", "jsonpath={.spec.template.spec.containerConcurrency}") == "7"
