"""The page of promises says what the tests ask, and what came of it."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.conformance.report import Results, title

HERE = Path(__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def test_the_page_has_every_promise_and_no_other() -> None:
    asked = {
        (title(module.stem).capitalize(), title(function.name))
        for module in HERE.glob("test_*.py")
        for function in ast.parse(module.read_text(encoding="utf-8")).body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
        if "place" in [argument.arg for argument in function.args.args]
    }
    assert set(_told(PAGE.read_text(encoding="utf-8"))) == asked


def _told(page: str) -> list[tuple[str, str]]:
    area, found = "", []
    for line in page.splitlines():
        if line.startswith("## "):
            area = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith("| promise"):
            found.append((area, line.split("|")[1].strip()))
    return found


def test_a_promise_is_kept_when_it_holds_in_every_case() -> None:
    results = Results()
    results.note("tests/conformance/test_some_area.py::test_a_b[laptop]", "laptop", True, set())
    results.note("tests/conformance/test_some_area.py::test_c[laptop-x]", "laptop", True, {"a row"})
    results.note("tests/conformance/test_some_area.py::test_c[laptop-y]", "laptop", True, set())
    results.note("tests/conformance/test_some_area.py::test_c[cluster-x]", "cluster", False, {"a row"})
    results.note("tests/conformance/test_some_area.py::test_c[cluster-y]", "cluster", True, set())
    page = results.page()
    assert "## Some area" in page
    assert "| a b | passed | – |" in page
    assert "| c | differs: a row (2) | FAILED: x |" in page
    assert results.summary() == "laptop 3 of 3, cluster 1 of 2"
