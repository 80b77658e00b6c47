"""What is here and is it well: the conditions of our objects, gathered from the Kubernetes API."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from headrace.place import Place

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
    """One Revision's pods, and why they are as many."""

    revision: str
    traffic: int
    """Percent of its Service's requests."""
    desired: int
    actual: int
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

    @property
    def healthy(self) -> bool:
        """Every part is Ready. A failed Job is a result, not a fault of the platform."""
        return all(p.ready == "True" for p in self.parts)

    def to_json(self) -> dict[str, Any]:
        return {"healthy": self.healthy, **asdict(self)}


def report(place: Place) -> Report:
    """The state of the place. Raises HeadraceError when its API does not answer."""
    cluster = place.cluster
    parts = tuple(part(o) for kind in CONDITIONED for o in cluster.list(kind))
    shares = dict(_shares(cluster.list("Service")))
    scales = tuple(_scale(o, shares) for o in cluster.list("PodAutoscaler"))
    return Report(parts, scales, tuple(job(o) for o in cluster.list("Job")))


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


def _scale(o: dict[str, Any], shares: dict[str, int]) -> Scale:
    name, status = o["metadata"]["name"], o.get("status") or {}
    active = condition(o, "Active")
    reason = active.get("message") or active.get("reason") or ""
    return Scale(name, shares.get(name, 0), status.get("desiredScale") or 0, status.get("actualScale") or 0, reason)


def job(o: dict[str, Any]) -> JobState:
    """A Job by what it ended with, or whether it runs."""
    for type in ("Complete", "Failed"):
        found = condition(o, type)
        if found.get("status") == "True":
            return JobState(o["metadata"]["name"], type, found.get("message") or found.get("reason") or "")
    active = (o.get("status") or {}).get("active") or 0
    return JobState(o["metadata"]["name"], "Running" if active else "Waiting", "")
