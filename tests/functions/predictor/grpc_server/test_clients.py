"""Other people's clients as they come from PyPI, against the real process, each in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from functions.model import Model
from functions.store import Store
from tests.functions import packages
from tests.functions.predictor.grpc_server import doors
from tests.functions.predictor.predictors import MODEL

ROWS = (packages.ROWS[0], packages.ROWS[1])
# What every program begins with: where the server is, and the two rows' columns.
HEAD = """
import json, sys
import numpy as np

target = sys.argv[1]
columns = {
    "distance": ("FP32", np.array([[300.0], [2200.0]], np.float32)),
    "delay": ("FP32", np.array([[45.0], [-5.0]], np.float32)),
    "carrier": ("BYTES", np.array([["AA"], ["DL"]], object)),
}
"""
TRITON = """
def tensors(g):
    made = []
    for name, (datatype, values) in columns.items():
        made.append(g.InferInput(name, list(values.shape), datatype))
        made[-1].set_data_from_numpy(values)
    return made

def told(result):
    return {
        "id": result.get_response().id,
        "label": result.as_numpy("label").tolist(),
        "probabilities": result.as_numpy("probabilities").tolist(),
    }

def refusal(call):
    try:
        call()
    except InferenceServerException as e:
        return [e.status(), e.message()]

"""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[doors.Process]:
    """A predictor that serves `flights`, and may load and unload it."""
    doors.clients()
    folder = tmp_path_factory.mktemp("store")
    store = Store.open((folder / "store").as_uri())
    store.publish(packages.build_package(folder / "built"))
    several = {"HEADRACE_MODEL": "", "HEADRACE_MODEL_VERSION": "", "HEADRACE_MODELS": MODEL}
    with doors.running(store.url, **several) as running:
        running.until_ready()
        yield running


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return Model.from_onnx(packages.onnx_bytes()).infer(packages.arrays(ROWS))


def _is_the_answer(told: dict[str, Any], expected: dict[str, Any]) -> bool:
    return bool(
        told["label"] == expected["label"].tolist()
        and np.allclose(np.reshape(told["probabilities"], (2, 2)), expected["probabilities"], atol=1e-6)
    )


def test_tritonclient_asks_and_is_answered(door: doors.Process, expected: dict[str, Any]) -> None:
    program = f"""{HEAD}
import tritonclient.grpc as g
from tritonclient.utils import InferenceServerException
{TRITON}
client = g.InferenceServerClient(target)
inputs = tensors(g)
waited = []
client.async_infer("flights", inputs, lambda result, error: waited.append(result or error), request_id="later")
stats = client.get_inference_statistics("flights", as_json=True)["model_stats"][0]["inference_stats"]
out = {{
    "plain": told(client.infer("flights", inputs, request_id="now")),
    "gzip": told(client.infer("flights", inputs, compression_algorithm="gzip")),
    "deflate": told(client.infer("flights", inputs, compression_algorithm="deflate")),
    "chosen": client.infer("flights", inputs, outputs=[g.InferRequestedOutput("label")]).as_numpy("probabilities"),
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model_ready": client.is_model_ready("flights"),
    "server": client.get_server_metadata(as_json=True)["name"],
    "inputs": [i["name"] for i in client.get_model_metadata("flights", as_json=True)["inputs"]],
    "config": [i["data_type"] for i in client.get_model_config("flights", as_json=True)["config"]["input"]],
    "index": [m["state"] for m in client.get_model_repository_index(as_json=True)["models"]],
    "stats": sorted(stats),
    "misfit": refusal(lambda: client.infer("flights", inputs[:2])),
    "unknown": refusal(lambda: client.infer("other", inputs)),
    "version": refusal(lambda: client.infer("flights", inputs, model_version="v9")),
}}
import time
while not waited:
    time.sleep(0.01)
out["async"] = told(waited[0])
print(json.dumps(out))
"""
    told = doors.client(program, door.target)
    for kind in ("plain", "gzip", "deflate", "async"):
        assert _is_the_answer(told[kind], expected), kind
    assert (told["plain"]["id"], told["async"]["id"], told["chosen"]) == ("now", "later", None)
    assert (told["live"], told["ready"], told["model_ready"], told["server"]) == (True, True, True, "headrace")
    assert told["inputs"] == ["distance", "delay", "carrier"]
    assert told["config"] == ["TYPE_FP32", "TYPE_FP32", "TYPE_STRING"]
    assert told["index"] == ["READY"]
    assert {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output"} <= set(told["stats"])
    assert told["misfit"][0] == "StatusCode.INVALID_ARGUMENT"
    assert "input 'carrier' is missing; the signature says BYTES [-1, 1]" in told["misfit"][1]
    assert told["unknown"][0] == told["version"][0] == "StatusCode.NOT_FOUND"


def test_tritonclients_async_client_asks_and_is_answered(door: doors.Process, expected: dict[str, Any]) -> None:
    program = f"""{HEAD}
import asyncio
import tritonclient.grpc.aio as g
from tritonclient.utils import InferenceServerException
{TRITON}
async def main():
    async with g.InferenceServerClient(target) as client:
        answers = await asyncio.gather(*(client.infer("flights", tensors(g), request_id=str(n)) for n in range(20)))
        return {{
            "answers": [told(answer) for answer in answers],
            "ready": await client.is_model_ready("flights"),
            "inputs": [i["name"] for i in (await client.get_model_metadata("flights", as_json=True))["inputs"]],
        }}

print(json.dumps(asyncio.run(main())))
"""
    told = doors.client(program, door.target)
    assert [answer["id"] for answer in told["answers"]] == [str(n) for n in range(20)]
    assert all(_is_the_answer(answer, expected) for answer in told["answers"])
    assert (told["ready"], told["inputs"]) == (True, ["distance", "delay", "carrier"])


def test_tritonclient_loads_and_unloads(door: doors.Process) -> None:
    program = f"""{HEAD}
import tritonclient.grpc as g
from tritonclient.utils import InferenceServerException
{TRITON}
client = g.InferenceServerClient(target)
client.unload_model("flights")
out = {{"gone": refusal(lambda: client.infer("flights", tensors(g)))}}
client.load_model("flights")
out["back"] = client.is_model_ready("flights")
out["unknown"] = refusal(lambda: client.load_model("other"))
print(json.dumps(out))
"""
    told = doors.client(program, door.target)
    assert told["gone"][0] in ("StatusCode.NOT_FOUND", "StatusCode.UNAVAILABLE")
    assert told["back"] is True
    assert told["unknown"][0] == "StatusCode.NOT_FOUND"


def test_kserves_client_asks_and_is_answered(door: doors.Process, expected: dict[str, Any]) -> None:
    program = f"""{HEAD}
import asyncio
import grpc
import logging
from kserve import InferenceGRPCClient, InferInput, InferRequest
logging.disable(logging.ERROR)

def request(as_bytes, names=tuple(columns)):
    inputs = []
    for name in names:
        datatype, values = columns[name]
        inputs.append(InferInput(name, list(values.shape), datatype))
        inputs[-1].set_data_from_numpy(values, binary_data=as_bytes)
    return InferRequest("flights", inputs, request_id="k")

def told(answer):
    outputs = {{output.name: output.as_numpy().tolist() for output in answer.outputs}}
    return outputs | {{"id": answer.id, "name": answer.model_name}}

async def main():
    async with InferenceGRPCClient(target) as client:
        out = {{
            "raw": told(await client.infer(request(True))),
            "typed": told(await client.infer(request(False))),
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready("flights"),
        }}
        calls = {{"misfit": client.infer(request(True, ["delay"])), "unknown": client.is_model_ready("other")}}
        for name, call in calls.items():
            try:
                await call
            except grpc.RpcError as e:
                out[name] = [e.code().name, e.details()]
        return out

print(json.dumps(asyncio.run(main())))
"""
    told = doors.client(program, door.target)
    for kind in ("raw", "typed"):
        assert _is_the_answer(told[kind], expected), kind
        assert (told[kind]["id"], told[kind]["name"]) == ("k", "flights")
    assert (told["live"], told["ready"], told["model_ready"]) == (True, True, True)
    assert told["misfit"][0] == "INVALID_ARGUMENT"
    assert "input 'distance' is missing" in told["misfit"][1] and "input 'carrier' is missing" in told["misfit"][1]
    assert told["unknown"] == ["NOT_FOUND", "model 'other' is not served here; this server has flights"]
