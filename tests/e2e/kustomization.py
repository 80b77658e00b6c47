"""What a kustomization upon one of our overlays says: this run's images, and patches of the place's own."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.images import reference

ROOMS = ("predictor", "functions", "trainers")


def images() -> list[dict[str, str]]:
    """This run's, in place of those that the manifests name."""
    return [_image(room) for room in ROOMS]


def patch(kind: str, name: str, op: str, path: str, value: Any) -> dict[str, Any]:
    """One step of a JSON patch, for the objects of a kind whose name matches."""
    return {"target": {"kind": kind, "name": name}, "patch": json.dumps([{"op": op, "path": path, "value": value}])}


def _image(room: str) -> dict[str, str]:
    name, _, tag = reference(room).rpartition(":")
    return {"name": f"ghcr.io/headrace/{room}", "newName": name, "newTag": tag}
