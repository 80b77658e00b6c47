"""What a model's first version is made of: the Knative Service and the Trigger of the manifest, under the model's name.

Used by the promoter. `functions/manifests/predictor.yaml` is the one place that says how a model is served, and
`predictor-grpc.yaml` how over gRPC; here only names, the version and what the place wants otherwise are put in.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import yaml

from knative import json_patch, rollout
from knative.canary import Canary
from knative.json_patch import Operation

Object = dict[str, Any]

MANIFEST = "predictor.yaml"
GRPC_MANIFEST = "predictor-grpc.yaml"


def service(model: str, first: Canary, patch: Sequence[Operation] = ()) -> Object:
    """The Service that serves `first.version`, with the rollout already noted on it.

    patch: what the place wants otherwise in the manifest. Raises json_patch.BadPatch where it does not fit.
    """
    return rollout.first_service(json_patch.apply(_of_kind("Service"), patch), model, first)


def trigger(model: str) -> Object:
    """The Trigger that brings the Broker's `prediction.requested` events about `model` to its Service."""
    found = _of_kind("Trigger")
    found["metadata"]["name"] = f"{model}-predictions"
    _set_subject(found["spec"], model)
    found["spec"]["subscriber"]["ref"]["name"] = model
    return found


def grpc_service(patch: Sequence[Operation] = ()) -> Object:
    """The manifest of a model's gRPC Service, for `knative.follow`; patched as the other one."""
    return json_patch.apply(_of_kind("Service", GRPC_MANIFEST), patch)


def fits(patch: Sequence[Operation]) -> None:
    """Pass where `patch` can be applied to both manifests. Raises json_patch.BadPatch."""
    for manifest in (MANIFEST, GRPC_MANIFEST):
        json_patch.apply(_of_kind("Service", manifest), patch)


def _set_subject(spec: Object, model: str) -> None:
    """Puts the model wherever the Trigger asks for a subject, in either form of filter."""
    attributes = [(spec.get("filter") or {}).get("attributes")]
    for dialect in spec.get("filters") or ():
        attributes += [part.get("exact") for part in (dialect, *dialect.get("all", ()))]
    for wanted in filter(None, attributes):
        if "subject" in wanted:
            wanted["subject"] = model


def _of_kind(kind: str, manifest: str = MANIFEST) -> Object:
    text = resources.files("functions").joinpath("manifests", manifest).read_text(encoding="utf-8")
    found: Object = next(o for o in yaml.safe_load_all(text) if o and o["kind"] == kind)
    found["metadata"].pop("namespace", None)  # the promoter's own namespace is meant
    return found
