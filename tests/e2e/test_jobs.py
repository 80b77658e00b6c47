"""Training Jobs under the real Job controller and the real JobSink: exit statuses, evictions, deadlines, lost events.

A trainer that does what its event says stands in for one that learns; everything else is the deployed JobSink's own.
"""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from knative import job_sink
from tests.e2e.place import Deployed, until

pytestmark = pytest.mark.cluster

SOURCE = "/tests/e2e"
ACT = (
    "import json, os, sys, time; "
    "data = json.load(open(os.environ['K_EVENT_PATH'] + '/event'))['data']; "
    "print('asked for', data, flush=True); time.sleep(data.get('sleep', 0)); sys.exit(data.get('exit', 0))"
)


class Trainer:
    """A JobSink like the deployed one, but for what its container does, and whatever else is said.

    door: `host:port` of Knative's job-sink.
    """

    def __init__(self, deployed: Deployed, door: str, name: str, **spec: Any) -> None:
        self.deployed, self.door, self.name = deployed, door, name
        made = deployed.get("jobsink", "random-forest")
        job = made["spec"]["job"]["spec"]
        job |= spec
        (container,) = job["template"]["spec"]["containers"]
        container |= {"command": ["python", "-c", ACT], "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}}}
        # JobSink's webhook has put this in, and would once more.
        container["env"] = [e for e in container.get("env") or () if e["name"] != "K_EXECUTION_MODE"]
        # No label of a trainer: the job watch is for the deployed ones.
        meta = {"name": name, "namespace": deployed.namespace}
        obj = {"apiVersion": made["apiVersion"], "kind": "JobSink", "metadata": meta, "spec": {"job": {"spec": job}}}
        # A webhook that restarts is waited for.
        until("a JobSink", lambda: deployed.try_kubectl("apply", "-f", "-", given=json.dumps(obj)).returncode == 0)
        deployed.kubectl("wait", f"jobsink/{name}", "--for=condition=Ready", "--timeout=60s")

    def post(self, id: str, **data: Any) -> str:
        """The event to the JobSink; the name of its Job."""
        headers = {"ce-specversion": "1.0", "ce-type": "test", "ce-id": id, "ce-source": SOURCE}
        headers["Content-Type"] = "application/json"
        # Known to the API server a moment before it is to the JobSink.
        url = f"http://{self.door}/{self.deployed.namespace}/{self.name}"

        def taken() -> bool:
            request = urllib.request.Request(url, json.dumps(data).encode(), headers)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return bool(answer.status == 202)
            except urllib.error.HTTPError as e:
                if e.code != 400:
                    raise
                return False

        until("202", taken, 30)
        return job_sink.job_name(self.name, SOURCE, id)

    def job(self, name: str) -> dict[str, Any] | None:
        done = self.deployed.try_kubectl("get", "job", name, "-o", "json")
        return dict(json.loads(done.stdout)) if done.returncode == 0 else None

    def end(self, name: str, within_s: float = 120.0) -> tuple[str, str]:
        """The condition with which the Job is over, and its reason."""

        def over() -> tuple[str, str] | None:
            status = (self.job(name) or {}).get("status", {})
            ends = (c for c in status.get("conditions", ()) if c["type"] in ("Complete", "Failed"))
            return next(((c["type"], c.get("reason", "")) for c in ends if c["status"] == "True"), None)

        return until(f"the end of {name}", over, within_s)

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Oldest first."""
        found = self.deployed.items("pods", f"batch.kubernetes.io/job-name={name}")
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))


@pytest.fixture(scope="module")
def door(deployed: Deployed) -> Iterator[str]:
    """Knative's job-sink, from here."""
    command = ["kubectl", "--kubeconfig", str(deployed.kubeconfig), "-n", "knative-eventing"]
    command += ["port-forward", "service/job-sink", ":80"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert found, line
            yield f"127.0.0.1:{found[1]}"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def trainer(deployed: Deployed, door: str) -> Iterator[Trainer]:
    with made(deployed, door, "probe") as its:
        yield its


@contextmanager
def made(deployed: Deployed, door: str, name: str, **spec: Any) -> Iterator[Trainer]:
    try:
        yield Trainer(deployed, door, name, **spec)
    finally:
        # Its Jobs are owned by a kind of another spelling, which no garbage collector follows.
        deployed.kubectl("delete", f"jobsink/{name}", "--wait=false", "--ignore-not-found")
        deployed.kubectl("delete", "jobs", "-l", f"{job_sink.NAME_LABEL}={name}", "--wait=false")


@contextmanager
def no_more_secrets(deployed: Deployed) -> Iterator[None]:
    """A namespace whose quota lets the JobSink make a Job and no Secret."""
    count = len(deployed.items("secrets"))
    spec = {"hard": {"count/secrets": str(count)}}
    meta = {"name": "no-more-secrets", "namespace": deployed.namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": spec}
    deployed.kubectl("apply", "-f", "-", given=json.dumps(quota))
    until("the quota", lambda: deployed.get("resourcequota", "no-more-secrets").get("status", {}).get("used"))
    try:
        yield
    finally:
        deployed.kubectl("delete", "resourcequota", "no-more-secrets")


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def test_status_65_ends_a_job_at_once_and_any_other_is_tried_again_after_a_pause(trainer: Trainer) -> None:
    final, later, fault = (trainer.post(unique("exit"), exit=status) for status in (65, 75, 137))
    assert trainer.end(final) == ("Failed", "PodFailurePolicy")
    assert len(trainer.pods(final)) == 1
    for name in (later, fault):
        first, second = until(f"a second pod of {name}", lambda n=name: trainer.pods(n)[:2][1:] and trainer.pods(n)[:2])
        pause = _created(second) - _created(first)
        assert pause.total_seconds() >= 9, "Kubernetes' own pause is 10 s, told in whole seconds"


def test_a_jobs_name_tells_its_event_and_its_log_what_became_of_it(trainer: Trainer) -> None:
    name = trainer.post(unique("told"), exit=0, word="hello")
    assert trainer.end(name)[0] == "Complete"
    assert "'word': 'hello'" in trainer.deployed.kubectl("logs", f"job/{name}")


@contextmanager
def without_budget(deployed: Deployed) -> Iterator[None]:
    """What ops do who must drain a node now: the budget of trainings set aside."""
    patch = ("patch", "pdb", "trainings", "--type=merge", "-p")
    wanted = deployed.get("pdb", "trainings")["spec"]["minAvailable"]
    deployed.kubectl(*patch, '{"spec":{"minAvailable":0}}')
    try:
        yield
    finally:
        deployed.kubectl(*patch, json.dumps({"spec": {"minAvailable": wanted}}))


def test_a_running_training_is_not_evicted_and_where_ops_insist_it_is_replaced_and_counts_as_no_failure(
    trainer: Trainer,
) -> None:
    name = trainer.post(unique("evicted"), sleep=300)
    (pod,) = until("a running pod", lambda: [p for p in trainer.pods(name) if p["status"]["phase"] == "Running"])
    meta = {"name": pod["metadata"]["name"], "namespace": trainer.deployed.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
    eviction["deleteOptions"] = {"gracePeriodSeconds": 1}
    path = f"/api/v1/namespaces/{trainer.deployed.namespace}/pods/{meta['name']}/eviction"
    words = ("create", "--raw", path, "-f", "-")
    refused = trainer.deployed.try_kubectl(*words, given=json.dumps(eviction))
    assert "disruption budget" in refused.stderr, refused
    with without_budget(trainer.deployed):
        until("the eviction", lambda: trainer.deployed.try_kubectl(*words, given=json.dumps(eviction)).returncode == 0)
    until("another pod", lambda: [p for p in trainer.pods(name) if p["metadata"]["name"] != meta["name"]])
    status = (trainer.job(name) or {})["status"]
    assert not status.get("failed") and status.get("active") == 1


def test_a_job_that_takes_too_long_is_ended_and_one_that_is_over_goes_and_may_come_again(
    deployed: Deployed, door: str
) -> None:
    with made(deployed, door, "hasty", activeDeadlineSeconds=10, ttlSecondsAfterFinished=5) as its:
        id = unique("slow")
        name = its.post(id, sleep=300)
        first = (its.job(name) or {})["metadata"]["uid"]
        assert its.end(name) == ("Failed", "DeadlineExceeded")
        until("its end", lambda: its.job(name) is None, 60)
        assert its.post(id, sleep=300) == name
        assert (its.job(name) or {})["metadata"]["uid"] != first


def test_a_job_whose_secret_was_never_made_waits_and_knative_calls_it_taken(trainer: Trainer) -> None:
    """What the job watch is for: were Knative to mend it, this would say so."""
    id = unique("lost")
    with no_more_secrets(trainer.deployed):
        with pytest.raises(urllib.error.HTTPError, match="500"):
            trainer.post(id)
        name = trainer.post(id)
    (pod,) = until("its pod", lambda: trainer.pods(name))
    until("the kubelet's word", lambda: _missed(trainer.deployed, pod["metadata"]["name"]))
    assert not (trainer.job(name) or {})["status"].get("ready")


def _missed(deployed: Deployed, pod: str) -> bool:
    words = ("get", "events", "--field-selector", f"involvedObject.name={pod},reason=FailedMount", "-o", "json")
    return any("not found" in e["message"] for e in json.loads(deployed.kubectl(*words))["items"])


def _created(pod: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
