"""A model is reached over gRPC as over HTTP: made by its promotion, through the one port, and going where that goes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventing.contract import ModelPromoted
from tests.end_to_end import tables
from tests.end_to_end.conftest import Open
from tests.end_to_end.house import House, until

MODEL = "calls"
NAME = f"{MODEL}-grpc"
PYTHON = Path(__file__).parents[2] / ".venv-clients" / "bin" / "python"
# Triton's client as it comes from PyPI, told the address and the Service's name: asks until its input ends, one row at
# a time, and prints what came, a line each.
PROGRAM = """
import json, sys, threading, time
import numpy as np
import tritonclient.grpc as triton

target, authority, model, rows = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
channel = [("grpc.default_authority", authority)] if authority else None
client = triton.InferenceServerClient(target, channel_args=channel)
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
specs, number = None, 0
while True:
    row = rows[number % len(rows)]
    number += 1
    try:
        specs = specs or client.get_model_metadata(model, client_timeout=60, as_json=True)["inputs"]
        inputs = []
        for spec in specs:
            kind = {"FP32": np.float32, "BYTES": object}[spec["datatype"]]
            value = row[spec["name"]]
            value = ("" if kind is object else np.nan) if value is None else value
            inputs.append(triton.InferInput(spec["name"], [1, 1], spec["datatype"]))
            inputs[-1].set_data_from_numpy(np.array([[value]], kind))
        answer = client.infer(model, inputs, client_timeout=60)
        said = {"version": answer.get_response().model_version, "label": answer.as_numpy("label").ravel().tolist()[0]}
    except triton.InferenceServerException as e:
        said = {"error": str(e)}
    print(json.dumps(said), flush=True)
    if over.wait(0.05):
        break
"""


@pytest.fixture(scope="module")
def house(open_another: Open) -> House:
    return open_another({"HEADRACE_GRPC": "on", "HEADRACE_CANARY_S": "5"})


@contextmanager
def calling(house: House, rows: list[tables.Row], authority: str = f"{NAME}.headrace.localhost") -> Iterator[list[Any]]:
    """Calls, one after the other, while the block runs; afterwards all that was answered."""
    assert PYTHON.exists(), f"{PYTHON} is not there: `make setup` makes it"
    target = house.url.removeprefix("http://")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(PYTHON), "-c", PROGRAM, target, authority, MODEL, json.dumps(rows)]
    said: list[Any] = []
    with subprocess.Popen(command, env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None and client.stdout is not None
        yield said
        client.stdin.close()
        said += [json.loads(line) for line in client.stdout]
    assert client.returncode == 0


def test_versions_come_share_and_go_over_grpc_as_over_http(house: House, file: Callable[[int], Path]) -> None:
    first = house.learn(file(91), MODEL)
    assert first.type == ModelPromoted.TYPE, first.data
    rows = tables.questions(40, seed=92)
    with calling(house, rows) as said:
        pass
    (answer,) = said
    assert answer.get("version") == first.data["version"], answer
    assert answer["label"] == house.predictions(MODEL, rows[:1])[0]["label"]

    with calling(house, rows) as said:
        second = house.learn(file(93), MODEL)
    assert second.type == ModelPromoted.TYPE, second.data
    versions = [answer.get("version") for answer in said]
    assert set(versions) == {first.data["version"], second.data["version"]}, said
    canary = versions.index(second.data["version"])
    assert first.data["version"] in versions[canary:], "the new version took everything at once"

    house.headrace("rollback", MODEL)
    until("the way back over gRPC", lambda: _answered(house, rows) == first.data["version"])
    house.kubectl("delete", "ksvc", MODEL)
    until("the end of the gRPC Service", lambda: all(s["metadata"]["name"] != NAME for s in house.items("ksvc")))


def _answered(house: House, rows: list[tables.Row]) -> str | None:
    with calling(house, rows) as said:
        pass
    return said[0].get("version")
