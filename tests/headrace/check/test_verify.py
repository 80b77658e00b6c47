"""Recorded verdicts given again: agreement, difference, and files that are no recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventing.errors import Misconfigured
from headrace.check import verify

VERDICTS = Path(__file__).parents[3].parent / "shared" / "kpa" / "annotations.jsonl.gz"
GROUP = "autoscaling.knative.dev"
REFUSED: dict[str, Any] = {
    "annotations": {f"{GROUP}/window": "5s", f"{GROUP}/target-burst-capacity": "-2"},
    "config_autoscaler": {}, "valid": False, "blamed": ["window", "target", "target-burst-capacity"],
}  # fmt: skip


def written(path: Path, *sets: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(one)}\n" for one in sets), encoding="utf-8")
    return path


@pytest.mark.skipif(not VERDICTS.exists(), reason=f"no recorded verdicts at {VERDICTS}")
def test_every_recorded_verdict_is_ours() -> None:
    report = verify.verify(VERDICTS)
    assert (report.sets, report.differ, report.differing) == (400, 0, ())


@pytest.mark.parametrize(
    "changes",
    [{"valid": True}, {"blamed": ["window"]}, {"blamed": [*REFUSED["blamed"], "metric"]}, {"annotations": {}}],
)
def test_another_verdict_is_told_with_both_sides(tmp_path: Path, changes: dict[str, Any]) -> None:
    report = verify.verify(written(tmp_path / "sets.jsonl", REFUSED, {**REFUSED, **changes}))
    assert (report.sets, report.differ) == (2, 1)
    (one,) = report.differing
    assert one.number == 2
    assert (one.recorded_valid, set(one.recorded_blamed)) == (
        changes.get("valid", False), set(changes.get("blamed", REFUSED["blamed"])),
    )  # fmt: skip
    assert set(one.blamed) == (set() if "annotations" in changes else set(REFUSED["blamed"]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"valid": "no"}, "line 1: valid is 'no'; expected true or false"),
        ({"blamed": None}, "blamed is None; expected a list"),
        ({"blamed": [1]}, "blamed[0] is 1; expected a text"),
        ({"annotations": []}, "annotations is []; expected an object of texts"),
        ({"config_autoscaler": {"initial-scale": "x"}}, "config_autoscaler is"),
    ],
)
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        verify.verify(written(tmp_path / "sets.jsonl", {**REFUSED, **changes}))
    assert said in str(refusal.value)
