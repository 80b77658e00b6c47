"""What is here and is it well: the conditions of our objects, gathered from the Kubernetes API.

Of a revision's pods a cluster tells how many; why there are so many only its autoscaler knows. The laptop's tells:
`decision`, a subresource of its PodAutoscalers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from headrace import pods
from headrace.place import Place
from knative.client import Cluster, NotFound, Refused
from knative.pods import of_train_job

ENDED = ("Complete", "Failed")
FORBIDDEN = 403
# As of a quota of Jobs, of which JobSet 0.8 tells in its log alone.
SILENT = "no event says why; the logs of the managers of Kubeflow Trainer and JobSet may"
CONDITIONED = ("Service", "Broker", "Trigger", "JobSink", "ContainerSource")


@dataclass(frozen=True, slots=True)
class Part:
    """One object with a Ready condition."""

    kind: str
    name: str
    ready: str
    """True, False or Unknown, as Kubernetes writes them."""
    reason: str


@dataclass(frozen=True, slots=True)
class Scale:
    """One Revision's pods, and why they are as many. None: unknown, as in a cluster, or not yet decided."""

    revision: str
    traffic: int
    """Percent of its Service's requests."""
    desired: int | None
    actual: int
    ready: str
    """Of its PodAutoscaler: True, False or Unknown, as Kubernetes writes them."""
    mode: str | None
    """`stable`, or `panic` while the load of the panic window rules."""
    metric: str | None
    """What is averaged: `concurrency` or `rps`."""
    target: float | None
    """Of the metric, per pod, as aimed at: the utilisation is in it."""
    stable: float | None
    """The metric's average over the stable window."""
    panic: float | None
    """The same over the panic window."""
    excess_burst_capacity: int | None
    """Requests at once that its pods could take beyond the target burst; below 0 the activator is in the path."""
    activator_in_path: bool | None
    decided_at: str | None
    """When the last decision was made, RFC 3339."""
    reason: str


@dataclass(frozen=True, slots=True)
class JobState:
    name: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything `headrace status` shows."""

    parts: tuple[Part, ...]
    scales: tuple[Scale, ...]
    jobs: tuple[JobState, ...]
    notes: tuple[str, ...] = ()
    """What could not be looked at, and why."""

    @property
    def healthy(self) -> bool:
        """There are parts, and each is Ready. A failed Job is a result, not a fault of the platform."""
        return bool(self.parts) and all(p.ready == "True" for p in self.parts)

    def to_json(self) -> dict[str, Any]:
        return {"healthy": self.healthy, **asdict(self)}


def report(place: Place) -> Report:
    """The state of the place. Raises HeadraceError when its API does not answer."""
    cluster, notes = place.cluster, dict[str, None]()

    def listed(kind: str) -> list[dict[str, Any]]:
        """All of a kind; of what this cluster does not have, or not for us, a note says so instead."""
        try:
            return cluster.list(kind)
        except NotFound:
            notes[f"the cluster does not know {kind}"] = None
        except Refused as e:
            if e.status != FORBIDDEN:
                raise
            notes[f"{kind}s are not shown: {e.reason}"] = None
        return []

    conditioned = {kind: listed(kind) for kind in CONDITIONED}
    parts = tuple(part(o) for found in conditioned.values() for o in found)
    if not parts:
        notes[f"nothing of Headrace's is in namespace {cluster.namespace} of {cluster.server}"] = None
    shares = dict(_shares(conditioned["Service"]))
    autoscalers = listed("PodAutoscaler")
    decisions = _decisions(cluster, [o["metadata"]["name"] for o in autoscalers])
    scales = tuple(scale(o, shares.get(o["metadata"]["name"], 0), decisions) for o in autoscalers)
    made = listed("Job")
    jobs = tuple(job(o) for o in made)
    unfinished = {found.name for found in jobs if found.state not in ENDED}
    told = pods.of_jobs(unfinished, listed("Pod"), listed("Event")) if unfinished else {}
    jobs = tuple(
        replace(found, state="Waiting", reason=told[found.name]) if told.get(found.name) else found for found in jobs
    )
    # Asked first: where Kubeflow Trainer is not installed, that is no news.
    train_jobs = listed("TrainJob") if cluster.serves("TrainJob") else []
    jobs += tuple(without_job(train_jobs, made, listed("Event") if train_jobs else []))
    return Report(parts, scales, jobs, tuple(notes))


def condition(o: dict[str, Any], type: str) -> dict[str, Any]:
    """One condition of an object; empty when it has none of that type."""
    conditions = (o.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == type), {})


def part(o: dict[str, Any]) -> Part:
    """An object by its Ready condition."""
    ready = condition(o, "Ready")
    reason = ": ".join(t for t in (ready.get("reason"), ready.get("message")) if t)
    return Part(o["kind"], o["metadata"]["name"], ready.get("status", "Unknown"), reason)


def _shares(services: Iterable[dict[str, Any]]) -> Iterable[tuple[str, int]]:
    shares: dict[str, int] = {}
    for service in services:
        for target in (service.get("status") or {}).get("traffic") or []:
            name = target.get("revisionName", "")
            shares[name] = shares.get(name, 0) + int(target.get("percent") or 0)
    return shares.items()


def _decisions(cluster: Cluster, revisions: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The autoscaler's last decision about each revision, where the place tells."""
    found: dict[str, dict[str, Any]] = {}
    for revision in revisions:
        try:
            decision = cluster.subresource("PodAutoscaler", revision, "decision")
        except Refused:  # a cluster whose rules are for what it has
            decision = None
        if decision is None and not found:
            return {}
        found[revision] = decision or {}
    return found


def scale(o: dict[str, Any], traffic: int, decisions: Mapping[str, Mapping[str, Any]]) -> Scale:
    """A revision's scale: its PodAutoscaler's, and what is told beyond it."""
    name, status = o["metadata"]["name"], o.get("status") or {}
    decision, active = decisions.get(name) or {}, condition(o, "Active")
    desired = status.get("desiredScale")
    return Scale(
        revision=name,
        traffic=traffic,
        desired=None if desired is None or desired < 0 else desired,
        actual=status.get("actualScale") or 0,
        ready=condition(o, "Ready").get("status", "Unknown"),
        mode=decision.get("mode"),
        metric=decision.get("metric"),
        target=decision.get("target"),
        stable=decision.get("stable"),
        panic=decision.get("panic"),
        excess_burst_capacity=decision.get("excessBurstCapacity"),
        activator_in_path=decision.get("activatorInPath"),
        decided_at=decision.get("decidedAt"),
        reason=decision.get("reason") or active.get("message") or active.get("reason") or "",
    )


def job(o: dict[str, Any]) -> JobState:
    """A Job by what it ended with, or whether it runs."""
    for type in ENDED:
        found = condition(o, type)
        if found.get("status") == "True":
            return JobState(o["metadata"]["name"], type, found.get("message") or found.get("reason") or "")
    active = (o.get("status") or {}).get("active") or 0
    return JobState(o["metadata"]["name"], "Running" if active else "Waiting", "")


def without_job(
    train_jobs: Sequence[dict[str, Any]], jobs: Sequence[dict[str, Any]], events: Sequence[dict[str, Any]]
) -> Iterable[JobState]:
    """The TrainJobs that are not over and have no Job, whose state would tell of them: why Trainer has made none."""
    for each in train_jobs:
        name = each["metadata"]["name"]
        over = any(condition(each, type).get("status") == "True" for type in ENDED)
        if not over and not any(of_train_job(o, name) for o in jobs):
            reason = pods.warning(name, events) or SILENT
            yield JobState(name, "Waiting", f"its TrainJob has no Job: {reason}")
