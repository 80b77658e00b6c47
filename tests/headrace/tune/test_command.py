"""`headrace tune` as a process: what it prints, writes, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

GROUP = "autoscaling.knative.dev"
SHAPE = ("--shape", "burst", "--peak-rps", "30", "--length", "10m", "--settings", "40", "--cold-start", "1s")
TYPED = ("--container-concurrency", "2", "--annotation", "window=30s")


def tune(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headrace.cli", "tune", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environ})


def told(*words: str, status: int = 0) -> Any:
    done = tune(*words, "-o", "json")
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def test_it_says_what_to_set_and_why() -> None:
    done = tune(*SHAPE, *TYPED, "--p95", "2s", "--pod-hour-price", "0.05")
    assert done.returncode == 0, done.stderr
    for part in ("present", "recommended", "COST", "Meets p95 below 2.00 s", "Why:", "Assumed:", "The front"):
        assert part in done.stdout
    assert done.stderr == "", "no bar where nobody sees it"


def test_programs_get_the_same_as_people() -> None:
    found = told(*SHAPE, *TYPED, "--p95", "2s", "--pod-hour-price", "0.05")
    recommended, present = found["recommended"], found["present"]
    assert present["annotations"] == {f"{GROUP}/window": "30s"}
    assert recommended["holds"] is True
    assert recommended["p95_s"] < 2
    assert recommended["pod_seconds"] <= present["pod_seconds"]
    assert recommended["cost"] == pytest.approx(recommended["pod_seconds"] / 3600 * 0.05)
    assert recommended["answered"] + recommended["refused"] + recommended["timed_out"] == found["traffic"]["requests"]
    pasted = yaml.safe_load(recommended["yaml"])["spec"]["template"]
    assert pasted["metadata"]["annotations"] == recommended["annotations"]
    assert len(recommended["over_time"]["pods"]) == len(present["over_time"]["pods"])
    assert all(a["says"] and a["error"] for a in found["assumptions"])
    assert len(found["candidates"]) + found["screened"] <= 40


def test_the_same_words_give_the_same_answer() -> None:
    first, second = (told(*SHAPE, *TYPED, "--seed", "3") for _ in range(2))
    for found in (first, second):
        found.pop("seconds")
    assert first == second


def test_an_aim_that_nothing_meets_ends_with_1_and_still_tells_the_closest() -> None:
    done = tune(*SHAPE, *TYPED, "--p95", "1ms")
    assert done.returncode == 1
    assert "No setting that was tried meets p95 below 1.0 ms" in done.stdout
    assert "kubectl patch" in done.stdout


def test_a_budget_is_pod_time_or_money() -> None:
    time = told(*SHAPE, *TYPED, "--budget", "30m")
    money = told(*SHAPE, *TYPED, "--budget", "0.5", "--pod-hour-price", "1")
    assert time["recommended"]["pod_seconds"] <= 1800
    assert money["recommended"]["annotations"] == time["recommended"]["annotations"]


def test_a_report_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    file = tmp_path / "tuned.html"
    assert tune(*SHAPE, *TYPED, "--report", str(file)).returncode == 0
    assert file.read_text().startswith("<!doctype html>")


def test_the_present_setting_comes_from_a_manifest(tmp_path: Path) -> None:
    manifest = Path(__file__).parents[3] / "functions" / "manifests" / "predictor.yaml"
    found = told(*SHAPE, "--manifest", str(manifest))
    assert found["present"]["container_concurrency"] == 20
    assert found["present"]["annotations"][f"{GROUP}/max-scale"] == "10"
    assert "kubectl patch ksvc predictor -n headrace" in found["recommended"]["command"]


def test_every_option_has_a_variable() -> None:
    found = tune(
        HEADRACE_TUNE_SHAPE="steady", HEADRACE_TUNE_LENGTH="1m", HEADRACE_TUNE_SETTINGS="2", HEADRACE_OUTPUT="json"
    )
    assert json.loads(found.stdout)["traffic"]["source"].startswith("shape steady: 60 s")


@pytest.mark.parametrize(
    ("words", "taught"),
    [
        ((), "--shape burst --peak-rps 50"),
        (("--shape", "burst", "--from-local"), "one of: files, --from-local"),
        ((*SHAPE, "--p95", "fast"), "expected one such as 250ms"),
        ((*SHAPE, "--p95", "1s", "--budget", "1h"), "one of them"),
        ((*SHAPE, "--budget", "12.50"), "--pod-hour-price"),
        ((*SHAPE, "--annotation", "minimum=1"), "min-scale"),
        ((*SHAPE, "--annotation", "target=lots"), "what Knative's webhook takes"),
        ((*SHAPE, "--config", "stable-window=1s"), "stable-window"),
        ((*SHAPE, "--fix", "everything"), "window"),
        ((*SHAPE, "--path", "istio"), "knative or laptop"),
        (("--shape", "circle"), "steady, ramp, burst, diurnal, sparse"),
        (("no-such.log",), "no-such.log"),
    ],
)
def test_misuse_is_told_with_what_to_do(words: tuple[str, ...], taught: str) -> None:
    done = tune(*words)
    said = " ".join(done.stderr.split()).replace("│ ", "")
    assert done.returncode in (1, 2)
    assert taught in said
    assert "Traceback" not in said


def test_a_report_that_cannot_be_written_is_told() -> None:
    done = tune(*SHAPE, "--report", "/nowhere/tuned.html")
    assert done.returncode == 1
    assert "/nowhere/tuned.html" in done.stderr
