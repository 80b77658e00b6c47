"""The lock files of the images: what pyproject.toml asks for, pinned, and every file of it by its hash."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HOUSE = Path(__file__).parent.parent.parent
LOCKS = HOUSE / "deploy" / "images" / "locks"
PROJECT: dict[str, Any] = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))
IMAGES = ("predictor", "functions", "trainers")
TOOLS = "tools"
OURS = re.compile(r"headrace \(pyproject\.toml(:images)?\)")
# Where the images run; markers are judged as they would be there.
PLACE = {"python_version": "3.11", "python_full_version": "3.11.2", "sys_platform": "linux", "platform_system": "Linux",
         "platform_machine": "x86_64", "os_name": "posix", "implementation_name": "cpython"}  # fmt: skip


def pins(name: str) -> dict[str, tuple[str, set[str], set[str]]]:
    """Of each package in a lock file, by canonical name: the version, the hashes, and who asked for it."""
    found = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9])", (LOCKS / f"{name}.txt").read_text(encoding="utf-8"))[1:]:
        head, *_ = entry.splitlines()
        pinned = re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+) \\", head)
        assert pinned, f"{name}: {head} pins no version, or has no hash"
        hashes = set(re.findall(r"--hash=sha256:([0-9a-f]{64})(?= |\n|$)", entry))
        # `# via x`, or a list of lines below `# via`.
        asked = {line.strip(" #") for line in entry.partition("# via")[2].splitlines() if line.strip(" #")}
        found[canonicalize_name(pinned[1])] = (pinned[2], hashes, asked)
    return found


def wanted(name: str) -> dict[str, Requirement]:
    """What pyproject.toml asks for by itself, for an image or for the tools, by canonical name."""
    if name == TOOLS:
        return {canonicalize_name(r.name): r for r in map(Requirement, PROJECT["dependency-groups"]["images"])}
    project = PROJECT["project"]
    found = [*map(Requirement, project["dependencies"]), *_extra(name)]
    return {canonicalize_name(r.name): r for r in found if r.marker is None or r.marker.evaluate(PLACE)}


def _extra(name: str) -> Iterator[Requirement]:
    for requirement in map(Requirement, PROJECT["project"]["optional-dependencies"][name]):
        if requirement.name == PROJECT["project"]["name"]:
            for extra in requirement.extras:
                yield from _extra(extra)
        else:
            yield requirement


@pytest.mark.parametrize("name", [*IMAGES, TOOLS])
def test_a_lock_file_pins_what_pyproject_asks_for_within_its_bounds(name: str) -> None:
    pinned = pins(name)
    missing = {n: str(r) for n, r in wanted(name).items() if n not in pinned or pinned[n][0] not in r.specifier}
    assert missing == {}, "make locks"


@pytest.mark.parametrize("name", [*IMAGES, TOOLS])
def test_a_lock_file_holds_nothing_that_nobody_asks_for_any_more(name: str) -> None:
    pinned = pins(name)
    # uv tells who asked: we ourselves, in pyproject.toml, or another package.
    ours = {package for package, (_, _, asked) in pinned.items() if any(OURS.fullmatch(by) for by in asked)}
    assert ours == set(wanted(name)), "make locks"
    for package, (_, _, asked) in pinned.items():
        others = {canonicalize_name(by) for by in asked if not OURS.fullmatch(by)}
        assert asked and others <= set(pinned), (package, asked)


@pytest.mark.parametrize("name", [*IMAGES, TOOLS])
def test_every_file_is_locked_by_its_hash_and_no_index_is_named(name: str) -> None:
    assert [package for package, (_, hashes, _) in pins(name).items() if not hashes] == []
    text = (LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert [line for line in text.splitlines() if line.startswith("-")] == []


@pytest.mark.parametrize("name", ["predictor", "functions"])
def test_no_training_library_is_locked_for_what_serves(name: str) -> None:
    trainers = {canonicalize_name(Requirement(r).name) for r in PROJECT["project"]["optional-dependencies"]["train"]}
    assert trainers & set(pins(name)) == set()


def test_no_kubernetes_client_is_locked_for_the_predictor_and_one_for_the_functions() -> None:
    assert "kubernetes" not in pins("predictor")
    assert "kubernetes" in pins("functions")


@pytest.mark.parametrize("name", IMAGES)
def test_every_image_reads_a_store_at_s3(name: str) -> None:
    assert "s3fs" in pins(name)


def test_what_two_images_share_they_have_in_the_same_version() -> None:
    """A model proven by one is answered by another."""
    versions: dict[str, set[str]] = {}
    for name in IMAGES:
        for package, (version, _, _) in pins(name).items():
            versions.setdefault(package, set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}
