"""functions.predictor.catalog: which version answers, and what is said of those that do not."""

from __future__ import annotations

import pytest

from functions.model import Model
from functions.predictor.answers import Refusal
from functions.predictor.catalog import UNLOADED_KEPT, Catalog, age
from functions.predictor.served import Served
from tests.functions import packages


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(packages.build_package(tmp_path_factory.mktemp("package")))


def _status(catalog: Catalog, model: str, version: str | None = None) -> tuple[int, str]:
    with pytest.raises(Refusal) as refused:
        catalog.find(model, version)
    return refused.value.status, str(refused.value)


def test_without_a_version_the_newest_that_is_ready_answers(model: Model) -> None:
    catalog = Catalog([("flights", "v1"), ("flights", "v2"), ("flights", "v3")])
    catalog.put(Served("flights", "v2", model))
    assert catalog.find("flights").version == "v2"
    catalog.put(Served("flights", "v1", model))
    assert catalog.find("flights").version == "v2"
    catalog.put(Served("flights", "v3", model))
    assert catalog.find("flights").version == "v3"
    assert catalog.find("flights", "v1").version == "v1"
    catalog.unload("flights", "v3")
    assert catalog.find("flights").version == "v2"


def test_numbered_versions_are_ordered_by_their_number() -> None:
    given = ["v20260101-000000-000001", "10", "9", "007", "v2"]
    assert sorted(given, key=age) == ["007", "9", "10", "v2", "v20260101-000000-000001"]


def test_readiness_names_every_model_that_is_missing_and_why(model: Model) -> None:
    catalog = Catalog([("flights", "v1"), ("flights", "v2"), ("delays", ""), ("gates", "v1")])
    catalog.waits("flights", "v1", "the store is away")
    catalog.fails("flights", "v2", "a digest differs")
    catalog.put(Served("gates", "v1", model))
    assert not catalog.ready
    assert catalog.reason == "flights v1: the store is away; flights v2: a digest differs; delays: starting"
    catalog.put(Served("flights", "v1", model))
    catalog.unload("flights", "v2")
    catalog.resolved("delays", "v7")
    assert catalog.reason == "delays: starting"
    catalog.put(Served("delays", "v7", model))
    assert (catalog.ready, catalog.reason) == (True, "")
    catalog.draining = True
    assert not catalog.ready


def test_it_is_starting_until_each_model_was_tried_once() -> None:
    catalog = Catalog([("flights", "v1"), ("delays", "")])
    catalog.waits("flights", "v1", "the store is away")
    assert catalog.starting == "delays: starting"
    catalog.fails("delays", "", "serving.json in the store is not JSON")
    assert catalog.starting == ""
    assert catalog.waiting
    catalog.loads("delays", "v2")  # somebody asks for it: no part of the start
    assert catalog.starting == ""


def test_what_is_not_ready_is_503_and_what_was_unloaded_404(model: Model) -> None:
    catalog = Catalog([("flights", "v1"), ("flights", "v2")])
    catalog.fails("flights", "v1", "the self-test differs")
    assert _status(catalog, "flights", "v1") == (503, "flights is not ready: the self-test differs")
    catalog.put(Served("flights", "v2", model))
    catalog.unload("flights", "v2")
    assert _status(catalog, "flights", "v2") == (404, "flights v2 was unloaded; this server has no version of it")
    assert _status(catalog, "flights") == (503, "flights is not ready: the self-test differs")
    catalog.unload("flights", "v1")
    assert _status(catalog, "flights")[0] == 404
    assert _status(catalog, "flights", "v9")[0] == _status(catalog, "trains")[0] == 404
    assert catalog.ready


def test_states_are_those_of_tritons_index(model: Model) -> None:
    catalog = Catalog([("flights", "v1")])

    def state() -> tuple[str, str]:
        entry = catalog.entry("flights", "v1")
        return entry.state, entry.reason

    assert state() == ("LOADING", "starting")
    catalog.put(Served("flights", "v1", model))
    assert state() == ("READY", "")
    catalog.unload("flights", "v1")
    assert state() == ("UNLOADING", "unloaded")
    catalog.gone("flights", "v1")
    assert state() == ("UNAVAILABLE", "unloaded")
    catalog.loads("flights", "v1")
    assert state() == ("LOADING", "loading")


def test_the_end_of_an_unload_leaves_alone_what_was_loaded_again(model: Model) -> None:
    catalog = Catalog([("flights", "v1")])
    catalog.put(Served("flights", "v1", model))
    catalog.unload("flights", "v1")
    catalog.put(Served("flights", "v1", model))
    catalog.gone("flights", "v1")
    assert catalog.find("flights", "v1").version == "v1"


def test_a_version_a_minute_for_a_week_leaves_a_short_list(model: Model) -> None:
    catalog = Catalog([])
    for number in range(200):
        catalog.put(Served("flights", f"v{number:04}", model))
        if number:
            catalog.unload("flights", f"v{number - 1:04}")
            catalog.gone("flights", f"v{number - 1:04}")
    entries = catalog.entries("flights")
    assert len(entries) == UNLOADED_KEPT + 1
    assert [e.version for e in entries][-2:] == ["v0198", "v0199"]
    assert catalog.find("flights").version == "v0199"


def test_a_label_names_a_version_and_a_path_while_that_is_ready(model: Model) -> None:
    catalog = Catalog([("flights", "v1")], {"flights": {"stable": "v1", "canary": "v2"}})
    catalog.put(Served("flights", "v1", model))
    assert catalog.labelled("flights", "stable") == "v1"
    assert {(s.version, version, label) for s, version, label in catalog.paths()} == {
        ("v1", "v1", None), ("v1", None, None), ("v1", None, "stable"),
    }  # fmt: skip
    catalog.put(Served("flights", "v2", model))
    assert {(s.version, label) for s, _, label in catalog.paths() if label} == {("v1", "stable"), ("v2", "canary")}
    with pytest.raises(Refusal, match=r"no label 'old'.*stable, canary"):
        catalog.labelled("flights", "old")


def test_a_version_has_its_paths_before_it_is_seen_to_be_ready(model: Model) -> None:
    catalog = Catalog([("flights", "v1")])
    seen: list[tuple[bool, list[str]]] = []
    catalog.on_change = lambda: seen.append((catalog.ready, [served.version for served, _, _ in catalog.paths()]))
    catalog.waits("flights", "v1", "the store is away")
    catalog.put(Served("flights", "v1", model))
    catalog.put(Served("flights", "v2", model))
    catalog.unload("flights", "v1")
    assert seen == [(False, ["v1", "v1"]), (True, ["v1", "v2", "v2"]), (True, ["v2", "v2"])]
    assert catalog.ready
