"""Which pods are a Job's or a ContainerSource's, and which of them speaks for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]

JOB_LABEL = "batch.kubernetes.io/job-name"
SOURCE_LABEL = "sources.knative.dev/containerSource"


def newest(pods: Sequence[Object]) -> Object | None:
    """The pod that was made last."""
    return max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)
