"""A model's Deployment: which version it serves, how far its rolling update is."""

from __future__ import annotations

from typing import Any

import pytest

from knative import rolling

Object = dict[str, Any]


def deployment(wanted: int | None = 2, pinned: str | None = None, generation: int = 3, **status: Any) -> Object:
    template: Object = {"metadata": {"annotations": {rolling.PINNED: pinned}} if pinned else {}}
    spec: Object = {"template": template} | ({} if wanted is None else {"replicas": wanted})
    metadata = {"name": "flights", "resourceVersion": "7", "generation": generation, "labels": {}}
    return {"metadata": metadata, "spec": spec, "status": {"observedGeneration": generation, **status}}


LATE = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}]


@pytest.mark.parametrize(
    ("found", "progress", "said"),
    [
        (
            deployment(observedGeneration=2, updatedReplicas=2, replicas=2, availableReplicas=2),
            "rolling",
            "not been seen",
        ),
        # A deadline that the template before missed says nothing of this one.
        (deployment(observedGeneration=2, conditions=LATE), "rolling", "not been seen"),
        (deployment(), "rolling", "0 of 2 pods are new"),
        (deployment(updatedReplicas=1, replicas=3, availableReplicas=2), "rolling", "1 of 2 pods are new"),
        (deployment(updatedReplicas=2, replicas=3, availableReplicas=3), "rolling", "1 old pods"),
        (deployment(updatedReplicas=2, replicas=2, availableReplicas=1), "rolling", "1 of 2 new pods are available"),
        (deployment(updatedReplicas=2, replicas=2, availableReplicas=2), "done", "2 pods"),
        (deployment(None, updatedReplicas=1, replicas=1, availableReplicas=1), "done", "1 pods"),
        (deployment(0), "done", "0 pods"),
        (deployment(updatedReplicas=1, replicas=3, availableReplicas=2, conditions=LATE), "failed", "timed out"),
    ],
)
def test_an_update_is_as_far_as_the_status_says(found: Object, progress: str, said: str) -> None:
    rollout = rolling.rollout_of(found)
    assert rollout.progress == progress
    assert said in rollout.reason


def test_a_version_lies_in_the_template_and_is_changed_on_this_very_object_alone() -> None:
    assert rolling.version_of(deployment()) is None
    assert rolling.version_of(deployment(pinned="@v1")) == "v1"
    patch = rolling.pin_patch(deployment(), "v2")
    assert patch["metadata"] == {"resourceVersion": "7"}
    assert patch["spec"]["template"]["metadata"]["annotations"] == {rolling.PINNED: "@v2"}
    assert rolling.pin_patch(deployment(), None)["spec"]["template"]["metadata"]["annotations"] == {
        rolling.PINNED: None
    }
