"""`tune --verify` and `check` as processes: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.running import Platform

SHARED = Path(__file__).parents[2].parent / "shared" / "kpa"
GROUP = "autoscaling.knative.dev"
recorded = pytest.mark.skipif(not SHARED.exists(), reason=f"no recordings in {SHARED}")

CASE: dict[str, Any] = {
    "name": "one", "annotations": {f"{GROUP}/target": "10"}, "config_autoscaler": {}, "container_concurrency": 0,
    "reachable": True, "derived": {"target_value": 7},
    "events": [
        {"stat": {"t": 0.5, "concurrency": 20, "requests": 5}},
        {"tick": {"t": 1.9, "ready": 1, "valid": True, "stable": 20, "panic": 20, "desired": 2,
                  "excess_burst_capacity": -221}},
    ],
}  # fmt: skip


@pytest.fixture
def nowhere(tmp_path: Path) -> Platform:
    """A home in which nothing runs: neither command needs a platform."""
    return Platform(tmp_path / "home")


@recorded
def test_both_recordings_agree(nowhere: Platform) -> None:
    assert nowhere.run("tune", "--verify", str(SHARED / "traces.jsonl.gz")) == "4136 decisions, 0 differ\n"
    assert nowhere.run("check", "--verify", str(SHARED / "annotations.jsonl.gz")) == "400 sets, 0 differ\n"


def test_a_differing_decision_ends_with_one_and_both_sides(nowhere: Platform, tmp_path: Path) -> None:
    path = tmp_path / "recorded.jsonl"
    path.write_text(json.dumps(CASE))
    done = nowhere.call("tune", "--verify", str(path))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "1 decisions, 1 differ"
    assert "one: decision 1, at 1.9 s, 1 ready" in lines
    assert ["desired", "2", "3", "differs"] in [line.split() for line in lines]
    told = nowhere.call("tune", "--verify", str(path), "-o", "json")
    assert told.returncode == 1
    report = json.loads(told.stdout)
    assert (report["decisions"], report["differ"], report["derived"]) == (1, 1, [])
    assert (report["first"][0]["recorded"]["desired"], report["first"][0]["ours"]["desired"]) == (2, 3)


def test_settings_understood_otherwise_end_with_one(nowhere: Platform, tmp_path: Path) -> None:
    path = tmp_path / "recorded.jsonl"
    path.write_text(json.dumps({**CASE, "derived": {"target_value": 10}, "events": []}))
    done = nowhere.call("tune", "--verify", str(path))
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == [
        "0 decisions, 0 differ", "1 cases, 1 with settings that Knative understood otherwise",
    ]  # fmt: skip


def test_a_differing_verdict_ends_with_one_and_both_sides(nowhere: Platform, tmp_path: Path) -> None:
    path = tmp_path / "recorded.jsonl"
    one = {"annotations": {f"{GROUP}/window": "5s"}, "config_autoscaler": {}, "valid": True, "blamed": []}
    path.write_text(json.dumps(one))
    done = nowhere.call("check", "--verify", str(path))
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "1 sets, 1 differ"
    assert ["valid", "True", "False", "differs"] in [line.split() for line in done.stdout.splitlines()]
    assert "expected 6s <= 5s <= 1h0m0s" in done.stdout


@pytest.mark.parametrize("command", ["tune", "check"])
def test_a_recording_that_is_none_is_misuse(nowhere: Platform, tmp_path: Path, command: str) -> None:
    path = tmp_path / "recorded.jsonl"
    path.write_text('{"annotations": {}}\n')
    for words, said in (
        (["--verify", str(path)], "line 1"),
        (["--verify", str(tmp_path / "nothing")], "expected a file that is there"),
        ([], "give"),
    ):
        done = nowhere.call(command, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr


def manifest(**keys: str) -> str:
    annotations = {f"{GROUP}/{key.replace('_', '-')}": value for key, value in keys.items()}
    template = {"metadata": {"annotations": annotations}, "spec": {"containers": [{"image": "x"}]}}
    meta = {"name": "flights"}
    return json.dumps(
        {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": meta, "spec": {"template": template}}
    )


def test_check_ends_with_one_for_faults_and_with_zero_for_warnings(nowhere: Platform) -> None:
    refused = nowhere.call("check", "-", input=manifest(window="5s"))
    assert refused.returncode == 1
    assert refused.stdout.splitlines()[-1] == "1 object in 1 file: 1 fault, 0 warnings"
    foolish = nowhere.call("check", "-", input=manifest(scale_down_delay="1s"))
    assert foolish.returncode == 0
    assert foolish.stdout.splitlines()[-1] == "1 object in 1 file: 0 faults, 1 warning"
    told = json.loads(nowhere.call("check", "-", "-o", "json", input=manifest(window="5s")).stdout)
    assert (told["objects"], told["faults"], told["warnings"]) == (1, 1, 0)
    assert told["findings"][0]["path"] == f"spec.template.metadata.annotations[{GROUP}/window]"
    assert told["findings"][0]["seen"] == "5s"


def test_check_of_what_is_not_there_is_misuse(nowhere: Platform, tmp_path: Path) -> None:
    done = nowhere.call("check", str(tmp_path / "nothing.yaml"))
    assert (done.returncode, done.stdout) == (2, "")
    both = nowhere.call("check", str(tmp_path), "--verify", str(tmp_path))
    assert both.returncode == 2
