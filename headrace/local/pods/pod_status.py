"""The status of a Pod, as kubelet would write it: from what is known of its one container. Pure.

Source: kubernetes pkg/kubelet/kubelet_pods.go (phases, container states) and pkg/kubelet/status/generate.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from headrace.local.objects.objects import Object, set_condition, timestamp

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"
CRASH_LOOP = "CrashLoopBackOff"
DISRUPTED = "DisruptionTarget"  # a failure that is not the Pod's own; Jobs do not count it against backoffLimit


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended."""

    code: int
    reason: str  # Completed, Error, StartError
    message: str
    started: datetime
    finished: datetime

    def state(self) -> Object:
        state = {
            "exitCode": self.code,
            "reason": self.reason,
            "startedAt": timestamp(self.started),
            "finishedAt": timestamp(self.finished),
        }
        return {"terminated": state | ({"message": self.message} if self.message else {})}


@dataclass(frozen=True, slots=True)
class Disruption:
    """Why a Pod was ended that did nothing wrong."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class PodState:
    """All that a Pod's status tells."""

    phase: str = PENDING
    ready: bool = False
    unready_reason: str = ""
    running_since: datetime | None = None
    waiting_reason: str = "ContainerCreating"
    waiting_message: str = ""
    last_exit: Exit | None = None
    restarts: int = 0
    disruption: Disruption | None = None


def status_of(pod: Object, state: PodState, now: datetime) -> Object:
    """The Pod's whole status after `state`; what the old one knows of the past is kept."""
    status: Object = dict(pod.get("status") or {})
    status["phase"] = state.phase
    status |= {"hostIP": "127.0.0.1", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "qosClass": "BestEffort"}
    status.setdefault("startTime", timestamp(now))
    over = state.phase in (SUCCEEDED, FAILED)
    reason = "PodCompleted" if state.phase == SUCCEEDED else state.unready_reason
    for type in ("PodScheduled", "Initialized"):
        set_condition(status, type, "True", now=now)
    for type in ("ContainersReady", "Ready"):
        set_condition(status, type, "True" if state.ready else "False", "" if state.ready else reason, now=now)
    if state.disruption is not None:
        set_condition(status, DISRUPTED, "True", state.disruption.reason, state.disruption.message, now=now)
        status |= {"reason": state.disruption.reason, "message": state.disruption.message}
    status["containerStatuses"] = [_container(container, state, over) for container in pod["spec"]["containers"][:1]]
    return status


def lost(pod: Object, now: datetime) -> Object:
    """The status of a Pod that was running when its platform was killed."""
    disruption = Disruption(
        "PlatformLost", "the platform was killed while this Pod ran; that does not count against backoffLimit"
    )
    ended = Exit(137, "Error", "ended with the platform", now, now)
    return status_of(pod, PodState(phase=FAILED, last_exit=ended, disruption=disruption), now)


def _container(container: Object, state: PodState, over: bool) -> Object:
    current: Object
    last: Object = {}
    if state.running_since is not None:
        current = {"running": {"startedAt": timestamp(state.running_since)}}
        last = state.last_exit.state() if state.last_exit else {}
    elif over and state.last_exit:
        current = state.last_exit.state()
    else:
        waiting = {"reason": state.waiting_reason}
        current = {"waiting": waiting | ({"message": state.waiting_message} if state.waiting_message else {})}
        last = state.last_exit.state() if state.last_exit else {}
    return {
        "name": container.get("name", ""),
        "image": container.get("image", ""),
        "imageID": "",
        "ready": state.ready,
        "started": state.running_since is not None,
        "restartCount": state.restarts,
        "state": current,
        "lastState": last,
    }


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def is_over(pod: Object) -> bool:
    """Succeeded or Failed: it will never run again."""
    return (pod.get("status") or {}).get("phase") in (SUCCEEDED, FAILED)


def is_terminating(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def disrupted(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == DISRUPTED and c["status"] == "True" for c in conditions)


def containers(pod: Object) -> list[Object]:
    """The Pod's container statuses, perhaps none yet."""
    return list((pod.get("status") or {}).get("containerStatuses") or [])
