"""trainers.data_file and trainers.dataset: any table becomes typed columns, or reasons a data person can act on."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from eventing.contract import Reason
from trainers import data_file, dataset, parquet
from trainers.dataset import Dataset
from trainers.table import BrokenDataset, Text

ROWS = [f"{i}.5,{'abc'[i % 3]},{i % 2}" for i in range(40)]


def learn(folder: Path, content: str | bytes, target: str | None = None, max_broken_share: float = 0.0) -> Dataset:
    file = folder / "file.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return dataset.understand(data_file.read(file), target, max_broken_share)


def refused(folder: Path, content: str | bytes, target: str | None = None) -> BrokenDataset:
    with pytest.raises(BrokenDataset) as caught:
        learn(folder, content, target)
    return caught.value


def lines(*rows: str, header: str = "x,letter,target") -> str:
    return "\n".join([header, *rows]) + "\n"


def test_numbers_and_text_are_told_apart(tmp_path: Path) -> None:
    data = learn(tmp_path, lines(*ROWS))
    assert [(c.name, c.is_text) for c in data.columns] == [("x", False), ("letter", True)]
    assert data.classes == (0, 1)
    assert data.labels.tolist() == [i % 2 for i in range(40)]
    assert data.inputs()["letter"][:3, 0].tolist() == ["a", "b", "c"]
    assert data.inputs()["x"].dtype == np.float32 and data.inputs()["x"].shape == (40, 1)


@pytest.mark.parametrize("token", ["", "NA", "NaN", "null", "None", "N/A", "?"])
def test_a_missing_value_may_be_spelled_in_many_ways(tmp_path: Path, token: str) -> None:
    data = learn(tmp_path, lines(*ROWS, f"{token},{token},1"))
    assert np.isnan(data.inputs()["x"][-1, 0])
    assert data.inputs()["letter"][-1, 0] == ""


def test_bom_crlf_quotes_semicolons_and_plus_signs_are_read(tmp_path: Path) -> None:
    rows = [f'"{"+" if i % 2 else "-"}{i}";"a; ""b""";{i % 2}' if i % 3 else f"{i};c;{i % 2}" for i in range(30)]
    data = learn(tmp_path, b"\xef\xbb\xbf" + "\r\n".join(["x;letter;target", *rows]).encode())
    assert [c.name for c in data.columns] == ["x", "letter"]
    assert data.inputs()["x"][1, 0] == 1.0 and data.inputs()["x"][2, 0] == -2.0
    assert data.inputs()["letter"][1, 0] == 'a; "b"'


def test_blank_lines_are_no_rows_and_shift_no_line_number(tmp_path: Path) -> None:
    error = refused(tmp_path, lines(*ROWS[:5], "", *ROWS[5:], "oops,a,1", "", ""))
    assert error.reasons == (Reason("'oops' is not a number, as the rest of 'x' is", 43, "x"),)


def test_line_numbers_are_right_after_line_breaks_inside_cells(tmp_path: Path) -> None:
    rows = [*ROWS, '3,"a\nb\r\nc",1', "oops,a,1", '4,"x\ny"', "5,a", "oops,a,0"]
    error = refused(tmp_path, lines(*rows, header='"x\nx",letter,target'))
    assert [(r.row, r.column) for r in error.reasons] == [(46, "x\nx"), (47, None), (49, None), (50, "x\nx")]


def test_odd_quotes_in_the_header_are_read_as_one_name(tmp_path: Path) -> None:
    data = learn(tmp_path, lines(*ROWS, header='a"b,"c ""d""",target'))
    assert [c.name for c in data.columns] == ['a"b', 'c "d"']


def test_every_broken_cell_is_named_with_line_and_column(tmp_path: Path) -> None:
    error = refused(tmp_path, lines("abc,a,1", *ROWS, "1e999,b,0", "3,a", "4,a,"))
    assert [(r.row, r.column) for r in error.reasons] == [(2, "x"), (43, "x"), (44, None), (45, "target")]
    assert "'abc' is not a number" in error.reasons[0].what
    assert "row has 2 cells; expected 3 cells" in error.reasons[2].what
    assert error.broken_rows == 4
    assert error.counts == {
        "not a number": 1,
        "number too large": 1,
        "wrong number of cells": 1,
        "no target": 1,
    }


def test_a_thousand_broken_rows_give_a_hundred_reasons_and_the_count(tmp_path: Path) -> None:
    error = refused(tmp_path, lines(*(ROWS * 600), *["1,a"] * 1000))
    assert (len(error.reasons), error.broken_rows, error.counts) == (100, 1000, {"wrong number of cells": 1000})


def test_broken_rows_may_be_left_out_when_the_caller_allows_it(tmp_path: Path) -> None:
    data = learn(tmp_path, lines("abc,a,1", *ROWS, "3,a"), max_broken_share=0.1)
    assert data.rows == 40 and data.lines.tolist() == list(range(3, 43))
    assert data.rejected is not None and data.rejected.broken_rows == 2


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (b"", "empty file", "the file is empty"),
        (b"\n\n", "empty file", "the file is empty"),
        (b"\n1,2\n", "no header", "the first line is empty"),
        (b"x,letter,target\n", "no rows", "a header but no rows"),
        (b"x,letter,target", "no rows", "a header but no rows"),
        (lines(*ROWS[:7]).encode(), "too few rows", "the file has 7 rows; expected at least 20"),
        (lines(*ROWS, header="x,x,target").encode(), "duplicate column", "2 columns are named 'x'"),
        (lines(*ROWS, header=",letter,target").encode(), "column without a name", "column 1 has no name"),
        (lines(*ROWS, header="label,letter,target").encode(), "reserved name", "named 'label'"),
        (lines(*ROWS, header="__target__,letter,target").encode(), "reserved name", "named '__target__'"),
        (lines(*[f"{i},a,{i % 2}00000000000000001" for i in range(40)]).encode(), "number too large", "run together"),
        (lines(*[str(i % 2) for i in range(40)], header="target").encode(), "nothing to learn from", "seen none"),
        (lines(*ROWS, header="x,letter,late").encode(), "no target column", "Columns: 'x', 'letter', 'late'"),
        (lines(*[f"{i},a,1" for i in range(30)]).encode(), "one class", "every row's 'target' is 1"),
        (lines(*[f"a,b,{i % 2}" for i in range(30)]).encode(), "nothing to learn from", "no column besides"),
        (lines(*[f"{i},a,{i * 0.37}" for i in range(300)]).encode(), "continuous target", "looks continuous"),
        (lines(*[f"{i},a,w{i}" for i in range(300)]).encode(), "too many classes", "300 different values"),
        (lines(*ROWS, "1,a,7").encode(), "class too small", "class 7 of 'target' has one row"),
        (lines(*ROWS).encode("utf-16"), "not a CSV file", "UTF-16"),
        (b"PK\x03\x04" + bytes(200), "not a CSV file", "Excel"),
        (b"\x7fELF" + bytes(200), "not a CSV file", "a program"),
        (lines(*ROWS).encode() + b"1,\x00,1\n", "not a CSV file", "line 42 holds a zero byte"),
        (lines(*ROWS, "1,\xe9,1").encode("latin-1"), "not UTF-8", "line 42 is not UTF-8"),
    ],
)
def test_a_file_nobody_can_learn_from_is_refused_in_words(tmp_path: Path, content: bytes, kind: str, says: str) -> None:
    error = refused(tmp_path, content)
    assert kind in error.counts
    assert any(says in reason.what for reason in error.reasons), error.reasons


def test_a_class_called_like_a_missing_value_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path, lines(*[f"{i},a,{('None', 'High', '')[i % 3]}" for i in range(30)]))
    assert [reason.what for reason in error.reasons[:2]] == [
        "the target 'target' is missing: 'None' stands for a missing value; call the class by another word",
        "the target 'target' is missing",
    ]


def test_a_named_target_wins_over_the_default(tmp_path: Path) -> None:
    data = learn(tmp_path, lines(*ROWS, header="x,late,target"), target="late")
    assert data.target == "late" and data.classes == ("a", "b", "c")
    assert data.labels[:3].tolist() == [0, 1, 2]


def test_large_whole_numbers_stay_classes_of_their_own(tmp_path: Path) -> None:
    data = learn(tmp_path, lines(*[f"{i},a,{16777216 + i % 2}" for i in range(40)]))
    assert data.classes == (16777216, 16777217)


def test_columns_that_teach_nothing_are_left_out_with_a_note(tmp_path: Path) -> None:
    rows = [f"same,,id-{i},{i},{i % 2}" for i in range(40)]
    data = learn(tmp_path, lines(*rows, header="constant,nothing,id,x,target"))
    assert [c.name for c in data.columns] == ["x"]
    assert [note.split(" was")[0] for note in data.notes] == ["'constant'", "'nothing'", "'id'"]


def test_whole_numbers_beyond_float32_are_noted(tmp_path: Path) -> None:
    data = learn(tmp_path, lines(*[f"{20130101000 + i},a,{i % 2}" for i in range(40)]))
    assert "float32 keeps about 7 digits" in data.notes[0]


def test_parquet_types_are_taken_as_they_are(tmp_path: Path) -> None:
    count = 40
    columns = pa.table(
        {
            "whole": pa.array([None if i == 3 else i for i in range(count)], pa.int64()),
            "real": pa.array([float("nan") if i == 4 else i / 3 for i in range(count)], pa.float64()),
            "word": pa.array(["ab"[i % 2] if i != 5 else None for i in range(count)]).dictionary_encode(),
            "sure": pa.array([i % 3 == 0 for i in range(count)]),
            "day": pa.array([datetime.date(2013, 1, 1 + i % 5) for i in range(count)]),
            "target": pa.array([i % 2 for i in range(count)], pa.int8()),
        }
    )
    pyarrow.parquet.write_table(columns, tmp_path / "file.parquet")
    data = dataset.understand(data_file.read(tmp_path / "file.parquet"), None)
    assert {c.name: c.is_text for c in data.columns} == {
        "whole": False,
        "real": False,
        "word": True,
        "sure": True,
        "day": True,
    }
    inputs = data.inputs()
    assert np.isnan(inputs["whole"][3, 0]) and np.isnan(inputs["real"][4, 0]) and inputs["word"][5, 0] == ""
    assert (inputs["sure"][0, 0], inputs["day"][0, 0]) == ("True", "2013-01-01")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_ending_will_do(tmp_path: Path, end: str) -> None:
    error = refused(tmp_path, end.join(["x,letter,target", *ROWS, "oops,a,1"]))
    assert [reason.row for reason in error.reasons] == [42]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_break_of_any_kind_in_a_quoted_name_takes_no_row(tmp_path: Path, end: str) -> None:
    for name in ("x\ny", "x\ry", "x\r\ny"):
        data = learn(tmp_path, end.join([f'"{name}",letter,target', *ROWS]))
        assert data.rows == len(ROWS) and data.columns[0].name == name


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_line_by_which_a_spreadsheet_tells_the_delimiter_is_no_header(tmp_path: Path, end: str) -> None:
    rows = [f"{i};a,b;{i % 2}" for i in range(40)]
    data = learn(tmp_path, end.join(["\ufeffsep=;", "x;y;target", *rows]))
    assert data.rows == 40 and data.columns[0].name == "x" and data.lines.tolist() == list(range(3, 43))
    assert refused(tmp_path, f"sep=;{end}").counts == {"no rows": 1}


def test_a_header_without_an_end_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, ",".join(f"column{i}" for i in range(800_000)) + "\n1,2\n")
    assert error.counts == {"no header": 1} and "longer than 8,388,608 characters" in error.reasons[0].what


def test_where_semicolons_part_the_cells_a_comma_may_begin_a_fraction(tmp_path: Path) -> None:
    rows = [f"{i % 7},{i % 10};{'ab'[i % 2]};{i},5" for i in range(40)]
    data = learn(tmp_path, "\n".join(["x;target;y", *rows, "-0,25;a;1", "3,x;b;1"]), max_broken_share=0.1)
    assert data.inputs()["x"][[0, 13, 40], 0].tolist() == [0.0, np.float32(6.3), -0.25]
    assert data.rejected is not None and data.rejected.reasons[0].what.startswith("'3,x' is not a number")


@pytest.mark.parametrize(
    ("delimiter", "cells"),
    [(",", ('"1,234.5"', '"-12,345,678"', "7.25")), (";", ("1.234,5", "-12.345.678,0", "7,25"))],
)
def test_numbers_that_a_spreadsheet_groups_by_thousands_are_numbers(
    tmp_path: Path, delimiter: str, cells: tuple[str, ...]
) -> None:
    rows = [delimiter.join((cells[i % 3], "ab"[i % 2], str(i % 2))) for i in range(40)]
    data = learn(tmp_path, lines(*rows, header=delimiter.join(("x", "letter", "target"))))
    assert data.inputs()["x"][:3, 0].tolist() == [1234.5, -12345678.0, 7.25]


@pytest.mark.parametrize("delimiter", ["\t", "|"])
def test_a_number_that_could_be_another_by_its_comma_is_text(tmp_path: Path, delimiter: str) -> None:
    """1,234 between tabs is one and a bit in Berlin, and a thousand and more in Boston."""
    rows = [delimiter.join((("1,234", "5,678")[i % 2], str(i), str(i % 2))) for i in range(40)]
    data = learn(tmp_path, lines(*rows, header=delimiter.join(("x", "y", "target"))))
    assert data.columns[0].words == ("1,234", "5,678")


def test_a_fraction_in_quotes_groups_no_thousands(tmp_path: Path) -> None:
    data = learn(tmp_path, lines(*[f'"{("0,125", "0,250")[i % 2]}",a,{i % 2}' for i in range(40)]))
    assert data.columns[0].words == ("0,125", "0,250")


def test_words_with_commas_that_group_no_thousands_stay_words(tmp_path: Path) -> None:
    data = learn(tmp_path, lines(*[f'"{("1,2", "10,20", "1,2,3")[i % 3]}",a,{i % 2}' for i in range(40)]))
    assert data.columns[0].words == ("1,2", "10,20", "1,2,3")


@pytest.mark.parametrize("header", ["a;b,x,target", '"x;y|z",x,target', "x|y;z,x,target"])
def test_the_delimiter_is_the_one_that_the_rows_have_too(tmp_path: Path, header: str) -> None:
    data = learn(tmp_path, lines(*[f"k{i % 3},{i},{i % 2}" for i in range(40)], header=header))
    assert [c.name for c in data.columns] == [header.split(",")[0].strip('"'), "x"]


def test_text_keeps_the_blanks_around_it_and_a_class_loses_them(tmp_path: Path) -> None:
    data = learn(tmp_path, lines(*[f"{('a', ' a', 'a ')[i % 3]},{i},{(' yes', 'no ')[i % 2]}" for i in range(40)]))
    assert data.inputs()["x"][:3, 0].tolist() == ["a", " a", "a "] and data.classes == ("no", "yes")


def test_columns_of_the_model_that_serves_stay_and_those_it_left_out_stay_out(tmp_path: Path) -> None:
    form = dataset.Form(numbers=frozenset({"x"}), texts=frozenset({"code", "gone"}), left_out=frozenset({"month"}))
    rows = [f"7,{i % 5},,{1 + i % 2},{i},{i % 2}" for i in range(40)]
    (tmp_path / "f.csv").write_text(lines(*rows, header="x,code,gone,month,new,target"))
    data = dataset.understand(data_file.read(tmp_path / "f.csv"), None, form=form)
    assert [(c.name, c.is_text) for c in data.columns] == [("x", False), ("code", True), ("gone", True), ("new", False)]
    assert data.inputs()["code"][:2, 0].tolist() == ["0", "1"] and data.inputs()["gone"][0, 0] == ""
    assert data.left_out == ("month",) and "the model that serves does not ask for it" in data.notes[0]


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.bool_(), pa.date32(), pa.timestamp("us"), pa.float32(), pa.null()],
    ids=str,
)
def test_a_parquet_column_of_any_type_may_be_empty_in_every_row(tmp_path: Path, kind: pa.DataType) -> None:
    nothing = pa.nulls(40, kind)
    pyarrow.parquet.write_table(
        pa.table({"x": list(range(40)), "empty": nothing, "target": [0, 1] * 20}), tmp_path / "file.parquet"
    )
    data = dataset.understand(data_file.read(tmp_path / "file.parquet"), None)
    assert data.left_out == ("empty",) and "'empty' was left out: it is empty in every row" in data.notes
    form = dataset.Form(texts=frozenset({"empty"}))
    kept = dataset.understand(data_file.read(tmp_path / "file.parquet"), None, form=form)
    assert kept.inputs()["empty"][:2, 0].tolist() == ["", ""]
    with pytest.raises(BrokenDataset, match="the target 'empty' is missing"):
        dataset.understand(data_file.read(tmp_path / "file.parquet"), "empty")


def test_parquet_text_that_is_not_utf8_is_refused_by_its_column(tmp_path: Path) -> None:
    latin = pa.array([b"j\xe4nner", b"mai"] * 20).view(pa.string())
    pyarrow.parquet.write_table(pa.table({"month": latin, "target": [0, 1] * 20}), tmp_path / "file.parquet")
    with pytest.raises(BrokenDataset, match="column 'month' holds text that is not UTF-8"):
        data_file.read(tmp_path / "file.parquet")


def test_a_parquet_file_with_a_byte_turned_over_is_refused_or_read_and_nothing_else(tmp_path: Path) -> None:
    words = {"word": ["a", "b", "c", None] * 15, "size": list(range(60)), "target": ["x", "y"] * 30}
    pyarrow.parquet.write_table(pa.table(words), tmp_path / "whole.parquet", compression="none")
    whole = (tmp_path / "whole.parquet").read_bytes()
    outcomes = set()
    for place in range(4, len(whole) - 4, 3):
        (tmp_path / "file.parquet").write_bytes(whole[:place] + bytes([whole[place] ^ 0x7F]) + whole[place + 1 :])
        try:
            dataset.understand(data_file.read(tmp_path / "file.parquet"), None)
            outcomes.add("read")
        except BrokenDataset as e:
            outcomes.update(e.counts)
    assert {"read", "unreadable file"} <= outcomes


def test_dates_and_times_of_parquet_are_spelled_as_in_a_csv(tmp_path: Path) -> None:
    days = [datetime.datetime(2013, 1, 1 + i % 5) for i in range(40)]
    times = [day.replace(hour=8, microsecond=500_000 * (i % 2)) for i, day in enumerate(days)]
    columns = pa.table(
        {
            "day": pa.array(days, pa.timestamp("ns")),
            "time": pa.array(times, pa.timestamp("us")),
            "utc": pa.array(days, pa.timestamp("ms", tz="UTC")),
            "there": pa.array(days, pa.timestamp("us", tz="Asia/Kolkata")),
            "clock": pa.array([time.time() for time in times], pa.time64("us")),
            "target": [0, 1] * 20,
        }
    )
    pyarrow.parquet.write_table(columns, tmp_path / "file.parquet")
    data = dataset.understand(data_file.read(tmp_path / "file.parquet"), None)
    assert {name: cells[0, 0] for name, cells in data.inputs().items()} == {
        "day": "2013-01-01",
        "time": "2013-01-01 08:00:00",
        "utc": "2013-01-01 00:00:00+00:00",
        "there": "2013-01-01 05:30:00+05:30",
        "clock": "08:00:00",
    }
    assert data.inputs()["time"][1, 0] == "2013-01-02 08:00:00.500000"


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_classes_of_any_precision_are_called_by_their_own_digits(tmp_path: Path, kind: pa.DataType) -> None:
    columns = pa.table({"x": list(range(40)), "target": pa.array(np.array([0.1, 2.5] * 20)).cast(kind, safe=False)})
    pyarrow.parquet.write_table(columns, tmp_path / "file.parquet")
    assert dataset.understand(data_file.read(tmp_path / "file.parquet"), None).classes == ("0.1", "2.5")


def test_the_index_that_pandas_writes_is_no_input(tmp_path: Path) -> None:
    columns = pa.table({"x": list(range(40)), "target": [0, 1] * 20, "__index_level_0__": list(range(40))})
    pyarrow.parquet.write_table(columns, tmp_path / "file.parquet")
    data = dataset.understand(data_file.read(tmp_path / "file.parquet"), None)
    assert [column.name for column in data.columns] == ["x"] and "index that pandas writes" in data.notes[0]


def test_a_small_parquet_file_that_unpacks_to_more_than_memory_holds_is_refused(tmp_path: Path) -> None:
    rows = parquet.LEAST_MAX_CELLS // 2 + 1
    column = pa.array(np.zeros(rows, np.int8))
    pyarrow.parquet.write_table(pa.table({"x": column, "target": column}), tmp_path / "file.parquet")
    assert (tmp_path / "file.parquet").stat().st_size < 1 << 20
    with pytest.raises(BrokenDataset, match=r"unpacks to 33,554,434 cells, 16,777,217 rows of 2 columns") as caught:
        data_file.read(tmp_path / "file.parquet")
    assert caught.value.counts == {"file too large": 1}


def test_long_text_that_repeats_itself_takes_the_memory_of_each_word_once(tmp_path: Path) -> None:
    words = pa.DictionaryArray.from_arrays(np.arange(200_000, dtype=np.int32) % 2, ["x" * 20_000, "y"])
    columns = pa.table({"a.b": words, "target": words})
    pyarrow.parquet.write_table(columns, tmp_path / "file.parquet", store_schema=False)
    before = pa.total_allocated_bytes()
    read = data_file.read(tmp_path / "file.parquet").columns["a.b"]
    assert isinstance(read, Text) and read.words.to_pylist() == ["x" * 20_000, "y"]
    assert pa.total_allocated_bytes() - before < 100 << 20


def test_a_nested_parquet_column_is_refused_by_name_and_type(tmp_path: Path) -> None:
    columns = pa.table({"tags": [["a"]] * 30, "target": [0, 1] * 15})
    pyarrow.parquet.write_table(columns, tmp_path / "file.parquet")
    with pytest.raises(BrokenDataset, match="'tags' is of type list<"):
        data_file.read(tmp_path / "file.parquet")


def test_a_csv_renamed_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.parquet").write_text(lines(*ROWS))
    with pytest.raises(BrokenDataset, match="cannot be read as Parquet"):
        data_file.read(tmp_path / "file.parquet")


def test_reading_a_table_imports_no_training_library() -> None:
    code = "import sys, trainers.dataset; print({'sklearn', 'tensorflow', 'onnx'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
