"""A file counts once it is whole, once per content; through a real process, its restarts and kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventing import contract, sender, source
from eventing.errors import Misconfigured, RetryLater
from tests.eventing.serving import HOUSE, free_port
from tests.eventing.sinks import Answer, Sink, sink

CSV = "carrier,delay\nAA,5\n"
STAMP, OTHER = (10, 1, 1), (20, 2, 1)


@pytest.mark.parametrize(
    ("before", "now_s", "whole"),
    [
        (None, 0.0, False),
        (source.Look(STAMP, 0.0), 1.9, False),
        (source.Look(STAMP, 0.0), 2.0, True),
        (source.Look(OTHER, 0.0), 60.0, False),
    ],
)
def test_a_file_is_whole_when_two_looks_agree(before: source.Look | None, now_s: float, whole: bool) -> None:
    looks, ready = source.settled({"a": before} if before else {}, {"a": STAMP}, now_s, 2.0)
    assert ready == (["a"] if whole else [])
    assert looks["a"].stamp == STAMP


def test_a_file_that_went_away_is_forgotten() -> None:
    assert source.settled({"a": source.Look(STAMP, 0.0)}, {}, 9.0, 2.0) == ({}, [])


@pytest.mark.parametrize(
    "name", [".hidden", "a.csv.part", "a.TMP", "a.csv~", "~$a.xlsx", "#a#", ".a.csv.swp", "a.crdownload"]
)
def test_unfinished_work_of_other_programs_does_not_count(name: str) -> None:
    assert not source.counts(name)


def its_settings(folder: Path, url: str, **changes: object) -> source.Settings:
    environ = {
        "HEADRACE_DROP_FOLDER": str(folder / "drop"),
        "HEADRACE_STORE": (folder / "store").as_uri(),
        "K_SINK": url,
        "HEADRACE_SETTLE_S": "0",
        "HEADRACE_POLL_S": "0.05",
    } | {k: str(v) for k, v in changes.items()}
    return source.Settings.from_environment(environ)


def drop(folder: Path, path: str, text: str = CSV) -> Path:
    file = folder / "drop" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def looked(watcher: source.Watcher, times: int = 2) -> int:
    return sum(watcher.look(float(i)) for i in range(times))


def watcher(folder: Path, its: Sink, **changes: object) -> source.Watcher:
    return source.Watcher(its_settings(folder, its.url, **changes), sender.Sender(its.url, sleep=lambda _: None))


def test_each_content_is_told_once_per_dataset(tmp_path: Path) -> None:
    with sink() as its:
        eye = watcher(tmp_path, its)
        drop(tmp_path, "flights/jan.csv")
        drop(tmp_path, "flights/copy.csv")
        drop(tmp_path, "other/jan.csv")
        looked(eye)
        looked(eye)
        assert sorted(e.get_subject() or "" for e in its.events) == ["flights", "other"]
        drop(tmp_path, "flights/jan.csv", CSV + "UA,7\n")
        looked(eye)
        assert len(its.events) == 3


def test_a_new_process_remembers_what_was_told(tmp_path: Path) -> None:
    with sink() as its:
        drop(tmp_path, "flights/jan.csv")
        looked(watcher(tmp_path, its))
        assert looked(watcher(tmp_path, its)) == 0
        os.utime(tmp_path / "drop" / "flights" / "jan.csv")  # touched: read again, told no more
        looked(watcher(tmp_path, its))
        assert len(its.events) == 1


def test_a_file_that_lies_in_no_dataset_is_reported_once(tmp_path: Path) -> None:
    with sink() as its:
        drop(tmp_path, "jan.csv")
        (tmp_path / "drop" / "flights" / "2013").mkdir(parents=True)
        drop(tmp_path, "Bad Name/jan.csv")
        drop(tmp_path, "flights/empty.csv", "")
        looked(watcher(tmp_path, its))
        looked(watcher(tmp_path, its))
        told = [contract.DatasetRejected.from_event(e) for e in its.events]
    assert [(r.dataset, r.reasons[0].what.split(";")[0]) for r in told] == [
        ("Bad Name", "'Bad Name' cannot name a dataset"),
        ("flights", "flights/2013 is a folder inside a dataset"),
        ("flights", "empty.csv is empty"),
        ("unnamed", "jan.csv lies in no dataset"),
    ]
    assert (tmp_path / "drop" / "jan.csv").exists()


def test_what_was_told_before_the_sink_went_away_is_not_told_again(tmp_path: Path) -> None:
    with sink([Answer(202), Answer(503)]) as its:
        drop(tmp_path, "flights/a.csv")
        drop(tmp_path, "flights/b.csv", CSV + "UA,7\n")
        eye = watcher(tmp_path, its)
        eye.look(0.0)
        with pytest.raises(RetryLater):
            eye.look(1.0)
        its.answers[:] = [Answer(202)]
        its.requests.clear()
        looked(watcher(tmp_path, its))
        assert len(its.events) == 1


def test_a_bad_setting_is_refused_with_its_key() -> None:
    for key, value in (("HEADRACE_POLL_S", "often"), ("HEADRACE_MAX_DATASET_BYTES", "-1"), ("K_CE_OVERRIDES", "[1]")):
        with pytest.raises(Misconfigured, match=key):
            its_settings(Path("/tmp"), "http://127.0.0.1/", **{key: value})
    with pytest.raises(Misconfigured, match="HEADRACE_DROP_FOLDER"):
        source.Settings.from_environment({})


def test_the_overrides_of_the_container_source_are_added(tmp_path: Path) -> None:
    with sink() as its:
        drop(tmp_path, "flights/jan.csv")
        looked(watcher(tmp_path, its, K_CE_OVERRIDES='{"extensions": {"team": "data"}}'))
        assert its.events[0].get_extension("team") == "data"


@contextmanager
def process(folder: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    environ = {
        **os.environ,
        "HEADRACE_DROP_FOLDER": str(folder / "drop"),
        "HEADRACE_STORE": (folder / "store").as_uri(),
        "K_SINK": url,
        "HEADRACE_SETTLE_S": "0.1",
        "HEADRACE_POLL_S": "0.05",
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "eventing.source"], cwd=HOUSE, env=environ, stderr=subprocess.DEVNULL
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def wait_for(condition: Callable[[], bool], deadline_s: float = 60) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_a_file_killed_between_landing_and_telling_is_told_after_the_restart(tmp_path: Path) -> None:
    port = free_port()
    drop(tmp_path, "flights/jan.csv")
    with process(tmp_path, f"http://127.0.0.1:{port}/") as child:
        wait_for(lambda: bool(list((tmp_path / "store" / "datasets").rglob("*.json"))))
        child.kill()
        child.wait()
    with sink(port=port) as its:
        with process(tmp_path, its.url) as child:
            wait_for(lambda: bool(its.requests))
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 0
        arrived = contract.DatasetArrived.from_event(its.events[0])
        assert its.events[0].get_id() == source.arrived_event(arrived, its.events[0].get_time()).get_id()  # type: ignore[arg-type]
        its.requests.clear()
        with process(tmp_path, its.url):
            drop(tmp_path, "flights/feb.csv", CSV + "UA,9\n")
            wait_for(lambda: bool(its.requests))
        assert len(its.events) == 1, "January was told again"


def test_a_file_that_is_still_written_waits_until_it_is_whole(tmp_path: Path) -> None:
    with sink() as its, process(tmp_path, its.url):
        file = drop(tmp_path, "flights/slow.csv", "carrier,delay\n")
        for _ in range(20):
            with file.open("a") as f:
                f.write("AA,5\n")
            time.sleep(0.02)
        wait_for(lambda: bool(its.requests))
        arrived = contract.DatasetArrived.from_event(its.events[-1])
        assert arrived.bytes == file.stat().st_size


def test_a_file_with_the_same_stamp_is_not_read_again(tmp_path: Path) -> None:
    with sink() as its:
        file = drop(tmp_path, "flights/jan.csv")
        eye = watcher(tmp_path, its)
        looked(eye)
        seen = file.stat()
        file.write_text(CSV.replace("5", "6"))
        os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        assert looked(eye) == 0
        assert len(its.events) == 1


def test_the_source_imports_nothing_heavy_to_wait_with() -> None:
    heavy = ("flask", "numpy", "granian", "aiohttp", "fsspec", "asyncio")
    script = f"import sys, eventing.source; print([m for m in {heavy} if m in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", script], cwd=HOUSE, capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"
