"""What an object may say: its fields, their types, and every fault found at once, worded as a strict API server does.

The knowledge is in `schemas.yaml`, whose head explains its notation. Used by `headrace.local.api.api` to refuse, by
`headrace.local.api.openapi` for `kubectl explain`, and by the patches for the keys that lists are merged by.

A field that real Kubernetes or Knative knows and `schemas.yaml` does not is refused as unknown. That is the honest
answer here: nothing on the laptop would act on it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

SCHEMAS = Path(__file__).with_name("schemas.yaml")

QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+|[numkMGTPE]|[KMGTPE]i)?")
TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})")
SCALARS = {"string", "int", "number", "bool", "time", "quantity", "intstr", "bytes"}
JSON_NAMES = {
    "int": "integer",
    "bool": "boolean",
    "time": "date-time",
    "intstr": "integer or string",
    "bytes": "base64",
}

JSON_TYPES: Mapping[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",  # only inside lists: a field that is null counts as absent
}


@dataclass(frozen=True, slots=True)
class Type:
    """A field's type.

    name: one of `SCALARS`, "any", "enum", "list", "map", or a definition's name.
    of: what a list or map holds. key: the field that a list's items are merged by, None where it is replaced whole.
    choices: what an enum allows. least, most: an int's range, both included, None for no bound.
    """

    name: str
    of: Type | None = None
    key: str | None = None
    choices: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Field:
    type: Type
    required: bool
    about: str


@dataclass(frozen=True, slots=True)
class Definition:
    about: str
    fields: Mapping[str, Field]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an object.

    path: `spec.template.spec.containers[0].image`. unknown: the field has no meaning here; otherwise `reason` and
    `message` are those of a StatusCause ("FieldValueInvalid", …).
    """

    path: str
    message: str
    reason: str = "FieldValueInvalid"
    unknown: bool = False


@cache
def definitions() -> Mapping[str, Definition]:
    """Every definition of `schemas.yaml`, and for each kind one with apiVersion, kind and metadata too."""
    document: dict[str, dict[str, str]] = yaml.safe_load(SCHEMAS.read_text(encoding="utf-8"))
    return {name: _definition(name, fields) for name, fields in document.items()}


@cache
def of_kind(kind: str) -> Definition:
    """The definition of a whole object of this kind."""
    own = definitions()[kind]
    head = {
        "apiVersion": Field(Type("string"), True, "The group and version of this representation of the object."),
        "kind": Field(Type("string"), True, "The kind of the object."),
        "metadata": Field(Type("ObjectMeta"), False, "Standard object metadata."),
    }
    return Definition(own.about, {**head, **own.fields})


def check(obj: Mapping[str, Any]) -> list[Fault]:
    """Every fault of a whole object of a known kind; empty when it is well formed."""
    return list(_check_fields(of_kind(obj["kind"]), obj, ""))


def pruned(obj: Any, paths: Collection[str], path: str = "") -> Any:
    """`obj` without the fields of these paths."""
    if isinstance(obj, dict):
        below = {key: f"{path}.{key}" if path else key for key in obj}
        return {key: pruned(item, paths, below[key]) for key, item in obj.items() if below[key] not in paths}
    if isinstance(obj, list):
        return [pruned(item, paths, f"{path}[{index}]") for index, item in enumerate(obj)]
    return obj


def check_status(status: Any) -> list[Fault]:
    """The faults of a status in the fields that others read; what else is in it is its controller's own affair."""
    if not isinstance(status, dict):
        return [_wrong("status", status, "object")]
    return [fault for fault in _check_fields(definitions()["Status"], status, "status") if not fault.unknown]


def merge_type(kind: str) -> Type:
    """The type that patches of this kind walk along."""
    return Type(f"kind:{kind}")


def patch_type(kind: str) -> Type:
    """The type that strategic merge patches of this kind walk along: its status, too, has a list with a merge key."""
    return Type(f"patch:{kind}")


def child(type: Type | None, key: str) -> Type | None:
    """The type of the field `key` of a value of `type`; None where nothing is known."""
    if type is None:
        return None
    if type.name == "map":
        return type.of
    of, _, kind = type.name.partition(":")
    if of == "patch" and key == "status":
        return Type("PatchedStatus")
    definition = of_kind(kind) if kind else definitions().get(type.name)
    field = definition.fields.get(key) if definition else None
    return field.type if field else None


def _definition(name: str, fields: Mapping[str, str]) -> Definition:
    parsed = {}
    for key, text in fields.items():
        if key == "about":
            continue
        notation, _, about = text.partition(" -- ")
        parsed[key.removesuffix("!")] = Field(_type(notation.split()), key.endswith("!"), about)
    return Definition(fields.get("about", name), parsed)


def _type(words: list[str]) -> Type:
    first, rest = words[0], words[1:]
    if first == "list":
        key = rest[rest.index("by") + 1] if "by" in rest else None
        return Type("list", of=_type(rest[: rest.index("by")] if key else rest), key=key)
    if first == "map":
        return Type("map", of=_type(rest))
    if "|" in first:
        return Type("enum", choices=tuple(first.split("|")))
    if rest:
        least, _, most = rest[0].partition("..")
        return Type(first, least=int(least), most=int(most) if most else None)
    return Type(first)


def _check_fields(definition: Definition, value: Mapping[str, Any], path: str) -> Iterator[Fault]:
    prefix = f"{path}." if path else ""
    for key, item in value.items():
        field = definition.fields.get(key)
        if field is None:
            yield Fault(prefix + key, f'unknown field "{prefix}{key}"', unknown=True)
        else:
            yield from _check(field.type, item, prefix + key)
    for key, field in definition.fields.items():
        if field.required and key not in value:
            yield Fault(prefix + key, "Required value", "FieldValueRequired")


def _check(type: Type, value: Any, path: str) -> Iterator[Fault]:
    if type.name == "any":
        return
    if type.name == "list" and type.of:
        if not isinstance(value, list):
            yield _wrong(path, value, "array")
            return
        for index, item in enumerate(value):
            yield from _check(type.of, item, f"{path}[{index}]")
        if type.key:
            yield from _check_duplicates(type.key, value, path)
    elif type.name == "map" and type.of:
        if not isinstance(value, dict):
            yield _wrong(path, value, "object")
            return
        for key, item in value.items():
            yield from _check(type.of, item, f"{path}.{key}")
    elif type.name == "enum":
        if not isinstance(value, str):
            yield _wrong(path, value, "string")
        elif value not in type.choices:
            supported = ", ".join(f'"{choice}"' for choice in type.choices)
            yield Fault(path, f'Unsupported value: "{value}": supported values: {supported}', "FieldValueNotSupported")
    elif type.name in SCALARS:
        yield from _check_scalar(type, value, path)
    elif not isinstance(value, dict):
        yield _wrong(path, value, "object")
    else:
        yield from _check_fields(definitions()[type.name], value, path)


def _check_scalar(type: Type, value: Any, path: str) -> Iterator[Fault]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = isinstance(value, int) and not isinstance(value, bool)
    text = isinstance(value, str)
    fits = {
        "string": text,
        "int": whole,
        "number": number,
        "bool": isinstance(value, bool),
        "intstr": whole or text,
        "quantity": number or (text and QUANTITY.fullmatch(value) is not None),
        "time": text and TIME.fullmatch(value) is not None,
        "bytes": text,
    }[type.name]
    if text and type.name == "bytes" and not _is_base64(value):
        # Without the value, which may be a secret that was not encoded.
        yield Fault(path, "Invalid value: illegal base64 data")
        return
    if not fits:
        yield _wrong(path, value, JSON_NAMES.get(type.name, type.name))
    elif type.least is not None and value < type.least:
        yield Fault(path, f"Invalid value: {value}: must be greater than or equal to {type.least}")
    elif type.most is not None and value > type.most:
        yield Fault(path, f"Invalid value: {value}: must be less than or equal to {type.most}")


def _is_base64(text: str) -> bool:
    """As Go's encoding/json reads bytes: line breaks are passed over."""
    try:
        base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _check_duplicates(key: str, items: list[Any], path: str) -> Iterator[Fault]:
    # Two ports may share a number, one TCP and one UDP.
    seen = set()
    for index, item in enumerate(items):
        if isinstance(item, dict) and isinstance(item.get(key), str | int):
            identity = (item[key], item.get("protocol"))
            if identity in seen:
                yield Fault(f"{path}[{index}].{key}", f'Duplicate value: "{item[key]}"', "FieldValueDuplicate")
            seen.add(identity)


def _wrong(path: str, value: Any, expected: str) -> Fault:
    seen = JSON_TYPES[type(value)]
    shown = f'"{value}"' if isinstance(value, str) else f'"{seen}"'
    message = f"Invalid value: {shown}: {path} in body must be of type {expected}: seen {seen}"
    return Fault(path, message, "FieldValueTypeInvalid")
