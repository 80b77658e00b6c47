"""The journal as a process: each event once, through redelivery, kills and two pods at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventing import files
from eventing.contract import ModelTrained
from functions.journal.shelf import Shelf
from headrace import reach
from headrace.journal import Entry, Journal
from tests.eventing import serving

HEADERS = {"ce-specversion": "1.0", "ce-source": "/t", "ce-type": "t", "content-type": "application/json"}


def process(store: Path) -> Any:
    return serving.process("functions.journal", {"HEADRACE_STORE": store.as_uri()})


def post(url: str, id: str, body: bytes = b"{}", **more: str) -> int:
    return serving.post(url, {**HEADERS, "ce-id": id, **{f"ce-{k}": v for k, v in more.items()}}, body)[0]


def journal(url: str) -> Journal:
    return Journal(f"{url.rstrip('/')}/journal", reach.direct)


def ids(url: str, **query: Any) -> list[str]:
    return [e.id for e in journal(url).read(**query)]


def objects(store: Path) -> int:
    return sum(1 for _ in (store / "journal").rglob("*.jsonl"))


def test_an_event_is_acknowledged_when_it_lies_in_the_store_and_stands_there_once(tmp_path: Path) -> None:
    with process(tmp_path) as (_, url):
        assert post(url, "1", b'{"model": "flights"}', subject="flights", causationid="0") == 204
        (entry,) = journal(url).read()
        assert (entry.id, entry.subject, entry.cause, entry.data) == ("1", "flights", "0", {"model": "flights"})
        assert entry.deliveries == ()
        for _ in range(3):
            assert post(url, "1", b'{"model": "flights"}', subject="flights", causationid="0") == 204
        assert ids(url) == ["1"]
        assert objects(tmp_path) == 1


def test_two_pods_at_once_and_every_event_twice_are_one_row(tmp_path: Path) -> None:
    with process(tmp_path) as (_, one), process(tmp_path) as (_, two):
        threads = [threading.Thread(target=post, args=(url, str(n))) for n in range(60) for url in (one, two)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for url in (one, two):
            found = ids(url)
            assert sorted(found, key=int) == [str(n) for n in range(60)]
        # What comes together is written together.
        assert objects(tmp_path) < 60


def test_what_was_acknowledged_outlives_a_kill_and_what_was_not_is_taken_again(tmp_path: Path) -> None:
    acknowledged: list[str] = []

    def deliver(url: str, id: str) -> None:
        with contextlib.suppress(OSError):
            if post(url, id) == 204:
                acknowledged.append(id)

    wanted = [str(n) for n in range(200)]
    with process(tmp_path) as (running, url):
        threads = [threading.Thread(target=deliver, args=(url, id)) for id in wanted]
        for t in threads:
            t.start()
            time.sleep(0.002)
        running.kill()
        for t in threads:
            t.join()
    with process(tmp_path) as (_, url):
        found = ids(url)
        assert set(acknowledged) <= set(found)
        # The Broker's redelivery, of what was acknowledged too.
        threads = [threading.Thread(target=deliver, args=(url, id)) for id in wanted]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert sorted(ids(url), key=int) == wanted


def test_events_are_told_by_attribute_and_from_a_place_on(tmp_path: Path) -> None:
    with process(tmp_path) as (_, url):
        for n, second in enumerate(("01", "02", "03")):
            arrived = f"2026-11-25T12:00:{second}Z"
            assert post(url, str(n), subject="flights" if n else "other", knativearrivaltime=arrived) == 204
        assert ids(url, subject="flights") == ["1", "2"]
        assert ids(url, id="0") == ["0"]
        assert ids(url, id=["0", "2", "no"]) == ["0", "2"]
        assert post(url, "t1", type=ModelTrained.TYPE, knativearrivaltime="2026-11-25T12:00:00Z") == 204
        assert ids(url, loop=True) == ids(url, loop=True, tail=1) == ["t1"]
        assert ids(url, loop=False) == ["0", "1", "2"]
        (newest,) = journal(url).read(tail=1)
        assert (newest.id, newest.received.isoformat()) == ("2", "2026-11-25T12:00:03+00:00")
        assert ids(url, after=newest.seq - 1_000_000) == ["2"]


def test_a_wrong_query_names_its_faults_and_a_store_that_is_away_is_asked_again(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with process(store) as (_, url):
        with pytest.raises(Exception, match=r"answered 400.*bogus"):
            ids(url, bogus="1")
        store.write_text("no folder")
        assert post(url, "1") == 503
        store.unlink()
        assert post(url, "1") == 204
        assert ids(url) == ["1"]


@pytest.mark.slow
def test_who_follows_is_told_each_event_once_across_merges_a_stop_and_a_start(tmp_path: Path) -> None:
    told: list[str] = []
    with process(tmp_path) as (running, url):
        post(url, "before")
        _collect(journal(url).follow(), told)
        _until(lambda: told == ["before"])
        for n in range(70):  # more than are left in objects of their own
            assert post(url, str(n)) == 204
        _until(lambda: len(told) == 71)
        post(url, "late", knativearrivaltime="2001-01-01T00:00:00Z")
        _until(lambda: "late" in told)
        running.terminate()
        running.wait()
        port = int(url.rstrip("/").rpartition(":")[2])
    with serving.process("functions.journal", {"HEADRACE_STORE": tmp_path.as_uri()}, port) as (_, url):
        post(url, "after")
        _until(lambda: "after" in told)
        assert len(told) == len(set(told)) == 73
        kept = Shelf(files.open_files(tmp_path.as_uri()))
        assert sum(len(kept.names(hour)) for hour in kept.hours()) < 70


def _collect(entries: Iterator[Entry | None], told: list[str]) -> None:
    def run() -> None:
        with contextlib.suppress(Exception):  # the process ends with the test
            for entry in entries:
                if entry is not None:
                    told.append(entry.id)

    threading.Thread(target=run, daemon=True).start()


def _until(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.1)
