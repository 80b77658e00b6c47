"""Every datatype through a model, over every protocol: as Triton's own clients send it, and as V1 spells it.

The model gives each of its inputs back as it came, one of every datatype, of shape [-1, 2].
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from werkzeug.test import Client

from functions import tensors
from functions.predictor.grpc_server import open_inference_pb2 as v2
from functions.predictor.grpc_server.inference import FIELDS
from functions.predictor.wire.infer_request import MAX_ROWS
from functions.tensors import MAX_RANK
from tests.functions import packages
from tests.functions.predictor import predictors
from tests.functions.predictor.grpc_server import doors
from tests.fuzz import target
from tests.fuzz.wire import Request

ROWS: dict[str, list[list[Any]]] = {
    "BOOL": [[True, False]],
    **{name: [[0, int(np.iinfo(dtype).max)], [int(np.iinfo(dtype).min), 7]]
       for name, dtype in tensors.DTYPES.items() if dtype.kind in "iu"},
    "FP16": [[0.5, -65504.0]],
    "FP32": [[0.1, -3.5e38 / 2]],
    "FP64": [[0.1, -1e300]],
    "BYTES": [["AA", "ü long"]],
}  # fmt: skip
ROWS = {name: rows if len(rows) == 2 else rows * 2 for name, rows in ROWS.items()}
# Prints what came back, by way and name, as lists: of every output the values and numpy's own type.
TRITON = """
import json, sys
import numpy as np
import tritonclient.http as http
import tritonclient.grpc as grpc
from tritonclient.utils import triton_to_np_dtype

told = {}
rows = json.loads(sys.argv[3])
for way in ("binary", "json", "grpc"):
    module = grpc if way == "grpc" else http
    client = module.InferenceServerClient(sys.argv[2] if way == "grpc" else sys.argv[1])
    inputs = []
    for name, values in rows.items():
        dtype = triton_to_np_dtype(name)
        array = np.array(values, object if name == "BYTES" else dtype)
        tensor = module.InferInput(name, [2, 2], name)
        # The client itself spells no half in JSON.
        kind = {} if way == "grpc" else {"binary_data": way == "binary" or name == "FP16"}
        tensor.set_data_from_numpy(array, **kind)
        inputs.append(tensor)
    outputs = None
    if way == "json":
        outputs = [http.InferRequestedOutput(f"{name}_back", binary_data=name == "FP16") for name in rows]
    result = client.infer("datatypes", inputs, outputs=outputs)
    for name in rows:
        array = result.as_numpy(f"{name}_back")
        values = [[v.decode() if isinstance(v, bytes) else v for v in row] for row in array.tolist()]
        told[f"{way} {name}"] = [values, str(array.dtype)]
    client.close()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[target.Target]:
    with target.running(tmp_path_factory.mktemp("http")) as running:
        yield running


@pytest.fixture(scope="module")
def rpc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[target.Target]:
    with target.running(tmp_path_factory.mktemp("grpc"), "functions.predictor.grpc_server") as running:
        yield running


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    folder = tmp_path_factory.mktemp("package")
    (folder / "model.onnx").write_bytes(packages.datatypes())
    return predictors.serving(folder, "datatypes", "1")[0]


def test_tritonclient_gets_every_datatype_back(http: target.Target, rpc: target.Target) -> None:
    addresses = [f"127.0.0.1:{each.port}" for each in (http, rpc)]
    told = doors.client(TRITON, *addresses, json.dumps(ROWS))
    assert len(told) == 3 * len(tensors.DTYPES)
    for which, (values, dtype) in told.items():
        name = which.split()[1]
        expected = np.array(ROWS[name], tensors.DTYPES[name])
        assert values == expected.tolist(), which
        assert name == "BYTES" or np.dtype(dtype) == expected.dtype, which


def test_every_datatype_comes_back_typed_over_grpc_but_halves_which_travel_raw(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(packages.datatypes(tuple(FIELDS)))
    request = v2.ModelInferRequest(model_name=predictors.MODEL)
    for name in FIELDS:
        tensor = request.inputs.add(name=name, datatype=name, shape=[2, 2])
        flat = [value.encode() if isinstance(value, str) else value for row in ROWS[name] for value in row]
        getattr(tensor.contents, FIELDS[name]).extend(flat)
    with doors.serving(tmp_path) as (door, _):
        answer = door.call("ModelInfer", request)
    assert not answer.raw_output_contents
    for asked, told in zip(request.inputs, answer.outputs, strict=True):
        assert (told.name, told.datatype, list(told.shape)) == (f"{asked.name}_back", asked.datatype, [2, 2])
        assert told.contents == asked.contents, asked.name


def test_v1_spells_every_datatype_in_rows_and_columns(client: Client) -> None:
    rows = [{name: values[row] for name, values in ROWS.items()} for row in range(2)]
    predictions = client.post("/v1/models/datatypes:predict", json={"instances": rows}).json["predictions"]
    columns = client.post("/v1/models/datatypes:predict", json={"inputs": ROWS}).json["outputs"]
    for name, values in ROWS.items():
        expected = np.array(values, tensors.DTYPES[name])
        for found in ([row[f"{name}_back"] for row in predictions], columns[f"{name}_back"]):
            assert np.array(found, expected.dtype).tolist() == expected.tolist(), name


# ---------------------------------------------------------------- limits, each with its own error


def _tensor(shape: list[int]) -> bytes:
    tensor = {"name": "FP32", "shape": shape, "datatype": "FP32", "data": [1.0]}
    return json.dumps({"inputs": [tensor]}).encode()


V1, V2 = "/v1/models/datatypes:predict", "/v2/models/datatypes/infer"
LONG, BOMB = b" " * (predictors.MAX_BODY_BYTES + 1), gzip.compress(b" " * 1_000_000)
GZIP = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "said"),
    [
        *((path, LONG, {}, 413, "bytes; at most 100000 are taken at once") for path in (V1, V2)),
        *((path, BOMB, GZIP, 413, "decoded, has more than 100000 bytes") for path in (V1, V2)),
        # V1 tells no shapes; its rows are limited in test_v1.
        (V2, _tensor([1] * (MAX_RANK + 1)), {}, 400, f"of {MAX_RANK + 1} axes; at most {MAX_RANK} are taken"),
        (V2, _tensor([MAX_ROWS + 1, 2]), {}, 400, f"at most {MAX_ROWS} rows are taken at once"),
    ],
    ids=["body v1", "body v2", "decompressed v1", "decompressed v2", "rank", "rows"],
)
def test_every_limit_has_its_own_error(
    client: Client, path: str, body: bytes, headers: dict[str, str], status: int, said: str
) -> None:
    answer = client.post(path, data=body, headers=headers)
    assert (answer.status_code, said in answer.json["error"]) == (status, True), answer.json


def test_a_body_whose_length_is_not_told_is_cut_off_at_the_limit(http: target.Target) -> None:
    body = b" " * (target.MAX_BODY_BYTES + 1)
    answer = http.ask(Request("POST", "/v2/models/datatypes/infer", (), body, chunked=True))
    said = f"more than {target.MAX_BODY_BYTES} bytes, which is the most taken at once"
    assert (answer.status, said in json.loads(answer.body)["error"]) == (413, True)


@pytest.mark.parametrize(
    ("shape", "said"),
    [([MAX_ROWS + 1, 2], f"at most {MAX_ROWS} rows are taken at once"), ([1] * 100, "the signature says [-1, 2]")],
    ids=["rows", "rank"],
)
def test_the_limits_hold_over_grpc(rpc: target.Target, shape: list[int], said: str) -> None:
    door = doors.Door(f"127.0.0.1:{rpc.port}")
    request = v2.ModelInferRequest(model_name="datatypes")
    request.inputs.add(name="FP32", datatype="FP32", shape=shape)
    code, told, _ = door.fault("ModelInfer", request)
    door.close()
    assert (code, said in told) == (grpc.StatusCode.INVALID_ARGUMENT, True), told
