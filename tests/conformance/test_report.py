"""The page of promises says what the tests ask, and what came of it."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.conformance.report import Results, cells_of, title

HERE = Path(__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def test_the_page_has_every_promise_and_no_other() -> None:
    asked = {
        (title(module.stem), title(function.name))
        for module in HERE.glob("test_*.py")
        for function in ast.parse(module.read_text(encoding="utf-8")).body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
        if "place" in [argument.arg for argument in function.args.args]
    }
    assert cells_of(PAGE.read_text(encoding="utf-8")).keys() == asked


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


def test_what_a_run_does_not_ask_stays() -> None:
    cluster, laptop = Results(), Results()
    cluster.note("tests/conformance/test_area.py::test_a[cluster]", "cluster", True, set())
    cluster.note("tests/conformance/test_other.py::test_b[cluster]", "cluster", True, set())
    laptop.note("tests/conformance/test_area.py::test_a[laptop]", "laptop", False, set())
    page = laptop.page(cluster.page())
    assert "| a | FAILED: it | passed |" in page
    assert "| b | – | passed |" in page
    assert cells_of(laptop.page(page)) == cells_of(page)
