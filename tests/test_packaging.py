"""What is in the wheel is what runs in production: looked at in a wheel built here."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
ROOMS = ("eventing", "functions", "trainers", "knative", "monitoring", "headrace")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(HOUSE)]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = out.glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_wheel_holds_the_six_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/", 1)[0] for name in wheel.namelist()}
    assert {t for t in tops if not t.endswith(".dist-info")} == set(ROOMS)


def test_every_module_and_manifest_of_the_rooms_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    inside = set(wheel.namelist())
    for room in ROOMS:
        for file in (HOUSE / room).rglob("*"):
            if file.suffix in (".py", ".yaml", ".typed", ".html", ".css", ".js") and "__pycache__" not in file.parts:
                assert str(file.relative_to(HOUSE)) in inside


def test_the_wheel_is_typed_licensed_and_brings_the_command(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert all(f"{room}/py.typed" in names for room in ROOMS)
    assert any(n.endswith("licenses/LICENSE") for n in names)
    (entry_points,) = [n for n in names if n.endswith("entry_points.txt")]
    assert "headrace = headrace.__main__:main" in wheel.read(entry_points).decode()


def test_what_a_predictor_needs_is_the_base_and_nothing_more(wheel: zipfile.ZipFile) -> None:
    (metadata,) = [n for n in wheel.namelist() if n.endswith("METADATA")]
    required = [
        re.split("[<>=!~ ;]", line.removeprefix("Requires-Dist: "))[0]
        for line in wheel.read(metadata).decode().splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    ]
    assert sorted(required) == sorted(
        ["flask", "granian", "onnxruntime", "numpy", "orjson", "cloudevents", "prometheus-client", "fsspec"]
    )
