"""functions.predictor.protocols.v1: clients of TensorFlow Serving and KServe work unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from werkzeug.test import Client

from functions.model import Model
from functions.predictor.answers import Refusal
from functions.predictor.wire import predict_body, rows
from tests.functions import packages
from tests.functions.predictor import predictors

PREDICT = "/v1/models/flights:predict"
EXAMPLES = {"examples": list(packages.ROWS)}
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


@pytest.mark.parametrize("name", ["tensorflow/serving/predict"])
def test_tensorflows_own_name_of_the_method_is_taken_for_the_signature(client: Client, name: str) -> None:
    assert client.post(PREDICT, json={"instances": BARE, "signature_name": name}).status_code == 200


@pytest.mark.parametrize("place", ["/versions/" + packages.VERSION, "/labels/stable"])
def test_a_version_and_a_label_have_all_that_a_model_has(package: Path, place: str) -> None:
    client = _labelled(package)
    for verb, body in (("predict", {"instances": BARE}), ("classify", EXAMPLES)):
        answer = client.post(f"/v1/models/flights{place}:{verb}", json=body)
        assert (answer.status_code, answer.data) == (200, client.post(f"/v1/models/flights:{verb}", json=body).data)
    status = client.get(f"/v1/models/flights{place}").json
    assert [told["version"] for told in status["model_version_status"]] == [packages.VERSION]
    assert client.get(f"/v1/models/flights{place}/metadata").json["model_spec"]["version"] == packages.VERSION


def test_a_label_that_nobody_gave_is_404_and_names_those_there_are(package: Path) -> None:
    client = _labelled(package)
    for path in ("/v1/models/flights/labels/best", "/v1/models/flights/labels/best/metadata"):
        response = client.get(path)
        assert (response.status_code, "its labels are: stable" in response.json["error"]) == (404, True)
    assert "stable" in _error(client, {"instances": BARE}, 404, "/v1/models/flights/labels/best:predict")


def _labelled(package: Path) -> Client:
    return predictors.serving(package, labels={"flights": {"stable": packages.VERSION}})[0]


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


def test_what_is_not_served_here_is_404(client: Client) -> None:
    assert "not served here" in _error(client, {"instances": BARE}, 404, "/v1/models/nobody:predict")
    assert "not served here" in _error(client, {"instances": BARE}, 404, "/v1/models/flights/versions/v1:predict")


def test_an_explanation_is_refused_and_says_what_is_there(client: Client) -> None:
    error = _error(client, {"instances": BARE}, 501, "/v1/models/flights:explain")
    assert error == ":explain of flights: no explainer belongs to it; expected :predict, :classify or :regress"
    assert "not served here" in _error(client, {}, 404, "/v1/models/nobody:explain")
    assert "no such verb" in _error(client, {}, 501, f"/v1/models/flights/versions/{packages.VERSION}:guess")


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
    assert (status["ready"], status["model_version_status"][0]["state"]) == (False, "LOADING")


def test_a_fault_inside_the_graph_is_500_for_its_caller_alone(tmp_path: Path) -> None:
    client, _ = predictors.serving(packages.build_foreign(tmp_path))
    assert "inference failed" in _error(client, {"instances": [4]}, 500)
    assert client.post(PREDICT, json={"instances": [3]}).json == {"predictions": [3.0]}


def test_a_model_of_one_tensor_takes_and_gives_bare_rows(tmp_path: Path) -> None:
    client, _ = predictors.serving(packages.build_foreign(tmp_path))
    assert client.post(PREDICT, json={"instances": [2, 3]}).json == {"predictions": [2.0, 3.0]}
    assert client.post(PREDICT, json={"inputs": [2, 3]}).json == {"outputs": [2.0, 3.0]}


# ---------------------------------------------------------------- classify and regress


def test_a_classification_is_a_label_with_its_score_for_each_class_and_example(
    client: Client, answers: dict[str, np.ndarray]
) -> None:
    body = client.post("/v1/models/flights:classify", json=EXAMPLES).json
    assert body["result"] == body["results"], "TensorFlow Serving's page and its server name the key differently"
    assert [[label for label, _ in pairs] for pairs in body["result"]] == [["0", "1"]] * 5
    scores = [[score for _, score in pairs] for pairs in body["result"]]
    np.testing.assert_allclose(scores, answers["probabilities"], atol=1e-6)


def test_context_is_what_all_examples_share_and_a_feature_may_be_a_list_of_one(client: Client) -> None:
    whole = {
        "examples": [{"distance": 300, "delay": 45, "carrier": "AA"}, {"distance": 9, "delay": 1, "carrier": "AA"}]
    }
    short = {
        "signature_name": "tensorflow/serving/classify",
        "context": {"carrier": ["AA"]},
        "examples": [{"distance": [300], "delay": 45}, {"distance": 9, "delay": [1]}],
    }
    answers = [client.post("/v1/models/flights:classify", json=body) for body in (whole, short)]
    assert answers[0].status_code == 200
    assert answers[0].data == answers[1].data


def test_every_fault_of_the_examples_is_named_at_once(client: Client) -> None:
    error = _error(
        client,
        {
            "signature_name": "regress",
            "context": {"carrier": "AA", "month": 1},
            "examples": [{"distance": 1, "carrier": "DL"}, {"distance": 2, "delay": 3, "day": 4}],
        },
        path="/v1/models/flights:classify",
    )
    for part in (
        "signature_name is 'regress'",
        "'carrier' is in 'context' and in 'examples'",
        "'month' in 'context' is no input of this model",
        "'delay' is missing; null says that a value is (row 0)",
        "'day' is no input of this model (row 1)",
    ):
        assert part in error


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "'examples' is null"),
        ({"examples": []}, "'examples' is a list of 0"),
        ({"examples": [[1, 2, "AA"]]}, "'examples' holds a list of 3"),
        ({"examples": [{"distance": 1}, None]}, "'examples' holds null"),
        ({"examples": "AA", "context": [1]}, "'context' is a list of 1"),
    ],
    ids=str,
)
def test_examples_that_are_none_are_400(client: Client, body: Any, said: str) -> None:
    assert said in _error(client, body, path="/v1/models/flights:classify")


def test_a_regression_is_one_number_for_each_example(tmp_path: Path) -> None:
    client, _ = predictors.serving(packages.build_grid(tmp_path), "grid", "1")
    body = {"signature_name": "tensorflow/serving/regress", "examples": [{"grid": [[1, 2, 3], [4, 5, 6]]}] * 2}
    answer = client.post("/v1/models/grid:regress", json=body).json
    assert answer == {"result": [21.0, 21.0], "results": [21.0, 21.0]}


def test_a_model_of_the_other_kind_is_501_and_says_what_it_gives(client: Client, tmp_path: Path) -> None:
    error = _error(client, EXAMPLES, 501, "/v1/models/flights:regress")
    assert error.startswith(":regress needs a single output with one number per row; flights gives label INT64 [-1], ")
    foreign, _ = predictors.serving(packages.build_foreign(tmp_path))
    assert "an output 'probabilities'" in _error(
        foreign, {"examples": [{"size": 1}]}, 501, "/v1/models/flights:classify"
    )


# ---------------------------------------------------------------- tokens, bytes, tensors


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A model that answers what it is asked: `number`, and `text` as `text` and as `text_bytes`."""
    return predictors.serving(packages.build_echo(tmp_path_factory.mktemp("echo")), "echo", "1")[0]


def test_tokens_are_answered_to_who_sent_some_and_null_to_everybody_else(echo: Client) -> None:
    path = "/v1/models/echo:predict"
    tokens = echo.post(path, data=b'{"inputs":{"number":[NaN,Infinity,-Infinity,0.1],"text":["a","b","c","d"]}}')
    assert b'"same_number":[NaN,Infinity,-Infinity,0.1]' in tokens.data
    assert np.isnan(json.loads(tokens.data)["outputs"]["same_number"][0])
    spelt = echo.post(path, json={"inputs": {"number": ["NaN", "Infinity", None, 0.1], "text": ["a", "b", "c", "d"]}})
    assert spelt.json["outputs"]["same_number"] == [None, None, None, 0.1]
    rows = echo.post(path, data=b'{"instances":[[NaN,"a"],[1.5,"null"]]}')
    assert rows.data == (
        b'{"predictions":[{"same_number":NaN,"same_text":"a","text_bytes":{"b64":"YQ=="}},'
        b'{"same_number":1.5,"same_text":"null","text_bytes":{"b64":"bnVsbA=="}}]}'
    )


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, {"b64": "w6k="}]]},
        {"instances": [{"number": 1, "text": {"b64": "w6k="}}]},
        {"inputs": {"number": [1], "text": [{"b64": "w6k="}]}},
    ],
    ids=["row", "row by name", "column"],
)
def test_base64_bytes_are_taken_and_outputs_named_bytes_are_given_in_base64(echo: Client, body: Any) -> None:
    answer = echo.post("/v1/models/echo:predict", json=body).json
    told = answer["predictions"][0] if "predictions" in answer else {n: v[0] for n, v in answer["outputs"].items()}
    assert told == {"same_number": 1.0, "same_text": "é", "text_bytes": {"b64": "w6k="}}


def test_base64_that_is_no_text_is_refused_with_its_row(echo: Client) -> None:
    error = _error(
        echo, {"inputs": {"number": [1, 2], "text": [{"b64": "/w=="}, {"b64": "a"}]}}, 400, "/v1/models/echo:predict"
    )
    assert "'text' row 0" in error
    assert "'text' row 1" in error


def test_rows_of_one_tensor_are_nested_as_its_shape_says(tmp_path: Path) -> None:
    client, _ = predictors.serving(packages.build_grid(tmp_path), "grid", "1")
    rows = [[[1, 2, 3], [4, 5, 6]], [[0, 0, 0], [0, 0, 1]]]
    for body, key in (
        ({"instances": rows}, "predictions"),
        ({"instances": [{"grid": row} for row in rows]}, "predictions"),
        ({"instances": [rows[0], {"grid": rows[1]}]}, "predictions"),
        ({"inputs": rows}, "outputs"),
        ({"inputs": {"grid": rows}}, "outputs"),
    ):
        assert client.post("/v1/models/grid:predict", json=body).json == {key: [[21.0], [1.0]]}, body
    assert "expected a list of 3" in _error(client, {"instances": [[[1, 2], [3, 4]]]}, 400, "/v1/models/grid:predict")


def test_a_table_of_numbers_is_read_at_once_and_its_faults_are_still_named(client: Client) -> None:
    assert "'delay' row 1: seen 'late'" in _error(client, {"instances": [[1, 2, "AA"], [3, "late", "DL"]]})
    assert "'distance' row 0: seen 1e+300" in _error(client, {"instances": [[1e300, 2, "AA"]]})


def test_more_rows_than_are_taken_at_once_are_refused_with_the_limit(tmp_path: Path) -> None:
    body = {"instances": [1] * (rows.MAX_ROWS + 1)}
    signature = Model.load(packages.build_foreign(tmp_path)).signature
    for request in (body, {"inputs": body["instances"]}, {"inputs": {"size": body["instances"]}}):
        with pytest.raises(Refusal, match="1000001 rows; at most 1000000 are taken at once"):
            predict_body.decode(signature, request)


def test_a_table_that_is_wrong_from_end_to_end_is_not_looked_at_to_its_end() -> None:
    with pytest.raises(Refusal, match=r"rows 10000-19999 were not looked at; 'distance' is missing.*\(rows 0-9999\)"):
        predict_body.decode(packages.SIGNATURE, {"instances": [{}] * 20_000})
    with pytest.raises(Refusal, match=r"rows 98-19999 were not looked at"):
        predict_body.decode(packages.SIGNATURE, {"instances": [{f"c{n}": 1} for n in range(20_000)]})
