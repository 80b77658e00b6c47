"""Which files count, and what is seen of a folder and of a bucket."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from eventing.drop import bucket, kinds, place
from eventing.drop.place import Found
from eventing.errors import RetryLater
from tests.s3_server import S3


@pytest.mark.parametrize(
    "name", [".hidden", "a.csv.part", "a.TMP", "a.csv~", "~$a.xlsx", "#a#", ".a.csv.swp", "a.crdownload"]
)
def test_unfinished_work_of_other_programs_does_not_count(name: str) -> None:
    assert not place.counts(name)


def test_a_folder_and_a_url_of_it_are_the_same_place(tmp_path: Path) -> None:
    assert kinds.open_place(tmp_path.as_uri()).name == kinds.open_place(str(tmp_path)).name == str(tmp_path)


def test_what_of_a_flat_listing_is_a_candidate() -> None:
    listed = {
        "flights/jan.csv": {"type": "file", "size": 20, "ETag": '"1"', "LastModified": "yesterday"},
        "loose.csv": {"type": "file", "size": 5, "mtime": 1.5},
        "flights/": {"type": "file", "size": 0, "ETag": '"2"'},
        "other": {"type": "directory", "size": 0},
        "flights/2013/a.csv": {"type": "file", "size": 1, "ETag": '"3"'},
        "flights/2013/12/b.csv": {"type": "file", "size": 1, "ETag": '"4"'},
        "flights/jan.csv.part": {"type": "file", "size": 1, "ETag": '"5"'},
        ".trash/jan.csv": {"type": "file", "size": 1, "ETag": '"6"'},
    }
    assert bucket.candidates(listed) == {
        "flights/jan.csv": Found((20, 'ETag="1"'), 20),
        "loose.csv": Found((5, "mtime=1.5"), 5),
        "flights/2013": Found((0, "folder"), 0, folder=True),
    }


def test_objects_are_whole_when_they_are_listed_and_files_elsewhere_are_not(tmp_path: Path) -> None:
    assert kinds.open_place(f"memory://{tmp_path.name}").whole
    assert not kinds.open_place(f"local://{tmp_path}").whole


def test_a_look_at_a_bucket_is_one_request_however_many_datasets_there_are(s3: S3, s3_url: str) -> None:
    system, root = fsspec.core.url_to_fs(s3_url)
    dropped = kinds.open_place(f"{s3_url}/drop")
    for name in ("a/1.csv", "b/1.csv", "c/1.csv"):
        system.pipe_file(f"{root}/drop/{name}", b"x\n1\n")
    s3.requests.clear()
    assert sorted(dropped.listing()) == ["a/1.csv", "b/1.csv", "c/1.csv"]
    assert len(s3.requests) == dropped.requests() == 1
    s3.requests.clear()
    with dropped.fetch("a/1.csv") as file:
        assert file.read_bytes() == b"x\n1\n"
    assert len(s3.requests) == 1


def test_a_prefix_into_which_nothing_was_dropped_yet_is_empty(s3_url: str) -> None:
    assert kinds.open_place(f"{s3_url}/drop").listing() == {}


def test_a_bucket_that_is_not_there_is_told(s3: S3) -> None:
    with pytest.raises(RetryLater, match=r"the drop place s3://headrace-nowhere/drop .* there is no such bucket"):
        kinds.open_place("s3://headrace-nowhere/drop").listing()
