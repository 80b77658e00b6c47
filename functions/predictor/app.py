"""The predictor's requests: predictions go straight to the model, everything else through Flask.

Flask's own handling of a request costs three times what the answer does, so the exact paths of a model that is ready
lie in one table; what is not in it (a model not served here, metadata, an event) takes Flask's way. The table is made
anew, whole, whenever the catalog changes.
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
from functions.predictor.answers import FAILED, UNAVAILABLE, Answer, Environ, Refusal, is_probe, refused
from functions.predictor.bodies import Bodies
from functions.predictor.catalog import STARTING_RETRY_S, Catalog, Served
from functions.predictor.protocols import health
from functions.predictor.routes import Route, view
from monitoring import metrics

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

    from functions.predictor.repository import Repository

Call = Callable[[Environ], Answer]

log = logging.getLogger(__name__)

_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class App:
    """What the web server calls, from any number of threads: `direct` first, and as a WSGI application the rest.

    repository: what loads and unloads models when it is asked to; None: nobody does.
    """

    def __init__(self, catalog: Catalog, bodies: Bodies, repository: Repository | None = None) -> None:
        self._catalog = catalog
        self._bodies = bodies
        self._repository = repository
        # Probes come every second, and while the process starts; the other protocols wait for numpy.
        self._always: dict[str, Call] = {
            f"{route.method} {route.path}": functools.partial(_show, route, catalog) for route in health.ROUTES
        }
        self._hot = self._always
        self._meters: dict[tuple[str, str], _Meter] = {}
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
        if environ["REQUEST_METHOD"] == "POST" and (waiting := self._catalog.waiting):
            # A question that comes too early must not make the start longer: Flask's import would, by half.
            return Refusal(UNAVAILABLE, f"not ready: {waiting}", retry_after_s=STARTING_RETRY_S).answer()
        return None

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        answer = self.direct(environ)
        if answer is None:
            return self._rest()(environ, start_response)
        length = str(len(answer.body))
        headers = [("Content-Type", answer.content_type), ("Content-Length", length), *answer.headers]
        start_response(_STATUS_LINES[answer.status], headers)
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
                        meter = self._meter(served.name, protocol)
                        hot[f"{route.method} {path}"] = functools.partial(self._predict, route, meter, served)
            # Replaced whole: a request beside this line sees the old table or the new one.
            self._hot = hot

    def _meter(self, model: str, protocol: str) -> _Meter:
        key = (model, protocol)
        if key not in self._meters:
            self._meters[key] = _Meter(model, protocol)
        return self._meters[key]

    def _predict(self, route: Route, meter: _Meter, served: Served, environ: Environ) -> Answer:
        """One prediction, counted; every failure of it as an answer."""
        began = meter.begin()
        served.statistics.begins()
        outcome = metrics.FAILED
        try:
            answer = route.handle(served, self._bodies.read(environ), environ)
            outcome = metrics.DONE
        except (Refusal, Rejected, RetryLater) as e:
            outcome = metrics.RETRY_LATER if isinstance(e, RetryLater) else metrics.REJECTED
            answer = refused(e)
        except Exception as e:
            log.exception("a prediction by %s %s failed", served.name, served.version)
            answer = Refusal(FAILED, f"inference failed: {type(e).__name__}; see the predictor's log").answer()
        finally:
            served.statistics.ends(meter.end(began, outcome, is_probe(environ)), outcome == metrics.DONE)
        return self._bodies.encode(answer, environ)

    def _rest(self) -> WSGIApplication:
        """The Flask application, imported and made when it is first needed."""
        with self._building:
            if self._flask is None:
                from functions.predictor import flask_app

                self._flask = flask_app.create(self._catalog, self._repository, self._routes, self._bodies)
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

    def end(self, began: float, outcome: str, probe: bool) -> float:
        """Seconds that the request took."""
        seconds = time.perf_counter() - began
        self._duration.observe(seconds)
        self._outcomes[outcome].inc()
        if probe:
            self._probes[outcome].inc()
        self._in_progress.dec()
        return seconds


def _show(route: Route, catalog: Catalog, environ: Environ) -> Answer:
    return view(route, catalog, {})
