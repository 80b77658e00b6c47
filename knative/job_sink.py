"""How a JobSink calls the Jobs that it makes. Pure.

Source: knative/eventing cmd/jobsink/main.go, pkg/apis/sinks; knative/pkg kmeta/names.go.
"""

from __future__ import annotations

import hashlib

NAME_LABEL = "sinks.knative.dev/job-sink-name"
ID_LABEL = "sinks.knative.dev/job-sink-id"
LONGEST_NAME = 63  # of a Kubernetes label, which a Job's name becomes on its pods
MAX_EVENT_BYTES = 1024 * 1024  # of the event as JSON: it is kept in a Secret, which holds no more


def job_name(job_sink: str, source: str, id: str) -> str:
    """The name of the Job for an event, and of the Secret with the event in it."""
    digest = hashlib.md5((source + id).encode(), usedforsecurity=False).hexdigest()
    parent = job_sink + "-"
    if len(parent) + len(digest) <= LONGEST_NAME:
        return parent + digest
    # Knative's kmeta.ChildName: too long together, so as much of the parent as fits, and a digest of both.
    both = hashlib.md5((parent + digest).encode(), usedforsecurity=False).hexdigest()
    return parent[: LONGEST_NAME - len(both)] + both
