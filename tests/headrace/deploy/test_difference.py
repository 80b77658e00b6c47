"""What an apply would change, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.deploy.difference import Change, difference

Object = dict[str, Any]


def obj(metadata: Object | None = None, **rest: Any) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", **(metadata or {})}, **rest}


def test_what_is_not_there_is_created() -> None:
    assert difference(None, obj()).change is Change.created


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        (obj(data={"a": "1"}), obj(data={"a": "1"}), []),
        (obj(data={"a": "1"}), obj(data={"a": "2"}), [("data.a", "1", "2")]),
        (obj(data={"a": "1"}), obj(data={"a": "1", "b": "2"}), [("data.b", None, "2")]),
        (obj(data={"a": "1", "b": "2"}), obj(data={"a": "1"}), [("data.b", "2", None)]),
        (obj(data={}), obj(), [("data", {}, None)]),
        (obj({"resourceVersion": "1", "managedFields": [1]}), obj({"resourceVersion": "2", "generation": 3}), []),
        (obj(status={"x": 1}), obj(status={"x": 2}), []),
        (obj({"labels": {"a.b/c": "1"}}), obj({"labels": {"a.b/c": "2"}}), [("metadata.labels[a.b/c]", "1", "2")]),
        (
            obj(spec=[{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]),
            obj(spec=[{"name": "b", "image": "2"}, {"name": "a", "image": "1"}]),
            [("spec[name=b].image", "1", "2")],
        ),
        (
            obj(spec=[{"name": "a"}]),
            obj(spec=[{"name": "a"}, {"name": "b", "image": "1"}]),
            [("spec[name=b]", None, {"name": "b", "image": "1"})],
        ),
        (obj(spec=["a"]), obj(spec=["a", "b"]), [("spec", ["a"], ["a", "b"])]),
        (obj(spec=[]), obj(spec=[{"name": "a"}]), [("spec", [], [{"name": "a"}])]),
        (obj(spec={"a": 1}), obj(spec=["a"]), [("spec", {"a": 1}, ["a"])]),
        (obj(spec=[{"name": "a"}]), obj(spec={"name": "a"}), [("spec", [{"name": "a"}], {"name": "a"})]),
    ],
)
def test_each_field_that_differs_is_told_before_and_after(
    before: Object, after: Object, fields: list[tuple[str, Any, Any]]
) -> None:
    found = difference(before, after)
    assert [(f.path, f.before, f.after) for f in found.fields] == fields
    assert found.change is (Change.changed if fields else Change.unchanged)
