"""What each Service cost: the seconds that its pods ran, the unit that clouds bill.

Counted from the Pod objects as they come and go, since the platform's start.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from headrace.local.objects import DELETED, Objects

SERVICE_LABEL = "serving.knative.dev/service"
ENDED = ("Succeeded", "Failed")

Key = tuple[str, str]


class Costs:
    """Pod-seconds per Service."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._running: dict[str, tuple[Key, float]] = {}
        self._ended: dict[Key, float] = {}
        self._unsubscribe: Callable[[], None] | None = None
        self.since: float = 0.0
        """Unix time at which the counting began."""

    def start(self, now: float) -> None:
        self.since = now
        self._unsubscribe = self._objects.watch(self._on_change)
        for pod in self._objects.list("Pod"):
            self._on_change("ADDED", pod)

    def stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()

    def pod_seconds(self, namespace: str, service: str, now: float) -> float:
        """Seconds that pods of the Service have run, those that still run included."""
        key = (namespace, service)
        running = sum(now - began for k, began in self._running.values() if k == key)
        return self._ended.get(key, 0.0) + max(running, 0.0)

    def _on_change(self, change: str, pod: dict[str, Any]) -> None:
        if pod.get("kind") != "Pod":
            return
        service = (pod["metadata"].get("labels") or {}).get(SERVICE_LABEL)
        status = pod.get("status") or {}
        if not service or not status.get("startTime"):
            return
        uid, key = pod["metadata"]["uid"], (pod["metadata"]["namespace"], service)
        if change == DELETED or status.get("phase") in ENDED:
            _, began = self._running.pop(uid, (key, None))
            if began is not None:
                self._ended[key] = self._ended.get(key, 0.0) + _now() - began
        elif uid not in self._running:
            self._running[uid] = (key, max(_unix(status["startTime"]), self.since))


def _unix(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _now() -> float:
    return datetime.now().astimezone().timestamp()
