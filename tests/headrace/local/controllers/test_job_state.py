"""What a Job does next, as a table: its Pods and the time in, the decision out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from headrace.local.controllers import job_state
from headrace.local.objects.objects import Object, timestamp

START = datetime(2026, 1, 1, tzinfo=UTC)
IGNORED = {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75]}}]}
ONLY_ONE_RETRIES = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [1]}}]}


def a_job(**spec: object) -> Object:
    template = {"spec": {"restartPolicy": "Never"}}
    return {
        "spec": {"parallelism": 1, "completions": 1, "backoffLimit": 6, "template": template, **spec},
        "status": {"startTime": timestamp(START)},
    }


def a_pod(phase: str, code: int | None = None, at_s: float = 0, disrupted: bool = False) -> Object:
    ended = {"exitCode": code, "finishedAt": timestamp(START + timedelta(seconds=at_s))}
    conditions = [{"type": "DisruptionTarget", "status": "True"}] if disrupted else []
    containers = [{"name": "c", "state": {"terminated": ended} if code is not None else {}}]
    return {
        "metadata": {"name": f"{phase}-{at_s}", "namespace": "n"},
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": containers},
    }


def decide(job: Object, pods: list[Object], after_s: float) -> job_state.Decision:
    return job_state.decide(job, pods, START + timedelta(seconds=after_s), backoff_s=10)


@pytest.mark.parametrize(
    ("failures_at_s", "now_s", "create", "again_s"),
    [
        ([], 0, 1, None),
        ([0], 5, 0, 5.01),  # 10 s after the first failure
        ([0], 10, 1, None),
        ([0, 10], 15, 0, 15.01),  # 20 s after the second
        ([0, 10], 30, 1, None),
        ([0, 10, 30, 70, 150, 310], 600, 0, 30.01),  # 320 s after the sixth
    ],
)
def test_the_pause_doubles_with_each_failure(
    failures_at_s: list[float], now_s: float, create: int, again_s: float | None
) -> None:
    decision = decide(a_job(), [a_pod("Failed", 1, at) for at in failures_at_s], now_s)
    assert (len(decision.create), decision.again_s) == (create, again_s)


def test_the_pause_is_at_most_six_minutes() -> None:
    pods = [a_pod("Failed", 1) for _ in range(20)]
    assert decide(a_job(backoffLimit=50), pods, 359).create == ()
    assert decide(a_job(backoffLimit=50), pods, 360).create == (None,)


def test_a_disrupted_pod_is_replaced_without_a_pause_and_not_counted() -> None:
    decision = decide(a_job(backoffLimit=0), [a_pod("Failed", 137, disrupted=True)], 0)
    assert (decision.create, decision.figures.failed) == ((None,), 0)


def test_an_ignored_exit_is_not_counted_but_waits() -> None:
    job = a_job(backoffLimit=0, podFailurePolicy=IGNORED)
    assert decide(job, [a_pod("Failed", 75)], 0).create == ()
    later = decide(job, [a_pod("Failed", 75)], 10)
    assert (later.create, later.figures.failed) == ((None,), 0)


@pytest.mark.parametrize(("code", "outcome"), [(1, ""), (2, "PodFailurePolicy")])
def test_not_in_matches_every_other_exit(code: int, outcome: str) -> None:
    assert decide(a_job(podFailurePolicy=ONLY_ONE_RETRIES), [a_pod("Failed", code)], 0).outcome.reason == outcome


def test_a_job_that_is_to_fail_waits_for_its_running_pods() -> None:
    job = a_job(backoffLimit=0, parallelism=2, completions=2)
    decision = decide(job, [a_pod("Failed", 1), a_pod("Running", at_s=1)], 0)
    assert (decision.outcome.reason, decision.finished, decision.stop) == (
        "BackoffLimitExceeded",
        False,
        ("Running-1",),
    )


def test_pods_that_were_deleted_still_count() -> None:
    job = a_job(backoffLimit=1)
    job["status"]["uncountedTerminatedPods"] = {"failed": ["a", "b"]}
    assert decide(job, [], 0).outcome.reason == "BackoffLimitExceeded"


@pytest.mark.parametrize(("now_s", "delete", "again_s"), [(0, False, 60.01), (59, False, 1.01), (60, True, None)])
def test_a_finished_job_is_removed_after_its_ttl(now_s: float, delete: bool, again_s: float | None) -> None:
    job = a_job(ttlSecondsAfterFinished=60)
    job["status"]["conditions"] = [{"type": "Complete", "status": "True", "lastTransitionTime": timestamp(START)}]
    decision = decide(job, [a_pod("Succeeded", 0)], now_s)
    assert (decision.delete, decision.again_s, decision.create) == (delete, again_s, ())


def test_a_deadline_is_looked_at_when_it_comes() -> None:
    job = a_job(activeDeadlineSeconds=100)
    assert decide(job, [a_pod("Running")], 40).again_s == 60.01
    assert decide(job, [a_pod("Running")], 100).outcome.reason == "DeadlineExceeded"


def with_index(pod: Object, index: int) -> Object:
    pod["metadata"]["labels"] = {job_state.COMPLETION_INDEX: str(index)}
    return pod


@pytest.mark.parametrize(
    ("pods", "create", "completed", "outcome"),
    [
        ([], (0, 1), (), ""),
        ([("Running", 0), ("Running", 1)], (), (), ""),
        ([("Succeeded", 0), ("Running", 1)], (2,), (0,), ""),
        # Twice the same is one index, and what failed is done by another Pod.
        ([("Succeeded", 1), ("Succeeded", 1), ("Failed", 0)], (0, 2), (1,), ""),
        ([("Succeeded", 0), ("Succeeded", 2), ("Running", 1)], (), (0, 2), ""),
        ([("Succeeded", 0), ("Succeeded", 1), ("Succeeded", 2)], (), (0, 1, 2), "Complete"),
    ],
)
def test_each_index_of_an_indexed_job_is_done_once(
    pods: list[tuple[str, int]], create: tuple[int, ...], completed: tuple[int, ...], outcome: str
) -> None:
    job = a_job(completionMode="Indexed", completions=3, parallelism=2)
    made = [with_index(a_pod(phase, {"Failed": 1, "Succeeded": 0}.get(phase)), index) for phase, index in pods]
    decision = decide(job, made, 100)
    assert (decision.create, decision.completed, decision.outcome.type) == (create, completed, outcome)
    assert decision.figures.succeeded == len(completed)


def test_an_index_whose_pod_is_gone_stays_done() -> None:
    job = a_job(completionMode="Indexed", completions=5, parallelism=5)
    job["status"]["completedIndexes"] = job_state.ranges([0, 2, 3])
    assert job["status"]["completedIndexes"] == "0,2-3"
    assert decide(job, [], 0).create == (1, 4)


def test_without_completions_the_first_success_ends_the_queue_and_stops_nobody() -> None:
    job = a_job(parallelism=3)
    del job["spec"]["completions"]
    assert decide(job, [], 0).create == (None,) * 3
    going = decide(job, [a_pod("Succeeded", 0), a_pod("Running"), a_pod("Failed", 1)], 100)
    assert (going.outcome.type, going.create, going.stop) == ("", (), ())
    assert decide(job, [a_pod("Succeeded", 0), a_pod("Succeeded", 0)], 100).outcome.type == "Complete"


def test_a_job_of_no_completions_is_complete_at_once() -> None:
    assert decide(a_job(completions=0), [], 0).outcome.type == "Complete"


@pytest.mark.parametrize(
    ("limit", "restarts", "reason"), [(0, 1, "BackoffLimitExceeded"), (2, 1, ""), (2, 2, "BackoffLimitExceeded")]
)
def test_restarts_in_place_are_held_against_the_limit_and_are_no_failed_pods(
    limit: int, restarts: int, reason: str
) -> None:
    job = a_job(backoffLimit=limit, template={"spec": {"restartPolicy": "OnFailure"}})
    pod = a_pod("Running")
    pod["status"]["containerStatuses"][0]["restartCount"] = restarts
    decision = decide(job, [pod], 0)
    assert (decision.outcome.reason, decision.figures.failed) == (reason, 0)


def test_what_came_of_a_finished_job_stays_when_its_pods_are_gone() -> None:
    job = a_job()
    job["status"] |= {"succeeded": 1, "failed": 2}
    job["status"]["conditions"] = [{"type": "Complete", "status": "True", "lastTransitionTime": timestamp(START)}]
    figures = decide(job, [], 0).figures
    assert (figures.succeeded, figures.failed, figures.active) == (1, 2, 0)
