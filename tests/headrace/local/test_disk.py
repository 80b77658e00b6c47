"""A disk that is full, or only read, is told as such, and not as a defect or as somebody else's file."""

from __future__ import annotations

import errno
import os
import re
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.local import disk
from tests.running import Platform


def test_a_database_that_takes_no_more_is_the_disks_fault_and_a_broken_one_is_not(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "full.db") as db:
        db.execute("PRAGMA max_page_count=2")
        db.execute("CREATE TABLE t (body BLOB)")
        with pytest.raises(sqlite3.Error) as full:
            db.execute("INSERT INTO t VALUES (randomblob(100000))")
    assert disk.is_at_fault(full.value)
    (tmp_path / "other.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(sqlite3.Error) as other:
        sqlite3.connect(tmp_path / "other.db").execute("SELECT * FROM sqlite_master")
    assert not disk.is_at_fault(other.value)


@pytest.mark.parametrize(
    ("number", "at_fault"),
    [(errno.ENOSPC, True), (errno.EROFS, True), (errno.EACCES, True), (errno.ECONNREFUSED, False)],
)
def test_an_error_of_the_system_is_the_disks_fault_by_its_number(number: int, at_fault: bool) -> None:
    assert disk.is_at_fault(OSError(number, os.strerror(number))) is at_fault


@pytest.mark.parametrize("kib", [4, 64, 128])
def test_a_platform_whose_disk_takes_no_more_says_so_without_a_traceback(tmp_path: Path, kib: int) -> None:
    """No file may grow beyond a limit, which SQLite meets as it meets a full disk: with an error of its own."""
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-m", "headrace.local"],
        env=Platform(home).environ | {"HEADRACE_PORT": "0"}, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, kib * 1024)),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert re.search(rf"ERROR .*the (home {home}|platform's home) cannot be written to", done.stderr), done.stderr
    assert "Traceback" not in done.stderr
