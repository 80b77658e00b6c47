"""CloudEvents: prediction.requested in, prediction.made as the reply, in the mode the request came in.

`eventing.receiver` has the path and the HTTP; here a request becomes an answer or a verdict. An unknown model is
Rejected, for 404 would be delivered again; a model that is not ready yet is RetryLater.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from cloudevents.core.v1.event import CloudEvent

from eventing import contract, sender
from eventing.errors import Rejected, RetryLater
from functions.predictor import made
from functions.predictor.answers import NOT_FOUND, Refusal, json_answer
from functions.predictor.catalog import STARTING_RETRY_S, Catalog, Query, Served
from functions.predictor.protocols import v1, v2


def handler(catalog: Catalog) -> Callable[[CloudEvent], CloudEvent]:
    """The function that answers one event, for `eventing.receiver.create_app`."""

    def handle(event: CloudEvent) -> CloudEvent:
        began = time.perf_counter()
        requested = contract.PredictionRequested.from_event(event)
        served = _find(catalog, requested.model)
        try:
            query, outputs_of = _decode(served, requested.inputs)
        except Refusal as e:
            raise Rejected(str(e)) from e
        prediction = served.predict(query, began, told=False)
        data = made.prediction_made(served, prediction, outputs_of(prediction))
        # Named after its cause: a request delivered twice gets the same answer under the same id.
        id = contract.derived_id("prediction", served.name, served.version, event.get_source(), event.get_id())
        return sender.stamp(data, made.source(served.revision or served.name), id=id, cause=event)

    return handle


def _find(catalog: Catalog, model: str) -> Served:
    try:
        return catalog.find(model)
    except Refusal as e:
        if e.status == NOT_FOUND:
            raise Rejected(str(e)) from e
        raise RetryLater(str(e), after_s=e.retry_after_s or STARTING_RETRY_S) from e


def _decode(served: Served, body: Any) -> tuple[Query, Callable[[Any], Any]]:
    """The query in the body of a V1 or V2 request, and how its answer's body is made. Raises Refusal."""
    if not isinstance(body, Mapping):
        raise Refusal(
            400, "'inputs' holds no request; expected a V1 object with 'instances' or 'inputs', or a V2 object"
        )
    given = body.get("inputs")
    if isinstance(given, list) and given and all(isinstance(t, Mapping) and "data" in t for t in given):
        query = v2.decode(served.signature, body)
        return query, lambda prediction: orjson.loads(json_answer(v2.encode(served, prediction, body)).body)
    query, columns = v1.decode(served.signature, body)
    return query, lambda prediction: orjson.loads(v1.encode(served, prediction, columns))
