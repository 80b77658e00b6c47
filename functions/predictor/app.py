"""The WSGI application: predictions go straight to the model, everything else through Flask.

Flask's own handling of a request costs three times what the answer does, so the exact paths of a model that is ready
lie in one table; what is not in it (a model not served here, metadata, an event) takes Flask's way.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from eventing.errors import Rejected, RetryLater
from functions.predictor import protocols
from functions.predictor.answers import (
    FAILED,
    TOO_LARGE,
    UNAVAILABLE,
    UNSUPPORTED_MEDIA,
    Answer,
    Environ,
    Refusal,
    is_probe,
    refused,
)
from functions.predictor.catalog import STARTING_RETRY_S, Catalog, Served
from functions.predictor.protocols import health
from functions.predictor.routes import Route, view
from monitoring import metrics

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

Call = Callable[[Environ], Answer]

log = logging.getLogger(__name__)

_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class App:
    """The predictor as a WSGI callable; any number of threads may call it.

    max_body_bytes: the longest request body; a longer one is refused with 413.
    """

    def __init__(self, catalog: Catalog, max_body_bytes: int) -> None:
        self._catalog = catalog
        self._max_body_bytes = max_body_bytes
        # Probes come every second, and while the process starts; the other protocols wait for numpy.
        self._hot: dict[str, Call] = {
            f"{route.method} {route.path}": functools.partial(_show, route, catalog) for route in health.ROUTES
        }
        self._flask: WSGIApplication | None = None
        self._building = threading.Lock()

    @functools.cached_property
    def _routes(self) -> tuple[tuple[str, Route], ...]:
        return tuple(protocols.routes())

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        call = self._hot.get(environ["REQUEST_METHOD"] + " " + environ["PATH_INFO"])
        if call is not None:
            answer = call(environ)
        elif environ["REQUEST_METHOD"] == "POST" and (waiting := self._catalog.waiting):
            # A question that comes too early must not make the start longer: Flask's import would, by half.
            answer = Refusal(UNAVAILABLE, f"not ready: {waiting}", retry_after_s=STARTING_RETRY_S).answer()
        else:
            return self._rest()(environ, start_response)
        length = str(len(answer.body))
        headers = [("Content-Type", answer.content_type), ("Content-Length", length), *answer.headers]
        start_response(_STATUS_LINES[answer.status], headers)
        return [answer.body]

    def serve(self, served: Served) -> None:
        """Answer predictions of `served` from now on, on the short way."""
        hot = dict(self._hot)
        for protocol, route in self._routes:
            if route.predicts:
                path = route.path.replace("<model>", served.name).replace("<version>", served.version)
                meter = _Meter(served.name, protocol)
                hot[f"{route.method} {path}"] = functools.partial(self._predict, route, meter, served)
        # Replaced whole: a request beside this line sees the old table or the new one.
        self._hot = hot
        self._catalog.put(served)

    def _predict(self, route: Route, meter: _Meter, served: Served, environ: Environ) -> Answer:
        """One prediction, counted; every failure of it as an answer."""
        began = meter.begin()
        outcome = metrics.FAILED
        try:
            answer = route.handle(served, self._body(environ), environ)
            outcome = metrics.DONE
        except (Refusal, Rejected, RetryLater) as e:
            outcome = metrics.RETRY_LATER if isinstance(e, RetryLater) else metrics.REJECTED
            answer = refused(e)
        except Exception as e:
            log.exception("a prediction by %s %s failed", served.name, served.version)
            answer = Refusal(FAILED, f"inference failed: {type(e).__name__}; see the predictor's log").answer()
        finally:
            meter.end(began, outcome, is_probe(environ))
        return answer

    def _body(self, environ: Environ) -> bytes:
        """The request's body. Raises Refusal when it is too long or encoded."""
        limit = self._max_body_bytes
        if (encoding := environ.get("HTTP_CONTENT_ENCODING", "identity")) != "identity":
            raise Refusal(UNSUPPORTED_MEDIA, f"Content-Encoding is {encoding!r:.40}; expected none")
        length = environ.get("CONTENT_LENGTH") or environ.get("HTTP_CONTENT_LENGTH") or "0"
        # Refused before it is read where the length is told, else as soon as it is over the limit.
        if not length.isdecimal() or int(length) > limit:
            raise Refusal(TOO_LARGE, f"the body has {length:.20} bytes; at most {limit} are taken at once")
        body: bytes = environ["wsgi.input"].read(limit + 1)
        if len(body) > limit:
            raise Refusal(TOO_LARGE, f"the body has more than {limit} bytes, which is the most taken at once")
        return body

    def _rest(self) -> WSGIApplication:
        """The Flask application, imported and made when it is first needed."""
        with self._building:
            if self._flask is None:
                from functions.predictor import flask_app

                self._flask = flask_app.create(self._catalog, self._routes, self._max_body_bytes)
            return self._flask


class _Meter:
    """Rate, errors and duration of one model over one protocol; the series looked up once, not per request."""

    def __init__(self, model: str, protocol: str) -> None:
        self._outcomes = {o: metrics.REQUESTS.labels(model, protocol, o) for o in metrics.OUTCOMES}
        self._probes = {o: metrics.PROBES.labels(model, o) for o in metrics.OUTCOMES}
        self._duration = metrics.REQUEST_DURATION.labels(model, protocol)
        self._in_progress = metrics.REQUESTS_IN_PROGRESS.labels(model, protocol)

    def begin(self) -> float:
        self._in_progress.inc()
        return time.perf_counter()

    def end(self, began: float, outcome: str, probe: bool) -> None:
        self._duration.observe(time.perf_counter() - began)
        self._outcomes[outcome].inc()
        if probe:
            self._probes[outcome].inc()
        self._in_progress.dec()


def _show(route: Route, catalog: Catalog, environ: Environ) -> Answer:
    return view(route, catalog, {})
