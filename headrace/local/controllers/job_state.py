"""What is to be done about a Job: decided from its spec, its Pods and the time. Pure.

`headrace.local.controllers.jobs` reads, asks here, and acts. Source: kubernetes pkg/controller/job (job_controller.go,
pod_failure_policy.go, backoff_utils.go); conditions, reasons and messages are theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from headrace.local.controllers.controller import condition, seconds_since
from headrace.local.objects.objects import Object
from headrace.local.pods import pod_status

COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
BACKOFF_S, BACKOFF_MAX_S = 10.0, 360.0  # before the next Pod: 10 s, doubled with each failure in a row, at most 6 min


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a Job ends, or that it goes on. type: "", "Complete" or "Failed"."""

    type: str = ""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """How many of the Job's Pods are in each state, the deleted ones included. active: without those terminating."""

    active: int = 0
    terminating: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and what the status tells.

    create: Pods to make, each with its completion index, None where the Job has none. stop: names of Pods to end.
    delete: the Job's time after its end is over. finished: the outcome holds and no Pod of the Job runs any more.
    again_s: when to decide anew without a change. completed: of an Indexed Job, the indexes that are done.
    """

    outcome: Outcome = field(default_factory=Outcome)
    finished: bool = False
    suspended: bool = False
    create: tuple[int | None, ...] = ()
    stop: tuple[str, ...] = ()
    delete: bool = False
    figures: Figures = field(default_factory=Figures)
    again_s: float | None = None
    completed: tuple[int, ...] = ()


def decide(job: Object, pods: Sequence[Object], now: datetime, backoff_s: float = BACKOFF_S) -> Decision:
    """The next step of a Job.

    pods: those that the Job controls and that are still there; of those deleted, its status keeps the outcome under
    `uncountedTerminatedPods`. backoff_s: the pause after the first failure.
    """
    spec, status = job["spec"], job.get("status") or {}
    active = [pod for pod in pods if not pod_status.is_over(pod)]
    deleted = status.get("uncountedTerminatedPods") or {}
    completed = _completed(spec, status, pods)
    done = [pod for pod in pods if _phase(pod) == pod_status.SUCCEEDED]
    succeeded = len(completed) if _is_indexed(spec) else len(done) + len(deleted.get("succeeded") or [])
    failures = [pod for pod in pods if _phase(pod) == pod_status.FAILED and not pod_status.disrupted(pod)]
    counted = [pod for pod in failures if _rule(spec, pod)[0] != "Ignore"]
    failed = len(counted) + len(deleted.get("failed") or [])
    running = tuple(pod["metadata"]["name"] for pod in active)
    terminating = sum(map(pod_status.is_terminating, active))
    ready = sum(map(pod_status.is_ready, active))
    figures = Figures(len(active) - terminating, terminating, ready, succeeded, failed)
    over = _over(status)
    if over is not None:
        # What its Pods came to is known; they may be deleted now.
        figures = replace(figures, succeeded=status.get("succeeded", succeeded), failed=status.get("failed", failed))
        return _after(over, spec, status, running, figures, now)
    if spec.get("suspend"):
        return Decision(suspended=True, stop=running, figures=figures, completed=completed)
    elapsed_s = seconds_since(status["startTime"], now) if status.get("startTime") else 0.0
    outcome = _outcome(job, counted, active, figures, elapsed_s)
    if outcome.type:
        return Decision(outcome=outcome, finished=not active, stop=running, figures=figures, completed=completed)
    # One that was deleted is replaced when it is over (podReplacementPolicy Failed): never two at the same work.
    missing = _wanted(spec, succeeded, len(active)) - len(active)
    pause_s = _pause_s(failures, deleted, backoff_s, now)
    deadline = spec.get("activeDeadlineSeconds")
    waits = [pause_s] if missing > 0 and pause_s > 0 else []
    if deadline is not None:
        waits.append(max(float(deadline) - elapsed_s, 0.0))
    return Decision(
        create=_indexes(spec, completed, active)[: max(missing, 0)] if pause_s <= 0 else (),
        again_s=min(waits) + 0.01 if waits else None,
        figures=figures,
        completed=completed,
    )


def ranges(indexes: Sequence[int]) -> str:
    """Ascending indexes as a Job's status tells them: `1,3-5`."""
    runs: list[list[int]] = []
    for index in indexes:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _is_indexed(spec: Object) -> bool:
    return bool(spec.get("completionMode") == "Indexed")


def _index(pod: Object) -> int | None:
    """Which completion index a Pod works on."""
    text = (pod["metadata"].get("labels") or {}).get(COMPLETION_INDEX)
    return None if text is None else int(text)


def _completed(spec: Object, status: Object, pods: Sequence[Object]) -> tuple[int, ...]:
    """The indexes that are done, ascending: by Pods that are there, and by the status for those that are not."""
    if not _is_indexed(spec):
        return ()
    done = {_index(pod) for pod in pods if _phase(pod) == pod_status.SUCCEEDED} - {None}
    for part in filter(None, str(status.get("completedIndexes") or "").split(",")):
        first, _, last = part.partition("-")
        done.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(index for index in done if index is not None and index < int(spec["completions"])))


def _indexes(spec: Object, completed: Sequence[int], active: Sequence[Object]) -> tuple[int | None, ...]:
    """What the next Pods work on, as many as there is work for."""
    if not _is_indexed(spec):
        return (None,) * int(spec["parallelism"])
    taken = {*completed, *(_index(pod) for pod in active)}
    return tuple(index for index in range(int(spec["completions"])) if index not in taken)


def _wanted(spec: Object, succeeded: int, active: int) -> int:
    """How many Pods should run. Without completions the Pods share a queue of their own: the first to succeed says that
    it is empty, and the others come to their end.
    """
    parallelism = int(spec["parallelism"])
    if spec.get("completions") is None:
        return active if succeeded else parallelism
    return min(parallelism, int(spec["completions"]) - succeeded)


def is_finished(job: Object) -> bool:
    """Complete or Failed."""
    return any(condition(job, type)["status"] == "True" for type in ("Complete", "Failed"))


def _outcome(
    job: Object, counted: Sequence[Object], active: Sequence[Object], figures: Figures, elapsed_s: float
) -> Outcome:
    """How the Job ends by what has happened; what a Pod's exit says counts before limits."""
    spec = job["spec"]
    target = condition(job, "FailureTarget")
    if target["status"] == "True":  # decided before; the Pods were still to end
        return Outcome("Failed", target.get("reason", ""), target.get("message", ""))
    for pod in counted:
        action, message = _rule(spec, pod)
        if action in ("FailJob", "FailIndex"):  # an index of its own has no Job here: the Job fails
            return Outcome("Failed", "PodFailurePolicy", message)
    limit = int(spec["backoffLimit"])
    restarts = _restarts(spec, active)
    if figures.failed > limit or (restarts and restarts >= limit):
        return Outcome("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    completions = spec.get("completions")
    if not active and (figures.succeeded if completions is None else figures.succeeded >= int(completions)):
        return Outcome("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and elapsed_s >= float(deadline):
        return Outcome("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
    return Outcome()


def _over(status: Object) -> Object | None:
    """The condition that ended the Job."""
    for type in ("Complete", "Failed"):
        found = condition({"status": status}, type)
        if found["status"] == "True":
            return found
    return None


def _after(
    ended: Object, spec: Object, status: Object, running: tuple[str, ...], figures: Figures, now: datetime
) -> Decision:
    """A finished Job: nothing but its removal, some time later."""
    outcome = Outcome(ended["type"], ended.get("reason", ""), ended.get("message", ""))
    ttl = spec.get("ttlSecondsAfterFinished")
    if ttl is None:
        return Decision(outcome=outcome, finished=True, stop=running, figures=figures)
    left_s = float(ttl) - seconds_since(ended["lastTransitionTime"], now)
    if left_s <= 0:
        return Decision(outcome=outcome, finished=True, stop=running, delete=True, figures=figures)
    return Decision(outcome=outcome, finished=True, stop=running, again_s=left_s + 0.01, figures=figures)


def _pause_s(failures: Sequence[Object], deleted: Object, backoff_s: float, now: datetime) -> float:
    """Seconds until the next Pod may be made. Disrupted Pods are replaced at once, ignored ones after a pause too:
    a rule that ignores every exit must not become a busy loop."""
    number = len(failures) + len(deleted.get("failed") or [])
    ends = [_finished_at(pod) for pod in failures]
    if not number or not any(ends):
        return 0.0
    pause_s = min(backoff_s * 2.0 ** min(number - 1, 32), BACKOFF_MAX_S)
    return pause_s - seconds_since(max(ends), now)


def _rule(spec: Object, pod: Object) -> tuple[str, str]:
    """(action, message) of the first rule of the podFailurePolicy that matches a failed Pod; Count where none does."""
    for number, rule in enumerate((spec.get("podFailurePolicy") or {}).get("rules") or []):
        if codes := rule.get("onExitCodes"):
            for container in pod_status.containers(pod):
                ended = (container.get("state") or {}).get("terminated")
                only = codes.get("containerName")
                if not ended or ended["exitCode"] == 0 or (only and only != container["name"]):
                    continue
                if (ended["exitCode"] in codes["values"]) == (codes["operator"] == "In"):
                    meta = pod["metadata"]
                    return rule["action"], (
                        f"Container {container['name']} for pod {meta['namespace']}/{meta['name']} failed with exit "
                        f"code {ended['exitCode']} matching {rule['action']} rule at index {number}"
                    )
        for pattern in rule.get("onPodConditions") or []:
            if condition(pod, pattern["type"])["status"] == pattern.get("status", "True"):
                meta = pod["metadata"]
                return rule["action"], (
                    f"Pod {meta['namespace']}/{meta['name']} has condition {pattern['type']} matching "
                    f"{rule['action']} rule at index {number}"
                )
    return "Count", ""


def _restarts(spec: Object, pods: Sequence[Object]) -> int:
    """With restartPolicy OnFailure a Pod fails in place; the restarts of those that go on count against the limit."""
    if (spec["template"]["spec"]).get("restartPolicy") != "OnFailure":
        return 0
    return sum(container.get("restartCount", 0) for pod in pods for container in pod_status.containers(pod))


def _phase(pod: Object) -> str:
    phase: str = (pod.get("status") or {}).get("phase", pod_status.PENDING)
    return phase


def _finished_at(pod: Object) -> str:
    ends = [
        ((container.get("state") or {}).get("terminated") or {}).get("finishedAt", "")
        for container in pod_status.containers(pod)
    ]
    return max(ends, default="")
