"""functions.predictor.cloudevents: a request by event gets its answer, or the verdict it deserves."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cloudevents.core.bindings import http as sdk
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1 import http as v1_sdk
from werkzeug.test import Client, TestResponse

from eventing import contract
from eventing.errors import Misconfigured
from functions.model import Model
from functions.predictor.query import Prediction
from functions.predictor.reply_as import ReplyAs
from functions.predictor.served import Served
from functions.store import Store
from tests.functions import packages
from tests.functions.predictor import predictors

STRUCTURED = "application/cloudevents+json"
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


def test_an_event_of_another_type_whose_data_is_no_request_is_final(client: Client) -> None:
    for data, said in (({"model": "flights", "inputs": {}}, "does not fit the model"), ("text", "is no object")):
        event = _event(data, type="org.example.other")
        response = client.post("/", json=event, content_type=STRUCTURED)
        assert response.status_code == 422
        assert said in response.json["error"]


# ---------------------------------------------------------------- as KServe's clients ask


@pytest.mark.parametrize("path", ["/", "/v1/models/flights:predict", "/v2/models/flights/infer"])
@pytest.mark.parametrize("request_body", [{"instances": BARE}, V2], ids=["V1", "V2"])
@pytest.mark.parametrize("structured", [True, False], ids=["structured", "binary"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's second interface is the one to take
def test_a_request_as_the_data_of_any_event_is_answered_as_kserve_does(
    client: Client, path: str, request_body: Any, structured: bool
) -> None:
    """With the client that KServe's own examples use: the SDK's first interface."""
    asked = v1_sdk.CloudEvent({"type": "org.example.asked", "source": "/someone", "id": "r-1"}, request_body)
    headers, body = (v1_sdk.to_structured if structured else v1_sdk.to_binary)(asked)
    response = client.post(path, data=body, headers=headers)
    assert response.status_code == 200
    assert response.content_type == (STRUCTURED if structured else "application/json")
    answer = v1_sdk.from_http(dict(response.headers), response.data)
    assert (answer["type"], answer["source"]) == ("io.kserve.inference.response", "io.kserve.inference.flights")
    assert answer["causationid"] == "r-1"
    assert answer["id"] != "r-1"
    over_http = "/v2/models/flights/infer" if "id" in request_body else "/v1/models/flights:predict"
    assert answer.data == client.post(over_http, json=request_body).json


def test_a_structured_event_may_name_its_charset_and_leave_out_the_time(client: Client) -> None:
    """Java's and Go's SDKs name one; KServe takes no event without a time."""
    event = _event({"instances": BARE}, type="org.example.asked")
    body, path = json.dumps(event), "/v1/models/flights:predict"
    response = client.post(path, data=body, content_type=f"{STRUCTURED}; charset=UTF-8")
    assert (response.status_code, response.json["type"]) == (200, "io.kserve.inference.response")


@pytest.mark.parametrize("path", ["/v1/models/flights:predict", "/v2/models/flights/infer"])
@pytest.mark.parametrize(
    ("headers", "body", "said"),
    [
        ({"ce-specversion": "1.0", "ce-type": "t"}, b"{}", "source is missing"),
        ({"ce-specversion": "1.0", "ce-type": "t", "ce-source": "/s", "ce-id": "1"}, b"", "holds no request"),
        ({"ce-specversion": "1.0", "ce-type": "t", "ce-source": "/s", "ce-id": "1"}, b"[1]", "holds no request"),
        ({"content-type": STRUCTURED}, b'{"specversion":"1.0","data":{}}', "id is missing"),
        ({"content-type": STRUCTURED}, b'{"specversion":"9","id":"1","source":"/s","type":"t"}', "specversion is '9'"),
        ({"content-type": "application/json"}, b'{"specversion":"1.0","data":{}}', "expected ce-specversion"),
    ],
    ids=["attributes", "no data", "a list", "structured", "version", "undeclared"],
)
def test_a_broken_event_on_a_predict_path_is_final_and_says_why(
    client: Client, path: str, headers: dict[str, str], body: bytes, said: str
) -> None:
    response = client.post(path, data=body, headers=headers)
    assert response.status_code == 422
    assert said in response.json["error"]


@pytest.mark.parametrize("path", ["/v1/models/nobody:predict", "/v2/models/nobody/infer"])
def test_an_unknown_model_is_final_to_an_event_on_a_predict_path_too(client: Client, path: str) -> None:
    event = _event({"instances": BARE}, type="org.example.asked")
    headers = {f"ce-{name}": event[name] for name in ("specversion", "id", "source", "type")}
    structured = client.post(path, json=event, content_type=STRUCTURED)
    binary = client.post(path, json=event["data"], headers=headers)
    assert (structured.status_code, binary.status_code) == (422, 422)
    assert "not served here" in binary.json["error"]
    assert client.post(path, json=event["data"]).status_code == 404


def test_an_event_that_comes_too_early_on_a_predict_path_comes_again() -> None:
    client, catalog = predictors.starting()
    catalog.waits("flights", packages.VERSION, "the store is away")
    event = _event({"instances": BARE}, type="org.example.asked")
    response = client.post("/v1/models/flights:predict", json=event, content_type=STRUCTURED)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0


def test_at_the_root_the_subject_says_which_of_several_models_is_meant(
    client_of_two: Client,
) -> None:
    for subject, status in (("flights", 200), ("grid", 422), ("nobody", 422)):
        event = _event({"instances": BARE}, type="org.example.asked", subject=subject)
        assert client_of_two.post("/", json=event, content_type=STRUCTURED).status_code == status, subject
    event = {k: v for k, v in _event({"instances": BARE}, type="org.example.asked").items() if k != "subject"}
    response = client_of_two.post("/", json=event, content_type=STRUCTURED)
    assert response.status_code == 422
    assert "flights, grid" in response.json["error"]


@pytest.mark.parametrize(
    "named",
    [
        # As KServe's logger writes them, and Seldon's; of the latter the service holds several models.
        {"Inferenceservicename": "flights", "Namespace": "default", "Component": "predictor", "Endpoint": "default",
         "Metadata": "{}", "Annotations": "{}"},
        {"Requestid": "7", "Modelid": "flights", "Inferenceservicename": "grid", "Namespace": "ml", "Endpoint": "a"},
    ],
    ids=["kserve", "seldon"],
)  # fmt: skip
def test_a_loggers_event_names_the_model_without_a_subject(client_of_two: Client, named: dict[str, str]) -> None:
    written = {"Specversion": "1.0", "Id": "log-1", "Source": "http://localhost:9081/", "Time": "2026-01-01T00:00:00Z"}
    written |= {"Type": "org.kubeflow.serving.inference.request"} | named
    headers = {f"Ce-{name}": value for name, value in written.items()}
    response = client_of_two.post("/", json={"instances": BARE}, headers=headers)
    assert (response.status_code, response.headers["ce-source"]) == (200, "io.kserve.inference.flights")
    assert len(response.json["predictions"]) == len(BARE)
    # What a logger tells of the answer has the same id and source, and asks nothing.
    headers["Ce-Type"] = "org.kubeflow.serving.inference.response"
    assert client_of_two.post("/", json={"predictions": [1]}, headers=headers).status_code == 422


@pytest.fixture(scope="module")
def client_of_two(tmp_path_factory: pytest.TempPathFactory) -> Client:
    client, catalog = predictors.serving(packages.build_package(tmp_path_factory.mktemp("package")))
    catalog.put(Served("grid", "1", Model.load(packages.build_grid(tmp_path_factory.mktemp("grid")))))
    return client


# ---------------------------------------------------------------- the reply as the operator sets it


def test_nothing_set_changes_nothing_and_empty_is_not_set() -> None:
    assert ReplyAs.from_environment({}) == ReplyAs.from_environment({"CE_TYPE": "", "CE_MERGE": " "}) == ReplyAs()


def test_what_kserve_reads_is_read() -> None:
    environ = {"CE_TYPE": "com.acme.scored", "CE_SOURCE": "acme", "CE_MERGE": "True"}
    assert ReplyAs.from_environment(environ) == ReplyAs("com.acme.scored", "acme", merge=True)
    with pytest.raises(Misconfigured, match="CE_MERGE is 'yes'; expected true or false"):
        ReplyAs.from_environment({"CE_MERGE": "yes"})


@pytest.mark.parametrize(
    ("type", "data"),
    [
        ("org.example.asked", {"instances": BARE}),
        (contract.PredictionRequested.TYPE, {"model": "flights", "inputs": V2}),
    ],
)
def test_type_and_source_are_the_operators_and_merging_carries_the_requests_attributes_over(
    tmp_path: Path, type: str, data: Any
) -> None:
    client, catalog = predictors.serving(packages.build_package(tmp_path))
    event = _event(data, type=type, time="2020-01-01T00:00:00Z", subject="flights", tenant="blue", dataschema="urn:x")
    plain = client.post("/", json=event, content_type=STRUCTURED).json
    assert "tenant" not in plain
    catalog.find("flights").reply_as = ReplyAs("com.acme.scored", "acme", merge=True)
    reply = client.post("/", json=event, content_type=STRUCTURED).json
    assert (reply["type"], reply["source"]) == ("com.acme.scored", "acme")
    assert (reply["tenant"], reply["dataschema"], reply["subject"]) == ("blue", "urn:x", "flights")
    assert (reply["id"], reply["causationid"]) == (plain["id"], "r-1")
    assert reply["time"] > "2026"
    assert reply["data"].get("predictions") == plain["data"].get("predictions")


def test_the_drift_watch_hears_of_replies_that_are_no_prediction_made(tmp_path: Path) -> None:
    heard: list[Prediction] = []
    served = Served(
        "flights",
        packages.VERSION,
        Model.load(packages.build_package(tmp_path)),
        tell=lambda _, prediction: heard.append(prediction),
    )
    client, catalog = predictors.starting()
    catalog.put(served)
    own, other = _event({"model": "flights", "inputs": {"instances": BARE}}), _event({"instances": BARE}, type="t")
    for event, reply_as, told in ((own, ReplyAs(), 0), (own, ReplyAs("com.acme.scored"), 1), (other, ReplyAs(), 2)):
        served.reply_as = reply_as
        assert client.post("/", json=event, content_type=STRUCTURED).status_code == 200
        assert len(heard) == told


# ---------------------------------------------------------------- the SDK from PyPI, against the real process


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[predictors.Predictor]:
    folder = tmp_path_factory.mktemp("store")
    store = Store.open((folder / "store").as_uri())
    store.publish(packages.build_package(folder / "built"))
    with predictors.running(store.url, CE_SOURCE="urn:acme:scores") as predictor:
        predictor.until_ready()
        yield predictor


def _send(url: str, message: sdk.HTTPMessage) -> sdk.HTTPMessage:
    request = urllib.request.Request(url, message.body, message.headers)
    with urllib.request.urlopen(request, timeout=predictors.DEADLINE_S) as response:
        return sdk.HTTPMessage({name.lower(): value for name, value in response.headers.items()}, response.read())


@pytest.mark.parametrize("write", [sdk.to_binary_event, sdk.to_structured_event], ids=["binary", "structured"])
@pytest.mark.parametrize("path", ["/", "/v1/models/flights:predict", "/v2/models/flights/infer"])
def test_the_sdk_asks_and_reads_the_reply_in_the_mode_it_asked_in(
    predictor: predictors.Predictor, write: Any, path: str
) -> None:
    attributes = {"id": "é 1", "source": "/sdk", "type": "org.example.asked", "datacontenttype": "application/json"}
    asked = CloudEvent(attributes | {"specversion": "1.0", "time": datetime.now(UTC)}, {"instances": BARE})
    message = _send(predictor.url + path, write(asked))
    assert (message.headers["content-type"] == STRUCTURED) == (write is sdk.to_structured_event)
    reply = sdk.from_http_event(message)
    assert (reply.get_source(), reply.get_extension("causationid")) == ("urn:acme:scores", "é 1")
    assert len(reply.get_data()["predictions"]) == 5


def test_the_sdks_events_in_a_batch_are_answered_in_one(predictor: predictors.Predictor) -> None:
    format = JSONFormat()
    first = _event(None, id="b-1"), {"model": "flights", "inputs": {"instances": BARE[:1]}}
    second = _event(None, id="b-2", type="org.example.asked"), {"instances": BARE[:2]}
    events = [
        CloudEvent({name: value for name, value in attributes.items() if name != "data"}, data)
        for attributes, data in (first, second)
    ]
    body = b"[" + b",".join(format.write(event) for event in events) + b"]"
    message = _send(predictor.url, sdk.HTTPMessage({"content-type": "application/cloudevents-batch+json"}, body))
    replies = [format.read(CloudEvent, json.dumps(reply)) for reply in json.loads(message.body)]
    assert [reply.get_type() for reply in replies] == [contract.PredictionMade.TYPE, "io.kserve.inference.response"]
    assert [reply.get_extension("causationid") for reply in replies] == ["b-1", "b-2"]
    assert {reply.get_source() for reply in replies} == {"urn:acme:scores"}
