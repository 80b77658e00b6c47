"""functions.predictor.protocols.v2 and health: clients of Triton, KServe and MLServer work unchanged."""

from __future__ import annotations

import json
import math
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
    for parameters in ({"content_type": "pd"}, {"sequence_id": 7, "sequence_start": True, "priority": 1, "mine": [1]}):
        typed = _request(carrier={"parameters": {"content_type": "str", "mine": None}})
        body = client.post(INFER, json=typed | {"id": "42", "parameters": parameters}).json
        assert body["id"] == "42"
        assert body["outputs"] == client.post(INFER, json=_request()).json["outputs"]
    assert "id" not in client.post(INFER, json=_request()).json
    assert "id" not in client.post(INFER, json=_request() | {"id": None, "parameters": None}).json


@pytest.mark.parametrize("whole", ["pd", "np", "str", None])
def test_content_types_as_mlservers_clients_name_them_change_nothing(client: Client, whole: str | None) -> None:
    plain = _request()
    named = {
        **plain,
        "parameters": {"content_type": whole, "headers": {"x-request": "1"}},
        "inputs": [
            {**tensor, "parameters": {"content_type": "str" if tensor["datatype"] == "BYTES" else "np"}}
            for tensor in plain["inputs"]
        ],
    }
    answer = client.post(INFER, json=named)
    assert (answer.status_code, answer.json["outputs"]) == (200, client.post(INFER, json=plain).json["outputs"])


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
        ({"shape": [True, 1]}, "expected a list of whole numbers"),
        ({"shape": [5.0, 1]}, "expected a list of whole numbers"),
        ({"shape": [0, 1], "data": []}, "shape [0, 1], which holds no value; expected at least one row"),
        ({"shape": [5, 0], "data": []}, "shape [5, 0]; the signature says [-1, 1]"),
        ({"shape": [4, 1], "data": [1, 2, 3, 4]}, "differ in their number of rows"),
        ({"shape": [10**12, 1]}, "shape [1000000000000, 1]; at most 1000000 rows are taken at once"),
        ({"shape": [1] * 40}, "a shape of 40 axes; at most 32 are taken, the signature says [-1, 1]"),
        ({"shape": [2] * 10}, "the signature says [-1, 1]"),
        ({"datatype": None}, "datatype null; the signature says 'FP32'"),
        ({"datatype": ["FP32"]}, "datatype a list of 1; the signature says 'FP32'"),
        ({"data": [1, 2, 1e39, 4, -1e300]}, "row 2: seen 1e+39, which is out of range"),
        ({"parameters": [1]}, "'delay' has parameters a list of 1; expected an object"),
        ({"parameters": {"binary_data_size": 20}}, "both data and binary_data_size"),
        ({"parameters": {"binary_data_size": 20}}, "but the request no Inference-Header-Content-Length"),
    ],
    ids=str,
)
def test_a_tensor_that_does_not_fit_is_400_and_says_why(client: Client, changes: dict[str, Any], said: str) -> None:
    assert said in _error(client, _request(delay=changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": [*_request()["inputs"], _request()["inputs"][0]]}, "input 'distance' is given twice"),
        ({"inputs": [*_request()["inputs"], {"name": ["x"]}]}, "input ['x'] is not in the signature"),
        ({"inputs": []}, "input 'delay' is missing; the signature says FP32 [-1, 1]"),
        ({"outputs": [{"name": "label"}, {"name": "label"}]}, "output 'label' is asked for twice"),
        ({"outputs": [{"name": "score"}]}, "output 'score' is not in the signature; it has label, probabilities"),
        ({"outputs": [{"name": {}}, {}]}, "output {} is not in the signature"),
        ({"outputs": {"name": "label"}}, "'outputs' is an object with 'name'; expected a list of objects"),
        ({"outputs": ["label"]}, "'outputs' is a list of 1; expected a list of objects"),
        (
            {"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]},
            "'label' has binary_data 1; expected true",
        ),
        ({"parameters": {"binary_data_output": "yes"}}, "the request has binary_data_output 'yes'; expected true"),
        ({"parameters": "none"}, "the request has parameters 'none'; expected an object"),
        ({"id": 42}, "'id' is 42; expected text"),
    ],
    ids=str,
)
def test_what_else_is_wrong_with_a_request_is_400_and_says_why(
    client: Client, changes: dict[str, Any], said: str
) -> None:
    assert said in _error(client, _request() | changes)


def test_an_id_that_cannot_be_sent_back_is_400(client: Client) -> None:
    """Half a surrogate pair, which JSON can spell and UTF-8 cannot; the NaN has Python's own reader take it."""
    body = json.dumps(_request(delay={"data": [math.nan] * 5}) | {"id": "\ud800"})
    response = client.post(INFER, data=body)
    assert (response.status_code, "'id' is" in response.json["error"]) == (400, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"outputs": [{"name": "label", "parameters": {"classification": 2}}]},
        {"outputs": [{"name": "label", "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 8}}]},
        {"inputs": [{"name": "distance", "parameters": {"shared_memory_region": "r"}}]},
    ],
    ids=["classification", "output in shared memory", "input in shared memory"],
)
def test_what_a_client_would_wait_for_in_vain_is_501(client: Client, changes: dict[str, Any]) -> None:
    assert "is not supported" in _error(client, _request() | changes, 501)


def test_an_error_stays_short_however_much_is_wrong(client: Client) -> None:
    inputs = [{"name": "x" * 1000, "shape": [1] * 1000, "datatype": "y" * 1000, "data": ["z" * 1000]}] * 5
    assert len(_error(client, {"inputs": inputs, "outputs": inputs, "id": [1] * 1000})) < 2000
    shapes = {"distance": {"shape": [7] * 1000}, "delay": {"shape": [10**400]}, "carrier": {"datatype": "y" * 1000}}
    assert len(_error(client, _request(**shapes))) < 1000


@pytest.mark.parametrize("body", [{}, {"inputs": {}}, {"inputs": ["distance"]}, {"inputs": None}], ids=str)
def test_a_request_without_tensors_is_400(client: Client, body: Any) -> None:
    assert "expected a list of tensors" in _error(client, body)


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
    assert client.get(f"/v2/models/flights/versions/{packages.VERSION}").json == body
    server = client.get("/v2").json
    assert server.keys() == {"name", "version", "extensions"}
    assert "binary_tensor_data" in server["extensions"]


@pytest.mark.parametrize("path", ["/v2/health/ready", "/health/readiness", "/readyz", "/ping", "/health"])
def test_ready_means_a_proved_model_and_no_leaving(package: Path, path: str) -> None:
    client, catalog = predictors.serving(package)
    assert client.get(path).json == {"ready": True, "live": True}
    catalog.draining = True
    response = client.get(path)
    assert (response.status_code, response.json["ready"]) == (503, False)
    assert "draining" in response.json["error"]
    assert client.post(INFER, json=_request()).status_code == 200


@pytest.mark.parametrize("path", ["/", "/v2/health/live", "/health/liveness", "/livez"])
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
