"""eventing.remote_files over a real S3 server: who was first, what is absent, who is away, and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from eventing import files
from eventing.errors import Misconfigured, RetryLater
from eventing.remote_files import RemoteFiles
from tests import clocks
from tests.s3_server import S3


def calls(place: files.Files, folder: Path) -> list[Callable[[], object]]:
    """Everything that can be asked of a place."""
    (folder / "f").write_bytes(b"1")
    return [
        lambda: place.read("a"),
        lambda: place.write("a", b"1"),
        lambda: place.create("a", b"1"),
        lambda: place.put("a", folder / "f"),
        lambda: place.get("a", folder / "into"),
        lambda: place.children("a"),
        lambda: place.walk("a"),
        lambda: place.delete("a"),
    ]


def test_of_many_writers_of_one_name_at_once_one_is_first(s3_url: str) -> None:
    places = [files.open_files(s3_url) for _ in range(8)]
    winners: list[int] = []

    def write(number: int) -> None:
        if places[number].create("claim", b"%d" % number):
            winners.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1 and places[0].read("claim") == b"%d" % winners[0]


def test_a_name_whose_creation_was_answered_with_an_error_is_its_writers_all_the_same(s3: S3, s3_url: str) -> None:
    place = files.open_files(s3_url)
    assert place.create("first", b"1")
    s3.lose_answers = 1
    assert place.create("claim", b"mine")
    assert not place.create("claim", b"another's")


def test_a_store_that_lets_a_taken_name_be_taken_again_is_refused(tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")

    class Careless:
        """A service from before conditional writes: it passes over the condition."""

        def pipe_file(self, path: str, content: bytes, mode: str = "overwrite") -> None:
            system.pipe_file(path, content)

    with pytest.raises(Misconfigured, match="If-None-Match"):
        RemoteFiles(Careless(), f"/{tmp_path.name}", "s3://old").create("claim", b"1")


def test_a_bucket_that_is_not_there_is_told_as_such(s3: S3, tmp_path: Path) -> None:
    # Of what only reads: this server makes the bucket of whoever writes.
    place = files.open_files("s3://headrace-no-such-bucket/store")
    for call in (calls(place, tmp_path)[i] for i in (0, 4, 5, 6, 7)):
        with pytest.raises(RetryLater, match="there is no such bucket"):
            call()


def test_a_service_that_answers_503_is_retry_later_whatever_is_asked(s3: S3, s3_url: str, tmp_path: Path) -> None:
    place = files.open_files(s3_url)
    place.write("a", b"1")
    s3.shut = True
    for call in calls(place, tmp_path):
        with pytest.raises(RetryLater, match="cannot be reached"):
            call()
    s3.shut = False
    assert place.read("a") == b"1"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "its keys or rights do not suffice"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "wants keys, and this process has none"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "Could not connect"),
    ],
)
def test_a_wrong_setting_is_told_for_what_it_is(s3: S3, s3_url: str, changes: dict[str, str], told: str) -> None:
    code = f"from eventing import files; files.open_files({s3_url!r}).read('a')"
    environ = {k: v for k, v in {**os.environ, **s3.environ, **changes, "HOME": "/nonexistent"}.items() if v}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("eventing.errors.RetryLater: the store s3://"), done.stderr
    assert told in done.stderr.splitlines()[-1]


def test_a_clock_that_is_an_hour_off_is_told_as_that(s3: S3, s3_url: str, tmp_path: Path) -> None:
    library = clocks.library(tmp_path)
    if library is None:
        pytest.skip("there is no C compiler here, for a program whose clock is off")
    code = f"from eventing import files; files.open_files({s3_url!r}).read('a')"
    environ = {**os.environ, **s3.environ, **clocks.environ(str(library), 3600)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    told = done.stderr.splitlines()[-1]
    assert told.startswith("eventing.errors.RetryLater: the store s3://") and "too far from the store's" in told, done


def test_one_object_costs_one_request(s3: S3, s3_url: str, tmp_path: Path) -> None:
    place = files.open_files(s3_url)
    (tmp_path / "f").write_bytes(b"1")
    for call in (
        lambda: place.write("a/x", b"1"), lambda: place.read("a/x"), lambda: place.put("a/y", tmp_path / "f"),
        lambda: place.get("a/y", tmp_path / "into"), lambda: place.children("a"), lambda: place.walk("a"),
    ):  # fmt: skip
        s3.requests.clear()
        call()
        assert len(s3.requests) == 1, s3.requests
