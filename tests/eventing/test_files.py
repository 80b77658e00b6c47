"""eventing.files: whole or absent, on this machine's disk and where fsspec reaches."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from eventing import files, local_files
from eventing.errors import Misconfigured, Rejected, RetryLater
from eventing.local_files import LocalFiles


@pytest.fixture(params=["file", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[files.Files]:
    if request.param == "file":
        yield files.open_files((tmp_path / "store").as_uri())
        return
    if request.param == "s3":
        yield files.open_files(request.getfixturevalue("s3_url"))
        return
    yield files.open_files(f"memory://{tmp_path.name}")
    fsspec.filesystem("memory").store.clear()


def test_a_file_is_written_read_listed_and_deleted(place: files.Files) -> None:
    assert place.read("a/x.json") is None
    place.write("a/x.json", b"1")
    place.write("a/x.json", b"2")
    place.write("a/b/y.json", b"3")
    assert place.read("a/x.json") == b"2"
    assert place.children("a") == ("b", "x.json")
    assert place.walk("a") == ("a/b/y.json", "a/x.json")
    place.delete("a")
    place.delete("a")
    assert place.walk("a") == ()
    # Some S3 servers list a folder for a while after its last object.
    assert all(place.walk(f"a/{name}") == () for name in place.children("a"))


def test_a_name_is_created_by_one_writer_alone(place: files.Files) -> None:
    assert place.create("claim", b"1")
    assert not place.create("claim", b"2")
    assert place.read("claim") == b"1"


@pytest.mark.parametrize("refused", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_is_said_so_and_nothing_is_left_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    """As exFAT by FUSE answers, and servers of files that know no links."""

    def link(source: object, target: object) -> None:
        raise OSError(refused, os.strerror(refused))

    place = files.open_files(tmp_path.as_uri())
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(Misconfigured, match=f"{tmp_path}.*hard links"):
        place.create("claims/a", b"1")
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_staged_file_takes_its_name_once_it_is_full(place: files.Files) -> None:
    with place.stage("a") as staged:
        staged.write_bytes(b"rows")
        assert place.walk("a") == ()
        place.adopt(staged, "a/named-by-its-content")
    assert place.read("a/named-by-its-content") == b"rows"
    with place.stage("a") as staged:
        staged.write_bytes(b"refused")
    assert place.walk("a") == ("a/named-by-its-content",)
    assert not staged.exists()


def test_json_comes_back_and_what_is_no_object_is_rejected(place: files.Files) -> None:
    assert files.read_json(place, "x.json") is None
    files.write_json(place, "x.json", {"ü": [1, None]})
    assert files.read_json(place, "x.json") == {"ü": [1, None]}
    for content in (b"[1]", b"{"):
        place.write("x.json", content)
        with pytest.raises(Rejected, match=r"x\.json in the store"):
            files.read_json(place, "x.json")


@pytest.mark.parametrize(
    ("url", "path", "expected"),
    [("file:///a", "b/c", "file:///a/b/c"), ("file:///a/", "b", "file:///a/b"), ("memory://", "b", "memory://b")],
)
def test_a_path_has_its_url(url: str, path: str, expected: str) -> None:
    assert files.uri(url, path) == expected


@pytest.mark.parametrize("url", ["", "/var/lib", "file://relative/path", "nosuch://x", "store"])
def test_a_url_that_names_no_place_is_refused_with_its_key(url: str) -> None:
    with pytest.raises(Misconfigured, match="HEADRACE_STORE"):
        files.open_files(url)


def test_what_a_writer_that_died_left_is_not_listed_and_removed_a_day_later_by_the_next_one(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    ages_s = {
        ".old.part": local_files.LEFTOVER_S + 60,
        ".young.part": local_files.LEFTOVER_S - 60,
        "kept": 10 * local_files.LEFTOVER_S,
    }
    for name, age_s in ages_s.items():
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age_s,) * 2)
    place = LocalFiles(tmp_path)
    assert place.children("a") == ("kept",)
    place.write("a/x.json", b"{}")
    assert sorted(p.name for p in folder.iterdir()) == [".young.part", "kept", "x.json"]


def test_a_copy_that_was_killed_leaves_nothing_under_its_name_and_goes_with_the_next_one(tmp_path: Path) -> None:
    code = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from eventing.local_files import LocalFiles
        with LocalFiles(Path({str(tmp_path)!r})).stage("a") as staged:
            staged.write_bytes(b"half")
            sys.stdout.write("ready"); sys.stdout.flush()
            time.sleep(600)
    """)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(5) == b"ready"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (half,) = (tmp_path / "a").iterdir()
    place = LocalFiles(tmp_path)
    assert place.children("a") == ()
    os.utime(half, (0, 0))
    place.write("a/x.json", b"{}")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x.json"]


def test_a_place_that_is_away_is_retry_later(tmp_path: Path) -> None:
    loop = tmp_path / "store"
    loop.symlink_to(loop)  # every access fails with ELOOP, as a broken mount fails with its own errors
    place = files.open_files(loop.as_uri())
    for call in (lambda: place.read("a"), lambda: place.write("a", b""), lambda: place.children("")):
        with pytest.raises(RetryLater, match="cannot be reached"):
            call()
    with pytest.raises(RetryLater, match="cannot be reached"), place.stage("a"):
        pass


def test_a_folder_of_this_machine_needs_no_bucket_client() -> None:
    code = (
        "import sys; from eventing import files, landing; files.open_files('file:///x'); "
        "sys.exit('fsspec' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
