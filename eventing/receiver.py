"""An event comes in: HTTP to typed verdicts and back, in one place, for every function of Headrace.

A function is a Flask app made by `create_app` around one handler, served by `serve` in one process. Here alone do the
verdicts become statuses:

    done                      204, or 200 with the reply as a CloudEvent in the mode that the request came in
    binding.NotAnEvent        400; 415 where the format is named and unknown
    Rejected                  422
    RetryLater                503 with Retry-After
    a body over the limit     413
    anything else             500, with a traceback in the log

Knative's delivery takes 400, 413, 415 and 422 alike as final; they differ for the person who posts by hand.

Source: knative/specs specs/eventing/data-plane.md; style.md, "Errors are verdicts".
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flask
from cloudevents.core.v1.event import CloudEvent
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Response

from eventing import binding, server
from eventing.errors import Rejected, RetryLater
from monitoring import metrics

MAX_BODY_BYTES = 1024 * 1024  # what a Broker keeps at most; our own events carry 64 KiB

Reply = CloudEvent | Iterable[CloudEvent] | None
Handler = Callable[[CloudEvent], Reply]

log = logging.getLogger(__name__)

receive = binding.receive
serve = server.serve


def status(error: Exception) -> int:
    """The HTTP status that tells the deliverer what became of the event."""
    match error:
        case binding.UnknownFormat():
            return 415
        case binding.NotAnEvent():
            return 400
        case Rejected():
            return 422
        case RetryLater():
            return 503
    return 500


def create_app(
    handle: Handler, name: str, *, max_body_bytes: int = MAX_BODY_BYTES, parse_data: bool = True
) -> flask.Flask:
    """The function as a WSGI app: POST / takes events; GET /health/liveness, /health/readiness and /metrics.

    handle: called once per event, by several threads at once; it answers with the reply, or with several where the
    request was a batch. parse_data: see `binding.receive`.

    A batch is answered as one. Each event is handled, whatever becomes of its neighbours; then the heaviest verdict
    speaks for all: a fault (500) before RetryLater (503) before Rejected (422). So the batch comes again as long as one
    of its events may yet succeed, and those that were done are done twice, which every handler must bear anyway,
    delivery being at-least-once. The other way round, an answer of 2xx or 422 would lose the event that had to wait.
    """
    app = flask.Flask(name)
    # Werkzeug 3.1 cuts a chunked body off at its limit and says nothing: one byte more shows that there is more.
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes + 1

    @app.post("/")
    def take() -> Response:
        headers, body = dict(flask.request.headers.items()), flask.request.get_data()
        if len(body) > max_body_bytes:
            raise RequestEntityTooLarge()
        if len(body) < (flask.request.content_length or 0):
            # The web server gives what came until the sender was gone, which no data in text or bytes would show.
            raise BadRequest(f"the body ended after {len(body)} of {flask.request.content_length} bytes")
        try:
            events = binding.receive(headers, body, parse_data=parse_data)
        except Rejected as e:
            metrics.MESSAGES_REFUSED.labels(str(status(e))).inc()
            log.warning("%s refused a message: %s", name, e)
            return _refusal(e)
        outcomes = [_handle(handle, event) for event in events]
        errors = [o for o in outcomes if isinstance(o, Exception)]
        if errors:
            return _refusal(max(errors, key=_weight), errors if len(events) > 1 else ())
        replies = [reply for o in outcomes if not isinstance(o, Exception) for reply in o]
        return _answer(binding.mode(headers), replies)

    @app.get("/health/liveness")
    @app.get("/health/readiness")
    def health() -> Response:
        return flask.jsonify(status="ok", name=name)

    @app.get("/metrics")
    def show_metrics() -> Response:
        return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(_: RequestEntityTooLarge) -> Response:
        metrics.MESSAGES_REFUSED.labels("413").inc()
        return _json(
            413, {"error": f"the body is over {max_body_bytes} bytes; put the rows into the store and send a URI"}
        )

    @app.errorhandler(HTTPException)
    def no_such_place(e: HTTPException) -> Response:
        return _json(e.code or 500, {"error": f"{flask.request.method} {flask.request.path}: {e.description}"})

    return app


def _handle(handle: Handler, event: CloudEvent) -> tuple[CloudEvent, ...] | Exception:
    """The replies to one event, or what stood in their way; counted and logged."""
    label, began = metrics.type_label(event.get_type()), time.perf_counter()
    outcome: tuple[CloudEvent, ...] | Exception
    try:
        reply = handle(event)
        outcome = () if reply is None else (reply,) if isinstance(reply, CloudEvent) else tuple(reply)
        result = metrics.DONE
    except Rejected as e:
        outcome, result = e, metrics.REJECTED
        log.warning("event %s of type %s rejected: %s", event.get_id(), event.get_type(), e)
    except RetryLater as e:
        outcome, result = e, metrics.RETRY_LATER
        log.info("event %s of type %s later: %s", event.get_id(), event.get_type(), e)
    except Exception as e:
        # The edge of the process: an unknown fault becomes a 500, so that the event comes again.
        outcome, result = e, metrics.FAILED
        log.exception("event %s of type %s failed", event.get_id(), event.get_type())
    metrics.EVENTS_RECEIVED.labels(label, result).inc()
    metrics.EVENT_DURATION.labels(label).observe(time.perf_counter() - began)
    return outcome


def _weight(error: Exception) -> int:
    return {500: 2, 503: 1}.get(status(error), 0)


def _answer(mode: str, replies: Sequence[CloudEvent]) -> Response:
    """The replies in the mode that was asked in; without any an empty 204, for a broker takes no other body."""
    if not replies:
        return Response(status=204)
    if mode == binding.BATCHED:
        return _response(binding.to_batch(replies))
    if len(replies) > 1:
        raise TypeError(f"{len(replies)} replies to one event; a broker takes one, so send the others yourself")
    return _response(binding.to_structured(replies[0]) if mode else binding.to_binary(replies[0]))


def _response(message: binding.HTTPMessage) -> Response:
    response = Response(message.body, headers=message.headers)
    # Without this, werkzeug would declare data without a type as text/html, and the reader believe it.
    if "content-type" not in message.headers:
        del response.headers["content-type"]
    return response


def _refusal(error: Exception, batch: Sequence[Exception] = ()) -> Response:
    """The error as JSON: the reason, every fault, and for a batch what became of each broken event."""
    foreseen = isinstance(error, Rejected | RetryLater)
    # An unknown fault's text may hold anything; it stays in the log, beside its traceback.
    body: dict[str, Any] = {"error": str(error) if foreseen else f"{type(error).__name__}: see the function's log"}
    if isinstance(error, Rejected) and error.faults:
        body["faults"] = error.faults
    if batch:
        body["batch"] = [{"status": status(e), "error": str(e) if status(e) != 500 else "failed"} for e in batch]
    headers = {"Retry-After": str(math.ceil(error.after_s))} if isinstance(error, RetryLater) else {}
    return _json(status(error), body, headers)


def _json(code: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    response = flask.jsonify(body)
    response.status_code = code
    response.headers.update(headers or {})
    return response
