"""The layout is the architecture: what the import contracts cannot say is said here."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
ROOMS = ("eventing", "functions", "trainers", "knative", "monitoring", "headrace")
MODULES = sorted(f for room in ROOMS for f in (HOUSE / room).rglob("*.py"))
LONGEST = 400  # lines; at 300, look for the second noun


def _name(file: Path) -> str:
    return str(file.relative_to(HOUSE))


@pytest.mark.parametrize("file", MODULES, ids=_name)
def test_a_module_says_what_it_is_for_and_stays_readable(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{_name(file)} has no docstring"
    assert len(text.splitlines()) <= LONGEST


@pytest.mark.parametrize("file", MODULES, ids=_name)
def test_no_pickle_is_written_or_read_anywhere(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not imported & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        for keyword in call.keywords:
            allowed = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            assert keyword.arg != "allow_pickle" or allowed, f"{_name(file)}:{call.lineno}"


def test_every_test_folder_is_a_package_or_it_would_hide_a_room() -> None:
    for folder in {f.parent for f in (HOUSE / "tests").rglob("test_*.py")}:
        assert (folder / "__init__.py").exists(), folder


def test_the_import_contracts_hold() -> None:
    seen = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=HOUSE, capture_output=True, text=True, check=False
    )
    assert seen.returncode == 0, seen.stdout


def test_the_functions_environment_has_no_training_library() -> None:
    python = HOUSE / ".venv-functions" / "bin" / "python"
    if not python.exists():
        pytest.skip("`make setup` builds the functions' environment")
    script = (
        "import importlib.util as u, functions.predictor, functions.promoter, functions.drift_watch;"
        "print([m for m in ('sklearn', 'tensorflow', 'keras', 'skl2onnx', 'tf2onnx', 'onnx') if u.find_spec(m)])"
    )
    seen = subprocess.run([python, "-c", script], cwd="/", capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"
