"""Jobs: tried again, given up, timed out, suspended, removed; and what a lost platform does not count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.local.controllers.reconciler import Limits
from headrace.local.objects.objects import Object
from tests.headrace.local.pods.laptop import NAMESPACE, Laptop, eventually, job, kill_platform, laptop, marked, run

FOREVER = "exec sleep 1000"
REJECTED_IS_FINAL = {
    "rules": [{"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [65]}}]
}


def status(it: Laptop, name: str = "j") -> Object:
    found: dict[str, Any] = it.get("Job", name).get("status") or {}
    return found


async def failed(it: Laptop, reason: str) -> Object:
    await eventually(lambda: it.condition("Job", "j", "Failed") == ("True", reason))
    return status(it)


async def running(it: Laptop) -> None:
    await eventually(lambda: it.children() and any(p["status"]["phase"] == "Running" for p in it.pods()))


def test_a_job_that_succeeds_is_complete_and_keeps_its_pod_and_log(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(job("j", "echo done"))
            await eventually(lambda: it.condition("Job", "j", "Complete")[0] == "True")
            assert it.condition("Job", "j", "SuccessCriteriaMet")[0] == "True"
            found = status(it)
            assert (found["succeeded"], found["failed"], found["active"]) == (1, 0, 0)
            assert found["startTime"] <= found["completionTime"]
            (pod,) = it.pods()
            assert it.log(pod["metadata"]["name"]) == "done\n"
            labels = pod["metadata"]["labels"]
            assert labels["job-name"] == labels["batch.kubernetes.io/job-name"] == "j"
            assert labels["controller-uid"] == it.get("Job", "j")["metadata"]["uid"]

    run(main())


def test_a_job_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            flag = tmp_path / "tried"
            it.objects.create(job("j", f"test -e {flag} || {{ touch {flag}; exit 1; }}"))
            await eventually(lambda: it.condition("Job", "j", "Complete")[0] == "True")
            assert (status(it)["succeeded"], status(it)["failed"]) == (1, 1)

    run(main())


def test_a_job_gives_up_beyond_its_backoff_limit(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(job("j", "exit 1", backoffLimit=2))
            assert (await failed(it, "BackoffLimitExceeded"))["failed"] == 3
            assert len(it.pods()) == 3

    run(main())


def test_an_exit_status_that_the_policy_calls_final_is_not_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(job("j", "exit 65", podFailurePolicy=REJECTED_IS_FINAL))
            assert (await failed(it, "PodFailurePolicy"))["failed"] == 1
            assert it.condition("Job", "j", "FailureTarget") == ("True", "PodFailurePolicy")
            (condition,) = [c for c in status(it)["conditions"] if c["type"] == "Failed"]
            assert "failed with exit code 65 matching FailJob rule at index 0" in condition["message"]

    run(main())


def test_a_job_ends_at_its_deadline_with_its_processes(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(job("j", FOREVER, activeDeadlineSeconds=1))
            await failed(it, "DeadlineExceeded")
            assert it.children() == []
            assert len(it.pods()) == 1  # its log is still to be read

    run(main())


def test_a_finished_job_goes_when_its_time_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(job("j", "true", ttlSecondsAfterFinished=0))
            await eventually(lambda: it.objects.get("Job", NAMESPACE, "j") is None and it.pods() == [])

    run(main())


def test_a_deleted_job_ends_its_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(job("j", FOREVER))
            await running(it)
            it.objects.delete("Job", NAMESPACE, "j")
            await eventually(lambda: it.children() == [] and it.pods() == [])

    run(main())


def test_a_deleted_pod_of_a_job_is_a_failure_and_is_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(job("j", FOREVER))
            await running(it)
            first = it.pods()[0]["metadata"]["name"]
            it.objects.delete("Pod", NAMESPACE, first)
            await eventually(lambda: it.pods() and it.pods()[0]["metadata"]["name"] != first and it.children())
            assert status(it)["failed"] == 1

    run(main())


def test_a_suspended_job_has_no_process_until_it_is_resumed(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(job("j", FOREVER))
            await running(it)
            it.patch("Job", "j", suspend=True)
            await eventually(lambda: it.children() == [] and it.pods() == [])
            assert it.condition("Job", "j", "Suspended") == ("True", "JobSuspended")
            assert "startTime" not in status(it)
            it.patch("Job", "j", suspend=False)
            await running(it)
            assert (it.condition("Job", "j", "Suspended")[0], status(it)["failed"]) == ("False", 0)

    run(main())


def test_a_job_of_many_completions_runs_as_many_at_once_as_it_may(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(job("j", "sleep 0.2", completions=4, parallelism=2))
            await eventually(lambda: status(it).get("active") == 2)
            await eventually(lambda: it.condition("Job", "j", "Complete")[0] == "True")
            assert status(it)["succeeded"] == len(it.pods()) == 4

    run(main())


def test_each_pod_of_an_indexed_job_knows_its_index(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            told = 'echo "$JOB_COMPLETION_INDEX of $HOSTNAME"'
            it.objects.create(job("j", told, completions=3, parallelism=2, completionMode="Indexed"))
            await eventually(lambda: it.condition("Job", "j", "Complete")[0] == "True")
            assert status(it)["completedIndexes"] == "0-2"
            logs = sorted(it.log(pod["metadata"]["name"]).strip() for pod in it.pods())
            assert logs == ["0 of j-0", "1 of j-1", "2 of j-2"]

    run(main())


def test_a_pod_that_may_restart_fails_in_place_and_its_restarts_count(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            broken = job("j", "exit 1", backoffLimit=1)
            broken["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
            it.objects.create(broken)
            await failed(it, "BackoffLimitExceeded")
            assert len(it.pods()) == 1

    run(main())


def test_a_pod_lost_with_a_killed_platform_is_replaced_at_once_and_not_counted(tmp_path: Path) -> None:
    kill_platform(
        tmp_path,
        "it.objects.create(job('j', 'exec sleep 1000', backoffLimit=0))",
        "it.pods() and it.pods()[0]['status']['phase'] == 'Running'",
    )

    async def second() -> None:
        async with laptop(tmp_path, limits=Limits(job_backoff_s=1000)) as it:
            await running(it)
            assert (status(it)["failed"], len(it.children()), len(it.pods())) == (0, 1, 2)
            (lost,) = [pod for pod in it.pods() if pod["status"]["phase"] == "Failed"]
            assert lost["status"]["reason"] == "PlatformLost"
            assert "does not count against backoffLimit" in lost["status"]["message"]

    run(second())
    assert marked(tmp_path) == []


def test_a_pod_ended_by_stopping_the_platform_is_not_counted(tmp_path: Path) -> None:
    async def first() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(job("j", FOREVER, backoffLimit=0))
            await running(it)

    async def second() -> None:
        async with laptop(tmp_path, limits=Limits(job_backoff_s=1000)) as it:
            await running(it)
            assert status(it)["failed"] == 0
            (ended,) = [pod for pod in it.pods() if pod["status"]["phase"] == "Failed"]
            assert ended["status"]["reason"] == "PlatformStopped"

    run(first())
    run(second())
