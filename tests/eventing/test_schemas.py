"""What docs/events/ says is what the dataclasses are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from eventing import contract, schemas

FOLDER = Path(__file__).parent.parent.parent / "docs" / "events"


def test_the_schemas_in_the_documentation_are_those_of_the_dataclasses() -> None:
    kept = {f.name: f.read_text() for f in FOLDER.glob("*.json")}
    assert kept == schemas.files(), "run: python -m eventing.schemas docs/events"


@pytest.mark.parametrize("name", contract.TYPES)
def test_each_schema_is_valid(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(contract.TYPES[name].json_schema())


def test_a_schema_refuses_what_the_door_refuses() -> None:
    arrived = {"dataset": "flights", "uri": "file:///x.csv", "sha256": "a" * 64, "bytes": 1}
    schema = contract.DatasetArrived.json_schema()
    jsonschema.validate(arrived, schema)
    for change in ({"sha256": "short"}, {"bytes": "many"}, {"dataset": None}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(arrived | change, schema)


def test_the_generator_writes_every_type_and_removes_what_is_no_more(tmp_path: Path) -> None:
    (tmp_path / "dev.headrace.gone.v1.json").write_text("{}")
    (tmp_path / "README.md").write_text("stays")
    subprocess.run([sys.executable, "-m", "eventing.schemas", tmp_path], check=True)
    assert {f.name for f in tmp_path.iterdir()} == {*schemas.files(), "README.md"}
    assert (
        json.loads((tmp_path / f"{contract.DriftDetected.TYPE}.json").read_text())["title"]
        == contract.DriftDetected.TYPE
    )
