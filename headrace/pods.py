"""What pods say of themselves: why they do not run, and which container's log is meant. Pure.

Source: the conditions and waiting reasons of Kubernetes' scheduler and kubelet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from knative.pods import JOB_LABEL, newest

Object = dict[str, Any]

SIDECARS = frozenset({"queue-proxy", "istio-proxy", "linkerd-proxy"})
ORDINARY = frozenset({None, "ContainerCreating", "PodInitializing"})  # reasons of every start


def said_by(pod: Object) -> Iterator[str]:
    """Why a pod does not run, in the words of the scheduler and the kubelet."""
    told = pod.get("status") or {}
    for condition in told.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield f"{condition.get('reason', '')}: {condition.get('message', '')}"
    for container in (*(told.get("initContainerStatuses") or ()), *(told.get("containerStatuses") or ())):
        # With its policy FallbackToLogsOnError, Knative's default, the message is the end of the log: what it died of.
        ended = (container.get("lastState") or {}).get("terminated") or {}
        if ended.get("message"):
            yield f"ExitCode{ended.get('exitCode', '?')}: {ended['message'].strip()}"
        elif ended.get("reason") == "OOMKilled":  # it had no time to say so itself
            yield "OOMKilled: it took more memory than its limit"
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in ORDINARY:
            yield f"{waiting['reason']}: {waiting.get('message', '')}"


def of_jobs(jobs: Collection[str], pods: Sequence[Object], events: Sequence[Object]) -> dict[str, str]:
    """Of each Job whose newest pod does not run, why that is so.

    events: of the namespace; what a kubelet cannot mount, e.g. a Secret that is not there, it tells nowhere else.
    """
    found: dict[str, str] = {}
    for job in jobs:
        pod = newest([p for p in pods if (p["metadata"].get("labels") or {}).get(JOB_LABEL) == job])
        if pod is None or (pod.get("status") or {}).get("phase") != "Pending":
            continue
        reason = next(said_by(pod), None) or warning(pod["metadata"]["name"], events)
        if reason:
            found[job] = f"its pod waits: {reason}"
    return found


def container(pod: Object) -> str | None:
    """The container whose log is meant: the first that no sidecar is."""
    names = [str(c["name"]) for c in (pod.get("spec") or {}).get("containers") or ()]
    return next((name for name in names if name not in SIDECARS), None)


def warning(name: str, events: Sequence[Object]) -> str | None:
    """The last warning about a pod, or about whatever else is called so."""
    about = [e for e in events if e.get("type") == "Warning" and (e.get("involvedObject") or {}).get("name") == name]
    last = max(about, key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime") or ""), default=None)
    return None if last is None else f"{last.get('reason', '')}: {last.get('message', '')}"
