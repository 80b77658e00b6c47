"""`headrace status`: of each revision what the autoscaler decided last, and why."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace import status
from knative.pods import JOB_SET_LABEL
from tests import running as a_platform
from tests.running import Platform

REVISION = "sleeper-00001"
SERVICE = """
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: sleeper, namespace: headrace}
spec:
  template:
    metadata:
      annotations: {autoscaling.knative.dev/target: "2", autoscaling.knative.dev/target-utilization-percentage: "100"}
    spec:
      containers:
        - image: sleeper
          command:
            - python
            - -c
            - |
              import http.server, os, time
              class Sleeper(http.server.BaseHTTPRequestHandler):
                  def do_GET(self):
                      time.sleep(60 if self.path == "/long" else 0)
                      self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
              http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Sleeper).serve_forever()
"""
JOB = f"""
apiVersion: batch/v1
kind: Job
metadata: {{name: forest-0a1b-node-0, namespace: headrace, labels: {{{JOB_SET_LABEL}: forest-0a1b}}}}
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
        - {{name: node, image: any, command: [python, -c, "print('learned')"]}}
"""


def autoscaler(desired: int | None, actual: int, *conditions: dict[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {"actualScale": actual, "conditions": list(conditions)}
    if desired is not None:
        told["desiredScale"] = desired
    return {"kind": "PodAutoscaler", "metadata": {"name": "r"}, "status": told}


def test_in_a_cluster_the_condition_says_why_and_what_only_the_autoscaler_knows_is_unknown() -> None:
    idle = {
        "type": "Active",
        "status": "False",
        "reason": "NoTraffic",
        "message": "The target is not receiving traffic.",
    }
    ready = {"type": "Ready", "status": "False"}
    found = status.scale(autoscaler(0, 0, idle, ready), 100, {})
    assert (found.desired, found.actual, found.ready, found.traffic) == (0, 0, "False", 100)
    assert found.reason == "The target is not receiving traffic."
    known = (found.mode, found.stable, found.panic, found.excess_burst_capacity, found.activator_in_path)
    assert known == (None,) * 5


@pytest.mark.parametrize("desired", [None, -1])
def test_what_nobody_has_decided_yet_is_no_number(desired: int | None) -> None:
    assert status.scale(autoscaler(desired, 1), 0, {}).desired is None


def train_job(name: str, *conditions: dict[str, str]) -> dict[str, Any]:
    return {"kind": "TrainJob", "metadata": {"name": name}, "status": {"conditions": list(conditions)}}


def test_a_train_job_is_told_of_while_it_waits_for_a_job_with_what_was_last_said_of_it() -> None:
    over = {"type": "Complete", "status": "True", "reason": "AllJobsCompleted"}
    train_jobs = [train_job("new"), train_job("old", over), train_job("runs"), train_job("refused")]
    job = {"kind": "Job", "metadata": {"name": "runs-node-0", "labels": {JOB_SET_LABEL: "runs"}}}
    events = [
        {"type": type, "reason": "Quota", "message": said, "lastTimestamp": at, "involvedObject": {"name": "refused"}}
        for type, said, at in (("Warning", "no", "1"), ("Warning", "exceeded", "3"), ("Normal", "well", "4"))
    ]
    found = {each.name: (each.state, each.reason) for each in status.without_job(train_jobs, [job], events)}
    assert found == {
        "new": ("Waiting", f"its TrainJob has no Job: {status.SILENT}"),
        "refused": ("Waiting", "its TrainJob has no Job: Quota: exceeded"),
    }


@pytest.fixture(scope="module")
def running() -> Iterator[Platform]:
    yield from a_platform.platform()


def test_status_tells_of_a_panic_with_its_figures_and_its_reason_and_kubectl_shows_knatives_columns(
    running: Platform,
) -> None:
    def scale() -> dict[str, Any]:
        found = json.loads(running.call("status", "-o", "json").stdout)
        return next((s for s in found["scales"] if s["revision"] == REVISION), {})

    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    kubectl(running, "apply", "-f", "-", given=SERVICE)
    until(lambda: scale().get("ready") == "True")
    url = running.run("url", "sleeper").strip()
    asking = [subprocess.Popen(["curl", "--silent", "--max-time", "100", f"{url}/long"]) for _ in range(8)]
    try:
        until(lambda: "4 are ready" in scale().get("reason", ""))
        seen = scale()
        shown = running.call("status").stdout
        columns, row = kubectl(running, "get", "podautoscaler", REVISION).splitlines()
    finally:
        for process in asking:
            process.kill()
            process.wait()
    assert (seen["desired"], seen["actual"], seen["mode"], seen["metric"], seen["target"]) == (
        4, 4, "panic", "concurrency", 2.0,
    )  # fmt: skip
    assert seen["excess_burst_capacity"] == math.floor(4 * 2 - 211 - seen["panic"])
    assert seen["panic"] == pytest.approx(8, abs=3)
    assert 0 < seen["stable"] <= 8
    assert seen["activator_in_path"] is True
    figures = f"{seen['panic']:.4g} in flight on average over the last 6s would need 4 pods of 2, 4 are ready"
    assert seen["reason"].startswith(f"panic: {figures}")
    assert "in flight on average over the last 6s would need 4 pods of 2" in shown
    assert "EXCESS BURST" in shown
    assert columns.split() == ["NAME", "DESIREDSCALE", "ACTUALSCALE", "READY", "REASON"]
    assert row.split() == [REVISION, "4", "4", "True"]


def test_the_requests_of_a_home_can_be_found_without_its_platform(running: Platform) -> None:
    """What `tune --from-local` reads: the files are there, and told by the home alone."""
    from headrace import config

    url = running.run("url", "promoter").strip()
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        assert answer.status == 200
    settings = config.Config(home=running.home, kubeconfig=None)
    until(lambda: any(b'"promoter-00001"' in file.read_bytes() for file in settings.request_files))
    line = json.loads(settings.request_files[-1].read_bytes().splitlines()[-1])
    assert (line["namespace"], line["status"]) == ("headrace", 200)
    until(lambda: any(b'"promoter-00001"' in file.read_bytes() for file in settings.pod_files))


def test_the_log_of_a_train_job_is_its_jobs(running: Platform) -> None:
    """A laptop makes no Job of a TrainJob; a cluster's are labelled as this one is."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    kubectl(running, "apply", "-f", "-", given=JOB)
    until(lambda: "learned" in running.call("logs", "forest-0a1b").stdout)
    assert running.run("logs", "trainjob/forest-0a1b") == running.run("logs", "job/forest-0a1b-node-0")
    assert "forest-0a1b-node-0" in running.call("logs", "forest-0a1").stderr


def kubectl(running: Platform, *arguments: str, given: str = "") -> str:
    command = ["kubectl", "--kubeconfig", str(running.home / "kubeconfig"), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition, generously."""
    ends = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.3)
