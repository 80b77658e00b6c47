"""What makes the packages of an image lean and ready: tried on packages made here."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

LEAN = Path(__file__).parent.parent.parent / "deploy" / "images" / "lean.py"


def test_what_nothing_reads_is_removed_also_from_its_record_and_the_rest_is_compiled(tmp_path: Path) -> None:
    files = {
        "one/__init__.py": True,
        "one/tests/test_one.py": False,
        "one/testing/keep.py": True,
        "one/include/one.h": False,
        "botocore/data/s3/service.json": True,
        "botocore/data/ec2/service.json": False,
        "botocore/data/endpoints.json": True,
        "onnxruntime/capi/libonnxruntime.so.1": False,
        "onnxruntime/capi/state.so": True,
    }
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    record = tmp_path / "one-1.dist-info" / "RECORD"
    record.parent.mkdir()
    with record.open("w", newline="") as f:
        csv.writer(f).writerows([name, "sha256=x", "0"] for name in files)
    done = lean(tmp_path)
    assert done.returncode == 0, done.stderr
    assert {name: (tmp_path / name).exists() for name in files} == files
    with record.open(newline="") as f:
        assert [row[0] for row in csv.reader(f)] == [name for name, kept in files.items() if kept]
    assert list((tmp_path / "one" / "__pycache__").glob("__init__.*.pyc"))
    # Byte code that says of itself that it is never compared with its source: an image's times are not kept everywhere.
    (compiled,) = (tmp_path / "one" / "__pycache__").glob("__init__.*.pyc")
    assert int.from_bytes(compiled.read_bytes()[4:8], "little") == 0b01


def test_source_that_cannot_be_compiled_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def\n")
    assert lean(tmp_path).returncode == 1


def lean(site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(LEAN), str(site)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
