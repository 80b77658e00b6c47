"""Kubernetes Events are counted instead of repeated, and bounded."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from headrace.local.objects.objects import Objects
from headrace.local.pods import recorder
from headrace.local.pods.recorder import Recorder
from tests.headrace.local.pods.laptop import NAMESPACE, pod


def test_the_same_event_again_raises_its_count(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "objects.db")
    about = objects.create(pod("a", "true"))
    events = Recorder(objects, "kubelet", lambda: datetime.now(UTC))
    for _ in range(3):
        events.warning(about, "BackOff", "again")
    (event,) = objects.list("Event", NAMESPACE)
    assert (event["count"], event["type"], event["involvedObject"]["name"]) == (3, "Warning", "a")


def test_a_namespace_keeps_its_latest_events(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "objects.db")
    about = objects.create(pod("a", "true"))
    events = Recorder(objects, "kubelet", lambda: datetime.now(UTC))
    for number in range(recorder.EVENTS + 20):
        events.normal(about, "Started", str(number))
    assert len(objects.list("Event", NAMESPACE)) <= recorder.EVENTS
