"""Each content is told once, whatever place it is dropped in: a folder, a bucket of a real S3 server."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import pytest

from eventing import contract, sender
from eventing.drop.kinds import open_place
from eventing.drop.watcher import Look, Rules, Watcher, pause, settled, watch
from eventing.errors import RetryLater
from tests import waiting
from tests.eventing.sinks import Answer, Sink, sink
from tests.s3_server import S3

CSV = "carrier,delay\nAA,5\n"
STAMP, OTHER = (10, 1, 1), (20, 2, 1)


class House:
    """A drop place and a store, and somebody who drops."""

    def __init__(self, drop: str, store: str) -> None:
        self.drop, self.store = drop, store
        self._system = fsspec.filesystem("s3" if drop.startswith("s3://") else "file")
        self._root = drop.removeprefix("s3://")

    def put(self, path: str, text: str = CSV) -> str:
        target = f"{self._root}/{path}"
        self._system.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._system.pipe_file(target, text.encode())
        return target

    def take(self, path: str) -> None:
        self._system.rm(f"{self._root}/{path}")

    def holds(self, path: str) -> bool:
        self._system.invalidate_cache()
        return bool(self._system.exists(f"{self._root}/{path}"))

    def watcher(self, its: Sink, **rules: object) -> Watcher:
        post = sender.Sender(its.url, sleep=lambda _: None)
        return Watcher(open_place(self.drop), self.store, post, Rules(settle_s=0, **rules))  # type: ignore[arg-type]


@pytest.fixture(params=["folder", "s3"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    if request.param == "s3":
        url = request.getfixturevalue("s3_url")
        return House(f"{url}/drop", url)
    (tmp_path / "drop").mkdir()
    return House(str(tmp_path / "drop"), (tmp_path / "store").as_uri())


def looked(watcher: Watcher, times: int = 2) -> int:
    return sum(watcher.look(float(i)) for i in range(times))


@pytest.mark.parametrize(
    ("before", "now_s", "whole"),
    [
        (None, 0.0, False),
        (Look(STAMP, 0.0), 1.9, False),
        (Look(STAMP, 0.0), 2.0, True),
        (Look(OTHER, 0.0), 60.0, False),
    ],
)
def test_a_file_is_whole_when_two_looks_agree(before: Look | None, now_s: float, whole: bool) -> None:
    looks, ready = settled({"a": before} if before else {}, {"a": STAMP}, now_s, 2.0)
    assert ready == (["a"] if whole else [])
    assert looks["a"].stamp == STAMP


def test_a_file_that_went_away_is_forgotten() -> None:
    assert settled({"a": Look(STAMP, 0.0)}, {}, 9.0, 2.0) == ({}, [])


@pytest.mark.parametrize(
    ("poll_s", "requests", "worked_s", "expected_s"),
    [
        (1.0, 0, 0.001, 1.0),
        (1.0, 0, 0.028, 7.0),
        (1.0, 0, 9.0, 60.0),
        (10.0, 1, 0.001, 10.0),
        (10.0, 3, 0.001, 30.0),
        (10.0, 30, 0.001, 60.0),
        (300.0, 30, 9.0, 300.0),
    ],
)
def test_an_idle_place_is_looked_at_as_often_as_its_cost_allows(
    poll_s: float, requests: int, worked_s: float, expected_s: float
) -> None:
    assert pause(poll_s, requests, worked_s) == pytest.approx(expected_s)


def test_each_content_is_told_once_per_dataset(house: House) -> None:
    with sink() as its:
        eye = house.watcher(its)
        house.put("flights/jan.csv")
        house.put("flights/copy.csv")
        house.put("other/jan.csv")
        looked(eye)
        looked(eye)
        assert sorted(e.get_subject() or "" for e in its.events) == ["flights", "other"]
        house.put("flights/jan.csv", CSV + "UA,7\n")
        looked(eye)
        assert len(its.events) == 3


def test_what_is_told_of_lies_in_the_store_and_where_it_was_dropped(house: House) -> None:
    with sink() as its:
        house.put("flights/jan.csv")
        looked(house.watcher(its))
        arrived = contract.DatasetArrived.from_event(its.events[0])
    assert arrived.uri.startswith(f"{house.store}/datasets/flights/") and arrived.name == "jan.csv"
    with fsspec.open(arrived.uri) as file:
        assert file.read() == CSV.encode()
    assert house.holds("flights/jan.csv")


def test_a_new_process_remembers_what_was_told(house: House) -> None:
    with sink() as its:
        house.put("flights/jan.csv")
        looked(house.watcher(its))
        assert looked(house.watcher(its)) == 0
        house.put("flights/jan.csv")  # the same again: perhaps read, told no more
        looked(house.watcher(its))
        assert len(its.events) == 1


def test_a_file_that_cannot_be_a_dataset_is_reported_once(house: House) -> None:
    with sink() as its:
        house.put("jan.csv")
        house.put("flights/2013/jan.csv")
        house.put("flights/2013/feb.csv")
        house.put("Bad Name/jan.csv")
        house.put("flights/empty.csv", "")
        house.put("flights/large.csv", "a" * 200)
        looked(house.watcher(its, max_bytes=100))
        looked(house.watcher(its, max_bytes=100))
        told = [contract.DatasetRejected.from_event(e) for e in its.events]
    assert [(r.dataset, r.reasons[0].what.split(";")[0].split(":")[0]) for r in told] == [
        ("Bad Name", "'Bad Name' cannot name a dataset"),
        ("flights", "flights/2013 is a folder inside a dataset"),
        ("flights", "empty.csv is empty"),
        ("flights", "large.csv holds 200 bytes"),
        ("unnamed", "jan.csv lies in no dataset"),
    ]
    assert all(urlsplit(r.uri).scheme in ("file", "s3") for r in told)
    assert house.holds("jan.csv")


def test_what_was_told_before_the_sink_went_away_is_not_told_again(house: House) -> None:
    with sink([Answer(202), Answer(503)]) as its:
        house.put("flights/a.csv")
        house.put("flights/b.csv", CSV + "UA,7\n")
        eye = house.watcher(its)
        with pytest.raises(RetryLater):
            looked(eye)
        its.answers[:] = [Answer(202)]
        its.requests.clear()
        looked(house.watcher(its))
        assert len(its.events) == 1


def test_a_file_is_read_again_where_its_stamp_is_new_be_it_by_its_rights_alone(tmp_path: Path) -> None:
    """A file that could not be read is told once; made readable, nothing but the time of its last change tells."""
    (tmp_path / "drop").mkdir()
    house = House(str(tmp_path / "drop"), (tmp_path / "store").as_uri())
    with sink() as its:
        file = Path(house.put("flights/jan.csv"))
        eye = house.watcher(its)
        assert (looked(eye), looked(eye)) == (1, 0)
        file.chmod(0o600)
        assert (looked(eye), looked(eye)) == (1, 0)
        assert len(its.events) == 1


def test_a_name_that_is_no_text_is_told_once_and_holds_up_nobody(tmp_path: Path) -> None:
    (tmp_path / "drop" / "flights").mkdir(parents=True)
    house = House(str(tmp_path / "drop"), (tmp_path / "store").as_uri())
    for place in (b"flights/j\xe4nner.csv", b"j\xe4nner.csv"):
        (tmp_path / "drop" / os.fsdecode(place)).write_text(CSV)
    house.put("flights/z.csv")
    with sink() as its:
        looked(house.watcher(its))
        looked(house.watcher(its))
        kinds = [event.get_type() for event in its.events]
        told = [
            contract.DatasetRejected.from_event(e) for e in its.events if e.get_type() != contract.DatasetArrived.TYPE
        ]
    assert kinds.count(contract.DatasetArrived.TYPE) == 1
    assert [r.reasons[0].what.split(";")[0].split(",")[0] for r in told] == [
        "j\\udce4nner.csv has a name that is not UTF-8",
        "j\\udce4nner.csv lies in no dataset",
    ]
    assert told[0].uri.endswith("/j%E4nner.csv")


def test_a_sink_that_refuses_everything_ends_no_source(house: House) -> None:
    """A wrong address answers 405 or 403: what was dropped meanwhile is told when the right one is there."""
    stop = threading.Event()
    with sink([Answer(403)]) as its:
        house.put("flights/jan.csv")
        eye = house.watcher(its)
        watching = threading.Thread(target=watch, args=(eye, open_place(house.drop), 0.01, stop), daemon=True)
        watching.start()
        waiting.until("an event", lambda: bool(its.requests), 30, 0.01)
        its.answers[:] = [Answer(202)]
        waiting.until("nothing new", lambda: eye.idle, 30, 0.01)
        stop.set()
        watching.join()
    assert {event.get_type() for event in its.events} == {contract.DatasetArrived.TYPE}


def test_a_store_that_answers_503_for_a_while_loses_nothing_and_tells_nothing_twice(s3: S3, s3_url: str) -> None:
    house = House(f"{s3_url}/drop", s3_url)
    with sink() as its:
        eye = house.watcher(its)
        house.put("flights/jan.csv")
        looked(eye)
        house.put("flights/feb.csv", CSV + "UA,7\n")
        s3.shut = True
        for now_s in (10.0, 20.0):
            with pytest.raises(RetryLater, match=r"the drop place s3://.* cannot be reached"):
                eye.look(now_s)
        s3.shut = False
        looked(eye)
        looked(house.watcher(its))
        assert len(its.events) == 2


def test_what_was_told_is_kept_before_all_of_a_first_look_is_told(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    house = House(str(tmp_path / "drop"), (tmp_path / "store").as_uri())
    kept: list[int] = []

    def pause_of_the_sender(_: float) -> None:
        kept.append(len(list((tmp_path / "store" / "sources").glob("*.json"))))

    with sink([Answer(202), Answer(503), Answer(202)]) as its:
        house.put("flights/a.csv")
        house.put("flights/b.csv", CSV + "UA,7\n")
        post = sender.Sender(its.url, sleep=pause_of_the_sender)
        looked(Watcher(open_place(house.drop), house.store, post, Rules(settle_s=0), save_s=-1.0))
        assert len(its.events) == 3
    assert kept == [1]
