"""functions.predictor.cloudevents: a request by event gets its answer, or the verdict it deserves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from werkzeug.test import Client, TestResponse

from eventing import contract
from tests.functions import packages
from tests.functions.predictor import predictors

BARE = [[row["distance"], row["delay"], row["carrier"]] for row in packages.ROWS]
V2 = {
    "id": "7",
    "inputs": [
        {"name": name, "shape": [5, 1], "datatype": datatype, "data": [row[name] for row in packages.ROWS]}
        for name, datatype in (("distance", "FP32"), ("delay", "FP32"), ("carrier", "BYTES"))
    ],
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    return predictors.serving(packages.build_package(tmp_path_factory.mktemp("package")))[0]


def _event(data: Any, **attributes: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "r-1",
        "source": "/someone",
        "type": contract.PredictionRequested.TYPE,
        "subject": "flights",
        "datacontenttype": "application/json",
        "data": data,
        **attributes,
    }


def _ask(client: Client, inputs: Any, model: str = "flights") -> TestResponse:
    event = _event({"model": model, "inputs": inputs})
    return client.post("/", json=event, content_type="application/cloudevents+json")


def test_the_reply_is_a_prediction_made_that_names_its_cause(client: Client) -> None:
    event = _ask(client, {"instances": BARE}).json
    assert event["type"] == contract.PredictionMade.TYPE
    assert (event["subject"], event["causationid"]) == ("flights", "r-1")
    assert event["source"] == "/headrace/functions/flights-00001"
    data = event["data"]
    assert (data["model"], data["version"], data["revision"]) == ("flights", packages.VERSION, "flights-00001")
    assert data["rows"] == 5
    assert data["latency_ms"] > 0


def test_the_answer_is_the_one_that_http_gives(client: Client) -> None:
    over_http = client.post("/v1/models/flights:predict", json={"instances": BARE}).json
    assert _ask(client, {"instances": BARE}).json["data"]["outputs"] == over_http
    over_http = client.post("/v2/models/flights/infer", json=V2).json
    assert _ask(client, V2).json["data"]["outputs"] == over_http


def test_features_and_answers_come_column_by_column_with_gaps_as_null(client: Client) -> None:
    data = _ask(client, {"instances": BARE}).json["data"]
    assert data["features"] == {name: [row[name] for row in packages.ROWS] for name in packages.ROWS[0]}
    predictions = data["outputs"]["predictions"]
    assert data["answers"]["label"] == [p["label"] for p in predictions]
    np.testing.assert_allclose(data["answers"]["score"], [p["probabilities"][-1] for p in predictions])


def test_a_request_delivered_twice_gets_a_reply_of_the_same_id(client: Client) -> None:
    first, second = (_ask(client, {"instances": BARE}).json for _ in range(2))
    assert first["id"] == second["id"]


def test_a_binary_request_gets_a_binary_reply(client: Client) -> None:
    event = _event({"model": "flights", "inputs": {"instances": BARE}})
    data = event.pop("data")
    headers = {f"ce-{name}": value for name, value in event.items() if name != "datacontenttype"}
    response = client.post("/", json=data, headers=headers)
    assert response.status_code == 200
    assert response.headers["ce-type"] == contract.PredictionMade.TYPE
    assert response.json["rows"] == 5


def test_a_batch_gets_a_batch(client: Client) -> None:
    events = [_event({"model": "flights", "inputs": {"instances": [row]}}, id=f"r-{i}") for i, row in enumerate(BARE)]
    response = client.post("/", json=events, content_type="application/cloudevents-batch+json")
    assert [event["causationid"] for event in response.json] == [event["id"] for event in events]


def test_many_rows_keep_the_features_that_fit_and_few_more_do_not_fit_at_all(client: Client) -> None:
    data = _ask(client, {"instances": [BARE[0]] * 800}).json["data"]
    assert data["rows"] == 800
    assert len(data["outputs"]["predictions"]) == 800
    assert len(data.get("features", {}).get("distance", ())) < 800
    response = _ask(client, {"instances": [BARE[0]] * 2000})
    assert response.status_code == 422
    assert "fewer rows" in response.json["error"]


def test_an_unknown_model_is_final(client: Client) -> None:
    assert _ask(client, {"instances": BARE}, model="nobody").status_code == 422


@pytest.mark.parametrize(
    "inputs", [{}, [], "rows", {"instances": [[1]]}, {"inputs": [{"name": "x", "data": []}]}], ids=str
)
def test_a_request_that_does_not_fit_is_final_and_says_why(client: Client, inputs: Any) -> None:
    response = _ask(client, inputs)
    assert response.status_code == 422
    assert len(response.json["error"]) > 20


def test_a_model_that_is_not_ready_yet_is_asked_again() -> None:
    response = _ask(predictors.starting()[0], {"instances": BARE})
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0


def test_an_event_of_another_type_is_final(client: Client) -> None:
    event = _event({"model": "flights", "inputs": {}}, type="org.example.other")
    assert client.post("/", json=event, content_type="application/cloudevents+json").status_code == 422
