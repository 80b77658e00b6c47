"""functions.predictor.protocols.v1: clients of TensorFlow Serving and KServe work unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from werkzeug.test import Client

from functions.model import Model
from tests.functions import packages
from tests.functions.predictor import predictors

PREDICT = "/v1/models/flights:predict"
BARE = [[row["distance"], row["delay"], row["carrier"]] for row in packages.ROWS]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages.build_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def client(package: Path) -> Client:
    return predictors.serving(package)[0]


@pytest.fixture(scope="module")
def answers(package: Path) -> dict[str, np.ndarray]:
    return Model.load(package).infer(packages.arrays(packages.ROWS))


def _error(client: Client, body: Any, status: int = 400, path: str = PREDICT) -> str:
    response = client.post(path, json=body)
    assert response.status_code == status
    assert response.mimetype == "application/json"
    return str(response.json["error"])


@pytest.mark.parametrize(
    "instances",
    [BARE, list(packages.ROWS), [*BARE[:2], *packages.ROWS[2:]], [[[v] for v in row] for row in BARE]],
    ids=["bare", "objects", "mixed", "nested"],
)
def test_rows_in_any_form_get_the_models_answers_row_by_row(
    client: Client, answers: dict[str, np.ndarray], instances: list[Any]
) -> None:
    predictions = client.post(PREDICT, json={"instances": instances}).json["predictions"]
    assert [p["label"] for p in predictions] == answers["label"].tolist()
    np.testing.assert_allclose([p["probabilities"] for p in predictions], answers["probabilities"], atol=1e-6)


def test_columns_get_columns(client: Client, answers: dict[str, np.ndarray]) -> None:
    columns = {name: [row[name] for row in packages.ROWS] for name in packages.ROWS[0]}
    outputs = client.post(PREDICT, json={"inputs": columns}).json["outputs"]
    assert outputs["label"] == answers["label"].tolist()
    np.testing.assert_allclose(outputs["probabilities"], answers["probabilities"], atol=1e-6)


def test_a_missing_number_may_be_null_or_a_bare_nan(client: Client) -> None:
    null = client.post(PREDICT, data=b'{"instances":[[null,1,"AA"]]}')
    assert null.status_code == 200
    assert client.post(PREDICT, data=b'{"instances":[[NaN,1,"AA"]]}').data == null.data


@pytest.mark.parametrize("name", ["", "serving_default", "predict"])
def test_the_one_signature_answers_to_its_usual_names(client: Client, name: str) -> None:
    assert client.post(PREDICT, json={"instances": BARE, "signature_name": name}).status_code == 200


def test_the_version_may_be_named(client: Client) -> None:
    path = f"/v1/models/flights/versions/{packages.VERSION}:predict"
    assert client.post(path, json={"instances": BARE}).data == client.post(PREDICT, json={"instances": BARE}).data


def test_every_fault_of_the_rows_is_named_at_once(client: Client) -> None:
    error = _error(client, {"instances": [{"distance": 1, "dely": 2, "carrier": "AA"}, [1, 2], 5]})
    for part in (
        "whose inputs are distance, delay, carrier:",
        "'delay' is missing; null says that a value is (row 0)",
        "'dely' is no input of this model (row 0)",
        "a row is a list of 2, not an object or a list of 3 (row 1)",
        "a row is 5, not an object or a list of 3 (row 2)",
    ):
        assert part in error


def test_a_fault_of_every_row_is_told_once_with_the_rows(client: Client) -> None:
    """A table that still has its target column, say."""
    row = packages.ROWS[0]
    rows = [row | {"late": 1}] * 3 + [row] + [row | {"late": 1, "day": 2}] * 996
    error = _error(client, {"instances": rows})
    assert error.endswith(
        ": 'late' is no input of this model (rows 0-2 and 4-999); 'day' is no input of this model (rows 4-999)"
    )


def test_an_error_stays_short_however_much_is_wrong(client: Client) -> None:
    rows = [packages.ROWS[0] | {f"{n}{'x' * 500}" if n % 2 else "late": 1} for n in range(100)]
    error = _error(client, {"instances": rows})
    assert "(rows 0, 2, 4, 6, 8, 10, 12, 14 and 42 more)" in error
    assert error.endswith("and 31 more")
    assert len(error) < 3000


def test_every_value_that_does_not_fit_is_named_with_its_row_and_input(client: Client) -> None:
    error = _error(client, {"instances": [["far", 1, "AA"], [1, "late", ["AA", "DL"]]]})
    for part in ("'distance' row 0", "seen 'far'", "'delay' row 1", "'carrier'"):
        assert part in error


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "exactly one of 'instances'"),
        ({"instances": BARE, "inputs": {}}, "exactly one of 'instances'"),
        ({"instances": []}, "expected a list of rows"),
        ({"instances": {"distance": 1}}, "expected a list of rows"),
        ({"instances": BARE, "signature_name": "classify"}, "signature_name is 'classify'"),
        ({"inputs": [1, 2]}, "expected an object"),
        ({"inputs": {"distance": [1], "miles": [2]}}, "'delay' is missing"),
        ({"inputs": {"distance": 1, "delay": [1], "carrier": ["AA"]}}, "'distance' is 1"),
        ({"inputs": {"distance": [1, 2], "delay": [1], "carrier": ["AA"]}}, "differ in their number of rows"),
        ([1], "expected an object"),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_answered_is_400_and_says_why(client: Client, body: Any, said: str) -> None:
    assert said in _error(client, body)


def test_a_body_that_is_no_json_is_400(client: Client) -> None:
    response = client.post(PREDICT, data=b"{instances")
    assert (response.status_code, "not JSON" in response.json["error"]) == (400, True)


def test_a_body_over_the_limit_is_413_whether_its_length_is_told_or_not(client: Client) -> None:
    body = b" " * (predictors.MAX_BODY_BYTES + 1)
    for headers in ({}, {"Transfer-Encoding": "chunked"}):
        response = client.post(PREDICT, data=body, headers=headers)
        assert response.status_code == 413
        assert "at most" in response.json["error"] or "the most" in response.json["error"]


def test_a_compressed_body_is_415(client: Client) -> None:
    response = client.post(PREDICT, data=b"x", headers={"Content-Encoding": "gzip"})
    assert response.status_code == 415


def test_what_is_not_served_here_is_404(client: Client) -> None:
    assert "not served here" in _error(client, {"instances": BARE}, 404, "/v1/models/nobody:predict")
    assert "not served here" in _error(client, {"instances": BARE}, 404, "/v1/models/flights/versions/v1:predict")


@pytest.mark.parametrize("verb", ["classify", "regress", "explain"])
def test_what_the_signature_does_not_allow_is_501(client: Client, verb: str) -> None:
    assert ":predict" in _error(client, {}, 501, f"/v1/models/flights:{verb}")


def test_the_status_is_what_both_families_of_clients_read(client: Client) -> None:
    assert client.get("/v1/models/flights").json == {
        "name": "flights",
        "ready": True,
        "model_version_status": [
            {
                "version": packages.VERSION,
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ],
    }
    assert client.get("/v1/models").json == {"models": ["flights"]}


def test_the_metadata_is_tensorflow_servings(client: Client) -> None:
    body = client.get("/v1/models/flights/metadata").json
    assert body["model_spec"] == {"name": "flights", "signature_name": "", "version": packages.VERSION}
    signature = body["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["carrier"]["dtype"] == "DT_STRING"
    assert signature["outputs"]["probabilities"]["tensor_shape"]["dim"][1]["size"] == "2"


def test_a_model_that_is_not_ready_is_503_with_its_reason() -> None:
    client, catalog = predictors.starting()
    catalog.waits("flights", packages.VERSION, "the store is away")
    response = client.post(PREDICT, json={"instances": BARE})
    assert response.status_code == 503
    assert "the store is away" in response.json["error"]
    assert int(response.headers["Retry-After"]) > 0
    status = client.get("/v1/models/flights").json
    assert (status["ready"], status["model_version_status"][0]["state"]) == (False, "START")


def test_a_fault_inside_the_graph_is_500_for_its_caller_alone(tmp_path: Path) -> None:
    client, _ = predictors.serving(packages.build_foreign(tmp_path))
    assert "inference failed" in _error(client, {"instances": [4]}, 500)
    assert client.post(PREDICT, json={"instances": [3]}).json == {"predictions": [3.0]}


def test_a_model_of_one_tensor_takes_and_gives_bare_rows(tmp_path: Path) -> None:
    client, _ = predictors.serving(packages.build_foreign(tmp_path))
    assert client.post(PREDICT, json={"instances": [2, 3]}).json == {"predictions": [2.0, 3.0]}
    assert client.post(PREDICT, json={"inputs": [2, 3]}).json == {"outputs": [2.0, 3.0]}
