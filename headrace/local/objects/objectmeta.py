"""The rules of Kubernetes' ObjectMeta and of a status, as pure functions: what a write may change, and what it bumps.

Used by `headrace.local.objects.objects` and by whoever writes conditions.
Source: kubernetes/apiserver pkg/registry/rest/{create,update,meta}.go; apimachinery pkg/api/meta/conditions.go.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from headrace.local.objects import defaults, kinds
from headrace.local.objects.object_errors import Conflict, Invalid, NotFound

Object = dict[str, Any]


def timestamp(now: datetime) -> str:
    """`now` as Kubernetes writes a metav1.Time: UTC, whole seconds."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def set_condition(
    status: Object, type: str, status_value: str, reason: str = "", message: str = "", *, now: datetime
) -> None:
    """Put one condition into `status.conditions`, in place; lastTransitionTime moves only when the value does.

    status_value: "True", "False" or "Unknown". Source: apimachinery pkg/api/meta/conditions.go, SetStatusCondition.
    """
    conditions: list[Object] = status.setdefault("conditions", [])
    old = next((condition for condition in conditions if condition["type"] == type), None)
    new = {"type": type, "status": status_value, "lastTransitionTime": timestamp(now)}
    if old is not None and old["status"] == status_value:
        new["lastTransitionTime"] = old["lastTransitionTime"]
    if reason:
        new["reason"] = reason
    if message:
        new["message"] = message
    if old is None:
        conditions.append(new)
    else:
        conditions[conditions.index(old)] = new


def kind(obj: Object) -> str:
    kind = obj.get("kind")
    if not isinstance(kind, str) or not kind:
        raise Invalid("kind: Required value: an object needs apiVersion, kind and metadata")
    return kind


def namespace(kind: str, meta: Object) -> str:
    """Where the object lives; also puts it right in `meta`."""
    if not kinds.is_namespaced(kind):
        meta.pop("namespace", None)
        return ""
    namespace: str = meta.setdefault("namespace", "default")
    return namespace


def not_found(kind: str, name: str) -> NotFound:
    return NotFound(f'{kinds.qualified(kind)} "{name}" not found')


def check_preconditions(kind: str, old: Object, uid: str | None, resource_version: str | None) -> None:
    meta = old["metadata"]
    start = f'Operation cannot be fulfilled on {kinds.qualified(kind)} "{meta["name"]}": '
    if uid and uid != meta["uid"]:
        raise Conflict(start + f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta['uid']}")
    if resource_version and resource_version != meta["resourceVersion"]:
        raise Conflict(
            start + "the object has been modified; please apply your changes to the latest version and try again"
        )


def with_status(old: Object, new: Object) -> Object:
    merged = dict(old)
    if "status" in new:
        merged["status"] = new["status"]
    else:
        merged.pop("status", None)
    return merged


def with_spec(old: Object, new: Object) -> Object:
    """`new` with the status and the parts of metadata that only the server may set taken from `old`."""
    new.pop("status", None)
    if "status" in old:
        new["status"] = old["status"]
    meta, old_meta = new["metadata"], old["metadata"]
    for server_set in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"):
        meta.pop(server_set, None)
        if server_set in old_meta:
            meta[server_set] = old_meta[server_set]
    meta["resourceVersion"] = old_meta["resourceVersion"]
    for empty in [key for key in ("labels", "annotations", "finalizers", "ownerReferences") if not meta.get(key)]:
        meta.pop(empty, None)
    if "managedFields" not in meta and "managedFields" in old_meta:
        meta["managedFields"] = old_meta["managedFields"]
    new["apiVersion"] = old["apiVersion"]
    defaults.apply(new)
    if wish(new) != wish(old) and "generation" in meta:
        meta["generation"] += 1
    return new


def wish(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}
