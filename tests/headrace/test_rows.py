"""headrace.rows: what people have as rows becomes what a model was trained to be asked."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from eventing.errors import HeadraceError, Misconfigured, Rejected
from headrace import predict, reach, rows
from trainers.columns import MISSING

INPUTS = {"code": "BYTES", "size": "FP32", "note": "BYTES"}


def fitted(folder: Path, text: str, inputs: dict[str, str] = INPUTS) -> list[Any]:
    file = folder / "rows"
    file.write_text(text, encoding="utf-8", newline="")
    return rows.fit(rows.read(str(file)), inputs)[0]


def test_a_column_of_codes_stays_text_though_its_cells_look_like_numbers(tmp_path: Path) -> None:
    """The model learned from '01' and '7'; '1.0' would be a category that it has never seen."""
    asked = fitted(tmp_path, "code,size,note\n01,1,a\n7,2.5,b\n1e3,-3e2,c\n")
    assert [row["code"] for row in asked] == ["01", "7", "1e3"]
    assert [row["size"] for row in asked] == [1, 2.5, -300.0]


@pytest.mark.parametrize("gap", MISSING)
def test_a_gap_of_a_file_to_learn_from_is_a_gap_of_a_row_to_ask_about(tmp_path: Path, gap: str) -> None:
    asked = fitted(tmp_path, f"code,size,note\nA, {gap} ,x\n")
    assert asked == [{"code": "A", "size": None, "note": "x"}]


@pytest.mark.parametrize("odd", ["1_000", "inf", "12 kg"])
def test_what_is_no_number_stays_as_it_is_for_the_model_to_name_it(tmp_path: Path, odd: str) -> None:
    assert fitted(tmp_path, f"code,size\nA,{odd}\n")[0]["size"] == odd


@pytest.mark.parametrize(
    ("delimiter", "written", "number"),
    [(",", '"1,234.5"', 1234.5), (";", "1.234,5", 1234.5), (";", "0,5", 0.5), (";", "0.5", 0.5), ("\t", "7", 7)],
)
def test_a_number_is_one_that_a_training_would_read(
    tmp_path: Path, delimiter: str, written: str, number: float
) -> None:
    assert fitted(tmp_path, f"code{delimiter}size\nA{delimiter}{written}\n")[0] == {"code": "A", "size": number}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_cells_may_hold_delimiters_and_line_breaks_whatever_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    lines = [["code", "size", "note"], ["A", "1", f'"one{delimiter} two\nthree\u2028four"'], ["B", "2", "x"]]
    text = "\n".join(delimiter.join(line) for line in lines)
    asked = fitted(tmp_path, text)
    assert [row["note"] for row in asked] == [f"one{delimiter} two\nthree\u2028four", "x"]


@pytest.mark.parametrize(
    ("delimiter", "numbers"), [(";", ("0,5", "1.234,5", "7", "1,2,3")), (",", ("0.5", '"1,234.5"', "7", '"1,2,3"'))]
)
def test_numbers_are_spelled_as_in_a_file_to_learn_from(
    tmp_path: Path, delimiter: str, numbers: tuple[str, ...]
) -> None:
    lines = [("code", "size"), *((number, number) for number in numbers)]
    asked = fitted(tmp_path, "\n".join(delimiter.join(line) for line in lines))
    assert [row["size"] for row in asked] == [0.5, 1234.5, 7, "1,2,3"]
    assert [row["code"] for row in asked] == [number.strip('"') for number in numbers]


def test_columns_that_are_no_inputs_are_left_out_and_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("size,late,code\n1,1,A\n", encoding="utf-8")
    assert rows.fit(rows.read(str(file)), INPUTS) == ([{"size": 1, "code": "A"}], ["late"])
    assert rows.fit([{"size": 1, "late": 0}, [1, 2]], INPUTS) == ([{"size": 1}, [1, 2]], ["late"])


def test_parquet_is_asked_about_with_its_types(tmp_path: Path) -> None:
    columns = {"code": [7, 8], "size": [1.5, None], "note": ["x", None], "full": [True, False]}
    file = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pa.table(columns), file)
    asked, _ = rows.fit(rows.read(str(file)), {**INPUTS, "full": "BYTES"})
    assert asked == [
        {"code": "7", "size": 1.5, "note": "x", "full": "True"},
        {"code": "8", "size": None, "note": None, "full": "False"},
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[{"code": "A", "size": 1}, {"code": "B", "size": null}]',
        '{"instances": [{"code": "A", "size": 1}, {"code": "B", "size": null}]}',
        '{"inputs": {"code": ["A", "B"], "size": [1, null]}}',
        '{"code": "A", "size": 1}\n\n{"code": "B", "size": null}\n',
        "\ufeffcode,size\nA,1\nB,\n\n",
    ],
)
def test_rows_are_the_same_in_each_form(tmp_path: Path, text: str) -> None:
    assert fitted(tmp_path, text) == [{"code": "A", "size": 1}, {"code": "B", "size": None}]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "holds no rows"),
        ("code,size\n", "holds a header but no rows"),
        ("[]", "holds no rows"),
        ("code,size,note\nA,1,x\nB,2\n", "row 3: row has 2 cells; expected 3"),
        ("code,code\nA,1\n", "2 columns are named 'code'"),
        ('{"code": "A"}\n{code}\n', "line 2"),
        ('{"inputs": {"code": ["A"], "size": []}}', "all of one length"),
    ],
)
def test_what_holds_no_rows_is_refused_with_what_was_seen(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(Rejected, match=named):
        fitted(tmp_path, text)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"code,size\nA\xe4,1\n")
    with pytest.raises(Rejected, match="line 2 is not UTF-8"):
        rows.read(str(file))
    with pytest.raises(Misconfigured, match="--rows is"):
        rows.read(str(tmp_path))


def test_what_answers_and_is_no_model_is_said_so() -> None:
    class Told(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"name": "hello"}')

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Told) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        place: Any = SimpleNamespace(url=lambda model: url, reach=SimpleNamespace(open=reach.direct))
        with pytest.raises(HeadraceError, match=r"does not tell the inputs of a model; it said.*hello"):
            predict.inputs(place, "hello")
        server.shutdown()
