"""What does not need to be fast, as a Flask application: metadata, events, metrics, and every kind of error page.

Imported when the first such request comes: a process that only predicts never loads Flask.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import flask

from eventing import receiver
from eventing.errors import Rejected, RetryLater
from functions.predictor import cloudevents, statistics
from functions.predictor.admission import Places
from functions.predictor.answers import UNSUPPORTED, Answer, Environ, Refusal, refused
from functions.predictor.catalog import Catalog
from functions.predictor.routes import Route, view
from functions.predictor.served import Served
from functions.predictor.wire.bodies import Bodies

if TYPE_CHECKING:
    from functions.predictor.repository import Repository


def create(
    catalog: Catalog,
    repository: Repository | None,
    routes: Iterable[tuple[str, Route]],
    bodies: Bodies,
    call: Callable[[str, Route, Served], Callable[[Environ], Answer]],
    requests: Places,
) -> flask.Flask:
    """The application: the receiver's, which takes events and shows metrics, and every route of every protocol.

    call: what answers the predictions of one version over one protocol. requests: the places of predictions by event.
    """
    statistics.expose()
    app = receiver.create_app(cloudevents.handler(catalog, requests), "predictor", max_body_bytes=bodies.max_bytes)

    def show(route: Route, **variables: str) -> flask.Response:
        return _response(bodies.encode(view(route, catalog, variables), flask.request.environ))

    def change(route: Route, **variables: str) -> flask.Response:
        try:
            if repository is None:
                raise Refusal(UNSUPPORTED, "this server has no repository")
            return _response(route.handle(repository, bodies.read(flask.request.environ), **variables))
        except (Refusal, Rejected, RetryLater) as e:
            return _response(refused(e))

    def predict(
        route: Route, protocol: str, model: str, version: str | None = None, label: str | None = None
    ) -> flask.Response:
        """A prediction that is not in the app's table: an unknown model, one not ready, or ready since a moment."""
        try:
            served = catalog.find(model, version if label is None else catalog.labelled(model, label))
        except (Refusal, Rejected, RetryLater) as e:
            return _response(cloudevents.refused(e, flask.request.environ))
        return _response(call(protocol, route, served)(flask.request.environ))

    for number, (protocol, route) in enumerate(routes):
        if route.predicts:
            answer = functools.partial(predict, route, protocol)
        else:
            answer = functools.partial(change if route.changes else show, route)
        app.add_url_rule(route.path, f"{protocol}-{number}", answer, methods=[route.method])
    return app


def _response(answer: Answer) -> flask.Response:
    response = flask.Response(answer.body, answer.status, content_type=answer.content_type)
    response.headers.extend(answer.headers)
    return response
