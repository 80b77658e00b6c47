"""A file that cannot be learned from is refused in words a data person can act on, and what served goes on serving."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from eventing.contract import DatasetRejected
from tests.end_to_end import tables
from tests.end_to_end.conftest import MODEL
from tests.end_to_end.house import House

GIB = 1 << 30


@pytest.fixture(autouse=True)
def serves_all_the_while(house: House) -> object:
    """The same answers before and after, by the same version."""
    asked = tables.questions(5, seed=77)
    before, serving = house.predictions(MODEL, asked), house.get("ksvc", MODEL)["status"]["traffic"]
    yield
    assert house.predictions(MODEL, asked) == before
    assert house.get("ksvc", MODEL)["status"]["traffic"] == serving
    return None


def test_broken_rows_are_named_by_row_and_column(house: House, tmp_path: Path) -> None:
    rows = tables.rows(200, seed=41)
    rows[4]["target"] = None
    rows[9]["Gewicht (kg)"] = "schwer"
    text = tables.write(tmp_path / "broken.csv", rows).read_text().splitlines()
    text[20] += ",one cell too many"
    (tmp_path / "broken.csv").write_text("\n".join(text) + "\n")
    rejected = house.learn(tmp_path / "broken.csv", MODEL)
    assert rejected.type == DatasetRejected.TYPE
    reasons = {(r.get("row"), r.get("column")): r["what"] for r in rejected.data["reasons"]}
    # Row numbers are the file's lines, the header being the first: what an editor or a spreadsheet shows.
    assert (6, "target") in reasons
    assert (11, "Gewicht (kg)") in reasons
    assert any(row == 21 for row, _ in reasons)
    assert rejected.data["broken_rows"] == 3


def test_the_reasons_are_shown_to_who_waits_for_a_drop(house: House, tmp_path: Path) -> None:
    rows = tables.rows(200, seed=42)
    rows[4]["target"] = None
    done = house.run("drop", str(tables.write(tmp_path / "b.csv", rows)), "--dataset", MODEL, "--wait")
    assert done.returncode == 1
    assert "row 6, column target" in done.stdout


def test_an_empty_file_is_refused_at_the_drop(house: House, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    assert "empty" in _refused(house, tmp_path / "empty.csv")


def test_a_file_of_a_header_alone_is_refused_at_the_drop(house: House, tmp_path: Path) -> None:
    assert "expected rows" in _refused(house, tables.write(tmp_path / "header.csv", []))


def test_a_file_without_target_is_told_which_columns_it_has(house: House, tmp_path: Path) -> None:
    file = tables.write(tmp_path / "blind.csv", tables.rows(200, seed=43), tables.COLUMNS[:-1])
    rejected = house.learn(file, MODEL)
    assert rejected.type == DatasetRejected.TYPE
    what = rejected.data["reasons"][0]["what"]
    assert "target" in what
    assert "Länge" in what


def test_a_target_of_one_class_is_rejected(house: House, tmp_path: Path) -> None:
    rows = [{**row, "target": 1} for row in tables.rows(200, seed=44)]
    rejected = house.learn(tables.write(tmp_path / "one.csv", rows), MODEL)
    assert rejected.type == DatasetRejected.TYPE
    assert rejected.data["reasons"][0]["column"] == "target"
    assert "1" in rejected.data["reasons"][0]["what"]


def test_a_gibibyte_is_refused_where_64_mebibytes_are_allowed(house: House, tmp_path: Path) -> None:
    """A sparse file: it has that size and takes no room."""
    file = tables.table(tmp_path / "huge.csv", seed=45)
    os.truncate(file, GIB)
    said = _refused(house, file)
    assert "1,073,741,824" in said
    assert "67,108,864" in said


def test_a_binary_called_csv_is_refused_at_the_drop(house: House, tmp_path: Path) -> None:
    (tmp_path / "photo.csv").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 8)
    assert "photo.csv" in _refused(house, tmp_path / "photo.csv")
    (tmp_path / "packed.csv").write_bytes(gzip.compress(b"a,target\n1,0\n"))
    assert "gzip" in _refused(house, tmp_path / "packed.csv").lower()


def _refused(house: House, file: Path) -> str:
    """What the drop says; it must refuse, and tell the Broker nothing."""
    before = len(house.entries())
    done = house.run("drop", str(file), "--dataset", MODEL)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    assert len(house.entries()) == before
    return done.stderr
