"""Who may do what all over the cluster, as manifests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

AUTHORIZATION = "rbac.authorization.k8s.io"
# The kit's API server has no certificate to show to those that it asks for others: it passes for nobody. HPAs and tests
# are still asked who they are by the API server itself; what nobody may read here are numbers.
NOBODY = {"apiGroup": AUTHORIZATION, "kind": "User", "name": "system:anonymous"}


def account(name: str, namespace: str) -> dict[str, str]:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def allowed(name: str, rules: Sequence[dict[str, Any]], subject: dict[str, str]) -> list[dict[str, Any]]:
    """A role of this name and its binding."""
    role = {
        "apiVersion": f"{AUTHORIZATION}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": list(rules),
    }
    return [role, bound(name, name, subject)]


def bound(name: str, role: str, subject: dict[str, str]) -> dict[str, Any]:
    """A binding of this name to a role that is there."""
    return {
        "apiVersion": f"{AUTHORIZATION}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": AUTHORIZATION, "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }


def metrics(groups: Sequence[str]) -> list[dict[str, Any]]:
    """The rules for who reads what adapters tell in these API groups."""
    return [
        {"apiGroups": list(groups), "resources": ["*"], "verbs": ["get", "list"]},
        {"nonResourceURLs": [f"/apis/{group}/*" for group in groups], "verbs": ["get"]},
    ]
