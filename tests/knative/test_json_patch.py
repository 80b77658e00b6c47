"""JSON patches: the operations that a manifest is changed with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from knative import json_patch

OBJ: dict[str, Any] = {"a": {"b/c": 1}, "items": [{"x": 1}, {"x": 2}]}


@pytest.mark.parametrize(
    ("steps", "becomes"),
    [
        ([], OBJ),
        ([{"op": "replace", "path": "/a/b~1c", "value": 2}], {**OBJ, "a": {"b/c": 2}}),
        ([{"op": "add", "path": "/n", "value": {"k": []}}, {"op": "add", "path": "/n/k/-", "value": 1}],
         {**OBJ, "n": {"k": [1]}}),
        ([{"op": "add", "path": "/items/0", "value": 0}], {**OBJ, "items": [0, {"x": 1}, {"x": 2}]}),
        ([{"op": "add", "path": "/items/2", "value": 0}], {**OBJ, "items": [{"x": 1}, {"x": 2}, 0]}),
        ([{"op": "remove", "path": "/items/1/x"}], {**OBJ, "items": [{"x": 1}, {}]}),
        ([{"op": "remove", "path": "/items/0"}], {**OBJ, "items": [{"x": 2}]}),
        ([{"op": "replace", "path": "/a", "value": None}], {**OBJ, "a": None}),
    ],
)  # fmt: skip
def test_each_operation_changes_a_copy(steps: list[Any], becomes: dict[str, Any]) -> None:
    before = json.dumps(OBJ)
    assert json_patch.apply(OBJ, json_patch.parse(json.dumps(steps))) == becomes
    assert json.dumps(OBJ) == before


def test_no_text_is_no_operation() -> None:
    assert json_patch.parse(" ") == ()


@pytest.mark.parametrize(
    "text",
    [
        "{", "{}", "[1]", '[{"op": "move", "path": "/a"}]', '[{"op": "add", "path": "a", "value": 1}]',
        '[{"op": "add", "value": 1}]', '[{"op": "add", "path": "/a"}]',
    ],
)  # fmt: skip
def test_a_text_that_is_no_patch_is_refused(text: str) -> None:
    with pytest.raises(json_patch.BadPatch):
        json_patch.parse(text)


@pytest.mark.parametrize(
    "step",
    [
        {"op": "replace", "path": "/z", "value": 1},
        {"op": "remove", "path": "/items/2"},
        {"op": "add", "path": "/items/3", "value": 1},
        {"op": "add", "path": "/z/y", "value": 1},
        {"op": "add", "path": "/a/b~1c/d", "value": 1},
        {"op": "remove", "path": "/items/-"},
    ],
)
def test_an_operation_that_does_not_fit_is_refused(step: dict[str, Any]) -> None:
    with pytest.raises(json_patch.BadPatch):
        json_patch.apply(OBJ, json_patch.parse(json.dumps([step])))
