"""What does not need to be fast, as a Flask application: metadata, events, metrics, and every kind of error page.

Imported when the first such request comes: a process that only predicts never loads Flask.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import flask

from eventing import receiver
from eventing.errors import Rejected, RetryLater
from functions.predictor import cloudevents
from functions.predictor.answers import Answer, Refusal, refused
from functions.predictor.catalog import Catalog
from functions.predictor.routes import Route, view


def create(catalog: Catalog, routes: Iterable[tuple[str, Route]], max_body_bytes: int) -> flask.Flask:
    """The application: the receiver's, which takes events and shows metrics, and every route of every protocol."""
    app = receiver.create_app(cloudevents.handler(catalog), "predictor", max_body_bytes=max_body_bytes)

    def show(route: Route, **variables: str) -> flask.Response:
        return _response(view(route, catalog, variables))

    def predict(route: Route, model: str, version: str | None = None) -> flask.Response:
        """A prediction that is not in the app's table: an unknown model, one not ready, or ready since a moment."""
        try:
            served = catalog.find(model, version)
            return _response(route.handle(served, flask.request.get_data(), flask.request.environ))
        except (Refusal, Rejected, RetryLater) as e:
            return _response(refused(e))

    for number, (protocol, route) in enumerate(routes):
        answer = functools.partial(predict if route.predicts else show, route)
        app.add_url_rule(route.path, f"{protocol}-{number}", answer, methods=[route.method])
    return app


def _response(answer: Answer) -> flask.Response:
    response = flask.Response(answer.body, answer.status, content_type=answer.content_type)
    response.headers.extend(answer.headers)
    return response
