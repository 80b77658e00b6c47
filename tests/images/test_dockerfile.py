"""What can be said of the images without building them: their Dockerfile, and what it is given."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent.parent
IMAGES = HOUSE / "deploy" / "images"
DOCKERFILE = (IMAGES / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Step:
    """One instruction. stage: which one it is in, by number; -1 before the first."""

    stage: int
    word: str
    said: str


def steps() -> list[Step]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    found: list[Step] = []
    stage = -1
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, said = line.partition(" ")
        stage += word == "FROM"
        found.append(Step(stage, word, " ".join(said.split())))
    return found


STEPS = steps()
FINAL = [step for step in STEPS if step.stage == STEPS[-1].stage]


def of(word: str, among: list[Step] = STEPS) -> list[str]:
    return [step.said for step in among if step.word == word]


# ---------------------------------------------------------------- the Dockerfile


def test_every_stage_begins_with_the_base_an_earlier_stage_or_nothing() -> None:
    names: list[str] = []
    for said in of("FROM"):
        image, _, name = said.partition(" AS ")
        assert image in ("${BASE}", "scratch", *names), said
        names.append(name)
    assert len(names) > 2


def test_what_builds_stays_behind() -> None:
    """The image is one of packages on the bare base, and copies: of the tools nothing but what they have made."""
    assert of("FROM", FINAL) == ["packages"]
    assert of("RUN", FINAL) == []
    assert [said for said in of("COPY", FINAL) if not said.startswith("--from=")] == []
    packages = [step for step in STEPS if step.stage == next(s.stage for s in STEPS if s.said.endswith("AS packages"))]
    assert of("FROM", packages) == ["${BASE} AS packages"]
    assert not any("/build/tools " in said for said in of("COPY", packages))
    for said in of("RUN", packages):
        assert "apt" not in said and "pip install" not in said, said


def test_a_step_is_done_anew_where_what_it_reads_is_new() -> None:
    """Engines know a step by its words and the files copied before it; what is only mounted they miss."""
    for at, step in enumerate(STEPS):
        for mount in re.findall(r"--mount=(\S+)", step.said):
            assert mount.startswith(("type=secret,", "type=bind,from=tools,")), mount
            before = [s.said for s in STEPS[:at] if s.stage == step.stage and s.word == "COPY"]
            assert "tools" not in mount or any(said.startswith("--from=tools /build/tools.txt ") for said in before)


def test_the_image_runs_as_a_user_that_is_a_number_and_not_root() -> None:
    *_, last = of("USER", FINAL)
    assert last == "65532:65532"
    at = [step.word for step in FINAL]
    assert "RUN" not in at[at.index("USER") :]


def test_packages_are_taken_by_their_hash_and_never_compiled_from_source() -> None:
    installs = [said for said in of("RUN") if re.search(r"pip (install|sync)", said)]
    assert len(installs) == 2
    for said in installs:
        assert "--require-hashes" in said and re.search(r"--only-binary[= ]:all:", said), said


def test_nothing_is_added_from_the_network_and_no_index_is_named() -> None:
    assert of("ADD") == []
    source = PROJECT["project"].get("urls", {}).get("Source", "https://github.com/headrace/headrace")
    assert set(re.findall(r"\w+://\S+", DOCKERFILE)) == {source}
    for file in ("with-settings", "build", "lean.py"):
        assert "://" not in (IMAGES / file).read_text(encoding="utf-8"), file


def test_a_read_only_image_is_told_not_to_write_byte_code_and_onnxruntime_to_send_nothing() -> None:
    (environment,) = of("ENV", FINAL)
    settings = dict(pair.split("=", 1) for pair in environment.split())
    assert settings["PYTHONDONTWRITEBYTECODE"] == settings["ORT_DISABLE_TELEMETRY"] == "1"
    assert settings["PATH"].startswith("/opt/headrace/bin:")
    assert settings["HOME"] == "/tmp"


@pytest.mark.parametrize("label", ["title", "description", "source", "licenses", "base.name"])
def test_an_image_says_what_it_is_in_the_words_of_oci(label: str) -> None:
    (labels,) = of("LABEL", FINAL)
    assert f"org.opencontainers.image.{label}=" in labels
    if label == "licenses":
        assert f'org.opencontainers.image.licenses="{PROJECT["project"]["license"]}"' in labels


def test_the_lock_files_are_for_the_python_that_the_image_has() -> None:
    (python,) = (said for said in of("ARG") if said.startswith("PYTHON="))
    makefile = (HOUSE / "Makefile").read_text(encoding="utf-8")
    assert f"--python-version {python.removeprefix('PYTHON=')} " in makefile


# ---------------------------------------------------------------- what a build is given


def sources() -> Iterator[str]:
    """Paths of the house that the Dockerfile copies."""
    for said in of("COPY"):
        if not said.startswith("--from="):
            yield from said.split()[:-1]


def let_through(path: str) -> bool:
    """Whether .dockerignore lets a file through: of the patterns that fit it or a folder above, the last decides."""
    kept = True
    for line in (HOUSE / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.lstrip("!").removeprefix("**/")
            above = [path, *map(str, Path(path).parents)][:-1] or [path]
            names = [p.rpartition("/")[2] for p in above] if "**/" in line else above
            if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                kept = line.startswith("!")
    return kept


def test_a_build_is_given_every_room_of_the_wheel_and_nothing_else_of_the_house() -> None:
    rooms = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert {source for source in sources() if "/" not in source and "." not in source} - {"LICENSE"} == rooms
    for source in sources():
        if "${" not in source:
            assert (HOUSE / source).exists() and let_through(source), source
    tracked = subprocess.run(["git", "ls-files"], cwd=HOUSE, capture_output=True, text=True, check=False).stdout
    for file in filter(None, tracked.splitlines()):
        wanted = file.partition("/")[0] in rooms or file.startswith("deploy/images/")
        assert let_through(file) == (wanted or file in sources()), file


@pytest.mark.parametrize(
    "file",
    [
        ".git/config",
        ".venv/bin/python",
        "functions/__pycache__/store.cpython-311.pyc",
        "build/images/predictor.cdx.json",
        ".env",
        "id_rsa",
        "tests/images/base",
    ],
)
def test_a_build_is_not_given_history_environments_or_keys_lying_about(file: str) -> None:
    assert not let_through(file)
