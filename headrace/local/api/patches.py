"""The three patches that a client may send: JSON merge, JSON patch, and Kubernetes' strategic merge. All pure.

The fourth, server-side apply, is `headrace.local.api.ownership`. Sources: RFC 7386, RFC 6902, and apimachinery
pkg/util/strategicpatch (its merge keys are those in `schemas.yaml`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.local.api import schema


class BadPatch(ValueError):
    """The patch itself is malformed."""


class Inapplicable(BadPatch):
    """The patch is well formed and does not fit the object."""


def merge(target: Any, patch: Any) -> Any:
    """JSON merge patch: null removes, objects merge, all else replaces."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def json_patch(target: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """JSON patch: the operations one after the other, all or none.

    Raises BadPatch for what is no list of operations, Inapplicable when one does not apply.
    """
    result = copy.deepcopy(target)
    if not isinstance(operations, list):
        raise BadPatch(f"a JSON patch is a list of operations, not {type(operations).__name__}")
    if not all(isinstance(operation, dict) for operation in operations):
        raise BadPatch("a JSON patch is a list of objects, each with op and path")
    for number, operation in enumerate(operations):
        try:
            result = _operate(result, operation)
        except (KeyError, IndexError, TypeError, ValueError) as e:
            raise Inapplicable(f"operation {number} of the JSON patch does not apply: {operation}: {e}") from e
    return result


def strategic(target: Any, patch: Any, type: schema.Type | None) -> Any:
    """Strategic merge patch: as JSON merge, but lists of named things merge item by item.

    type: of the value, from `schema.merge_type` on; None where nothing is known, and lists are replaced whole.
    `$patch: delete|replace|merge`, `$retainKeys` and `$deleteFromPrimitiveList/…` are followed; `$setElementOrder/…`
    orders the items.
    """
    if isinstance(patch, list):
        return _strategic_list(target if isinstance(target, list) else [], patch, [], type)
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    directive = patch.get("$patch")
    if directive == "delete":
        return {}
    if directive == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    merged = dict(target) if isinstance(target, Mapping) else {}
    if "$retainKeys" in patch:
        merged = {key: value for key, value in merged.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            merged[name] = [item for item in merged.get(name, []) if item not in value]
        if key.startswith("$"):
            continue
        if value is None:
            merged.pop(key, None)
            continue
        order = patch.get(f"$setElementOrder/{key}", [])
        of = schema.child(type, key)
        if isinstance(value, list):
            old = merged.get(key)
            merged[key] = _strategic_list(old if isinstance(old, list) else [], value, order, of)
        else:
            merged[key] = strategic(merged.get(key), value, of)
    for key, order in patch.items():  # an order with no change of the items themselves
        name = key.partition("/")[2]
        if key.startswith("$setElementOrder/") and name not in patch and isinstance(merged.get(name), list):
            merged[name] = _strategic_list(merged[name], [], order, schema.child(type, name))
    return merged


def _strategic_list(old: list[Any], patch: list[Any], order: list[Any], type: schema.Type | None) -> list[Any]:
    if type is None or type.key is None:
        return copy.deepcopy(patch) if patch or not order else old
    key = type.key
    merged = [dict(item) for item in old]
    for item in patch:
        if not isinstance(item, Mapping):
            raise BadPatch(f"a list merged by {key!r} holds objects, not {item!r}")
        if item.get("$patch") == "replace":
            return [copy.deepcopy(each) for each in patch if each.get("$patch") != "replace"]
        if key not in item:
            raise BadPatch(f"map: {dict(item)} does not contain declared merge key: {key}")
        place = next((i for i, existing in enumerate(merged) if existing.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if place is not None:
                del merged[place]
        elif place is None:
            merged.append(strategic({}, item, type.of))
        else:
            merged[place] = strategic(merged[place], item, type.of)
    wanted = [item.get(key) for item in order if isinstance(item, Mapping)]
    if wanted:
        merged.sort(key=lambda item: wanted.index(item.get(key)) if item.get(key) in wanted else len(wanted))
    return merged


def _operate(target: Any, operation: Mapping[str, Any]) -> Any:
    op, path = operation["op"], _pointer(operation["path"])
    if op == "add":
        return _put(target, path, copy.deepcopy(operation["value"]), insert=True)
    if op == "replace":
        _find(target, path)
        return _put(target, path, copy.deepcopy(operation["value"]), insert=False)
    if op == "remove":
        _remove(target, path)
        return target
    if op == "test":
        if _find(target, path) != operation["value"]:
            raise ValueError(f"testing value {operation['path']} failed")
        return target
    if op in ("move", "copy"):
        source = _pointer(operation["from"])
        value = copy.deepcopy(_find(target, source))
        if op == "move":
            _remove(target, source)
        return _put(target, path, value, insert=True)
    raise ValueError(f"{op!r} is none of add, remove, replace, move, copy and test")


def _pointer(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise ValueError(f"{path!r} is no JSON pointer: it must begin with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _find(target: Any, path: list[str]) -> Any:
    for part in path:
        target = target[int(part)] if isinstance(target, list) else target[part]
    return target


def _put(target: Any, path: list[str], value: Any, insert: bool) -> Any:
    if not path:
        return value
    parent, last = _find(target, path[:-1]), path[-1]
    if isinstance(parent, list):
        place = len(parent) if last == "-" else int(last)
        if not 0 <= place <= len(parent):
            raise IndexError(f"index {place} is outside the list")
        parent[place : place if insert else place + 1] = [value]
    else:
        parent[last] = value
    return target


def _remove(target: Any, path: list[str]) -> None:
    parent, last = _find(target, path[:-1]), path[-1]
    del parent[int(last) if isinstance(parent, list) else last]
