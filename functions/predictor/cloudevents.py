"""CloudEvents: a request by event gets its answer as an event, in the mode it came in.

Two doors. At `/`, where `eventing.receiver` has the path and the HTTP, prediction.requested is answered by
prediction.made. And, as KServe's clients post them, there or on a model's own predict path, an event of any type whose
data is the body of a V1 or V2 request: the reply's data is that request's answer, its type and source are KServe's.
An operator names both otherwise, for both doors, by `ReplyAs`.

An unknown model is Rejected, for 404 would be delivered again; a model that is not ready yet is RetryLater.
Source: kserve python/kserve/kserve/protocol/dataplane.py (`decode_cloudevent`, `encode`) and utils/utils.py;
kserve/pkg/logger and SeldonIO/seldon-core components/seldon-request-logger for what loggers name a model by.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
from cloudevents.core.v1.event import CloudEvent

from eventing import binding, contract, sender
from eventing.errors import Rejected, RetryLater
from functions.predictor import answers
from functions.predictor.admission import Places
from functions.predictor.answers import JSON_CONTENT_TYPE, NOT_FOUND, PROBE, Answer, Environ, Refusal, json_answer
from functions.predictor.catalog import STARTING_RETRY_S, Catalog
from functions.predictor.outbox import made
from functions.predictor.query import Prediction, Query
from functions.predictor.reply_as import EVENT_HEADER
from functions.predictor.served import Served
from functions.predictor.wire import infer_answer, infer_request, predict_body
from monitoring import predictions

PROTOCOL = "cloudevents"  # the metrics' label
UNPROCESSABLE = 422  # what Rejected is to whoever delivers events
RESPONSE_TYPE = "io.kserve.inference.response"
LOGGED = ("modelid", "inferenceservicename")  # extensions in which loggers name a model, the narrower one first
RESPONSE_SOURCE = "io.kserve.inference."  # and the model's name

Encode = Callable[[Prediction], bytes]


def handler(catalog: Catalog, requests: Places) -> Callable[[CloudEvent], CloudEvent]:
    """The function that answers one event at `/`, for `eventing.receiver.create_app`. requests: the places.

    It raises Overloaded, a RetryLater, where all of them are taken: the Broker brings the event again.
    """

    def handle(event: CloudEvent) -> CloudEvent:
        requests.take()
        try:
            return answered(event)
        finally:
            requests.leave()

    def answered(event: CloudEvent) -> CloudEvent:
        if event.get_type() == contract.PredictionRequested.TYPE:
            return _made(catalog, event)
        if not isinstance(event.get_data(), Mapping):
            raise Rejected(
                f"an event of type {event.get_type()!r:.100} whose data is no object; expected "
                f"{contract.PredictionRequested.TYPE}, or the body of a V1 or V2 request as data"
            )
        served = _find(catalog, _model_of(catalog, event))
        return _counted(served, lambda: _response(served, event, told=True))

    return handle


def _counted(served: Served, answer: Callable[[], CloudEvent]) -> CloudEvent:
    """The answer to an event at `/`, counted as a request; on a predict path it is one of V1 or V2."""
    meter = served.statistics.meter(PROTOCOL)
    began = meter.begin()
    outcome = predictions.FAILED
    try:
        reply = answer()
        outcome = predictions.DONE
        return reply
    except RetryLater:
        outcome = predictions.RETRY_LATER
        raise
    except Rejected:
        outcome = predictions.REJECTED
        raise
    finally:
        meter.end(began, outcome, probe=False)


def answer(served: Served, body: bytes, environ: Environ) -> Answer:
    """The answer to an event on a predict path of V1 or V2.

    Raises Refusal (422) for what can never succeed: a 400 says the same to Knative, and the wrong thing to a reader.
    """
    headers = {name[5:].replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
    headers["content-type"] = environ.get("CONTENT_TYPE", "")
    try:
        events = binding.receive({name: value for name, value in headers.items() if value}, body)
        if len(events) != 1:
            raise Rejected(f"a batch of {len(events)} events; expected one here, or the batch at '/'")
        reply = _response(served, events[0], told=PROBE not in environ)
    except Rejected as e:
        raise Refusal(UNPROCESSABLE, str(e)) from e
    message = binding.to_structured(reply) if binding.mode(headers) else binding.to_binary(reply)
    content_type = message.headers.pop("content-type", JSON_CONTENT_TYPE)
    return Answer(200, message.body, content_type, tuple(message.headers.items()))


def refused(error: Refusal | Rejected | RetryLater, environ: Environ) -> Answer:
    """The answer that a verdict becomes on a predict path: 404, which Knative delivers again, is 422 to an event."""
    an_event = EVENT_HEADER in environ or environ.get("CONTENT_TYPE", "").startswith("application/cloudevents")
    answer = answers.refused(error)
    return replace(answer, status=UNPROCESSABLE) if an_event and answer.status == NOT_FOUND else answer


def _made(catalog: Catalog, event: CloudEvent) -> CloudEvent:
    """prediction.made of prediction.requested."""
    requested = contract.PredictionRequested.from_event(event)
    served = _find(catalog, requested.model)
    return _counted(served, lambda: _made_by(served, requested, event))


def _made_by(served: Served, requested: contract.PredictionRequested, event: CloudEvent) -> CloudEvent:
    began = time.perf_counter()
    query, encode = _decode(served, requested.inputs, "'inputs'")
    # Replies of another type are no prediction.made to the drift watch: then this one is told beside them.
    prediction = served.predict(query, began, told=served.reply_as.type is not None)
    data = made.prediction_made(served, prediction, orjson.loads(encode(prediction)))
    reply = sender.stamp(data, made.source(served.revision or served.name), id=_id(served, event), cause=event)
    return _as_set(served, reply, event)


def _response(served: Served, event: CloudEvent, told: bool) -> CloudEvent:
    """What KServe's model server replies: the answer's body as data. told: as in `Served.predict`."""
    began = time.perf_counter()
    query, encode = _decode(served, event.get_data(), "the event's data")
    content = encode(served.predict(query, began, told=told))
    attributes = {
        "specversion": "1.0",
        "id": _id(served, event),
        "source": f"{RESPONSE_SOURCE}{served.name}",
        "type": RESPONSE_TYPE,
        "time": datetime.now(UTC),
        "datacontenttype": JSON_CONTENT_TYPE,
        "causationid": event.get_id(),
    }
    return _as_set(served, CloudEvent(attributes, orjson.loads(content)), event)


def _as_set(served: Served, reply: CloudEvent, event: CloudEvent) -> CloudEvent:
    """The reply as the operator wants it to introduce itself."""
    reply_as = served.reply_as
    attributes = reply.get_attributes()
    if reply_as.merge:
        # The reply's own id, time and content type stay, as in KServe; so does its cause.
        for name, value in event.get_attributes().items():
            attributes.setdefault(name, value)
    if reply_as.type is not None:
        attributes["type"] = reply_as.type
    if reply_as.source is not None:
        attributes["source"] = reply_as.source
    return reply


def _id(served: Served, event: CloudEvent) -> str:
    """Named after its cause: a request delivered twice gets the same answer under the same id."""
    return contract.derived_id("prediction", served.name, served.version, event.get_source(), event.get_id())


def _model_of(catalog: Catalog, event: CloudEvent) -> str:
    """Which model an event of KServe's means at `/`: its subject's, the one that a logger names, or the only one."""
    models, subject = catalog.models(), event.get_subject()
    # KServe's logger and Seldon's write no subject.
    for named in (subject, *(event.get_extension(name) for name in LOGGED)):
        if named in models:
            return str(named)
    if len(models) != 1:
        if not subject:
            raise Rejected(f"no subject says which model is meant; this server has {', '.join(models) or 'none'}")
        return subject
    return models[0]


def _find(catalog: Catalog, model: str) -> Served:
    try:
        return catalog.find(model)
    except Refusal as e:
        if e.status == NOT_FOUND:
            raise Rejected(str(e)) from e
        raise RetryLater(str(e), after_s=e.retry_after_s or STARTING_RETRY_S) from e


def _decode(served: Served, body: Any, what: str) -> tuple[Query, Encode]:
    """The query in the body of a V1 or V2 request, and how its answer's body is made. Raises Rejected.

    what: where the body stands, for an error.
    """
    if not isinstance(body, Mapping):
        raise Rejected(f"{what} holds no request; expected a V1 object with 'instances' or 'inputs', or a V2 object")
    given = body.get("inputs")
    try:
        if isinstance(given, list) and given and all(isinstance(t, Mapping) and "data" in t for t in given):
            query = infer_request.decode(served.signature, body)
            return query, lambda prediction: json_answer(infer_answer.encode(served, prediction, body)).body
        query, columns = predict_body.decode(served.signature, body)
    except Refusal as e:
        raise Rejected(str(e)) from e
    return query, lambda prediction: _rows_or_columns(served, prediction, columns)


def _rows_or_columns(served: Served, prediction: Prediction, columns: bool) -> bytes:
    """The body of V1's answer. Raises Rejected where the outputs have no rows in common, and rows were asked for."""
    try:
        return predict_body.encode(served, prediction, columns)
    except Refusal as e:
        raise Rejected(str(e)) from e
