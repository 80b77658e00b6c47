"""trainers/manifests and the room as a whole: exit statuses as the code has them, and no pickle anywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOM = Path(__file__).parents[2] / "trainers"


@pytest.mark.parametrize("name", ["random-forest", "neural-net"])
def test_a_job_sink_runs_the_job_and_knows_its_final_status(name: str) -> None:
    sink: dict[str, Any] = yaml.safe_load((ROOM / "manifests" / f"{name}.yaml").read_text())
    assert (sink["kind"], sink["metadata"]["name"]) == ("JobSink", name)
    job = sink["spec"]["job"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "trainers.job"]
    keys = {"secretRef": {"name": "headrace-store", "optional": True}}  # of a bucket; a folder needs none
    assert container["envFrom"] == [{"configMapRef": {"name": "headrace"}}, keys]
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    codes = job["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert (codes["values"], codes["containerName"]) == ([os.EX_DATAERR], container["name"])


def test_no_pickle_is_written_or_read_by_the_trainers() -> None:
    for file in ROOM.glob("*.py"):
        source = file.read_text()
        assert not any(word in source for word in ("import pickle", "joblib", "allow_pickle=True")), file.name
