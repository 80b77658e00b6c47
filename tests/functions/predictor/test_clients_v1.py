"""Clients of V1 as they come from PyPI, and requests as TensorFlow Serving's users write them, against the process."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests

from functions.model import Model
from functions.store import Store
from tests.functions import packages
from tests.functions.predictor import predictors
from tests.functions.predictor.grpc_server import doors

MODEL = "/v1/models/flights"
NAMES = ("distance", "delay", "carrier")
TABLE = [[row[name] for name in NAMES] for row in packages.ROWS]
KSERVE = """
import asyncio, json, sys
import httpx
from kserve import InferenceRESTClient, RESTConfig

async def main(url, rows):
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    told = [
        await client.infer(url, {"instances": rows}, model_name="flights"),
        await client.infer(url, {"inputs": {name: [row[i] for row in rows] for i, name in
                                            enumerate(["distance", "delay", "carrier"])}}, model_name="flights"),
        await client.is_model_ready(url, "flights"),
    ]
    for call in (
        client.infer(url, {"instances": [[1]]}, model_name="flights"),
        client.infer(url, {"instances": rows}, model_name="nobody"),
        client.explain(url, "flights", {"instances": rows}),
        client.is_model_ready(url, "nobody"),
    ):
        try:
            told.append(await call)
        except httpx.HTTPStatusError as e:
            told.append([e.response.status_code, str(e)])
    print(json.dumps(told))

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[predictors.Predictor]:
    folder = tmp_path_factory.mktemp("store")
    store = Store.open((folder / "store").as_uri())
    store.publish(packages.build_package(folder / "built"))
    labels = f"flights:stable={packages.VERSION}"
    with predictors.running(store.url, HEADRACE_MODEL_LABELS=labels) as running:
        running.until_ready()
        yield running


@pytest.fixture(scope="module")
def answers() -> dict[str, np.ndarray]:
    return Model.from_onnx(packages.onnx_bytes()).infer(packages.arrays(packages.ROWS))


def _agrees(predictions: list[dict[str, Any]], answers: dict[str, np.ndarray]) -> bool:
    return bool(
        [one["label"] for one in predictions] == answers["label"].tolist()
        and np.allclose([one["probabilities"] for one in predictions], answers["probabilities"], atol=1e-6)
    )


def test_kserves_client_asks_by_v1_and_is_told_what_is_wrong(
    predictor: predictors.Predictor, answers: dict[str, np.ndarray]
) -> None:
    rows, columns, ready, short, unknown, explained, nobody = doors.client(KSERVE, predictor.url, json.dumps(TABLE))
    assert _agrees(rows["predictions"], answers)
    assert columns["outputs"]["label"] == answers["label"].tolist()
    assert ready is True
    assert short[0] == 400 and "a row is a list of 1" in short[1]
    assert unknown[0] == nobody[0] == 404 and "not served here" in unknown[1]
    assert explained[0] == 501 and "no explainer" in explained[1]


def test_requests_as_tensorflow_servings_users_write_them(
    predictor: predictors.Predictor, answers: dict[str, np.ndarray]
) -> None:
    """By the `requests` library, over one session: rows, columns, bytes, signature, versions, labels, verbs, status."""
    encoded = [[*row[:2], {"b64": base64.b64encode((row[2] or "").encode()).decode()}] for row in TABLE]
    by_name = [dict(zip(NAMES, row, strict=True)) for row in TABLE]
    with requests.Session() as session:

        def ask(path: str, **body: Any) -> Any:
            answer = session.post(f"{predictor.url}{MODEL}{path}", json=body, timeout=predictors.DEADLINE_S)
            assert answer.status_code == 200, answer.text
            return answer.json()

        def look(path: str) -> Any:
            return session.get(f"{predictor.url}{MODEL}{path}", timeout=predictors.DEADLINE_S).json()

        for path in (":predict", f"/versions/{packages.VERSION}:predict", "/labels/stable:predict"):
            for rows in (TABLE, encoded, by_name):
                told = ask(path, signature_name="serving_default", instances=rows)
                assert told.keys() == {"predictions"} and _agrees(told["predictions"], answers)
        columns = {name: [[row[name]] for row in by_name] for name in NAMES}
        told = ask(":predict", inputs=columns)["outputs"]
        assert told["label"] == answers["label"].tolist()
        examples = by_name[:2]
        for result in ask(":classify", signature_name="serving_default", examples=examples)["result"]:
            assert [label for label, _ in result] == ["0", "1"]
        refused = session.post(f"{predictor.url}{MODEL}:regress", json={"examples": examples}, timeout=60)
        assert (refused.status_code, list(refused.json())) == (501, ["error"])
        for path in ("", f"/versions/{packages.VERSION}", "/labels/stable"):
            (status,) = look(path)["model_version_status"]
            assert (status["version"], status["state"]) == (packages.VERSION, "AVAILABLE")
        metadata = look("/metadata")
        assert metadata["model_spec"]["name"] == "flights"
        (signature,) = metadata["metadata"]["signature_def"]["signature_def"].values()
        assert signature["method_name"] == "tensorflow/serving/predict"
