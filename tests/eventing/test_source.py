"""The source as a process: its settings, its restarts and kills. What it tells is in drop/test_watcher.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from eventing import contract, source
from eventing.drop import kinds
from eventing.drop.folder import Folder
from eventing.errors import Misconfigured
from tests.eventing.serving import HOUSE, free_port
from tests.eventing.sinks import sink
from tests.s3_server import S3

CSV = "carrier,delay\nAA,5\n"


def its_settings(folder: Path, **changes: object) -> source.Settings:
    environ = {"HEADRACE_STORE": (folder / "store").as_uri(), "K_SINK": "http://127.0.0.1/"}
    return source.Settings.from_environment(environ | {k: str(v) for k, v in changes.items()})


def drop(folder: Path, path: str, text: str = CSV) -> Path:
    file = folder / "drop" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_without_a_word_files_are_dropped_into_the_store(tmp_path: Path) -> None:
    its = its_settings(tmp_path)
    assert its.drop == f"{its.store}/drop"
    dropped = kinds.open_place(its.drop)
    assert isinstance(dropped, Folder) and dropped.name == str(tmp_path / "store" / "drop")
    assert its_settings(tmp_path, HEADRACE_STORE="s3://models/").drop == "s3://models/drop"
    assert its_settings(tmp_path, HEADRACE_DROP="/drop").drop == "/drop"


def test_a_bucket_is_looked_at_less_often_than_a_folder_unless_it_is_told(tmp_path: Path) -> None:
    assert its_settings(tmp_path).poll_s is None
    assert its_settings(tmp_path, HEADRACE_POLL_S="0.5").poll_s == 0.5
    assert kinds.open_place(f"memory://{tmp_path.name}").pause_s > kinds.open_place(str(tmp_path)).pause_s


def test_a_folder_that_cannot_be_made_and_a_url_that_is_none_are_refused_with_their_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in (str(tmp_path / "file" / "drop"), "nosuch://bucket"):
        environ = {"HEADRACE_STORE": tmp_path.as_uri(), "K_SINK": "http://127.0.0.1/", "HEADRACE_DROP": name}
        with pytest.raises(Misconfigured, match="HEADRACE_DROP"):
            source.main(environ)


def test_a_bad_setting_is_refused_with_its_key() -> None:
    for key, value in (("HEADRACE_POLL_S", "often"), ("HEADRACE_MAX_DATASET_BYTES", "-1"), ("K_CE_OVERRIDES", "[1]")):
        with pytest.raises(Misconfigured, match=key):
            its_settings(Path("/tmp"), **{key: value})
    with pytest.raises(Misconfigured, match="HEADRACE_STORE"):
        source.Settings.from_environment({})


@contextmanager
def process(folder: Path, url: str, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
    environ = {
        **os.environ,
        "HEADRACE_DROP": str(folder / "drop"),
        "HEADRACE_STORE": (folder / "store").as_uri(),
        "K_SINK": url,
        "HEADRACE_SETTLE_S": "0.1",
        "HEADRACE_POLL_S": "0.05",
        **changes,
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


def test_the_overrides_of_the_container_source_are_added(tmp_path: Path) -> None:
    overrides = '{"extensions": {"team": "data"}}'
    with sink() as its, process(tmp_path, its.url, K_CE_OVERRIDES=overrides):
        drop(tmp_path, "flights/jan.csv")
        wait_for(lambda: bool(its.requests))
        assert its.events[0].get_extension("team") == "data"


def test_a_file_put_into_a_bucket_is_told_once_by_one_process_and_the_next(s3: S3, s3_url: str, tmp_path: Path) -> None:
    system, root = fsspec.core.url_to_fs(s3_url)
    environ = {"HEADRACE_STORE": s3_url, "HEADRACE_DROP": f"{s3_url}/drop", **s3.environ}
    with sink() as its:
        with process(tmp_path, its.url, **environ) as child:
            system.pipe_file(f"{root}/drop/flights/jan.csv", CSV.encode())
            wait_for(lambda: len(its.requests) == 1)
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 0
        with process(tmp_path, its.url, **environ):
            system.pipe_file(f"{root}/drop/flights/feb.csv", f"{CSV}UA,9\n".encode())
            wait_for(lambda: len(its.requests) == 2)
        assert [contract.DatasetArrived.from_event(e).name for e in its.events] == ["jan.csv", "feb.csv"]


def test_the_source_imports_nothing_heavy_to_wait_with() -> None:
    heavy = ("flask", "numpy", "granian", "aiohttp", "fsspec", "asyncio")
    script = f"import sys, eventing.source; print([m for m in {heavy} if m in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", script], cwd=HOUSE, capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"
