"""Lists in pages, each of the moment of the first one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.local.api import paging
from headrace.local.api.api_request import BadRequest
from headrace.local.api.paging import Page
from headrace.local.objects.objects import Objects


def a_map(name: str, namespace: str = "default", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def test_pages_hold_each_object_once_and_in_order() -> None:
    items = [a_map(name) for name in "abcde"]
    first, told = Page.parse({"limit": "2"}).cut(items, 7)
    assert (names(first), told["resourceVersion"], told["remainingItemCount"]) == (["a", "b"], "7", 3)
    second, told = Page.parse({"limit": "2", "continue": told["continue"]}).cut(items, 7)
    assert names(second) == ["c", "d"]
    last, told = Page.parse({"limit": "2", "continue": told["continue"]}).cut(items, 7)
    assert (names(last), told) == (["e"], {"resourceVersion": "7"})


@pytest.mark.parametrize("query", [{}, {"limit": "0"}, {"limit": "5"}, {"limit": "9"}])
def test_a_list_that_fits_is_whole(query: Mapping[str, str]) -> None:
    items = [a_map(name) for name in "abcde"]
    assert Page.parse(query).cut(items, 7) == (items, {"resourceVersion": "7"})


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "-1"},
        {"limit": "some"},
        {"continue": "nonsense"},
        {"continue": "e30"},  # {}
        {"continue": "bnVsbA"},  # null
        {"continue": "ü"},
    ],
)
def test_a_page_that_this_server_did_not_give_is_refused(query: Mapping[str, str]) -> None:
    with pytest.raises(BadRequest):
        Page.parse(query)


def test_a_page_has_its_own_resource_version() -> None:
    _, told = Page.parse({"limit": "1"}).cut([a_map("a"), a_map("b")], 7)
    with pytest.raises(BadRequest, match="not allowed when using continue"):
        Page.parse({"continue": told["continue"], "resourceVersion": "9"})


def test_what_has_changed_since_is_taken_back(tmp_path: Path) -> None:
    store = Objects(tmp_path / "objects.db")
    for name in ("changed", "deleted", "kept", "remade"):
        store.create(a_map(name, a="1"))
    store.create(a_map("elsewhere", "other", a="1"))
    then, since = store.list("ConfigMap", "default"), store.resource_version
    store.update(a_map("changed", a="2"))
    store.update(a_map("changed", a="3"))
    store.create(a_map("added", a="1"))
    store.delete("ConfigMap", "default", "deleted")
    store.delete("ConfigMap", "default", "remade")
    store.create(a_map("remade", a="9"))
    store.update(a_map("elsewhere", "other", a="2"))
    store.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kept", "namespace": "default"}})
    found = paging.taken_back("ConfigMap", "default", store.list("ConfigMap", "default"), store.changes_since(since))
    assert found == then
    store.close()
