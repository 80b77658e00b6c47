"""The predictor's requests: predictions go straight to the model, everything else through Flask.

Flask's own handling of a request costs three times what the answer does, so the exact paths of a model that is ready
lie in one table; what is not in it (a model not served here, metadata, an event) takes Flask's way. The table is made
anew, whole, whenever the catalog changes.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from eventing.errors import Rejected, RetryLater
from functions.predictor import protocols
from functions.predictor.admission import Admission, Places
from functions.predictor.answers import FAILED, PROBE, UNAVAILABLE, Answer, Environ, Refusal, refused
from functions.predictor.catalog import STARTING_RETRY_S, Catalog
from functions.predictor.protocols import health
from functions.predictor.routes import Route, view
from functions.predictor.served import Served
from functions.predictor.wire.bodies import ACCEPT_ENCODING, Bodies
from monitoring import predictions

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

    from functions.predictor.repository import Repository

Call = Callable[[Environ], Answer]

log = logging.getLogger(__name__)


class App:
    """What the web server calls, from any number of threads: `direct` first, and as a WSGI application the rest.

    repository: what loads and unloads models when it is asked to; None: nobody does. requests: places for predictions.
    """

    def __init__(
        self,
        catalog: Catalog,
        bodies: Bodies,
        repository: Repository | None = None,
        requests: Places | None = None,
    ) -> None:
        self._catalog = catalog
        self._bodies = bodies
        self._requests = requests or Admission().requests
        self._repository = repository
        # Probes come every second, and while the process starts; the other protocols wait for numpy.
        self._always: dict[str, Call] = {
            f"{route.method} {route.path}": functools.partial(_show, route, catalog) for route in health.ROUTES
        }
        self._hot = self._always
        self._flask: WSGIApplication | None = None
        self._building = threading.Lock()
        self._changing = threading.Lock()
        catalog.on_change = self._make_table

    @functools.cached_property
    def _routes(self) -> tuple[tuple[str, Route], ...]:
        return tuple(protocols.routes())

    def direct(self, environ: Environ) -> Answer | None:
        """The answer to a request that needs no Flask, None for every other. Never raises."""
        call = self._hot.get(environ["REQUEST_METHOD"] + " " + environ["PATH_INFO"])
        if call is not None:
            return call(environ)
        if environ["REQUEST_METHOD"] == "POST" and (waiting := self._catalog.starting):
            # A question that comes too early must not make the start longer: Flask's import would, by half.
            return Refusal(UNAVAILABLE, f"not ready: {waiting}", retry_after_s=STARTING_RETRY_S).answer()
        if environ["PATH_INFO"] == "/" and environ["REQUEST_METHOD"] == "POST" and (full := self._requests.full()):
            # An event that is too much is told before it is read: to read it costs more than many an inference.
            return refused(full)
        return None

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        answer = self.direct(environ)
        if answer is None:
            return self._rest()(environ, start_response)
        length = str(len(answer.body))
        headers = [("Content-Type", answer.content_type), ("Content-Length", length), *answer.headers]
        start_response(_status_line(answer.status), headers)
        return [answer.body]

    def _make_table(self) -> None:
        """Every path of every version that is ready, by version, by label, and without either."""
        with self._changing:
            hot = dict(self._always)
            for served, version, label in self._catalog.paths():
                for protocol, route in self._routes:
                    wanted = ("<version>" in route.path, "<label>" in route.path)
                    if route.predicts and wanted == (version is not None, label is not None):
                        path = route.path.replace("<model>", served.name)
                        path = path.replace("<version>", version or "").replace("<label>", label or "")
                        hot[f"{route.method} {path}"] = self._call(protocol, route, served)
            # Replaced whole: a request beside this line sees the old table or the new one.
            self._hot = hot

    def _call(self, protocol: str, route: Route, served: Served) -> Call:
        """What answers the predictions of one version over one protocol."""
        handle, meter = route.handle, served.statistics.meter(protocol)
        begin, end = meter.begin, meter.end
        take, leave = self._requests.take, self._requests.leave
        read, encode = self._bodies.read, self._bodies.encode

        def predict(environ: Environ) -> Answer:
            """One prediction, counted; every failure of it as an answer."""
            began = begin()
            outcome = predictions.FAILED
            try:
                # Before the body is read: what is refused must not take memory first.
                take()
                try:
                    answer = handle(served, read(environ), environ)
                finally:
                    leave()
                outcome = predictions.DONE
            except (Refusal, Rejected, RetryLater) as e:
                outcome = predictions.RETRY_LATER if isinstance(e, RetryLater) else predictions.REJECTED
                answer = refused(e)
            except Exception as e:
                log.exception("a prediction by %s %s failed", served.name, served.version)
                answer = Refusal(FAILED, f"inference failed: {type(e).__name__}; see the predictor's log").answer()
            finally:
                end(began, outcome, PROBE in environ)
            return encode(answer, environ) if ACCEPT_ENCODING in environ else answer

        return predict

    def _rest(self) -> WSGIApplication:
        """The Flask application, imported and made when it is first needed."""
        with self._building:
            if self._flask is None:
                from functions.predictor import flask_app

                self._flask = flask_app.create(
                    self._catalog, self._repository, self._routes, self._bodies, self._call, self._requests
                )
            return self._flask


def _show(route: Route, catalog: Catalog, environ: Environ) -> Answer:
    return view(route, catalog, {})


@functools.cache
def _status_line(status: int) -> str:
    from http import HTTPStatus  # a millisecond; the server in front asks `direct`, and needs no line

    return f"{status} {HTTPStatus(status).phrase}"
