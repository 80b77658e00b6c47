"""What each Service and each training is, did and cost, for the page.

The cost is the seconds that pods ran, the unit that clouds bill: counted from the Pod objects as they come and go, from
the platform's start on; a restart begins anew, and `since` says when that was. The work is the gateway's counters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from prometheus_client import Metric

from headrace import status
from headrace.local.objects.objects import ADDED, DELETED, Change, Objects

# A pod is paid for by the first of these that it carries; a name is no label of two kinds at once.
SERVICE_LABEL = "serving.knative.dev/service"
JOB_LABELS = ("batch.kubernetes.io/job-name", "job-name")
ENDED = ("Succeeded", "Failed")
LATENCIES = "revision_request_latencies"  # `headrace.local.gateway.request_metrics`, in milliseconds

MODEL, VERSION = "HEADRACE_MODEL", "HEADRACE_MODEL_VERSION"  # what the promoter writes into each Revision
DECISION = "headrace.dev/decision"  # why a Revision has the pods it has, from `headrace.local.gateway.scaler`

Row = dict[str, Any]
Key = tuple[str, str, str]  # namespace, "Service" or "Job", name


class Costs:
    """Pod-seconds by Service and by Job. clock: seconds since 1970."""

    def __init__(self, objects: Objects, clock: Callable[[], float] = time.time) -> None:
        self._objects = objects
        self._clock = clock
        self._running: dict[str, tuple[Key, float]] = {}
        self._ended: dict[Key, float] = {}
        self._unsubscribe: Callable[[], None] | None = None
        self.since: float = 0.0
        """Unix time at which the counting began."""

    def start(self) -> None:
        self.since = self._clock()
        self._unsubscribe = self._objects.watch_changes(self._on_change)
        for pod in self._objects.list("Pod"):
            self._count(ADDED, pod)

    def stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()

    def pod_seconds(self, namespace: str, service: str) -> float:
        """Seconds that pods of the Service have run, those that still run included."""
        return self._seconds((namespace, "Service", service))

    def job_seconds(self, namespace: str, job: str) -> float:
        """Seconds that pods of the Job have run, all its attempts together."""
        return self._seconds((namespace, "Job", job))

    def _seconds(self, key: Key) -> float:
        now = self._clock()
        running = sum(max(now - began, 0.0) for k, began in self._running.values() if k == key)
        return self._ended.get(key, 0.0) + running

    def _on_change(self, change: Change) -> None:
        if change.kind == "Pod":  # before the parse: most changes are of other kinds
            self._count(change.type, change.object())

    def _count(self, change: str, pod: Mapping[str, Any]) -> None:
        status, meta = pod.get("status") or {}, pod["metadata"]
        key = _payer(meta)
        if key is None or not status.get("startTime"):
            return
        uid = meta["uid"]
        if change == DELETED or status.get("phase") in ENDED:
            _, began = self._running.pop(uid, (key, None))
            if began is not None:
                self._ended[key] = self._ended.get(key, 0.0) + max(self._clock() - began, 0.0)
        elif uid not in self._running:
            self._running[uid] = (key, max(_unix(status["startTime"]), self.since))


@dataclass(frozen=True, slots=True)
class Work:
    """What a Revision answered since the platform's start, waiting for a pod included."""

    requests: int
    errors: int
    """Answers with a 5xx code; a 4xx is the caller's."""
    p50_ms: float
    p95_ms: float


def work(metrics: Iterable[Metric]) -> dict[tuple[str, str], Work]:
    """By namespace and Revision, from what the gateway's collector gives."""
    below: dict[tuple[str, str], dict[float, float]] = {}
    errors: dict[tuple[str, str], float] = {}
    for metric in metrics:
        if metric.name != LATENCIES:
            continue
        for sample in metric.samples:
            of = (sample.labels["namespace_name"], sample.labels["revision_name"])
            if sample.name.endswith("_bucket"):
                bounds, bound = below.setdefault(of, {}), float(sample.labels["le"])
                bounds[bound] = bounds.get(bound, 0) + sample.value
            elif sample.name.endswith("_count") and sample.labels["response_code_class"] == "5xx":
                errors[of] = errors.get(of, 0) + sample.value
    return {
        of: Work(
            int(bounds[float("inf")]), int(errors.get(of, 0)), quantile(bounds, 0.5), quantile(bounds, 0.95)
        )
        for of, bounds in below.items()
    }  # fmt: skip


def quantile(below: Mapping[float, float], q: float) -> float:
    """The q-quantile of a histogram, taking what lies in a bucket as evenly spread; NaN for an empty one.

    below: upper bound to the count at or under it, infinity included; what is over the last bound counts as on it.
    Source: prometheus promql/quantile.go, bucketQuantile.
    """
    rank, low, under = q * below[float("inf")], 0.0, 0.0
    if not rank:
        return float("nan")
    for bound, count in sorted(below.items()):
        if count >= rank:
            return low if bound == float("inf") else low + (bound - low) * (rank - under) / (count - under)
        low, under = bound, count
    raise ValueError("the counts of a histogram rise with its bounds")


def services(objects: Objects, costs: Costs, metrics: Iterable[Metric]) -> dict[str, Row]:
    """Every Service by name: who answers with which share, requests, pods and why so many, pod-seconds."""
    works = work(metrics)
    return {o["metadata"]["name"]: _service(objects, costs, o, works) for o in objects.list("Service")}


def trainings(objects: Objects, costs: Costs) -> list[Row]:
    """Every Job with its state, times and pod-seconds."""
    return [_training(costs, job) for job in objects.list("Job")]


def parts(objects: Objects, services: Mapping[str, Row]) -> list[Row]:
    """Every part of the platform; a Service with its pods and what they cost."""
    found = [status.part(o) for kind in status.CONDITIONED for o in objects.list(kind)]
    figures = [services.get(p.name, {}) if p.kind == "Service" else {} for p in found]
    return [asdict(p) | {k: f.get(k) for k in ("pods", "pod_seconds")} for p, f in zip(found, figures, strict=True)]


def _service(objects: Objects, costs: Costs, service: Row, works: Mapping[tuple[str, str], Work]) -> Row:
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    current = service.get("status") or {}
    ready = status.condition(service, "Ready")
    scalers = objects.list("PodAutoscaler", namespace, {SERVICE_LABEL: name})
    by_revision = {a["metadata"]["name"]: a for a in scalers}
    pods = {r: (a.get("status") or {}).get("actualScale") or 0 for r, a in by_revision.items()}
    answering = []
    for target in current.get("traffic") or []:
        if not target.get("percent"):
            continue  # a tag alone: reachable by its own name, no share of what is asked
        revision = target.get("revisionName") or ""
        answering.append(
            {
                "revision": revision,
                "percent": target["percent"],
                "version": _variable(objects.get("Revision", namespace, revision) or {}, VERSION),
                "pods": pods.get(revision, 0),
                "reason": _why_scaled(by_revision.get(revision) or {}),
                "work": asdict(works[namespace, revision]) if (namespace, revision) in works else None,
            }
        )
    return {
        "url": (current.get("address") or {}).get("url"),
        "is_model": _variable((service.get("spec") or {}).get("template") or {}, MODEL) is not None,
        "ready": ready.get("status", "Unknown"),
        "ready_reason": ready.get("message") or ready.get("reason") or "",
        "pods": sum(pods.values()),
        "pod_seconds": round(costs.pod_seconds(namespace, name), 1),
        "traffic": answering,
    }


def _training(costs: Costs, job: Row) -> Row:
    meta, current = job["metadata"], job.get("status") or {}
    times = {"started": current.get("startTime"), "ended": current.get("completionTime")}
    seconds = round(costs.job_seconds(meta["namespace"], meta["name"]), 1)
    return {**asdict(status.job(job)), **times, "pod_seconds": seconds}


def _variable(holder: Mapping[str, Any], variable: str) -> str | None:
    """An environment variable of a Revision's, or of a Service's template's, containers."""
    containers: Iterable[Mapping[str, Any]] = (holder.get("spec") or {}).get("containers") or ()
    values = {v["name"]: v.get("value") for c in containers for v in c.get("env") or ()}
    return values.get(variable)


def _why_scaled(autoscaler: Mapping[str, Any]) -> str:
    """Why a Revision has the pods it has, in the autoscaler's words."""
    decision = ((autoscaler.get("status") or {}).get("annotations") or {}).get(DECISION)
    return str(decision or status.condition(dict(autoscaler), "Active").get("message") or "")


def _payer(meta: Mapping[str, Any]) -> Key | None:
    labels = meta.get("labels") or {}
    if service := labels.get(SERVICE_LABEL):
        return (meta["namespace"], "Service", service)
    job = next((labels[label] for label in JOB_LABELS if labels.get(label)), None)
    return (meta["namespace"], "Job", job) if job else None


def _unix(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
