"""functions.predictor.protocols.v2 and health: clients of Triton, KServe and MLServer work unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from werkzeug.test import Client

from functions.model import Model
from tests.functions import packages
from tests.functions.predictor import predictors

INFER = "/v2/models/flights/infer"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages.build_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def client(package: Path) -> Client:
    return predictors.serving(package)[0]


def _request(**changes: Any) -> dict[str, Any]:
    """All rows; `changes` replaces fields of the input of that name."""
    rows = len(packages.ROWS)
    inputs = []
    for name, datatype in (("distance", "FP32"), ("delay", "FP32"), ("carrier", "BYTES")):
        tensor = {"name": name, "shape": [rows, 1], "datatype": datatype, "data": [row[name] for row in packages.ROWS]}
        inputs.append(tensor | changes.get(name, {}))
    return {"inputs": inputs}


def _error(client: Client, body: Any, status: int = 400, path: str = INFER) -> str:
    response = client.post(path, json=body)
    assert response.status_code == status
    assert response.mimetype == "application/json"
    return str(response.json["error"])


def test_an_inference_has_the_models_answers_flat_and_row_major(client: Client, package: Path) -> None:
    answers = Model.load(package).infer(packages.arrays(packages.ROWS))
    body = client.post(INFER, json=_request()).json
    assert (body["model_name"], body["model_version"]) == ("flights", packages.VERSION)
    label, probabilities = body["outputs"]
    assert label == {"name": "label", "shape": [5], "datatype": "INT64", "data": answers["label"].tolist()}
    assert (probabilities["shape"], probabilities["datatype"]) == ([5, 2], "FP32")
    np.testing.assert_allclose(probabilities["data"], answers["probabilities"].ravel(), atol=1e-6)


def test_flat_and_nested_data_are_the_same(client: Client) -> None:
    nested = {name: {"data": [[row[name]] for row in packages.ROWS]} for name in packages.ROWS[0]}
    assert client.post(INFER, json=_request(**nested)).data == client.post(INFER, json=_request()).data


def test_a_column_may_be_sent_without_its_second_axis(client: Client) -> None:
    flat = {name: {"shape": [len(packages.ROWS)]} for name in packages.ROWS[0]}
    assert client.post(INFER, json=_request(**flat)).data == client.post(INFER, json=_request()).data


def test_the_order_of_the_inputs_is_free(client: Client) -> None:
    turned = {"inputs": _request()["inputs"][::-1]}
    assert client.post(INFER, json=turned).data == client.post(INFER, json=_request()).data


def test_the_id_comes_back_and_parameters_are_borne(client: Client) -> None:
    body = client.post(INFER, json=_request() | {"id": "42", "parameters": {"content_type": "pd"}}).json
    assert body["id"] == "42"
    assert "id" not in client.post(INFER, json=_request()).json


def test_only_the_outputs_asked_for_are_given_in_the_order_asked(client: Client) -> None:
    asked = [{"name": "probabilities"}, {"name": "label", "parameters": {"binary_data": False}}]
    outputs = client.post(INFER, json=_request() | {"outputs": asked}).json["outputs"]
    assert [output["name"] for output in outputs] == ["probabilities", "label"]
    outputs = client.post(INFER, json=_request() | {"outputs": asked[1:]}).json["outputs"]
    assert [output["name"] for output in outputs] == ["label"]


def test_every_fault_of_the_tensors_is_named_at_once(client: Client) -> None:
    body = _request(distance={"datatype": "INT64"}, delay={"shape": [5, 2]}, carrier={"name": "airline"})
    error = _error(client, body | {"outputs": [{"name": "score"}]})
    for part in ("'distance' has datatype 'INT64'; the signature says 'FP32'", "'delay' has shape [5, 2]",
                 "'carrier' is missing", "'airline' is not in the signature", "'score'"):  # fmt: skip
        assert part in error


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": [1.0]}, "expected 5"),
        ({"data": [[1.0], [2.0]]}, "expected a list of 5"),
        ({"data": "1,2"}, "data '1,2'; expected a list"),
        ({"data": None}, "data null"),
        ({"data": [1, 2, "x", 4, 5]}, "row 2: seen 'x'"),
        ({"shape": None}, "shape null"),
        ({"shape": [-5, -1]}, "expected a list of whole numbers"),
        ({"shape": [0, 1], "data": []}, "holds no value"),
        ({"shape": [4, 1], "data": [1, 2, 3, 4]}, "differ in their number of rows"),
        ({"shape": [10**12, 1]}, "expected 1000000000000"),
    ],
    ids=str,
)
def test_a_tensor_that_does_not_fit_is_400_and_says_why(client: Client, changes: dict[str, Any], said: str) -> None:
    assert said in _error(client, _request(delay=changes))


@pytest.mark.parametrize("body", [{}, {"inputs": {}}, {"inputs": ["distance"]}, {"inputs": None}], ids=str)
def test_a_request_without_tensors_is_400(client: Client, body: Any) -> None:
    assert "expected a list of tensors" in _error(client, body)


def test_binary_tensors_are_501_with_the_way_out(client: Client) -> None:
    response = client.post(INFER, data=b"{}", headers={"Inference-Header-Content-Length": "2"})
    assert response.status_code == 501
    assert "binary_data=False" in response.json["error"]


def test_what_is_not_served_here_is_404(client: Client) -> None:
    assert "not served here" in _error(client, _request(), 404, "/v2/models/nobody/infer")
    assert client.get("/v2/models/nobody/ready").status_code == 404
    assert client.get("/v2/models/flights/versions/v0").status_code == 404
    assert "error" in client.get("/no/such/place").json


def test_the_version_may_be_named(client: Client) -> None:
    path = f"/v2/models/flights/versions/{packages.VERSION}"
    assert client.post(f"{path}/infer", json=_request()).data == client.post(INFER, json=_request()).data
    assert client.get(f"{path}/ready").json == {"name": "flights", "ready": True}


def test_the_metadata_says_how_to_ask(client: Client) -> None:
    body = client.get("/v2/models/flights").json
    assert (body["name"], body["versions"]) == ("flights", [packages.VERSION])
    assert body["inputs"][2] == {"name": "carrier", "datatype": "BYTES", "shape": [-1, 1]}
    assert body["outputs"][1] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}
    assert client.get("/v2/models").json == {"models": ["flights"]}
    assert client.get("/v2").json.keys() == {"name", "version", "extensions"}


@pytest.mark.parametrize("path", ["/v2/health/ready", "/health/readiness"])
def test_ready_means_a_proved_model_and_no_leaving(package: Path, path: str) -> None:
    client, catalog = predictors.serving(package)
    assert client.get(path).json == {"ready": True, "live": True}
    catalog.draining = True
    response = client.get(path)
    assert (response.status_code, response.json["ready"]) == (503, False)
    assert "draining" in response.json["error"]
    assert client.post(INFER, json=_request()).status_code == 200


@pytest.mark.parametrize("path", ["/", "/v2/health/live", "/health/liveness"])
def test_alive_means_a_process_that_answers(path: str) -> None:
    client, _ = predictors.starting()
    response = client.get(path)
    assert (response.status_code, response.json["status"], response.json["live"]) == (200, "alive", True)


def test_a_model_that_is_not_ready_says_why_everywhere() -> None:
    client, catalog = predictors.starting()
    catalog.fails("flights", packages.VERSION, "a digest is wrong")
    for response in (
        client.get("/v2/health/ready"),
        client.get("/v2/models/flights/ready"),
        client.get("/v2/models/flights"),
        client.post(INFER, json=_request()),
    ):
        assert response.status_code == 503
        assert "a digest is wrong" in response.json["error"]


def test_requests_are_counted_by_model_protocol_and_outcome(client: Client) -> None:
    def count(outcome: str) -> float:
        line = f'headrace_requests_total{{model="flights",outcome="{outcome}",protocol="v2"}} '
        return float(
            next((x for x in client.get("/metrics").text.splitlines() if x.startswith(line)), "x 0").split()[1]
        )

    done, rejected = count("done"), count("rejected")
    client.post(INFER, json=_request())
    client.post(INFER, json={})
    assert (count("done"), count("rejected")) == (done + 1, rejected + 1)
