"""What the laptop's Kubernetes API says of itself: `/version`, `/api`, `/apis` and the resources of each group version.

kubectl asks for the aggregated form first (two requests instead of eight); other clients take the plain lists.
Source: kubernetes/apiserver pkg/endpoints/discovery, and k8s.io/api apidiscovery/v2.
"""

from __future__ import annotations

from typing import Any

from headrace.local.objects import kinds

JsonValue = dict[str, Any]

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
VERSION = {"major": "1", "minor": "32", "gitVersion": "v1.32.0+headrace", "platform": "local"}
ACCESS_REVIEW = "selfsubjectaccessreviews"
AUTHORIZATION = "authorization.k8s.io"


def aggregated(core: bool) -> JsonValue:
    """`/api` (core) or `/apis`, in the aggregated form."""
    groups: dict[str, JsonValue] = {}
    for group, version in kinds.group_versions():
        if (group == "") != core:
            continue
        served = [kind for kind in kinds.KINDS if (kind.group, kind.version) == (group, version)]
        resources = [_aggregated_resource(kind) for kind in served]
        groups[group] = {
            "metadata": {"name": group, "creationTimestamp": None},
            "versions": [{"version": version, "resources": resources, "freshness": "Current"}],
        }
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": list(groups.values()),
    }


def core_versions(host: str) -> JsonValue:
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}


def groups() -> JsonValue:
    named = [(group, version) for group, version in kinds.group_versions() if group]
    named.append((AUTHORIZATION, "v1"))
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*each) for each in named]}


def group(name: str) -> JsonValue | None:
    found = [_group(name, version) for of, version in kinds.group_versions() if of == name and name]
    return {"kind": "APIGroup", "apiVersion": "v1", **found[0]} if found else None


def resources(group: str, version: str) -> JsonValue | None:
    """The resources of a group version; None where it is not served."""
    listed: list[JsonValue] = []
    if (group, version) == (AUTHORIZATION, "v1"):
        review = {"name": ACCESS_REVIEW, "singularName": "selfsubjectaccessreview", "namespaced": False}
        listed.append({**review, "kind": "SelfSubjectAccessReview", "verbs": ["create"]})
    for kind in kinds.KINDS:
        if (kind.group, kind.version) == (group, version):
            row = {
                "name": kind.plural,
                "singularName": kind.kind.lower(),
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": sorted(kinds.READ + kinds.WRITE),
                "shortNames": list(kind.short_names),
                "categories": list(kind.categories),
            }
            listed.append({key: value for key, value in row.items() if value != []})
            for name, verbs in _subresources(kind):
                sub = {"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced}
                listed.append({**sub, "kind": kind.kind, "verbs": verbs})
    if not listed:
        return None
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": listed}


def _group(name: str, version: str) -> JsonValue:
    served = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [served], "preferredVersion": served}


def _subresources(kind: kinds.Kind) -> list[tuple[str, list[str]]]:
    status = [("status", ["get", "patch", "update"])] if kind.status else []
    return status + [(name, ["get"]) for name in kind.subresources]


def _aggregated_resource(kind: kinds.Kind) -> JsonValue:
    response = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    row = {
        "resource": kind.plural,
        "responseKind": response,
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.kind.lower(),
        "verbs": sorted(kinds.READ + kinds.WRITE),
        "shortNames": list(kind.short_names),
        "categories": list(kind.categories),
        "subresources": [
            {"subresource": name, "responseKind": response, "verbs": verbs} for name, verbs in _subresources(kind)
        ],
    }
    return {key: value for key, value in row.items() if value != []}
