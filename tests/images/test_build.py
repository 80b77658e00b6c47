"""How the images are built: the program beside the Dockerfile, with engines that only listen."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent.parent
BUILD = HOUSE / "deploy" / "images" / "build"

ENGINE = """#!/usr/bin/env python3
import json, os, sys
told = {"words": sys.argv[1:], "secrets": {}, "buildkit": os.environ.get("DOCKER_BUILDKIT")}
for word in sys.argv[1:]:
    if word.startswith("id=") and ",src=" in word:
        name, _, file = word.removeprefix("id=").partition(",src=")
        told["secrets"][name] = open(file).read()
if sys.argv[1] == "info":
    sys.exit(0 if os.environ.get("WORKS") else 1)
with open(os.environ["HEARD"], "a") as f:
    f.write(json.dumps(told) + "\\n")
"""


@dataclass(frozen=True)
class Heard:
    """One call of an engine. secrets: their content, by id. buildkit: what Docker is told of it, None: nothing."""

    words: list[str]
    secrets: dict[str, str]
    buildkit: str | None


class Engines:
    """Stand-ins for buildah, podman and docker, first on the path."""

    def __init__(self, folder: Path, *names: str) -> None:
        self._folder, self._heard = folder, folder / "heard"
        for name in names:
            (folder / name).write_text(ENGINE)
            (folder / name).chmod(0o755)

    def build(self, *images: str, **environ: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(("PIP_", "UV_", "SSL_"))}
        path = f"{self._folder}:{os.environ['PATH']}"
        environ = {
            **kept,
            "PATH": path,
            "HEARD": str(self._heard),
            "WORKS": "1",
            "PIP_CONFIG_FILE": os.devnull,
            **environ,
        }
        command = [str(BUILD), *images]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    def heard(self) -> list[Heard]:
        lines = self._heard.read_text().splitlines() if self._heard.exists() else []
        return [Heard(**json.loads(line)) for line in lines]


def test_all_three_images_are_built_under_their_names_with_an_sbom_each(tmp_path: Path) -> None:
    engines = Engines(tmp_path, "docker")
    done = engines.build(ENGINE="docker", REPO="registry.example/h", VERSION="7")
    assert done.returncode == 0, done.stderr
    heard = [" ".join(each.words) for each in engines.heard()]
    names = ("predictor", "functions", "trainers")
    assert [re.findall(r"--tag (\S+)", words) for words in heard] == [
        found for name in names for found in ([f"registry.example/h/{name}:7"], [])
    ]
    assert [words for words in heard if "--target sbom --output type=local,dest=build/images" in words] == heard[1::2]
    for words, name in zip(heard, [name for name in names for _ in range(2)], strict=True):
        assert f"--build-arg IMAGE={name} " in words
    for words in heard[::2]:
        labels = dict(re.findall(r"--label org\.opencontainers\.image\.(\w+)=(\S+)", words))
        assert labels.keys() == {"version", "revision", "created"}
        assert labels["version"] == "7"


def test_docker_is_told_to_build_by_buildkit_for_before_23_it_would_know_no_secrets(tmp_path: Path) -> None:
    engines = Engines(tmp_path, "docker")
    assert engines.build("predictor", ENGINE="docker").returncode == 0
    assert {each.buildkit for each in engines.heard()} == {"1"}


def test_without_wishes_the_images_are_those_that_the_manifests_name(tmp_path: Path) -> None:
    engines = Engines(tmp_path, "docker")
    assert engines.build("predictor", ENGINE="docker").returncode == 0
    manifest = (HOUSE / "functions" / "manifests" / "predictor.yaml").read_text(encoding="utf-8")
    (reference,) = re.findall(r"image: (\S+)", manifest)
    assert reference in engines.heard()[0].words


def test_an_index_with_its_password_goes_in_as_a_secret_and_stands_in_no_word_of_the_command(tmp_path: Path) -> None:
    engines = Engines(tmp_path, "docker")
    index = "https://me:pass%20word@index.example/simple"
    done = engines.build("predictor", ENGINE="docker", PIP_INDEX_URL=index, HTTPS_PROXY="http://p:1")
    assert done.returncode == 0, done.stderr
    for each in engines.heard():
        assert "index.example" not in json.dumps(each.words)
        sourced = subprocess.run(
            ["sh", "-c", f"{each.secrets['settings']}\necho $PIP_INDEX_URL $HTTPS_PROXY"],
            capture_output=True, text=True, check=True, env={},
        )  # fmt: skip
        assert sourced.stdout == f"{index} http://p:1\n"
    assert index not in done.stdout + done.stderr


def test_the_machines_own_certificates_go_in(tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_text("a certificate")
    engines = Engines(tmp_path, "docker")
    assert engines.build("predictor", ENGINE="docker", SSL_CERT_FILE=str(tmp_path / "own.pem")).returncode == 0
    assert engines.heard()[0].secrets["certificates"] == "a certificate"


def test_the_first_engine_that_works_is_taken(tmp_path: Path) -> None:
    Engines(tmp_path, "buildah", "podman", "docker")
    (tmp_path / "buildah").write_text("#!/bin/sh\nexit 1\n")
    engines = Engines(tmp_path, "podman", "docker")
    assert engines.build("predictor").returncode == 0
    assert "--layers" in engines.heard()[0].words  # podman's, not docker's


def test_a_machine_without_an_engine_is_told_what_is_missing(tmp_path: Path) -> None:
    engines = Engines(tmp_path, "buildah", "podman", "docker")
    done = engines.build("predictor", WORKS="")
    assert done.returncode == 1
    assert "none of buildah, podman and docker works here" in done.stderr


@pytest.mark.parametrize("name", ["tools", "predictors", "../locks/predictor"])
def test_an_image_that_is_none_of_ours_is_refused(name: str, tmp_path: Path) -> None:
    done = Engines(tmp_path, "docker").build(name, ENGINE="docker")
    assert done.returncode == 1
    assert f"{name} is none of predictor, functions, trainers" in done.stderr
