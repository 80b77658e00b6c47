"""However often the same is said, it is learned once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eventing.contract import DatasetArrived, ModelPromoted
from tests.end_to_end.house import House, trained, until

MODEL = "once"


@pytest.fixture(scope="module")
def dropped(house: House, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file that was learned from, and the id of its arrival."""
    from tests.end_to_end import tables

    file = tables.table(tmp_path_factory.mktemp("once") / "first.csv", seed=31)
    event = house.drop(file, MODEL)
    assert house.verdict_on(event).type == ModelPromoted.TYPE
    return file, event


def test_a_file_dropped_twice_trains_once(house: House, dropped: tuple[Path, str]) -> None:
    file, _ = dropped
    again = house.headrace("drop", str(file), "--dataset", MODEL, "--wait")
    assert "dropped before" in again
    _trained_once(house)


def test_the_same_content_in_the_drop_folder_trains_once(house: House, dropped: tuple[Path, str]) -> None:
    """Under another name, and by another way in."""
    file, event = dropped
    told = len(house.entries(type=DatasetArrived.TYPE, subject=MODEL))
    folder = house.home / "drop" / MODEL
    folder.mkdir()
    shutil.copy(file, folder / "a copy of it.csv")
    until("word of the file", lambda: len(house.entries(type=DatasetArrived.TYPE, subject=MODEL)) > told)
    assert {e.id for e in house.entries(type=DatasetArrived.TYPE, subject=MODEL)} == {event}
    _trained_once(house)


def test_an_event_sent_five_times_trains_once(house: House, dropped: tuple[Path, str], tmp_path: Path) -> None:
    _, event = dropped
    for _ in range(5):
        assert house.send(house.entries(id=event)[0].event) == 202
    _trained_once(house)


def test_an_event_redelivered_after_its_job_was_deleted_trains_once(house: House, dropped: tuple[Path, str]) -> None:
    """Without its Job, the JobSink knows nothing of the event; what is in the store does."""
    _, event = dropped
    job = next(iter(trained(house.entries(), MODEL).values())).data["job"]
    house.kubectl("delete", "job", job)
    house.send(house.entries(id=event)[0].event)
    until("another Job", lambda: house.run_kubectl("get", "job", job).returncode == 0)
    house.kubectl("wait", "--for=condition=Complete", f"job/{job}", "--timeout=120s")
    _trained_once(house)


def test_new_content_under_an_old_name_is_learned(
    house: House, dropped: tuple[Path, str], file: Callable[[int], Path]
) -> None:
    """The counterpart: what is new does count."""
    before = len(trained(house.entries(), MODEL))
    house.learn(file(32), MODEL)
    assert len(trained(house.entries(), MODEL)) == before + 1


def _trained_once(house: House) -> None:
    house.all_settled()
    jobs = json.loads(house.kubectl("get", "jobs", "-o", "json"))["items"]
    until("the end of all Jobs", lambda: not house.pods_running("trainers.job"))
    house.all_settled()
    assert len(trained(house.entries(), MODEL)) == 1
    assert len(house.versions(MODEL)) == 1
    assert jobs
