"""knative.jobs: what became of a Job, and when its event is lost; as a real cluster told it."""

from __future__ import annotations

from typing import Any

import pytest

from knative import job_sink, jobs
from knative.jobs import Missed, Seen, State

NAME = "random-forest-68967dae8e0481506460d694b70f83dd"


def job(*conditions: tuple[str, str]) -> dict[str, Any]:
    status = {"conditions": [{"type": t, "status": "True", "reason": r, "message": "m"} for t, r in conditions]}
    return {"metadata": {"name": NAME}, "status": status}


def pod(suffix: str, phase: str, state: dict[str, Any], created: str = "1") -> dict[str, Any]:
    status = {"phase": phase, "containerStatuses": [{"state": state}]}
    return {"metadata": {"name": f"{NAME}-{suffix}", "creationTimestamp": created}, "status": status}


def failed_mount(suffix: str, count: int, secret: str = NAME) -> dict[str, Any]:
    message = f'MountVolume.SetUp failed for volume "jobsink-event" : secret "{secret}" not found'
    about = {"kind": "Pod", "name": f"{NAME}-{suffix}"}
    return {"reason": "FailedMount", "message": message, "involvedObject": about, "count": count}


CREATING = {"waiting": {"reason": "ContainerCreating"}}
RUNNING = {"running": {"startedAt": "2026-11-25T23:20:10Z"}}


@pytest.mark.parametrize(
    ("conditions", "state", "reason"),
    [
        ((), State.running, ""),
        ((("SuccessCriteriaMet", ""), ("Complete", "CompletionsReached")), State.done, ""),
        ((("FailureTarget", "PodFailurePolicy"),), State.running, ""),
        ((("Failed", "PodFailurePolicy"),), State.done, "PodFailurePolicy: m"),
        ((("Failed", "BackoffLimitExceeded"),), State.gave_up, "BackoffLimitExceeded: m"),
        ((("Failed", "DeadlineExceeded"),), State.gave_up, "DeadlineExceeded: m"),
    ],
)
def test_a_job_is_told_of_by_its_pod_or_by_nobody(
    conditions: tuple[tuple[str, str], ...], state: State, reason: str
) -> None:
    assert jobs.see(job(*conditions), [], []) == Seen(state, reason)


@pytest.mark.parametrize(
    ("phase", "state", "events", "misses"),
    [
        ("Pending", CREATING, [failed_mount("a", 8)], 8),
        ("Pending", CREATING, [], 0),
        ("Pending", CREATING, [failed_mount("a", 8, secret="another")], 0),
        ("Pending", CREATING, [failed_mount("of-another-job", 8)], 0),
        ("Running", RUNNING, [failed_mount("a", 1)], 0),
        ("Failed", {"terminated": {"exitCode": 75}}, [failed_mount("a", 1)], 0),
    ],
)
def test_a_secret_is_missed_by_a_pod_that_has_not_begun(
    phase: str, state: dict[str, Any], events: list[dict[str, Any]], misses: int
) -> None:
    assert jobs.see(job(), [pod("a", phase, state)], events).misses == misses


def test_a_job_that_gave_up_is_told_with_what_the_last_of_its_pods_said_last() -> None:
    def ended(suffix: str, at: str, message: str | None) -> dict[str, Any]:
        told = {"exitCode": 75, "finishedAt": at} | ({"message": message} if message else {})
        return pod(suffix, "Failed", {"terminated": told})

    pods = [
        ended("b", "2026-11-25T23:22:00Z", "begun\nthe store has no room left\n\n"),
        ended("a", "2026-11-25T23:21:00Z", "the store is away"),
        ended("c", "2026-11-25T23:23:00Z", None),
    ]
    assert jobs.see(job(("Failed", "BackoffLimitExceeded")), pods, []).said == "the store has no room left"
    assert jobs.see(job(("Complete", "CompletionsReached")), pods, []).said == ""


def test_the_newest_pod_is_the_one_to_ask() -> None:
    pods = [pod("b", "Failed", {}, "2026-11-25T23:21:00Z"), pod("a", "Failed", {}, "2026-11-25T23:20:00Z")]
    assert jobs.see(job(), pods, []).pod == f"{NAME}-b"


MISSING, ONCE, GONE_ON = (Seen(State.running, misses=n) for n in (0, 1, 6))


@pytest.mark.parametrize(
    ("before", "seen", "now_s", "after", "is_lost"),
    [
        (None, MISSING, 0.0, None, False),
        (None, ONCE, 0.0, Missed(1, 0.0), False),
        # The Secret came a moment late, and the pod pulls its image for minutes: nothing more is said of it.
        (Missed(1, 0.0), ONCE, 600.0, Missed(1, 0.0), False),
        (Missed(1, 0.0), GONE_ON, 29.0, Missed(1, 0.0), False),
        (Missed(1, 0.0), GONE_ON, 30.0, Missed(1, 0.0), True),
        (Missed(1, 0.0), Seen(State.done, misses=6), 60.0, None, False),
        (Missed(1, 0.0), Seen(State.gave_up, misses=6), 60.0, None, False),
    ],
)
def test_an_event_is_lost_when_its_secret_is_missed_and_half_a_minute_later_still_is(
    before: Missed | None, seen: Seen, now_s: float, after: Missed | None, is_lost: bool
) -> None:
    assert jobs.lost(before, seen, now_s) == (after, is_lost)


def test_a_job_is_called_as_knative_calls_it() -> None:
    # Seen in a cluster: JobSink `probe`, source /tests, id lost-1.
    assert job_sink.job_name("probe", "/tests", "lost-1") == "probe-68967dae8e0481506460d694b70f83dd"
