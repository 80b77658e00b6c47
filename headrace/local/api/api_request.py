"""A request to the Kubernetes API, parsed: which resource it names, what it selects, what its body says.

Bytes and query strings end here; `headrace.local.api.api` and what it calls see dataclasses and plain dicts.
Source: kubernetes.io/docs/reference/using-api/api-concepts; apimachinery pkg/labels (selectors) and pkg/util/json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import yaml

from headrace.local.api import protobuf
from headrace.local.objects import kinds
from headrace.local.objects.object_errors import ObjectError

Object = dict[str, Any]

_NAME = re.compile(r"[A-Za-z0-9./_-]+")
_SET = re.compile(r"(?P<key>\S+)\s+(?P<op>in|notin)\s*\((?P<values>[^)]*)\)")


class BadRequest(ObjectError):
    """The request cannot be understood."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "BadRequest", message)


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names.

    namespace: None for all of them (or for a cluster-scoped kind). name: None for the collection.
    """

    kind: kinds.Kind
    namespace: str | None
    name: str | None
    subresource: str | None


# Source: kubernetes pkg/apis/{core,batch}/v1/conversion.go; of a custom resource it is name and namespace alone.
SELECTED_BY: Mapping[str, tuple[str, ...]] = {
    "Pod": (
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
        "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
    ),
    "Event": (
        *(f"involvedObject.{key}" for key in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion")),
        "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type",
    ),
    "Namespace": ("status.phase",),
    "Secret": ("type",),
    "Job": ("status.successful",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Selector:
    """Which objects a list, a watch or a collection's delete means.

    labels: (key, operator, values) with operator "in", "notin", "exists" or "absent". fields: (path, equal?, value).
    """

    labels: tuple[tuple[str, str, frozenset[str]], ...] = ()
    fields: tuple[tuple[str, bool, str], ...] = ()

    @classmethod
    def parse(cls, labels: str, fields: str, kind: str) -> Selector:
        """Raises BadRequest, also for a field that the kind is not selected by: a misspelt one would hold for nothing,
        and with != for everything.
        """
        selected = tuple(_field_requirement(text) for text in fields.split(",") if text.strip())
        for path, _, _ in selected:
            if path not in ("metadata.name", "metadata.namespace", *SELECTED_BY.get(kind, ())):
                raise BadRequest(f"field label not supported: {path}")
        return cls(tuple(_label_requirement(text) for text in _split(labels)), selected)

    def matches(self, obj: Mapping[str, Any]) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(_label_holds(labels, *each) for each in self.labels) and all(
            (_field(obj, path) == value) == equal for path, equal, value in self.fields
        )


def target(path: str) -> Target | None:
    """What `/api/v1/…` or `/apis/GROUP/VERSION/…` names; None where nothing of the kind is served."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"]:
        group, rest = "", parts[1:]
    elif parts[:1] == ["apis"] and len(parts) > 1:
        group, rest = parts[1], parts[2:]
    else:
        return None
    if len(rest) < 2:
        return None
    version, rest = rest[0], rest[1:]
    namespace = None
    # `/namespaces/x` is the Namespace itself, `/namespaces/x/pods` the pods in it, `/namespaces/x/status` its status.
    if rest[0] == "namespaces" and len(rest) > 2 and kinds.by_path(group, version, rest[2]) is not None:
        namespace, rest = rest[1], rest[2:]
    kind = kinds.by_path(group, version, rest[0])
    if kind is None or len(rest) > 3 or kind.namespaced < (namespace is not None):
        return None
    name = rest[1] if len(rest) > 1 else None
    subresource = rest[2] if len(rest) > 2 else None
    if subresource not in (None, *(("status",) if kind.status else ()), *kind.subresources):
        return None
    if name is not None and kind.namespaced and namespace is None:
        return None
    return Target(kind, namespace, name, subresource)


def decode(body: bytes) -> tuple[Any, list[str]]:
    """A body (JSON, YAML, or the protobuf of a few kinds) and the paths of the fields it gives twice.

    Raises BadRequest, or ObjectError 415 for another kind's protobuf.
    """
    if body.startswith(protobuf.MAGIC):
        return protobuf.decode(body), []
    try:
        try:
            value = json.loads(body, object_pairs_hook=_Pairs, parse_constant=_refuse_constant)
        except json.JSONDecodeError:
            value = yaml.load(body, Loader=_Loader)
        plain = _plain(value)
        orjson.dumps(plain)  # what it refuses could not be stored: NaN is caught above, numbers beyond 64 bits here
        return plain, list(_duplicates(value, ""))
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as e:
        raise BadRequest(f"the object provided is unrecognized: it is neither JSON nor YAML: {e}") from e


def as_object(value: Any) -> Object:
    """The body as an object, without its nulls: to the API null means absent. Raises BadRequest."""
    if not isinstance(value, dict):
        raise BadRequest("the object provided is unrecognized: it must be an object with apiVersion and kind")
    for name in ("labels", "annotations"):
        mapping = (value.get("metadata") or {}).get(name) if isinstance(value.get("metadata") or {}, dict) else None
        for key, text in mapping.items() if isinstance(mapping, dict) else ():
            if not isinstance(text, str):
                raise BadRequest(f"metadata.{name}.{key}: expected a string, seen {json.dumps(text)}: put it in quotes")
    cleaned: Object = without_nulls(value)
    return cleaned


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


class _Pairs(dict[str, Any]):
    """An object that remembers the keys it was given twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        seen: set[str] = set()
        self.twice = [key for key, _ in pairs if key in seen or seen.add(key)]  # type: ignore[func-returns-value]


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: JSON's types, so that a date stays text, and keys given twice are remembered."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way to say it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> _Pairs:
    loader.flatten_mapping(node)
    return _Pairs([(str(loader.construct_object(k)), loader.construct_object(v, deep=True)) for k, v in node.value])


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _duplicates(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, _Pairs):
        yield from (f"{path}.{key}".lstrip(".") for key in value.twice)
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _duplicates(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _duplicates(item, f"{path}[{index}]")


def _split(selector: str) -> Iterator[str]:
    """The requirements of a label selector: its commas, but not those inside parentheses, part them."""
    for text in re.findall(r"(?:[^,(]|\([^)]*\))+", selector):
        if text.strip():
            yield text.strip()


def _label_requirement(text: str) -> tuple[str, str, frozenset[str]]:
    found = _SET.fullmatch(text)
    if found:
        values = frozenset(value.strip() for value in found["values"].split(","))
        key, operator = found["key"], found["op"]
    elif "!=" in text:
        key, _, value = text.partition("!=")
        operator, values = "notin", frozenset({value.strip()})
    elif "=" in text:
        key, _, value = text.partition("=")
        operator, values = "in", frozenset({value.removeprefix("=").strip()})
    else:
        key, operator, values = text.removeprefix("!"), "absent" if text.startswith("!") else "exists", frozenset()
    if not _NAME.fullmatch(key.strip()):
        raise BadRequest(f"unable to parse requirement: {text!r}")
    return key.strip(), operator, values


def _label_holds(labels: Mapping[str, str], key: str, operator: str, values: frozenset[str]) -> bool:
    if operator == "exists":
        return key in labels
    if operator == "absent":
        return key not in labels
    # notin, as !=, also holds where the label is absent.
    return (key in labels and labels[key] in values) == (operator == "in")


def _field_requirement(text: str) -> tuple[str, bool, str]:
    path, operator, value = re.split(r"(!=|==|=)", text, maxsplit=1) if "=" in text else (text, "", "")
    if not operator:
        raise BadRequest(f"invalid field selector: {text!r}; can't understand it without = or !=")
    return path.strip(), operator != "!=", value.strip()


def _field(obj: Mapping[str, Any], path: str) -> str:
    if path == "status.successful":  # of a Job, which calls it otherwise
        return str((obj.get("status") or {}).get("succeeded") or 0)
    value: Any = obj
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return "" if value is None else str(value)
