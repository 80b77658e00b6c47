"""Which pods are a Job's, a TrainJob's or a ContainerSource's, and which of them speaks for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]

JOB_LABEL = "batch.kubernetes.io/job-name"
SOURCE_LABEL = "sources.knative.dev/containerSource"
JOB_SET_LABEL = "jobset.sigs.k8s.io/jobset-name"  # of the Jobs and pods of a JobSet, which is called as its TrainJob is


def of_train_job(obj: Object, name: str) -> bool:
    """Whether a Job or a pod is that of the TrainJob `name`. Source: sigs.k8s.io/jobset, JobSetNameKey."""
    return (obj["metadata"].get("labels") or {}).get(JOB_SET_LABEL) == name


def newest(pods: Sequence[Object]) -> Object | None:
    """The pod that was made last."""
    return max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)
