"""Promises of the printer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace.local.api import table
from headrace.local.objects import kinds

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 300, "3h5m"),
        (9 * 3600 + 300, "9h"),
        (50 * 3600, "2d2h"),
        (30 * 86400, "30d"),
        (800 * 86400, "2y70d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_durations_are_shown_as_kubectl_does(seconds: int, shown: str) -> None:
    assert table.duration(timedelta(seconds=seconds)) == shown


def test_a_finished_job_shows_how_long_it_ran() -> None:
    job: dict[str, Any] = {
        "metadata": {"name": "train", "creationTimestamp": "2026-01-01T11:00:00Z"},
        "spec": {
            "completions": 1,
            "selector": {"matchLabels": {"b": "2", "a": "1"}},
            "template": {"spec": {"containers": [{"name": "main", "image": "x"}]}},
        },
        "status": {
            "succeeded": 1,
            "startTime": "2026-01-01T11:00:00Z",
            "completionTime": "2026-01-01T11:03:00Z",
            "conditions": [{"type": "Complete", "status": "True"}],
        },
    }
    (row,) = table.table("Job", [job], {}, NOW, "None")["rows"]
    assert row["cells"] == ["train", "Complete", "1/1", "3m", "60m", "main", "x", "a=1,b=2"]


def test_a_failed_pod_shows_why() -> None:
    terminated = {"state": {"terminated": {"reason": "Error", "exitCode": 1}}, "restartCount": 2, "ready": False}
    pod = {
        "metadata": {"name": "p", "creationTimestamp": "2026-01-01T11:59:00Z"},
        "spec": {"containers": [{"name": "main"}]},
        "status": {"phase": "Failed", "containerStatuses": [terminated]},
    }
    (row,) = table.table("Pod", [pod], {}, NOW, "None")["rows"]
    assert row["cells"] == ["p", "0/1", "Error", "2", "60s", "<none>", "<none>"]


@pytest.mark.parametrize("kind", [kind.kind for kind in kinds.KINDS])
def test_an_object_with_nothing_in_it_can_be_shown(kind: str) -> None:
    bare = {"metadata": {"name": "x", "creationTimestamp": "2026-01-01T12:00:00Z"}, "spec": {}, "roleRef": {}}
    (row,) = table.table(kind, [bare], {}, NOW, "Metadata")["rows"]
    assert "x" in row["cells"] or kind == "Event"


def test_policies_and_budgets_show_what_kubectl_shows_of_them() -> None:
    meta = {"name": "x", "creationTimestamp": "2026-01-01T11:59:00Z"}
    expressions = [
        {"key": "tier", "operator": "In", "values": ["b", "a"]},
        {"key": "app", "operator": "Exists"},
        {"key": "old", "operator": "DoesNotExist"},
        {"key": "zone", "operator": "NotIn", "values": ["c"]},
    ]
    selector = {"matchLabels": {"part-of": "headrace"}, "matchExpressions": expressions}
    (row,) = table.table("NetworkPolicy", [{"metadata": meta, "spec": {"podSelector": selector}}], {}, NOW, "None")[
        "rows"
    ]
    assert row["cells"] == ["x", "app,!old,part-of=headrace,tier in (a,b),zone notin (c)", "60s"]
    (row,) = table.table("NetworkPolicy", [{"metadata": meta, "spec": {}}], {}, NOW, "None")["rows"]
    assert row["cells"][1] == "<none>"
    (row,) = table.table("PodDisruptionBudget", [{"metadata": meta, "spec": {"maxUnavailable": 1}}], {}, NOW, "None")[
        "rows"
    ]
    assert row["cells"] == ["x", "N/A", "1", 0, "60s"]
