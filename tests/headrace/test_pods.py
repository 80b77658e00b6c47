"""Why a pod does not run, and which container speaks."""

from __future__ import annotations

from typing import Any

from headrace import pods
from knative.pods import JOB_LABEL


def pod(name: str, made: str, phase: str, **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "creationTimestamp": made, "labels": {JOB_LABEL: "train"}}
    return {"metadata": metadata, "spec": {"containers": []}, "status": {"phase": phase, **status}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]}


def warning(about: str, reason: str, at: str) -> dict[str, Any]:
    message = f"{reason} of {about}"
    involved = {"kind": "Pod", "name": about}
    return {"type": "Warning", "reason": reason, "message": message, "lastTimestamp": at, "involvedObject": involved}


def test_the_newest_pod_of_a_job_says_why_it_waits() -> None:
    unscheduled = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]
    old, new = pod("a", "1", "Failed"), pod("b", "2", "Pending", conditions=unscheduled)
    assert pods.of_jobs(["train"], [new, old], []) == {"train": "its pod waits: Unschedulable: 0/1 nodes"}


def test_an_image_that_cannot_be_pulled_is_told_and_an_ordinary_start_is_not() -> None:
    pulling = pod("a", "1", "Pending", **waiting("ImagePullBackOff", "no such image"))
    assert pods.of_jobs(["train"], [pulling], []) == {"train": "its pod waits: ImagePullBackOff: no such image"}
    assert pods.of_jobs(["train"], [pod("a", "1", "Pending", **waiting("ContainerCreating"))], []) == {}
    assert pods.of_jobs(["train"], [pod("a", "1", "Running")], []) == {}
    assert pods.of_jobs(["train", "other"], [], []) == {}


def test_a_container_that_took_too_much_memory_is_told_as_that() -> None:
    """It had no time to say so; what waits behind it is only the next start."""
    died = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    waits = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    ended = pod("a", "1", "Running", containerStatuses=[{"lastState": died, "state": waits}])
    assert next(pods.said_by(ended)) == "OOMKilled: it took more memory than its limit"


def test_what_cannot_be_mounted_only_the_events_tell() -> None:
    """A JobSink whose Secret is not there: the pod waits for ever, in the state of any start."""
    stuck = pod("a", "1", "Pending", **waiting("ContainerCreating"))
    events = [
        warning("a", "FailedMount", "2026-11-25T12:00:02Z"),
        warning("a", "FailedScheduling", "2026-11-25T12:00:01Z"),
        warning("b", "BackOff", "2026-11-25T12:00:03Z"),
        {**warning("a", "Pulled", "2026-11-25T12:00:09Z"), "type": "Normal"},
    ]
    assert pods.of_jobs(["train"], [stuck], events) == {"train": "its pod waits: FailedMount: FailedMount of a"}


def test_a_sidecars_log_is_not_meant() -> None:
    containers = [{"name": "queue-proxy"}, {"name": "predictor"}]
    assert pods.container({"spec": {"containers": containers}}) == "predictor"
    assert pods.container({}) is None
