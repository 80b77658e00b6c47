"""Which events a Trigger wants: `spec.filter` and the dialects of `spec.filters`, as pure functions.

`headrace.local.events.subscription` compiles a Trigger's filters once; the Broker asks them for every event it takes.
The rules are Knative's: `filters` overrides `filter` when given, all of its entries must agree, an attribute that an
event lacks matches nothing. One difference, on the side of saying what is wrong: a filter that Knative skips in silence
(an empty value, so that the Trigger gets everything) is refused here.
Source: knative/eventing pkg/eventfilter/{attributes,subscriptionsapi}, pkg/apis/eventing/v1/trigger_validation.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headrace.local.events import cesql

Attributes = Mapping[str, Any]
Matcher = Callable[[Attributes], bool]
# Knative's three answers: True passes, False fails, None is "no filter", which neither `not` nor `any` turns round.
Answer = bool | None
Filter = Callable[[Attributes], Answer]

ANY = ""  # the value in `spec.filter.attributes` that every present attribute equals
DIALECTS = ("exact", "prefix", "suffix", "all", "any", "not", "cesql")

_NAME = re.compile(r"[a-z][a-z0-9]*")
_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
}


class InvalidFilter(ValueError):
    """A Trigger's filters cannot be evaluated; `faults` names every one, with its path in the spec."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


def matcher(spec: Mapping[str, Any]) -> Matcher:
    """What tells whether an event's attributes pass the filters of a Trigger with this `spec`.

    Raises InvalidFilter naming every fault.
    """
    faults: list[str] = []
    filters, attributes = spec.get("filters"), (spec.get("filter") or {}).get("attributes")
    compiled: Filter
    if filters:
        compiled = _all(_compile_list(filters, "spec.filters", faults))
    elif attributes:
        compiled = _compile_attributes(attributes, faults)
    else:
        compiled = _everything
    if faults:
        raise InvalidFilter(faults)
    return lambda event: compiled(event) is not False


def attribute(event: Attributes, name: str) -> str | None:
    """The attribute as CloudEvents writes it in a header; None when the event has none, or an empty one.

    Knative's aliases are known: `schemaurl`, and `datamediatype`, the content type without its parameters.
    """
    if name == "schemaurl":
        name = "dataschema"
    value = event.get("datacontenttype" if name == "datamediatype" else name)
    if value is None or value == "":
        return None
    text = canonical(value)
    return text.partition(";")[0].strip() if name == "datamediatype" else text


def canonical(value: Any) -> str:
    """An attribute's value as a string, by the CloudEvents type system: `true`, not Python's `True`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _everything(event: Attributes) -> Answer:
    return None


def _compile_attributes(attributes: Any, faults: list[str]) -> Filter:
    wanted = _values(attributes, "spec.filter.attributes", faults, allow_empty=True)

    def matches(event: Attributes) -> Answer:
        for name, value in wanted:
            seen = attribute(event, name)
            if seen is None or value not in (ANY, seen):
                return False
        return True

    return matches


def _compile_list(filters: Any, path: str, faults: list[str]) -> list[Filter]:
    if not isinstance(filters, list):
        faults.append(f"{path} is {filters!r:.60}; expected a list of filters")
        return []
    compiled = (_compile(entry, f"{path}[{i}]", faults) for i, entry in enumerate(filters))
    return [f for f in compiled if f is not None]


def _compile(entry: Any, path: str, faults: list[str]) -> Filter | None:
    """One entry of a filters list; None for an empty one, which Knative passes over."""
    if not isinstance(entry, Mapping):
        faults.append(f"{path} is {entry!r:.60}; expected an object with one of {', '.join(DIALECTS)}")
        return None
    unknown = sorted(set(entry) - set(DIALECTS))
    if unknown:
        faults.append(f"{path} has {', '.join(unknown)}; expected one of {', '.join(DIALECTS)}")
    given = [dialect for dialect in DIALECTS if entry.get(dialect)]
    if isinstance(entry.get("not"), Mapping) and "not" not in given:
        given.append("not")  # `not: {}` says something, though the empty object is false to Python
    if len(given) > 1:
        faults.append(f"{path} has {' and '.join(given)}; a filter can have only one dialect")
    if not given:
        return None
    dialect = given[0]
    value = entry[dialect]
    if dialect == "cesql":
        return _cesql(value, f"{path}.cesql", faults)
    if dialect == "not":
        return _not(_compile(value, f"{path}.not", faults))
    if dialect in ("all", "any"):
        inner = _compile_list(value, f"{path}.{dialect}", faults)
        return _all(inner) if dialect == "all" else _any(inner)
    return _compare(_COMPARE[dialect], _values(value, f"{path}.{dialect}", faults))


def _cesql(expression: Any, path: str, faults: list[str]) -> Filter | None:
    if not isinstance(expression, str):
        faults.append(f"{path} is {expression!r:.60}; expected a CloudEvents SQL expression")
        return None
    try:
        return cesql.matcher(expression)
    except cesql.InvalidExpression as e:
        faults.append(f"{path} is no CloudEvents SQL expression: {e}")
        return None


def _values(attributes: Any, path: str, faults: list[str], allow_empty: bool = False) -> tuple[tuple[str, str], ...]:
    """The (attribute, value) pairs of a map; the faults of those that no event could be compared with."""
    if not isinstance(attributes, Mapping):
        faults.append(f"{path} is {attributes!r:.60}; expected an object of attribute names and values")
        return ()
    for name, value in attributes.items():
        if not _NAME.fullmatch(str(name)):
            faults.append(
                f"{path}.{name}: an attribute name starts with a letter and has lower-case letters and digits"
            )
        if not isinstance(value, str):
            faults.append(f"{path}.{name} is {value!r:.60}; expected a string")
        elif not value and not allow_empty:
            faults.append(f"{path}.{name} is empty; expected the value to compare with")
    return tuple(attributes.items())


def _compare(agrees: Callable[[str, str], bool], wanted: Sequence[tuple[str, str]]) -> Filter:
    def matches(event: Attributes) -> Answer:
        for name, value in wanted:
            seen = attribute(event, name)
            if seen is None or not agrees(seen, value):
                return False
        return True

    return matches


def _all(filters: Sequence[Filter]) -> Filter:
    def matches(event: Attributes) -> Answer:
        answer: Answer = None
        for f in filters:
            answer = f(event)
            if answer is False:
                return False
        return answer

    return matches


def _any(filters: Sequence[Filter]) -> Filter:
    def matches(event: Attributes) -> Answer:
        answer: Answer = None
        for f in filters:
            answer = f(event)
            if answer is True:
                return True
        return answer

    return matches


def _not(inner: Filter | None) -> Filter:
    def matches(event: Attributes) -> Answer:
        answer = None if inner is None else inner(event)
        return None if answer is None else not answer

    return matches
