"""Kubernetes' protobuf, read only, for what `kubectl create` and `kubectl auth can-i` send; all else is JSON.

kubectl's typed commands know no other encoding for a body. Field numbers are those of kubernetes/api's generated.proto
files. A kind that is not listed here is refused with 415; `kubectl apply -f` and `create -f` send it as JSON.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from headrace.local.objects.object_errors import ObjectError

Object = dict[str, Any]

MAGIC = b"k8s\x00"

# A message's fields by number: name and type. Types: "string", "bytes", "bool", "int", or a message; "[]" before it
# makes a list, "{}" a map from strings.
_MESSAGES: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "Unknown": {1: ("typeMeta", "TypeMeta"), 2: ("raw", "raw")},
    "TypeMeta": {1: ("apiVersion", "string"), 2: ("kind", "string")},
    "ObjectMeta": {
        1: ("name", "string"),
        2: ("generateName", "string"),
        3: ("namespace", "string"),
        11: ("labels", "{}string"),
        12: ("annotations", "{}string"),
        14: ("finalizers", "[]string"),
    },
    "Namespace": {1: ("metadata", "ObjectMeta")},
    "ConfigMap": {
        1: ("metadata", "ObjectMeta"),
        2: ("data", "{}string"),
        3: ("binaryData", "{}bytes"),
        4: ("immutable", "bool"),
    },
    "Secret": {
        1: ("metadata", "ObjectMeta"),
        2: ("data", "{}bytes"),
        3: ("type", "string"),
        4: ("stringData", "{}string"),
        5: ("immutable", "bool"),
    },
    "ServiceAccount": {1: ("metadata", "ObjectMeta"), 4: ("automountServiceAccountToken", "bool")},
    "Role": {1: ("metadata", "ObjectMeta"), 2: ("rules", "[]PolicyRule")},
    "PolicyRule": {
        1: ("verbs", "[]string"),
        2: ("apiGroups", "[]string"),
        3: ("resources", "[]string"),
        4: ("resourceNames", "[]string"),
        5: ("nonResourceURLs", "[]string"),
    },
    "RoleBinding": {1: ("metadata", "ObjectMeta"), 2: ("subjects", "[]Subject"), 3: ("roleRef", "RoleRef")},
    "Subject": {1: ("kind", "string"), 2: ("apiGroup", "string"), 3: ("name", "string"), 4: ("namespace", "string")},
    "RoleRef": {1: ("apiGroup", "string"), 2: ("kind", "string"), 3: ("name", "string")},
    "SelfSubjectAccessReview": {1: ("metadata", "ObjectMeta"), 2: ("spec", "AccessReviewSpec")},
    "AccessReviewSpec": {
        1: ("resourceAttributes", "ResourceAttributes"),
        2: ("nonResourceAttributes", "PathAttributes"),
    },
    "ResourceAttributes": {
        1: ("namespace", "string"),
        2: ("verb", "string"),
        3: ("group", "string"),
        4: ("version", "string"),
        5: ("resource", "string"),
        6: ("subresource", "string"),
        7: ("name", "string"),
    },
    "PathAttributes": {1: ("path", "string"), 2: ("verb", "string")},
}
_KINDS = frozenset(
    {"Namespace", "ConfigMap", "Secret", "ServiceAccount", "Role", "RoleBinding", "SelfSubjectAccessReview"}
)
# Set, with nothing in it, by every Go client, and meaningless in a wish: the server fills them.
_EMPTY_IN_GO = {"Namespace": frozenset({2, 3}), "SelfSubjectAccessReview": frozenset({3}), "ObjectMeta": frozenset({8})}


def decode(body: bytes) -> Object:
    """The object of a protobuf body, as its JSON would be. Raises ObjectError, 415 or 400."""
    try:
        if not body.startswith(MAGIC):
            raise ValueError("it does not begin with k8s\\0")
        envelope = _message("Unknown", memoryview(body)[len(MAGIC) :])
        head = envelope["typeMeta"]
        if head["kind"] not in _KINDS:
            raise ObjectError(
                415,
                "UnsupportedMediaType",
                f"a {head['kind']} in protobuf is not understood here; as a file it is: add --dry-run=client -o yaml to"
                " the command, and give what it prints to kubectl apply -f -",
            )
        return {**head, **_message(head["kind"], envelope.get("raw", memoryview(b"")))}
    except (ValueError, KeyError, IndexError) as e:
        raise ObjectError(400, "BadRequest", f"the body is not Kubernetes' protobuf: {e}") from e


def _message(name: str, data: memoryview) -> Object:
    fields, decoded = _MESSAGES[name], Object()
    for number, value in _fields(data):
        if number not in fields:
            # Dropping what we cannot name would store another object than was sent.
            if len(value) if isinstance(value, memoryview) else value:
                if number in _EMPTY_IN_GO.get(name, ()):
                    continue
                raise ValueError(f"field {number} of {name} is not understood here: send JSON")
            continue
        key, type = fields[number]
        if type.startswith("[]"):
            decoded.setdefault(key, []).append(_value(type[2:], value))
        elif type.startswith("{}"):
            entry = dict(_fields(_bytes(value)))
            into = decoded.setdefault(key, {})
            into[str(_bytes(entry[1]), "utf-8")] = _value(type[2:], entry.get(2, memoryview(b"")))
        else:
            decoded[key] = _value(type, value)
    # Go's encoder writes every empty string; in JSON they are left out.
    return {key: value for key, value in decoded.items() if value not in ("", {}, [])}


def _value(type: str, value: int | memoryview) -> Any:
    if type == "int":
        return value
    if type == "bool":
        return bool(value)
    data = _bytes(value)
    if type == "raw":
        return data
    if type == "string":
        return str(data, "utf-8")
    if type == "bytes":
        return base64.b64encode(data).decode()
    return _message(type, data)


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where bytes were expected")
    return value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The (number, value) pairs of a message. Source: protobuf.dev/programming-guides/encoding."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("it ends in the middle of a field")
            yield number, data[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {wire} of field {number} is not used by Kubernetes")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
