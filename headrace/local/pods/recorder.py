"""Kubernetes Events: what happened to an object, for `kubectl describe`. Not CloudEvents, which are the broker's.

Bounded: the same thing said again raises a count, and a namespace keeps its latest EVENTS. Used by the reconciler and
by Pods. Source: kubernetes client-go tools/record (correlation by object, reason and message).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime

from headrace.local.objects.objects import NotFound, Object, Objects, timestamp

EVENTS = 200  # per namespace
MESSAGE_CHARS = 1024  # Kubernetes' limit for an Event's message


class Recorder:
    """Writes Events about objects. component: who says so, e.g. `kubelet`."""

    def __init__(self, objects: Objects, component: str, clock: Callable[[], datetime]) -> None:
        self._objects = objects
        self._component = component
        self._clock = clock

    def normal(self, obj: Object, reason: str, message: str) -> None:
        self._record(obj, "Normal", reason, message)

    def warning(self, obj: Object, reason: str, message: str) -> None:
        self._record(obj, "Warning", reason, message)

    def _record(self, obj: Object, type: str, reason: str, message: str) -> None:
        meta, now = obj["metadata"], timestamp(self._clock())
        message = message[:MESSAGE_CHARS]
        about = hashlib.sha256("\0".join((meta["uid"], type, reason, message)).encode()).hexdigest()[:16]
        namespace, name = meta["namespace"], f"{meta['name'][:200]}.{about}"
        known = self._objects.get("Event", namespace, name)
        if known is not None:
            self._objects.update({**known, "count": known.get("count", 1) + 1, "lastTimestamp": now})
            return
        self._make_room(namespace)
        self._objects.create(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": namespace},
                "involvedObject": {
                    "apiVersion": obj["apiVersion"],
                    "kind": obj["kind"],
                    "namespace": namespace,
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "resourceVersion": meta.get("resourceVersion", ""),
                },
                "type": type,
                "reason": reason,
                "message": message,
                "source": {"component": self._component},
                "reportingComponent": self._component,
                "reportingInstance": "localhost",
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            }
        )

    def _make_room(self, namespace: str) -> None:
        """A tenth at a time, so that the listing is not paid for each Event."""
        events = self._objects.list("Event", namespace)
        if len(events) < EVENTS:
            return
        events.sort(key=lambda event: event.get("lastTimestamp") or "")
        for event in events[: len(events) - EVENTS + EVENTS // 10]:
            try:
                self._objects.delete("Event", namespace, event["metadata"]["name"])
            except NotFound:
                continue
