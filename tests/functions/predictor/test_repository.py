"""functions.predictor.repository: versions come and go, and what is wrong with one harms no other."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eventing.errors import Rejected, RetryLater
from functions.model import write_sums
from functions.predictor.answers import Refusal
from functions.predictor.catalog import Catalog
from functions.predictor.phases import Start
from functions.predictor.query import Query
from functions.predictor.repository import Repository
from functions.predictor.settings import Settings, Wanted
from functions.store import Serving, Store
from monitoring import predictions
from tests.functions import packages
from tests.functions.predictor import predictors

V1, V2, V3 = "v20260101-000000-000001", "v20260201-000000-000002", "v20260301-000000-000003"
FILES = ("model.onnx", "model.json", "sample.json", "SHA256SUMS")


class House:
    """A store on this machine, and what loads from it in this process."""

    def __init__(self, folder: Path, *models: Wanted, **settings: object) -> None:
        self.folder = folder
        self.store = Store.open((folder / "store").as_uri())
        settings = {"model_control": True, **settings}
        self.settings = Settings(models=models, store=self.store.url, **settings)  # type: ignore[arg-type]
        self.catalog = Catalog([(m.name, m.version or "") for m in models], self.settings.labels)
        self.stopping = threading.Event()
        self.repository = Repository(self.settings, self.store, self.catalog, self.stopping)

    def publish(self, version: str, model: str = "flights", seed: int = 42) -> None:
        self.store.publish(packages.build_package(self.folder / "built" / model, model, version, seed=seed))

    def start(self) -> None:
        """To its end: each model answers or never will."""
        self.repository.start(Start(time.monotonic(), time.monotonic()))

    def starting(self) -> threading.Thread:
        thread = threading.Thread(target=self.start, daemon=True)
        thread.start()
        return thread

    def stop(self, thread: threading.Thread) -> None:
        self.stopping.set()
        thread.join(predictors.DEADLINE_S)
        assert not thread.is_alive()

    def file(self, name: str, version: str = V1, model: str = "flights") -> Path:
        return self.folder / "store" / "models" / model / version / name

    def ready(self, model: str = "flights") -> list[str]:
        return [e.version for e in self.catalog.entries(model) if e.served is not None]

    def reason(self, version: str = V1, model: str = "flights") -> str:
        return self.catalog.entry(model, version).reason


def _ask(house: House, model: str = "flights", version: str | None = None) -> str:
    """The version that answers."""
    served = house.catalog.find(model, version)
    query = Query(packages.arrays(packages.ROWS), len(packages.ROWS))
    assert len(served.predict(query, time.perf_counter()).outputs["label"]) == len(packages.ROWS)
    return served.version


# ---------------------------------------------------------------- at the start


def test_without_a_version_the_one_that_serves_is_taken_else_the_newest(tmp_path: Path) -> None:
    house = House(tmp_path, Wanted("flights"), Wanted("delays"))
    for version in (V1, V2, V3):
        house.publish(version)
        house.publish(version, "delays")
    house.store.set_serving("flights", Serving(V2, V1, "2026-01-01T00:00:00+00:00", "better"))
    house.start()
    assert (house.ready("flights"), house.ready("delays")) == ([V2], [V3])
    assert [e.version for e in house.catalog.entries()] == [V3, V2]
    assert house.catalog.ready


def test_where_only_what_was_promoted_may_serve_the_first_promotion_is_waited_for(tmp_path: Path) -> None:
    house = House(tmp_path, Wanted("flights"), unpromoted=False)
    house.publish(V1)
    house.publish(V2)
    starting = house.starting()
    predictors.until(lambda: "no version of flights was promoted" in house.catalog.reason)
    assert house.ready() == []
    house.store.set_serving("flights", Serving(V1, None, "2026-01-01T00:00:00+00:00", "it passed"))
    predictors.until(lambda: house.ready() == [V1])
    house.stop(starting)


def test_a_model_that_can_never_load_or_is_not_there_yet_stops_no_other(tmp_path: Path) -> None:
    wanted = [Wanted("broken", V1), Wanted("late"), Wanted("unwished"), Wanted("flights"), Wanted("flights", V1)]
    house = House(tmp_path, *wanted)
    house.publish(V1)
    house.publish(V2)
    house.publish(V1, "broken")
    house.file("model.onnx", V1, "broken").write_bytes(b"no model")
    starting = house.starting()
    predictors.until(lambda: house.ready() == [V1, V2])
    assert not house.catalog.starting
    assert "broken: the package in" in house.catalog.reason
    assert "late: late is not in the store" in house.catalog.reason
    assert "flights" not in house.catalog.reason
    house.repository.unload("unwished")  # before it came: then it need not come
    house.publish(V3, "late")
    house.publish(V3, "unwished")
    predictors.until(lambda: house.ready("late") == [V3])
    assert "late" not in house.catalog.reason
    starting.join(predictors.DEADLINE_S)
    assert not starting.is_alive()  # nothing left that could change
    assert house.ready("unwished") == []


# ---------------------------------------------------------------- loaded when it is asked for


def test_without_a_version_the_newest_takes_over_and_the_one_before_goes(tmp_path: Path) -> None:
    house = House(tmp_path, Wanted("flights"))
    house.publish(V1)
    house.start()
    house.publish(V2, seed=1)
    assert house.repository.load("flights") == V2
    assert _ask(house) == V2
    predictors.until(lambda: house.catalog.entry("flights", V1).state == "UNAVAILABLE")
    assert house.reason(V1) == "unloaded"
    assert house.repository.load("flights") == V2
    assert house.ready() == [V2]


def test_what_was_asked_for_by_name_stays_beside_the_newest(tmp_path: Path) -> None:
    labels = {"flights": {"stable": V1}}
    house = House(tmp_path, Wanted("flights", V1), labels=labels)
    for version in (V1, V2, V3):
        house.publish(version)
    house.start()
    assert house.repository.load("flights", V2) == V2
    assert house.repository.load("flights") == V3
    assert house.ready() == [V1, V2, V3]
    house.repository.unload("flights", V2)
    assert house.ready() == [V1, V3]
    assert (_ask(house), _ask(house, version=V1)) == (V3, V1)
    assert house.catalog.labelled("flights", "stable") == V1


def test_loading_what_answers_already_does_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, Wanted("flights", V1))
    house.publish(V1)
    house.start()
    served = house.catalog.find("flights")
    assert house.repository.load("flights", V1) == house.repository.load("flights") == V1
    assert house.catalog.find("flights") is served


def test_a_model_that_the_settings_do_not_name_is_loaded_too(tmp_path: Path) -> None:
    house = House(tmp_path, Wanted("flights", V1))
    house.publish(V1)
    house.publish(V2, "delays")
    house.start()
    assert house.repository.available() == {"delays": (V2,), "flights": (V1,)}
    assert house.repository.load("delays") == V2
    assert _ask(house, "delays") == V2
    assert house.catalog.ready


def test_what_the_store_has_not_is_404_and_says_what_it_has(tmp_path: Path) -> None:
    house = House(tmp_path, Wanted("flights", V1))
    house.publish(V1)
    house.start()
    for model, version, said in (("flights", V2, V1), ("trains", None, "no version of it"), ("trains", V1, "trains")):
        with pytest.raises(Refusal, match=said) as refused:
            house.repository.load(model, version)
        assert refused.value.status == 404
    with pytest.raises(Rejected, match="cannot name a model"):
        house.repository.load("../flights")
    assert house.catalog.ready
    assert [e.version for e in house.catalog.entries()] == [V1]


def test_a_load_that_fails_leaves_what_answers_untouched_and_says_why(tmp_path: Path) -> None:
    house = House(tmp_path, Wanted("flights"))
    house.publish(V1)
    house.start()
    served = house.catalog.find("flights")
    house.publish(V2)
    house.file("model.onnx", V2).write_bytes(b"broken")
    with pytest.raises(Rejected, match=r"model\.onnx has digest"):
        house.repository.load("flights")
    assert house.catalog.find("flights") is served
    assert house.catalog.entry("flights", V2).state == "UNAVAILABLE"
    assert "model.onnx has digest" in house.reason(V2)
    house.file("model.json", V2).unlink()
    with pytest.raises(RetryLater, match=r"model\.json is missing"):
        house.repository.load("flights", V2)
    assert (house.catalog.find("flights") is served, house.catalog.ready) == (True, True)


def test_the_store_away_fails_a_load_and_no_prediction(tmp_path: Path) -> None:
    house = House(tmp_path, Wanted("flights"))
    house.publish(V1)
    house.start()
    here, away = tmp_path / "store", tmp_path / "away"
    here.rename(away)
    here.symlink_to(here)  # a link to itself: every look at it is an error of the system
    with pytest.raises(RetryLater, match="cannot be reached"):
        house.repository.load("flights")
    with pytest.raises(RetryLater, match="cannot be reached"):
        house.repository.available()
    assert _ask(house) == V1
    here.unlink()
    away.rename(here)
    house.publish(V2)
    assert house.repository.load("flights") == V2


def test_two_loads_at_once_load_once(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.publish(V1)
    put: list[str] = []
    house.catalog.on_change = lambda: put.append("changed")
    loads = [threading.Thread(target=house.repository.load, args=("flights",)) for _ in range(6)]
    for load in loads:
        load.start()
    for load in loads:
        load.join(predictors.DEADLINE_S)
    assert (house.ready(), put) == ([V1], ["changed"])


# ---------------------------------------------------------------- unloaded


def _unloading(house: House, model: str = "flights", version: str | None = None) -> threading.Thread:
    """An unload that goes on, seen from the moment when no new request is taken."""
    thread = threading.Thread(target=house.repository.unload, args=(model, version), daemon=True)
    thread.start()
    predictors.until(lambda: all(e.served is None for e in house.catalog.entries(model)))
    return thread


def test_an_unload_takes_no_new_request_and_waits_for_those_in_flight(tmp_path: Path) -> None:
    house = House(tmp_path, Wanted("flights", V1))
    house.publish(V1)
    house.start()
    meter = house.catalog.find("flights").statistics.meter("v2")
    began = meter.begin()
    unloading = _unloading(house)
    with pytest.raises(Refusal) as refused:
        house.catalog.find("flights")
    assert refused.value.status == 404
    unloading.join(0.1)
    assert unloading.is_alive()
    assert house.catalog.entry("flights", V1).state == "UNLOADING"
    meter.end(began, predictions.DONE, False)
    unloading.join(predictors.DEADLINE_S)
    assert not unloading.is_alive()
    assert (house.catalog.entry("flights", V1).state, house.reason()) == ("UNAVAILABLE", "unloaded")


def test_a_request_that_found_its_version_before_it_left_is_answered(tmp_path: Path) -> None:
    """The moment between finding and counting: nobody counts it, and the session must outlive it."""
    house = House(tmp_path, Wanted("flights", V1))
    house.publish(V1)
    house.start()
    served = house.catalog.find("flights")
    unloading = _unloading(house)
    unloading.join(0.1)
    assert unloading.is_alive()
    query = Query(packages.arrays(packages.ROWS), len(packages.ROWS))
    assert len(served.predict(query, time.perf_counter()).outputs["label"]) == len(packages.ROWS)
    del served
    unloading.join(predictors.DEADLINE_S)
    assert not unloading.is_alive()


def test_the_server_stays_ready_when_its_last_model_was_taken_out(tmp_path: Path) -> None:
    house = House(tmp_path, Wanted("flights", V1))
    house.publish(V1)
    house.start()
    house.repository.unload("flights")
    assert house.catalog.ready
    house.repository.unload("flights")  # again: nothing to do
    for model, version in (("trains", None), ("flights", V2)):
        with pytest.raises(Refusal) as refused:
            house.repository.unload(model, version)
        assert refused.value.status == 404
    assert house.repository.load("flights") == V1
    assert _ask(house) == V1


def test_a_version_is_loaded_again_while_its_former_self_still_answers(tmp_path: Path) -> None:
    house = House(tmp_path, Wanted("flights", V1))
    house.publish(V1)
    house.start()
    meter = house.catalog.find("flights").statistics.meter("v2")
    began = meter.begin()
    unloading = _unloading(house)
    assert house.repository.load("flights", V1) == V1
    meter.end(began, predictions.DONE, False)
    unloading.join(predictors.DEADLINE_S)
    assert _ask(house) == V1


def test_an_unload_gives_the_memory_back(tmp_path: Path) -> None:
    """A forest of 262,112 nodes, which holds some 80 MiB once it is loaded."""
    house = House(tmp_path)
    house.store.publish(packages.build_large(tmp_path / "built", version=V1))
    house.repository.load("flights")
    house.repository.unload("flights")  # once: what the library keeps for good is there now
    before = _resident_bytes()
    house.repository.load("flights")
    taken = _resident_bytes() - before
    house.repository.unload("flights")
    assert taken > 20 * 2**20
    assert _resident_bytes() - before < taken / 4


def test_the_metrics_tell_what_is_served_now(tmp_path: Path) -> None:
    house = House(tmp_path, Wanted("metered", V1))
    house.publish(V1, "metered")
    house.start()

    def told() -> set[str]:
        found = (sample.labels for sample in predictions.MODEL_INFO.metric().samples)
        return {labels["version"] for labels in found if labels["model"] == "metered"}

    assert told() == {V1}
    house.repository.unload("metered")
    assert told() == set()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ---------------------------------------------------------------- trouble


@pytest.mark.parametrize("name", FILES)
def test_a_package_that_is_not_whole_yet_waits_for_the_rest(tmp_path: Path, name: str) -> None:
    house = House(tmp_path, Wanted("flights", V1))
    house.publish(V1)
    aside = tmp_path / name
    shutil.move(house.file(name), aside)
    starting = house.starting()
    predictors.until(lambda: house.reason() == f"flights {V1} is not whole in the store: {name} is missing")
    assert not house.catalog.ready
    assert house.catalog.entry("flights", V1).state == "LOADING"
    house.stop(starting)


@pytest.mark.parametrize("kept", [0, 1, 0.5, -1])
@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_off_anywhere_is_never_served(tmp_path: Path, name: str, kept: float) -> None:
    """kept: bytes, the share of the whole, or all but one."""
    house = House(tmp_path, Wanted("flights", V1))
    house.publish(V1)
    content = house.file(name).read_bytes()
    house.file(name).write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    house.start()
    assert name in house.reason()
    assert (house.ready(), house.catalog.ready) == ([], False)


@pytest.mark.parametrize("kept", [0, 1, 20])
def test_a_pointer_cut_off_is_never_served(tmp_path: Path, kept: int) -> None:
    house = House(tmp_path, Wanted("flights", V1))
    house.publish(V1)
    pointer = house.file("").with_name(f"{V1}.json")
    pointer.write_bytes(pointer.read_bytes()[:kept])
    house.start()
    assert f"{V1}.json in the store is not JSON" in house.reason()


def _signature(folder: Path) -> None:
    value = json.loads((folder / "model.json").read_text())
    value["signature"]["inputs"][0]["datatype"] = "FP64"
    (folder / "model.json").write_text(json.dumps(value))


def _sample(folder: Path) -> None:
    value = json.loads((folder / "sample.json").read_text())
    value["requests"][1]["outputs"]["probabilities"] = [0.5, 0.5]
    (folder / "sample.json").write_text(json.dumps(value))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another signature": (_signature, "the signature is not the graph's"),
    "a self-test that fails": (_sample, "self-test: request 1 gives probabilities"),
    "a sample that is no JSON": (lambda f: (f / "sample.json").write_text("{"), "sample.json is not JSON"),
    "a sample of another form": (lambda f: (f / "sample.json").write_text("[]"), "sample.json is not of the form"),
    "a manifest of another form": (lambda f: (f / "model.json").write_text("[]"), "model.json is no object"),
    "no graph": (lambda f: (f / "model.onnx").write_bytes(b"GIF89a"), "is not a servable ONNX model"),
    "another model's manifest": (
        lambda f: (f / "model.json").write_text(json.dumps(packages.manifest("trains", V1).to_json())),
        f"says that it is trains {V1}",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_package_that_proves_nothing_is_never_served(tmp_path: Path, fault: str) -> None:
    """Whole by its digests, and wrong."""
    harm, said = FAULTS[fault]
    house = House(tmp_path, Wanted("flights", V1))
    house.publish(V1)
    harm(house.file(""))
    digest = write_sums(house.file(""))
    house.file("").with_name(f"{V1}.json").write_text(json.dumps({"sha256": digest}))
    house.start()
    assert said in house.reason()
    assert house.catalog.entry("flights", V1).state == "UNAVAILABLE"
    assert said in house.catalog.reason


def test_a_word_on_what_serves_that_cannot_be_read_is_told_and_mended_by_a_load(tmp_path: Path) -> None:
    house = House(tmp_path, Wanted("flights"))
    house.publish(V1)
    (tmp_path / "store" / "models" / "flights" / "serving.json").write_text("{")
    house.start()
    assert "serving.json in the store is not JSON" in house.catalog.reason
    assert house.repository.load("flights") == V1
    assert house.catalog.ready
    assert [e.version for e in house.catalog.entries()] == [V1]


def test_the_store_away_at_the_start_is_waited_for(tmp_path: Path) -> None:
    house = House(tmp_path, Wanted("flights"))
    here = tmp_path / "store"
    here.symlink_to(here)
    starting = house.starting()
    predictors.until(lambda: "cannot be reached" in house.catalog.reason)
    here.unlink()
    house.publish(V1)
    predictors.until(lambda: house.catalog.ready)
    starting.join(predictors.DEADLINE_S)
    assert _ask(house) == V1
