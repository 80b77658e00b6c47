"""Whose an object is, by its label and by who has applied it. Pure.

Ours is what bears our label and was applied by our field manager; where another manager applies it too, it is theirs
as well, and stays. A label alone says nothing: everybody may copy one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from knative import job_sink

Object = dict[str, Any]

FIELD_MANAGER = "headrace"
CLIENT_SIDE_APPLY = "kubectl-client-side-apply"  # noted as an update, and a manifest all the same
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
HELM_RELEASE = "meta.helm.sh/release-name"  # Helm creates and patches, and says so here
PART_OF = "app.kubernetes.io/part-of"
PRODUCT = "headrace"
COMPONENT = "app.kubernetes.io/component"


def ours(obj: Object) -> bool:
    """Whether `headrace deploy` has applied the object."""
    return labelled(obj) and FIELD_MANAGER in _appliers(obj)


def made_for_a_model(obj: Object) -> bool:
    """Whether the promoter made the object: it creates, whereas whatever was applied is somebody's manifest."""
    labels = obj["metadata"].get("labels") or {}
    of_models = obj["kind"] in ("Service", "Trigger") and labels.get(COMPONENT) == "predictor"
    return labelled(obj) and of_models and not _appliers(obj)


def made_of_an_event(job: Object, sinks: Collection[str]) -> bool:
    """Whether one of these JobSinks made the Job."""
    return (job["metadata"].get("labels") or {}).get(job_sink.NAME_LABEL) in sinks


def labelled(obj: Object) -> bool:
    """Whether the object says that it is a part of Headrace, whoever made it."""
    return (obj["metadata"].get("labels") or {}).get(PART_OF) == PRODUCT


def others(obj: Object) -> list[str]:
    """The managers besides ours that have applied the object: theirs too, so it stays."""
    return sorted(_appliers(obj) - {FIELD_MANAGER})


def _appliers(obj: Object) -> set[str]:
    entries = obj["metadata"].get("managedFields") or ()
    found = {entry.get("manager", "") for entry in entries if _applies(entry)}
    release = (obj["metadata"].get("annotations") or {}).get(HELM_RELEASE)
    return found | ({f"Helm release {release}"} if release else set())


def _applies(entry: Object) -> bool:
    """Whether one manager's entry is an apply's. One on the client's side, under whatever name (Argo CD's, for one),
    keeps its manifest in an annotation.
    """
    if entry.get("operation") == "Apply" or entry.get("manager") == CLIENT_SIDE_APPLY:
        return True
    metadata = (entry.get("fieldsV1") or {}).get("f:metadata") or {}
    return f"f:{LAST_APPLIED}" in (metadata.get("f:annotations") or {})
