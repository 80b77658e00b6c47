"""The OpenAPI v3 documents of the laptop's Kubernetes API: what kubectl asks before it patches, and explains from.

kubectl looks for three things. `x-kubernetes-group-version-kind` finds a kind's schema; the `fieldValidation` and
`dryRun` parameters of a patch tell it that the server checks fields; the merge keys tell it how to patch lists.
Source: kubectl pkg/explain/v2 and pkg/cmd/apply/patcher.go; client-go's openapi3 package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from headrace.local.api import schema
from headrace.local.objects import kinds

JsonValue = dict[str, Any]

PREFIX = "headrace.local."
GVK = "x-kubernetes-group-version-kind"
SCALARS: Mapping[str, JsonValue] = {
    "string": {"type": "string"},
    "int": {"type": "integer", "format": "int64"},
    "number": {"type": "number"},
    "bool": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
    "quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "intstr": {"type": "string", "format": "int-or-string"},
    "bytes": {"type": "string", "format": "byte"},
    "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}
# The older document, empty but for its version (field 1 of gnostic's Document): kubectl asks for it about a kind that
# the newer does not list, and must not fail before it can say "no matches for kind".
V2_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
V2 = b"\x0a\x032.0"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
# What every document has by name: the metadata of its kinds.
_META = schema.Definition("", {"metadata": schema.Field(schema.Type("ObjectMeta"), False, "")})
_META_PARTS = frozenset({"ObjectMeta"})


def index() -> JsonValue:
    """`/openapi/v3`: where each group version's document is."""
    paths = {root.lstrip("/"): {"serverRelativeURL": f"/openapi/v3{root}"} for root in _roots()}
    return {"paths": paths}


@cache
def document(root: str) -> JsonValue | None:
    """The document of a group version, by its path (`/api/v1`, `/apis/batch/v1`); None where it is not served."""
    served = [kind for kind in kinds.KINDS if kind.root == root]
    if not served:
        return None
    schemas: JsonValue = {}
    for kind in served:
        definition = schema.of_kind(kind.kind)
        whole = _properties(definition, _named if kind.builtin else _Inline())
        schemas[PREFIX + kind.kind] = {**whole, GVK: [_gvk(kind)]}
        _collect(definition if kind.builtin else _META, schemas)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Headrace, the laptop's Kubernetes API", "version": kind.version},
        "paths": {path: item for kind in served for path, item in _paths(kind)},
        "components": {"schemas": schemas},
    }


def _roots() -> list[str]:
    return list(dict.fromkeys(kind.root for kind in kinds.KINDS))


def _gvk(kind: kinds.Kind) -> JsonValue:
    return {"group": kind.group, "kind": kind.kind, "version": kind.version}


def _paths(kind: kinds.Kind) -> Iterator[tuple[str, JsonValue]]:
    answer = {"200": {"content": {"application/json": {"schema": _reference(kind.kind)}}, "description": "OK"}}
    patches = [APPLY_PATCH, JSON_PATCH, MERGE_PATCH, *([STRATEGIC_PATCH] if kind.builtin else [])]

    def operation(action: str, **more: Any) -> JsonValue:
        parameters = [_query(name) for name in ("dryRun", "fieldManager", "fieldValidation")]
        return {
            "responses": answer,
            GVK: _gvk(kind),
            "x-kubernetes-action": action,
            **({} if action in ("get", "list") else {"parameters": parameters}),
            **more,
        }

    body = {"content": {"*/*": {"schema": _reference(kind.kind)}}}
    patch_body = {"content": {type: {"schema": {"type": "object"}} for type in patches}}
    yield kind.collection, {"get": operation("list"), "post": operation("post", requestBody=body)}
    yield (
        kind.collection + "/{name}",
        {
            "get": operation("get"),
            "put": operation("put", requestBody=body),
            "delete": operation("delete"),
            "patch": operation("patch", requestBody=patch_body),
        },
    )


def _query(name: str) -> JsonValue:
    return {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}


def _reference(name: str) -> JsonValue:
    return {"$ref": f"#/components/schemas/{PREFIX}{name}"}


def _collect(definition: schema.Definition, into: JsonValue) -> None:
    """Put every definition that this one reaches into `into`."""
    for field in definition.fields.values():
        type = field.type
        while type.of:
            type = type.of
        reached = schema.definitions().get(type.name)
        if reached and PREFIX + type.name not in into:
            into[PREFIX + type.name] = _properties(reached, _named)
            _collect(reached, into)


def _named(type: schema.Type) -> JsonValue:
    """A definition by its name; as the real documents do: beside a bare $ref no description may stand."""
    return {"allOf": [_reference(type.name)], "default": {}}


class _Inline:
    """Definitions in full, where they are used: the schema of a custom resource has no names for its parts.

    A definition within itself (a filter in a filter) is an object with whatever fields, as in Knative's own.
    """

    def __init__(self, within: tuple[str, ...] = ()) -> None:
        self._within = within

    def __call__(self, type: schema.Type) -> JsonValue:
        if type.name in _META_PARTS:
            return _named(type)
        if type.name in self._within:
            return dict(SCALARS["any"])
        return _properties(schema.definitions()[type.name], _Inline((*self._within, type.name)))


Reach = Callable[[schema.Type], JsonValue]  # how a definition that a field has for its type is told


def _properties(definition: schema.Definition, reach: Reach) -> JsonValue:
    required = [name for name, field in definition.fields.items() if field.required]
    return {
        "type": "object",
        "description": definition.about,
        "properties": {
            name: {**_schema(field.type, reach), "description": field.about}
            for name, field in definition.fields.items()
        },
        **({"required": required} if required else {}),
    }


def _schema(type: schema.Type, reach: Reach) -> JsonValue:
    if type.name == "list" and type.of:
        merged: JsonValue = {"x-kubernetes-list-type": "atomic"}
        if type.key:
            merged = {
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": [type.key],
                "x-kubernetes-patch-merge-key": type.key,
                "x-kubernetes-patch-strategy": "merge",
            }
        return {"type": "array", "items": _schema(type.of, reach), **merged}
    if type.name == "map" and type.of:
        return {"type": "object", "additionalProperties": _schema(type.of, reach)}
    if type.name == "enum":
        return {"type": "string", "enum": list(type.choices)}
    if type.name in SCALARS:
        limits = {"minimum": type.least, "maximum": type.most}
        return {**SCALARS[type.name], **{name: limit for name, limit in limits.items() if limit is not None}}
    return reach(type)
