"""The rooms' manifests as package resources: the one truth that a laptop and a cluster are given.

Read by `headrace up` and `headrace deploy`. The order is that in which a cluster wants them: what others need first.
"""

from __future__ import annotations

import importlib.resources
from typing import Any

import yaml

Object = dict[str, Any]

ROOMS = ("knative", "functions", "trainers", "eventing")
TEMPLATES = frozenset({"predictor.yaml", "predictor-grpc.yaml"})  # named after a model, never applied as they are
CLUSTER_ONLY = frozenset({"journal.yaml"})  # a laptop's platform has what these bring, of its own
# A Trigger is not Ready before its Broker and its subscriber are; a pod that starts reads ConfigMap and account, and is
# walled in from its first packet on.
ORDER = (
    "Namespace", "ConfigMap", "Secret", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy",
    "PodDisruptionBudget", "Broker", "JobSink", "Service", "Trigger", "ContainerSource",
)  # fmt: skip


def read(laptop: bool = False) -> list[Object]:
    """Every object that is applied, fresh, in order; those of one kind by room and file.

    laptop: without what its platform brings itself.
    """
    without = TEMPLATES | CLUSTER_ONLY if laptop else TEMPLATES
    found = [obj for room in ROOMS for obj in _room(room, without)]
    return sorted(found, key=rank)


def rank(obj: Object) -> int:
    """Where an object stands in the order; kinds that it does not name come last."""
    kind = obj["kind"]
    return ORDER.index(kind) if kind in ORDER else len(ORDER)


def _room(room: str, without: frozenset[str]) -> list[Object]:
    folder = importlib.resources.files(room) / "manifests"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    texts = (f.read_text(encoding="utf-8") for f in files if f.name not in without)
    return [obj for text in texts for obj in yaml.safe_load_all(text) if obj is not None]
