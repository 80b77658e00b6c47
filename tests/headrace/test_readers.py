"""What the parts would say of a value, before they are given it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from headrace import readers

HOUSE = Path(__file__).parents[2]


def test_every_process_that_reads_the_environment_is_asked() -> None:
    rooms = (HOUSE / room for room in ("eventing", "functions", "trainers"))
    written = {
        f"{'.'.join(file.relative_to(HOUSE).with_suffix('').parts)}:{node.name}"
        for room in rooms
        for file in room.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef) and re.fullmatch(r"(\w*)Settings", node.name)
    }
    assert written == set(readers.READERS)


def test_what_each_is_given_anyway_is_enough() -> None:
    assert readers.faults({}) == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HEADRACE_CANARY_S", "a minute"),
        ("HEADRACE_DRIFT_THRESHOLD", "-1"),
        ("HEADRACE_GRPC", "yes"),
        ("HEADRACE_JOURNAL_DAYS", "0"),
        ("HEADRACE_METRICS_PORT", "99999"),
        ("HEADRACE_PATIENCE_S", "10m"),
        ("HEADRACE_POLL_S", "0"),
        ("HEADRACE_PROMOTER_POLL_S", "often"),
        ("HEADRACE_THREADS", "0"),
        ("HEADRACE_TRAINING_KIND", "PyTorchJob"),
        ("K_SINK", "broker"),
    ],
)
def test_what_a_part_would_end_for_is_a_fault_of_that_key(key: str, value: str) -> None:
    (fault,) = readers.faults({key: value, "HEADRACE_CANARY_PERCENT": "10"})
    assert (fault.key, fault.seen) == (key, value)


def test_every_fault_is_named_though_a_part_ends_with_its_first() -> None:
    wrong = {"HEADRACE_CANARY_S": "x", "HEADRACE_HOLD_S": "x", "HEADRACE_WAIT_S": "x"}
    assert {fault.key for fault in readers.faults(wrong)} == set(wrong)


def test_a_key_that_is_of_no_part_is_no_fault() -> None:
    assert readers.faults({"AWS_REGION": "eu-central-1", "MINE": "", "HEADRACE_CANARY": "x"}) == ()
