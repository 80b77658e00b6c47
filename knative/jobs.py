"""What became of a JobSink's Job, and whether its event is lost. Pure; called by `functions.job_watch`.

JobSink makes the Job first and the Secret with the event after it. Where the second fails (a quota, an event above
1 MiB, a JobSink that dies in between), it answers 500, the Broker delivers again, JobSink finds the Job and says 202:
and the Job's pod waits for its Secret until the Job's deadline. The kubelet tells that in an Event of reason
FailedMount, again and again with growing pauses; once would be no proof, for the Secret of a healthy Job is a moment
late, too.
Source: knative/eventing cmd/jobsink/main.go; kubernetes/kubernetes pkg/kubelet/events, pkg/controller/job.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knative.pods import newest

Object = dict[str, Any]

LONGEST_WORDS = 500  # characters
GRACE_S = 30.0  # the kubelet says it after 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s, then after two minutes


class State(enum.StrEnum):
    """How far a Job is."""

    running = "running"
    """It has work to do; its pods may not have begun."""
    done = "done"
    """It is over, and its own pod has told what came of it."""
    gave_up = "gave up"
    """It is over, and nobody has told: too many tries, or the deadline."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A Job at one moment."""

    state: State
    reason: str = ""
    """Why it gave up, in Kubernetes' words."""
    said: str = ""
    """What the last of its pods that ended wrote last, where it gave up."""
    pod: str | None = None
    """The newest pod, whose log tells most."""
    misses: int = 0
    """How often the kubelet has said that the Secret with the event is not there, of a pod that has not begun."""


@dataclass(frozen=True, slots=True)
class Missed:
    """When a Secret was first seen to be missing, and how often that had been said by then."""

    misses: int
    since_s: float


def see(job: Object, pods: Sequence[Object], events: Sequence[Object]) -> Seen:
    """The Job now. pods: its own; events: Kubernetes' Events of its namespace, or those about its pods."""
    speaks = newest(pods)
    name = None if speaks is None else str(speaks["metadata"]["name"])
    if _condition(job, "Complete"):
        return Seen(State.done, pod=name)
    if failed := _condition(job, "Failed"):
        # A pod that ends with a status on which the policy ends the Job has said why, by an event of its own.
        state = State.done if failed.get("reason") == "PodFailurePolicy" else State.gave_up
        reason = ": ".join(t for t in (failed.get("reason"), failed.get("message")) if t)
        return Seen(state, reason, last_words(pods) if state is State.gave_up else "", name)
    waiting = {str(pod["metadata"]["name"]) for pod in pods if not _has_begun(pod)}
    said = f'secret "{job["metadata"]["name"]}" not found'
    misses = sum(
        int(event.get("count") or 1)
        for event in events
        if event.get("reason") == "FailedMount"
        and said in event.get("message", "")
        and (event.get("involvedObject") or {}).get("name") in waiting
    )
    return Seen(State.running, pod=name, misses=misses)


def last_words(pods: Sequence[Object]) -> str:
    """The last line that the last container to end left behind; "" where none did.

    With the policy FallbackToLogsOnError its message is the end of its log.
    """
    statuses = (c for pod in pods for c in (pod.get("status") or {}).get("containerStatuses") or ())
    ended = [(c.get("state") or {}).get("terminated") or {} for c in statuses]
    said = [each for each in ended if str(each.get("message") or "").strip()]
    last = max(said, key=lambda each: str(each.get("finishedAt") or ""), default=None)
    return "" if last is None else last["message"].strip().splitlines()[-1].strip()[:LONGEST_WORDS]


def lost(missed: Missed | None, seen: Seen, now_s: float, grace_s: float = GRACE_S) -> tuple[Missed | None, bool]:
    """What to remember for the next look, and whether the Job's event is lost: it was missing once, and `grace_s` later
    still was.

    now_s: of a monotonic clock, the looker's own: no two clocks are compared.
    """
    if seen.state is not State.running or not seen.misses:
        return None, False
    if missed is None:
        return Missed(seen.misses, now_s), False
    return missed, now_s - missed.since_s >= grace_s and seen.misses > missed.misses


def _has_begun(pod: Object) -> bool:
    """Whether a container of it has ever run."""
    status = pod.get("status") or {}
    states = [(container.get("state") or {}) for container in status.get("containerStatuses") or ()]
    return status.get("phase") not in (None, "Pending") or any("running" in s or "terminated" in s for s in states)


def _condition(job: Object, type: str) -> Mapping[str, Any]:
    """A condition of the Job that is True; empty where it is not."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == type and c.get("status") == "True"), {})
