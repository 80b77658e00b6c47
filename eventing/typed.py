"""Frozen dataclasses to JSON and back: the door's own machinery, made from type hints alone.

`decode` gives a value or adds a sentence for every fault; `schema` tells the same rules to others as JSON Schema. Hints
understood: str, int, float, bool, Any, X | None, Literal, tuple[X, ...], dict[str, X], and dataclasses of these.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union

SHA256_LENGTH = 64

_JSON_NAMES: dict[type, str] = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}
_SCHEMA_NAMES: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}


def encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: encode(v) for name, v in fields if v is not None}
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
    return value


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return f"{_JSON_NAMES.get(type(value), type(value).__name__)}, {value!r:.60}"


def decode(hint: Any, value: Any, path: str, faults: list[str]) -> Any:
    """`value` as `hint` says, or None with a sentence added to `faults`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return decode(next(a for a in args if a is not type(None)), value, path, faults)
    if origin is Literal:
        if value not in args:
            faults.append(f"{path} is {value!r:.60}; expected one of {', '.join(map(repr, args))}")
        return value
    if dataclasses.is_dataclass(hint):
        return _decode_object(typing.cast(type, hint), value, path, faults)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return faults.append(f"{path} is {kind(value)}; expected a list")
        return tuple(decode(args[0], v, f"{path}[{i}]", faults) for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            return faults.append(f"{path} is {kind(value)}; expected an object")
        return {k: decode(args[1], v, f"{path}.{k}", faults) for k, v in value.items()}
    # JSON knows one kind of number; True is none, though Python's bool is an int.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if (hint is float and number) or (hint is int and number and float(value).is_integer()):
        return hint(value)
    if hint not in (int, float) and type(value) is hint:
        if path.endswith("sha256") and (len(value) != SHA256_LENGTH or set(value) - set("0123456789abcdef")):
            faults.append(f"{path} is {value!r:.80}; expected 64 lower-case hexadecimal digits")
        elif hint is str and not value and path.count(".") == 1:
            faults.append(f"{path} is empty; expected {_JSON_NAMES[hint]} that names something")
        return value
    return faults.append(f"{path} is {kind(value)}; expected {_JSON_NAMES.get(hint, str(hint))}")


def _decode_object(cls: type, value: Any, path: str, faults: list[str]) -> Any:
    if not isinstance(value, Mapping):
        return faults.append(f"{path} is {kind(value)}; expected an object")
    hints = typing.get_type_hints(cls)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.name in value and not (value[field.name] is None and not _required(field)):
            fields[field.name] = decode(hints[field.name], value[field.name], f"{path}.{field.name}", faults)
        elif _required(field):
            expected = schema(hints[field.name]).get("type", "a value")
            faults.append(f"{path}.{field.name} is missing; expected {expected}")
    return None if faults else cls(**fields)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def schema(hint: Any) -> dict[str, Any]:
    """The JSON Schema of a type hint; of a dataclass with its docstrings left to the documentation."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if origin in (Union, types.UnionType):
        return schema(next(a for a in args if a is not type(None)))
    if origin is Literal:
        return {"enum": list(args)}
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        fields = dataclasses.fields(hint)
        return {
            "type": "object",
            "properties": {f.name: _field_schema(f.name, hints[f.name]) for f in fields},
            "required": [f.name for f in fields if _required(f)],
        }
    if origin is tuple:
        return {"type": "array", "items": schema(args[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema(args[1])}
    return {"type": _SCHEMA_NAMES[hint]}


def _field_schema(name: str, hint: Any) -> dict[str, Any]:
    if name.endswith("sha256"):
        return {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    return schema(hint)
