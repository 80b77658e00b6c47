"""What a person decides by hand holds: promote and rollback."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventing.contract import ModelPromoted, ModelRolledBack
from tests.end_to_end import tables
from tests.end_to_end.house import House, post

MODEL = "hand"


@pytest.fixture(scope="module")
def versions(house: House, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two versions, of which the first serves: the second is much worse, and the gate kept it out."""
    folder = tmp_path_factory.mktemp("hand")
    first = house.learn(tables.table(folder / "first.csv", seed=71), MODEL)
    assert first.type == ModelPromoted.TYPE, first.data
    poor = ("--parameter", "n_estimators=1", "--parameter", "max_depth=1")
    second = house.learn(tables.table(folder / "second.csv", seed=72), MODEL, *poor)
    return first.data["version"], second.data["version"]


def test_a_version_is_promoted_by_hand_though_the_gate_refused_it(house: House, versions: tuple[str, str]) -> None:
    first, second = versions
    assert _serving(house) == first
    assert f"{second} serves" in house.headrace("promote", MODEL, second)
    assert _serving(house) == second
    told = house.entries(type=ModelPromoted.TYPE, subject=MODEL)[-1]
    assert (told.data["version"], told.data["previous"]) == (second, first)


def test_a_rollback_by_hand_brings_back_what_served_before(house: House, versions: tuple[str, str]) -> None:
    first, second = versions
    assert _serving(house) == second
    assert f"{first} serves" in house.headrace("rollback", MODEL)
    assert _serving(house) == first
    told = house.entries(type=ModelRolledBack.TYPE, subject=MODEL)[-1]
    assert (told.data["version"], told.data["previous"]) == (second, first)


def test_a_version_that_there_is_not_is_refused_naming_those_that_there_are(
    house: House, versions: tuple[str, str]
) -> None:
    done = house.run("promote", MODEL, "v20200101-000000-000000")
    assert done.returncode == 1
    assert all(version in done.stderr for version in versions)


def test_the_next_training_competes_with_what_was_put_back_by_hand(
    house: House, versions: tuple[str, str], tmp_path: Path
) -> None:
    verdict = house.learn(tables.table(tmp_path / "third.csv", seed=73), MODEL)
    assert verdict.data["previous"] == versions[0]


def _serving(house: House) -> str:
    url = f"{house.url}/svc/headrace/{MODEL}/v2/models/{MODEL}/infer"
    row = tables.questions(1, seed=74)[0]
    inputs = [
        {"name": n, "shape": [1, 1], "datatype": "BYTES" if n in ("城市", "offen") else "FP32", "data": [v]}
        for n, v in row.items()
    ]
    answers = {post(url, {"inputs": inputs}).json()["model_version"] for _ in range(5)}
    (version,) = answers
    return str(version)
