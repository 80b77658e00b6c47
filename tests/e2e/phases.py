"""What a pod's start takes, by phase, as the API server tells it while it happens.

Kubernetes' own timestamps are whole seconds; what is watched arrives within milliseconds of what it tells.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from knative.client import Cluster
from tests.e2e.place import Deployed

Pod = dict[str, Any]

ORDER = ("created", "scheduled", "sandbox", "started", "ready")


@dataclass
class Seen:
    """When the first new pod reached each phase; seconds from the start of the watch."""

    at_s: dict[str, float] = field(default_factory=dict)

    def note(self, pod: Pod, now_s: float) -> None:
        for phase in reached(pod):
            self.at_s.setdefault(phase, now_s)

    def __str__(self) -> str:
        return ", ".join(f"{phase} {self.at_s[phase]:.2f} s" for phase in ORDER if phase in self.at_s)


def reached(pod: Pod) -> Iterator[str]:
    """The phases that a pod is through: created, scheduled, sandbox (its network is there), started (all of its
    containers), ready.
    """
    yield "created"
    status = pod.get("status") or {}
    true = {c["type"] for c in status.get("conditions") or () if c.get("status") == "True"}
    containers = status.get("containerStatuses") or ()
    if "PodScheduled" in true:
        yield "scheduled"
    if "PodReadyToStartContainers" in true:
        yield "sandbox"
    if containers and all("running" in (c.get("state") or {}) for c in containers):
        yield "started"
    if "Ready" in true:
        yield "ready"


@contextmanager
def watched(deployed: Deployed, labels: str) -> Iterator[Seen]:
    """The phases of the next pod with these labels (`key=value`), which comes while the block runs."""
    cluster = Cluster.connect(str(deployed.kubeconfig), deployed.namespace)
    wanted = dict([labels.split("=", 1)])
    known = {pod["metadata"]["uid"] for pod in cluster.list("Pod", wanted)}
    seen, done, began = Seen(), threading.Event(), time.monotonic()

    def watch() -> None:
        for _, pod in cluster.watch("Pod", labels=wanted, timeout_s=60.0):
            if done.is_set():
                return
            if pod["metadata"]["uid"] not in known:
                seen.note(pod, time.monotonic() - began)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield seen
        watching.join(5.0)  # the last phase may be told a moment after the answer
    finally:
        done.set()
