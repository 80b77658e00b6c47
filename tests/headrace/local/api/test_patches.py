"""Promises of the three patches."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.local.api import patches, schema


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({"a": "foo"}, "bar", "bar"),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_as_its_rfc_says(target: Any, patch: Any, result: Any) -> None:
    assert patches.merge(target, patch) == result


@pytest.mark.parametrize(
    ("target", "operation", "result"),
    [  # RFC 6902, appendix A
        ({"foo": "bar"}, {"op": "add", "path": "/baz", "value": "qux"}, {"baz": "qux", "foo": "bar"}),
        ({"foo": ["a", "c"]}, {"op": "add", "path": "/foo/1", "value": "b"}, {"foo": ["a", "b", "c"]}),
        ({"foo": ["a"]}, {"op": "add", "path": "/foo/-", "value": "b"}, {"foo": ["a", "b"]}),
        ({"baz": 1, "foo": 2}, {"op": "remove", "path": "/baz"}, {"foo": 2}),
        ({"foo": ["a", "b"]}, {"op": "replace", "path": "/foo/1", "value": "c"}, {"foo": ["a", "c"]}),
        ({"a": {"b": 1}, "c": {}}, {"op": "move", "from": "/a/b", "path": "/c/d"}, {"a": {}, "c": {"d": 1}}),
        ({"a": {"b": 1}}, {"op": "copy", "from": "/a", "path": "/c"}, {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a/b": {"m~n": 1}}, {"op": "test", "path": "/a~1b/m~0n", "value": 1}, {"a/b": {"m~n": 1}}),
    ],
)
def test_a_json_patch_does_as_its_rfc_says(target: Any, operation: dict[str, Any], result: Any) -> None:
    assert patches.json_patch(target, [operation]) == result


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/missing"},
        {"op": "replace", "path": "/missing", "value": 1},
        {"op": "test", "path": "/a", "value": 2},
        {"op": "add", "path": "/list/9", "value": 1},
        {"op": "add", "path": "a", "value": 1},
        {"op": "invent", "path": "/a"},
        {"path": "/a"},
    ],
)
def test_a_json_patch_that_does_not_apply_is_a_bad_patch(operation: dict[str, Any]) -> None:
    with pytest.raises(patches.BadPatch):
        patches.json_patch({"a": 1, "list": []}, [operation])


def pod(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"containers": list(containers)}}


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        (
            pod({"name": "a", "image": "x"}, {"name": "b"}),
            pod({"name": "a", "image": "y"}),
            pod({"name": "a", "image": "y"}, {"name": "b"}),
        ),
        (
            pod({"name": "a", "env": [{"name": "K", "value": "1"}]}),
            pod({"name": "a", "env": [{"name": "L", "value": "2"}]}),
            pod({"name": "a", "env": [{"name": "K", "value": "1"}, {"name": "L", "value": "2"}]}),
        ),
        (pod({"name": "a"}, {"name": "b"}), pod({"name": "a", "$patch": "delete"}), pod({"name": "b"})),
        (pod({"name": "a"}), pod({"name": "b"}, {"$patch": "replace"}), pod({"name": "b"})),
        (
            pod({"name": "a", "command": ["x", "y"]}),
            pod({"name": "a", "command": ["z"]}),
            pod({"name": "a", "command": ["z"]}),
        ),
        (
            pod({"name": "a"}, {"name": "b"}),
            {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}},
            pod({"name": "b"}, {"name": "a"}),
        ),
        ({"spec": {"a": 1, "b": 2}}, {"spec": {"$retainKeys": ["b"], "b": 3}}, {"spec": {"b": 3}}),
        (
            {"metadata": {"finalizers": ["x", "y"]}},
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"]}},
            {"metadata": {"finalizers": ["y"]}},
        ),
    ],
)
def test_a_strategic_patch_merges_named_things_item_by_item(target: Any, patch: Any, result: Any) -> None:
    assert patches.strategic(target, patch, schema.merge_type("Pod")) == result


def test_a_strategic_patch_without_the_merge_key_is_a_bad_patch() -> None:
    with pytest.raises(patches.BadPatch, match="does not contain declared merge key: name"):
        patches.strategic(pod({"name": "a"}), pod({"image": "x"}), schema.merge_type("Pod"))
