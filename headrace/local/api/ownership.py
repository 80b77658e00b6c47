"""Which manager set which field, and server-side apply on top of it. All pure.

`metadata.managedFields` is written in Kubernetes' FieldsV1 form. An apply takes away the fields that its manager
formerly set and no longer lists, leaves alone what others set, and is refused where it would change another manager's
value, unless forced. Lists with a merge key in `schemas.yaml` are owned item by item, other lists whole.
Source: sigs.k8s.io/structured-merge-diff; kubernetes.io "Server-Side Apply".
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from headrace.local.api import schema
from headrace.local.objects.object_errors import Conflict

Object = dict[str, Any]
# A field: "f:name" into an object, 'k:{"name":"x"}' into a keyed list.
Path = tuple[str, ...]
Fields = frozenset[Path]

# What the server itself keeps; nobody owns it. Status belongs to controllers, who write it whole.
UNOWNED_METADATA = frozenset(
    {
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
    }
)
APPLY, UPDATE = "Apply", "Update"


def apply(live: Object | None, config: Object, manager: str, force: bool, now: str) -> Object:
    """`live` with the fields of `config` put in and `manager` recorded; raises Conflict, with a cause for each field.

    live: None when the object is to be created. config: what the manager wants to own, no more.
    """
    kind = schema.merge_type(config["kind"])
    wanted = dict(leaves(config, kind))
    entries = _entries(live)
    current = dict(leaves(live, kind)) if live else {}
    own = (manager, APPLY)
    changed = {path for path, value in wanted.items() if path not in current or current[path] != value}
    found = [
        (name, _readable(path))
        for (name, operation), fields in entries.items()
        if (name, operation) != own
        for path in sorted(fields & changed)
    ]
    if found and not force:
        raise _conflict(found)
    others = {key: fields - changed for key, fields in entries.items() if key != own}
    kept = frozenset().union(*others.values()) if others else frozenset()
    dropped = entries.get(own, frozenset()) - wanted.keys() - kept
    merged = _merge(live, config, kind) if live else copy.deepcopy(config)
    # Items of lists first, outermost first: one that nobody else lists goes whole, while its name can still be found.
    for path in sorted(dropped, key=lambda path: (not path[-1].startswith("k:"), len(path))):
        _drop(merged, path, kept | wanted.keys())
    # In the order that they were in: an apply that changes nothing must leave nothing changed.
    owners = {key: others.get(key, frozenset()) for key in entries} | {own: frozenset(wanted)}
    return _record(live, merged, owners, now)


def update(live: Object | None, new: Object, manager: str, now: str) -> Object:
    """`new` with the fields in which it differs from `live` recorded as set by `manager`.

    Managed fields that `new` brings itself are believed: so kubectl moves fields from one manager to another.
    """
    brought = new["metadata"].get("managedFields")
    said = live if brought is None else {"metadata": {"managedFields": brought}}
    kind = schema.merge_type(new["kind"])
    before, after = dict(leaves(live, kind)) if live else {}, dict(leaves(new, kind))
    changed = frozenset(path for path, value in after.items() if path not in before or before[path] != value)
    gone = before.keys() - after.keys()
    own = (manager, UPDATE)
    # Whoever changes a value without apply takes it from all others.
    entries = {key: fields - changed - gone for key, fields in _entries(said).items()}
    entries[own] = entries.get(own, frozenset()) | changed
    return _record(said, new, entries, now)


def leaves(value: Any, type: schema.Type | None, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every ownable (field, value) below a value: scalars, whole lists, and the keyed items of lists."""
    if isinstance(value, Mapping) and (value or not path):
        for key, item in value.items():
            if not path and key in ("apiVersion", "kind", "status"):
                continue
            if path == ("f:metadata",) and key in UNOWNED_METADATA:
                continue
            yield from leaves(item, schema.child(type, key), (*path, f"f:{key}"))
    elif isinstance(value, list) and type is not None and type.key and _keyed(value, type.key):
        for item in value:
            here = (*path, _item(type.key, item))
            yield here, None  # the item itself: owned by all who list it
            yield from leaves(item, type.of, here)
    else:
        yield path, value


def _keyed(items: list[Any], key: str) -> bool:
    return all(isinstance(item, Mapping) and key in item for item in items)


def _item(key: str, item: Mapping[str, Any]) -> str:
    return "k:" + json.dumps({key: item[key]}, separators=(",", ":"))


def _merge(live: Any, config: Any, type: schema.Type | None) -> Any:
    if isinstance(live, Mapping) and isinstance(config, Mapping):
        merged = dict(live)
        for key, value in config.items():
            known = schema.child(type, key)
            merged[key] = _merge(merged[key], value, known) if key in merged else copy.deepcopy(value)
        return merged
    if isinstance(live, list) and isinstance(config, list) and type is not None and type.key:
        key = type.key
        if _keyed(live, key) and _keyed(config, key):
            result = {item[key]: item for item in live}
            for item in config:
                result[item[key]] = _merge(result[item[key]], item, type.of) if item[key] in result else item
            return copy.deepcopy(list(result.values()))
    return copy.deepcopy(config)


def _drop(obj: Object, path: Path, still_owned: Iterable[Path]) -> None:
    """Remove one field, and the objects that it leaves empty."""
    if any(owned[: len(path)] == path for owned in still_owned):
        return
    parents: list[tuple[Any, str]] = []
    at: Any = obj
    for step in path:
        if at is None:
            return
        parents.append((at, step))
        at = _step(at, step)
    removed = False
    for parent, step in reversed(parents):
        child = _step(parent, step)
        if removed and child not in ({}, []):
            return
        if child is None or (parent is obj and removed and step == "f:metadata"):
            return
        if step.startswith("k:"):
            parent.remove(child)
        else:
            del parent[step[2:]]
        removed = True


def _step(at: Any, step: str) -> Any:
    if step.startswith("f:"):
        return at.get(step[2:]) if isinstance(at, Mapping) else None
    ((key, value),) = json.loads(step[2:]).items()
    return next((item for item in at if item.get(key) == value), None) if isinstance(at, list) else None


def _entries(live: Object | None) -> dict[tuple[str, str], Fields]:
    """The fields of each (manager, operation) of an object."""
    found = {}
    for entry in (live or {}).get("metadata", {}).get("managedFields", ()):
        if not entry.get("subresource"):
            fields = frozenset(_paths(entry.get("fieldsV1") or {}, ()))
            found[entry.get("manager", ""), entry.get("operation", UPDATE)] = fields
    return found


def _record(live: Object | None, obj: Object, entries: Mapping[tuple[str, str], Fields], now: str) -> Object:
    before = _entries(live)
    old = {
        (entry.get("manager"), entry.get("operation")): entry
        for entry in (live or {}).get("metadata", {}).get("managedFields", ())
    }
    recorded = []
    for key, fields in entries.items():
        if not fields:
            continue
        if before.get(key) == fields:  # its time stays: writing what is there already changes nothing
            recorded.append(old[key])
            continue
        manager, operation = key
        head = {"manager": manager, "operation": operation, "apiVersion": obj["apiVersion"], "time": now}
        recorded.append({**head, "fieldsType": "FieldsV1", "fieldsV1": _tree(fields)})
    obj["metadata"]["managedFields"] = recorded
    return obj


def _tree(fields: Iterable[Path]) -> Object:
    tree: Object = {}
    for path in sorted(fields):
        at = tree
        for step in path:
            at = at.setdefault(step, {})
        if path[-1].startswith("k:"):
            at["."] = {}
    return tree


def _paths(tree: Mapping[str, Any], path: Path) -> Iterator[Path]:
    for step, below in tree.items():
        if step == ".":
            yield path
        elif not below:
            yield (*path, step)
        else:
            yield from _paths(below, (*path, step))


def _conflict(found: list[tuple[str, str]]) -> Conflict:
    """found: (manager, field) pairs."""
    start = f"Apply failed with {len(found)} conflict"
    if len(found) == 1:
        message = f'{start}: conflict with "{found[0][0]}": {found[0][1]}'
    else:
        message = f"{start}s: " + "; ".join(f'conflict with "{manager}": {field}' for manager, field in found)
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{manager}"', "field": field}
        for manager, field in found
    ]
    return Conflict(message, causes)


def _readable(path: Path) -> str:
    """`.spec.template.spec.containers[name="x"].image`."""
    text = ""
    for step in path:
        if step.startswith("f:"):
            text += f".{step[2:]}"
        else:
            ((key, value),) = json.loads(step[2:]).items()
            text += f"[{key}={json.dumps(value)}]"
    return text
