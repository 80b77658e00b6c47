"""Dead letters: the sink for events that nobody could take. Each is put into the store, whole, and acknowledged.

A Knative Service, `python -m functions.dead_letters`, the `deadLetterSink` of the Broker. `headrace dead-letters` lists
and replays what lies here. An event may be here because its data is broken; so data is kept as the bytes that came, and
nothing but an event without its required attributes is refused.

    <store>/dead-letters/<time>-<digest>.json      the event in the JSON format, with the extensions knativeerrordest,
                                                   knativeerrorcode and knativeerrordata that the Broker adds

The time is the event's own, so a redelivery finds the same name and writes the same letter; a replay that fails again
does too.

Source: knative/eventing docs/delivery, dead letter sinks and their error extensions.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from cloudevents.core.v1.event import CloudEvent

from eventing import binding, receiver, settings
from functions.store import Store
from monitoring import metrics

FOLDER = "dead-letters"
MAX_BODY_BYTES = 4 * 1024 * 1024  # no Broker keeps more, and a letter refused here is lost

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What this function is told by its environment."""

    store: str
    """HEADRACE_STORE: fsspec URL of the store."""
    host: str = "127.0.0.1"
    port: int = 8080
    """PORT: where to listen."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises Misconfigured naming the key."""
        return cls(
            store=settings.text(environ, "HEADRACE_STORE", "the store's fsspec URL, such as file:///var/headrace"),
            host=settings.host(environ),
            port=settings.port(environ),
        )


def path_of(event: CloudEvent) -> str:
    """Where the letter lies: by the event's time, then by who it is and whom it did not reach."""
    time = event.get_time()
    stamp = time.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ") if isinstance(time, datetime) else "undated"
    name = "\0".join((event.get_source(), event.get_id(), event.get_type(), _text(event, "knativeerrordest")))
    return f"{FOLDER}/{stamp}-{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"


def letter_of(event: CloudEvent) -> dict[str, Any]:
    """The event in the JSON format; data that is JSON as JSON, for who reads the letter, other bytes as base64."""
    letter = binding.to_json(event)
    data, declared = event.get_data(), event.get_datacontenttype()
    if isinstance(data, bytes) and (declared is None or binding.is_json(declared)):
        try:
            parsed = orjson.loads(data)
        except ValueError:
            log.info("event %s has data that is declared JSON and is none; kept as bytes", event.get_id())
        else:
            del letter["data_base64"]
            letter["data"] = parsed
    return letter


class DeadLetters:
    """The handler."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def handle(self, event: CloudEvent) -> None:
        """Puts the event into the store. Raises RetryLater while the store is away."""
        path = path_of(event)
        self._store.write_json(path, letter_of(event))
        metrics.DEAD_LETTERS.labels(metrics.type_label(event.get_type())).inc()
        log.warning(
            "event %s of type %s could not be delivered to %s (%s); kept at %s",
            event.get_id(),
            event.get_type(),
            _text(event, "knativeerrordest") or "its subscriber",
            _text(event, "knativeerrorcode") or "no status",
            path,
        )


def main(environ: Mapping[str, str]) -> None:
    """The process."""
    its = Settings.from_environment(environ)
    letters = DeadLetters(Store.open(its.store))
    app = receiver.create_app(letters.handle, "dead-letters", max_body_bytes=MAX_BODY_BYTES, parse_data=False)
    receiver.serve(app, its.port, its.host)


def _text(event: CloudEvent, extension: str) -> str:
    value = event.get_extension(extension)
    return "" if value is None else str(value)


if __name__ == "__main__":
    settings.run(main, os.environ)
