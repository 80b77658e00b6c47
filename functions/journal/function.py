"""The function, `python -m functions.journal`, a Knative Service with a Trigger for every event.

    POST /           an event; 204 when it lies in the store, 503 while that is away
    GET /journal     the events, one JSON line each, as the laptop's Broker tells them; `follow=true`: on and on;
                     `loop=true`: without predictions and other people's events, however many of them there are

`headrace events`, `why` and `drop --wait` read it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

import flask
import orjson
from werkzeug.wrappers import Response

from eventing import files, receiver, settings
from eventing.errors import Rejected, RetryLater
from functions.journal import reader
from functions.journal.records import Query, Record
from functions.journal.shelf import Shelf
from functions.journal.writer import Writer

MAX_BODY_BYTES = 4 * 1024 * 1024  # as of a dead letter
THREADS = 64  # deliveries that wait for one write, and followers; above the manifest's containerConcurrency
DAYS = 30

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What this function is told by its environment."""

    store: str
    """HEADRACE_STORE: fsspec URL of the store."""
    days: int = DAYS
    """HEADRACE_JOURNAL_DAYS: how long an event is kept."""
    host: str = "127.0.0.1"
    port: int = 8080
    """PORT: where to listen."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises Misconfigured naming the key."""
        return cls(
            store=settings.text(environ, "HEADRACE_STORE", "the store's fsspec URL, such as file:///var/headrace"),
            days=settings.whole_number(environ, "HEADRACE_JOURNAL_DAYS", DAYS, 1, 3650),
            host=settings.host(environ),
            port=settings.port(environ),
        )


def create_app(writer: Writer, kept: Shelf, stop: threading.Event) -> flask.Flask:
    """The function. stop: ends the requests of those who follow."""
    app = receiver.create_app(writer.take, "journal", max_body_bytes=MAX_BODY_BYTES, parse_data=False)

    @app.get("/journal")
    def tell() -> Response:
        try:
            query = Query.parse(flask.request.args.items(multi=True))
            kept.hours()  # away is said by a status, which only goes before the first line
        except Rejected as e:
            return _refused(400, {"error": str(e), "faults": e.faults})
        except RetryLater as e:
            return _refused(503, {"error": str(e)})
        return Response(_lines(kept, query, stop), content_type="application/x-ndjson")

    return app


def _lines(kept: Shelf, query: Query, stop: threading.Event) -> Iterator[bytes]:
    told: Iterator[Record | int] = reader.follow(kept, query, stop) if query.follow else reader.read(kept, query)
    for each in islice(told, query.limit):
        yield each.told() if isinstance(each, Record) else orjson.dumps({"resume": each}) + b"\n"


def _refused(code: int, body: Mapping[str, object]) -> Response:
    response = flask.jsonify(body)
    response.status_code = code
    return response


def main(environ: Mapping[str, str]) -> None:
    """The process. A reader that follows is told where it may go on when this ends."""
    its = Settings.from_environment(environ)
    kept, stop = Shelf(files.open_files(its.store)), threading.Event()
    app = create_app(Writer(kept, timedelta(days=its.days)), kept, stop)
    receiver.serve(app, its.port, its.host, blocking_threads=THREADS, on_stopping=stop.set)
