"""Promises of the schemas."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.local.api import schema
from headrace.local.objects import kinds


def types(type: schema.Type) -> set[str]:
    return {type.name} | (types(type.of) if type.of else set())


@pytest.mark.parametrize("kind", [kind.kind for kind in kinds.KINDS])
def test_every_kind_that_is_served_has_a_schema(kind: str) -> None:
    assert "metadata" in schema.of_kind(kind).fields


def test_every_type_that_is_used_is_defined() -> None:
    defined = schema.definitions()
    used = {name for each in defined.values() for field in each.fields.values() for name in types(field.type)}
    assert used - schema.SCALARS - {"any", "enum", "list", "map"} <= defined.keys()


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"cpu": "500m", "memory": "1.5Gi"}, None),
        ({"cpu": 2, "memory": "1e9"}, None),
        ({"cpu": "lots"}, 'Invalid value: "lots"'),
        ("500m", "must be of type object"),
    ],
)
def test_quantities_are_checked(limits: Any, said: str | None) -> None:
    container = {"name": "main", "image": "x", "resources": {"limits": limits}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}}
    faults = schema.check(pod)
    assert (said is None and not faults) or (said is not None and said in faults[0].message)


def test_names_given_twice_in_a_keyed_list_are_a_fault() -> None:
    container = {"name": "main", "image": "x"}
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container, container]}}
    (fault,) = schema.check(pod)
    assert (fault.path, fault.message) == ("spec.containers[1].name", 'Duplicate value: "main"')


def test_a_required_field_an_unknown_one_and_a_wrong_choice_are_found_together() -> None:
    spec = {"containers": [{"image": "x"}], "restartPolicy": "Sometimes", "replicas": 2}
    faults = schema.check({"apiVersion": "v1", "kind": "Pod", "spec": spec})
    assert {(fault.path, fault.reason, fault.unknown) for fault in faults} == {
        ("spec.containers[0].name", "FieldValueRequired", False),
        ("spec.restartPolicy", "FieldValueNotSupported", False),
        ("spec.replicas", "FieldValueInvalid", True),
    }


@pytest.mark.parametrize(
    ("value", "right"), [("YWI=", True), ("YW\nI=", True), ("", True), ("not base64!", False), ("YWI", False)]
)
def test_bytes_are_base64_and_are_not_told_where_they_are_not(value: str, right: bool) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": value}}
    found = [(fault.path, fault.message) for fault in schema.check(secret)]
    assert found == ([] if right else [("data.key", "Invalid value: illegal base64 data")])
