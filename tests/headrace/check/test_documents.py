"""Files as they are: many documents, JSON, lists, folders, and the line of each field."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from eventing.errors import Misconfigured
from headrace.check import documents
from headrace.check.documents import Document


def parsed(text: str) -> list[Document]:
    return list(documents.parse("file.yaml", text.encode()))


def test_each_document_has_its_value_and_line() -> None:
    first, second = parsed("# a comment\na: 1\n---\n\nb:\n  - c: 2\n")
    assert (first.value, first.line) == ({"a": 1}, 2)
    assert (second.value, second.line) == ({"b": [{"c": 2}]}, 5)
    assert second.line_of("b[0].c") == 6
    assert second.line_of("b[0].missing") == 6  # the nearest around it
    assert second.line_of("nothing") == 5


@pytest.mark.parametrize(
    "text",
    [
        "  a: 1\n  b: 2\n",
        "--- {a: 1, b: 2}\n",
        '\ufeff{"a": 1, "b": 2}',
        '{\n\t"a": 1,\n\t"b": 2\n}',
        "a: 1\nb: 2\n...\n",
    ],
)
def test_however_it_is_written(text: str) -> None:
    (document,) = parsed(text)
    assert document.value == {"a": 1, "b": 2}


def test_empty_documents_are_none() -> None:
    assert parsed("") == parsed("# nothing\n") == parsed("---\n---\n# x\n---\nnull\n") == []


def test_a_list_stands_for_its_objects() -> None:
    one, two = parsed("apiVersion: v1\nkind: List\nitems:\n  - a: 1\n    b: 5\n  - a: 2\n    a: 3\n")
    assert (one.value, one.line_of("b")) == ({"a": 1, "b": 5}, 5)
    assert (two.value, two.twice, two.line) == ({"a": 3}, ("a",), 6)


def test_a_date_stays_text_and_null_is_nothing() -> None:
    (document,) = parsed("a: 2026-01-01\nb: null\nc: [null]\n")
    assert document.value == {"a": "2026-01-01", "c": [None]}


def test_what_is_broken_keeps_what_stands_before_it() -> None:
    first, second = parsed("a: 1\n---\nb: [1\n")
    assert first.value == {"a": 1}
    assert second.broken.startswith("neither YAML nor JSON")
    assert second.line == 4


def test_a_folder_is_all_its_manifests_and_a_dash_is_standard_input(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.json").write_text(json.dumps({"b": 1}))
    (tmp_path / "a.yml").write_text("a: 1")
    (tmp_path / "notes.txt").write_text("a: [")
    read = list(documents.read([str(tmp_path), "-"], io.BytesIO(b"c: 1")))
    assert [document.value for document in read] == [{"a": 1}, {"b": 1}, {"c": 1}]
    assert [document.file for document in read][2] == "standard input"


def test_what_is_not_there_is_misuse(tmp_path: Path) -> None:
    for source in (tmp_path / "nothing.yaml", tmp_path):
        with pytest.raises(Misconfigured) as refusal:
            list(documents.read([str(source)], io.BytesIO()))
        assert str(source) in str(refusal.value)
