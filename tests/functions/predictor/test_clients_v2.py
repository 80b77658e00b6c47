"""Clients of Triton and KServe as they come from PyPI, against the real process: they work unchanged.

They live in `.venv-clients`, which `make setup` makes: their pins do not go with those of this checkout.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from functions.model import Model
from functions.store import Store
from tests.functions import packages
from tests.functions.predictor import predictors

PYTHON = Path(__file__).parents[3] / ".venv-clients" / "bin" / "python"
SCRIPT = Path(__file__).with_name("v2_clients.py")
TRITON = ("tritonclient", "tritonclient.aio")
NAMES = ("label", "probabilities")

Calls = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages.build_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def predictor(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[predictors.Predictor]:
    url = (tmp_path_factory.mktemp("store") / "store").as_uri()
    Store.open(url).publish(package)
    with predictors.running(url, HEADRACE_MODEL_CONTROL="on") as running:
        running.until_ready()
        yield running


@pytest.fixture(scope="module")
def answers(package: Path) -> dict[str, np.ndarray]:
    return Model.load(package).infer(packages.arrays(packages.ROWS))


def _ask(client: str, predictor: predictors.Predictor, calls: Calls) -> list[Any]:
    """What the client returned for each call, or the error that it raised."""
    assert PYTHON.exists(), f"{PYTHON} is not there: `make setup` makes it"
    command = [PYTHON, SCRIPT, client, predictor.url, json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=predictors.DEADLINE_S)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


def _inputs(repeat: int = 1, binary: bool = True, **changes: dict[str, Any]) -> list[dict[str, Any]]:
    rows = packages.ROWS * repeat
    tensors = []
    for name, datatype in (("distance", "FP32"), ("delay", "FP32"), ("carrier", "BYTES")):
        missing = np.nan if datatype == "FP32" else ""
        data = [[missing if row[name] is None else row[name]] for row in rows]
        tensors.append({"name": name, "datatype": datatype, "data": data, "binary": binary} | changes.get(name, {}))
    return tensors


def _assert_answered(told: dict[str, Any], answers: dict[str, np.ndarray], repeat: int = 1) -> None:
    assert told["arrays"]["label"] == answers["label"].tolist() * repeat
    expected = np.tile(answers["probabilities"], (repeat, 1))
    np.testing.assert_allclose(told["arrays"]["probabilities"], expected, atol=1e-6)


@pytest.mark.parametrize("client", TRITON)
def test_tritonclient_infers_in_every_way_it_has(
    client: str, predictor: predictors.Predictor, answers: dict[str, np.ndarray]
) -> None:
    both = [[{"name": name, "binary": binary} for name in NAMES] for binary in (True, False)]
    mixed = [{"name": "label", "binary": False}, {"name": "probabilities", "binary": True}]
    packed = [{"request_compression_algorithm": a, "response_compression_algorithm": a} for a in ("gzip", "deflate")]
    told = _ask(
        client,
        predictor,
        [
            ("infer", {"inputs": _inputs()}),
            ("infer", {"inputs": _inputs(), "outputs": both[0], "request_id": "7", "model_version": packages.VERSION}),
            ("infer", {"inputs": _inputs(), "outputs": both[1]}),
            ("infer", {"inputs": _inputs(distance={"binary": False}), "outputs": mixed}),
            ("infer", {"inputs": _inputs(), "sequence_id": 3, "sequence_start": True, "priority": 1, "timeout": 10**6}),
            ("infer", {"inputs": _inputs(), "parameters": {"tenant": "blue"}, "headers": {"X-Request": "1"}}),
            *(("infer", {"inputs": _inputs(100), **algorithms}) for algorithms in packed),
            *(("infer", {"inputs": _inputs(100), "outputs": both[1], **algorithms}) for algorithms in packed),
        ],
    )
    for answer in told[:6]:
        _assert_answered(answer, answers)
    for answer in told[6:]:
        _assert_answered(answer, answers, 100)
    raw = [list(NAMES), list(NAMES), [], ["probabilities"]] + [list(NAMES)] * 4 + [[], []]
    assert [answer["raw"] for answer in told] == raw
    assert told[1]["id"] == "7"


@pytest.mark.parametrize("client", TRITON)
def test_tritonclient_is_told_of_the_server_its_models_and_their_repository(
    client: str, predictor: predictors.Predictor
) -> None:
    flights, version = {"model_name": "flights"}, {"model_version": packages.VERSION}
    calls: Calls = [
        ("is_server_live", {}),
        ("is_server_ready", {}),
        ("is_model_ready", flights),
        ("is_model_ready", flights | version),
        ("is_model_ready", {"model_name": "nobody"}),
        ("get_server_metadata", {}),
        ("get_model_metadata", flights),
        ("get_model_metadata", flights | version),
        ("get_model_config", flights),
        ("get_model_repository_index", {}),
        ("get_inference_statistics", {}),
        ("get_inference_statistics", flights),
        ("get_inference_statistics", flights | version),
        ("load_model", flights),
        ("unload_model", flights),
        ("is_model_ready", flights),
        ("get_model_repository_index", {}),
        ("load_model", flights),
        ("is_model_ready", flights),
    ]
    told = _ask(client, predictor, calls)
    assert told[:5] == [True, True, True, True, False]
    assert set(told[5]["extensions"]) >= {"binary_tensor_data", "model_repository", "statistics"}
    assert told[6] == told[7]
    assert [output["name"] for output in told[6]["outputs"]] == list(NAMES)
    here = {"name": "flights", "version": packages.VERSION}
    assert told[8]["input"][2] == {"name": "carrier", "data_type": "TYPE_STRING", "dims": [-1, 1]}
    assert told[9] == [here | {"state": "READY", "reason": ""}]
    assert told[10] == told[11] == told[12]
    (counted,) = told[10]["model_stats"]
    assert here.items() <= counted.items()
    assert counted["inference_stats"]["success"]["count"] >= 0
    assert told[13:16] == [None, None, False]
    assert told[16] == [here | {"state": "UNAVAILABLE", "reason": "unloaded"}]
    assert told[17:] == [None, True]


@pytest.mark.parametrize("client", TRITON)
def test_tritonclient_raises_what_was_wrong(client: str, predictor: predictors.Predictor) -> None:
    short = {"data": [[1.0]]}
    config = {"model_name": "flights", "config": "{}"}
    calls: Calls = [
        ("infer", {"inputs": _inputs(distance=short)}),
        ("infer", {"inputs": _inputs(distance=short, binary=False)}),
        ("infer", {"inputs": _inputs(), "outputs": [{"name": "score", "binary": True}]}),
        ("infer", {"inputs": _inputs(), "model_version": "v0"}),
        ("get_model_metadata", {"model_name": "nobody"}),
        ("get_inference_statistics", {"model_name": "nobody"}),
        ("load_model", {"model_name": "nobody"}),
        ("unload_model", {"model_name": "nobody"}),
        ("load_model", config),
    ]
    told = _ask(client, predictor, calls)
    assert [answer["status"] for answer in told] == ["400"] * 3 + ["404"] * 5 + ["501"]
    for answer, part in zip(
        told,
        ("differ in their number of rows", "differ in their number of rows", "'score' is not in the signature",
         "v0", "nobody", "nobody", "nobody", "nobody", "'config' is not supported"),
        strict=True,
    ):  # fmt: skip
        assert part in answer["error"]


def test_kserves_client_works_unchanged(predictor: predictors.Predictor, answers: dict[str, np.ndarray]) -> None:
    ways = [
        {"inputs": _inputs(binary=sent), "outputs": [{"name": name, "binary": back} for name in NAMES]}
        for sent in (True, False)
        for back in (True, False)
    ]
    large = [{"inputs": _inputs(100), "outputs": way["outputs"]} for way in ways[:2]]
    calls: Calls = [
        *(("infer", way) for way in (*ways, *large)),
        ("is_server_live", {}),
        ("is_server_ready", {}),
        ("is_model_ready", {"model_name": "flights"}),
        ("infer", {"inputs": _inputs()[:2], "outputs": []}),
    ]
    told = _ask("kserve", predictor, calls)
    for answer in told[:4]:
        _assert_answered(answer, answers)
    for answer in told[4:6]:
        _assert_answered(answer, answers, 100)  # its HTTP client asks for gzip, and gets it
    types = ["application/octet-stream", "application/json"]
    assert [answer["type"] for answer in told[:6]] == types * 3
    assert told[6:9] == [True, True, True]
    assert told[9]["status"] == 400
    assert "'carrier' is missing" in told[9]["error"]
