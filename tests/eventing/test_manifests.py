"""The room's YAML says what the code and the contract say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from eventing import contract

HOUSE = Path(__file__).parent.parent.parent
FOLDER = HOUSE / "eventing" / "manifests"


def objects() -> list[dict[str, Any]]:
    return [o for f in sorted(FOLDER.glob("*.yaml")) for o in yaml.safe_load_all(f.read_text()) if o]


def types_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {v for k, v in value.items() if k == "type" and isinstance(v, str)}.union(*map(types_in, value.values()))
    return set().union(*map(types_in, value)) if isinstance(value, list) else set()


def test_every_object_lives_in_the_namespace_and_is_part_of_headrace() -> None:
    for o in objects():
        assert o["metadata"]["namespace"] == "headrace", o
        assert o["metadata"]["labels"]["app.kubernetes.io/part-of"] == "headrace", o


def test_triggers_filter_on_types_of_the_contract_alone() -> None:
    triggers = [o for o in objects() if o["kind"] == "Trigger"]
    assert {t["metadata"]["name"] for t in triggers} == {
        "random-forest",
        "neural-net",
        "promoter",
        "drift-watch",
        "job-watch",
    }
    for trigger in triggers:
        seen = types_in(trigger["spec"]["filters"])
        assert seen and seen <= set(contract.TYPES), trigger["metadata"]["name"]


def test_whatever_has_a_delivery_of_its_own_has_the_dead_letter_sink() -> None:
    for o in objects():
        if delivery := o["spec"].get("delivery"):
            assert delivery["deadLetterSink"]["ref"]["name"] == "dead-letters"
            assert delivery["retry"] > 0


def test_commands_are_modules_that_exist() -> None:
    files = [*FOLDER.glob("*.yaml"), *(HOUSE / "functions" / "manifests").glob("d*.yaml")]
    commands = [c for f in files for o in yaml.safe_load_all(f.read_text()) for c in containers(o)]
    assert len(commands) >= 3
    for python, dash_m, module in commands:
        assert (python, dash_m) == ("python", "-m")
        assert (HOUSE / Path(*module.split("."))).with_suffix(".py").exists(), module


def containers(o: dict[str, Any]) -> list[list[str]]:
    template = o.get("spec", {}).get("template", {})
    return [c["command"] for c in template.get("spec", {}).get("containers", [])]
