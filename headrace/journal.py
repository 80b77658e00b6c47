"""Reading what the Broker has seen: the journal over HTTP, one JSON line for each event."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from cloudevents.core.v1.event import CloudEvent

from eventing.errors import HeadraceError

READ_S = 30.0  # the journal answers from an index; while following, the platform sends an empty line every few seconds


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as the Broker took it, and what became of its deliveries."""

    seq: int
    """Its place in the journal, rising."""
    received: datetime
    event: Mapping[str, Any]
    """The CloudEvent, structured."""
    deliveries: tuple[Mapping[str, Any], ...]
    """Per Trigger: trigger, state, attempts, code."""

    @property
    def id(self) -> str:
        return str(self.event["id"])

    @property
    def type(self) -> str:
        return str(self.event["type"])

    @property
    def cause(self) -> str | None:
        return self.event.get("causationid")

    @property
    def subject(self) -> str:
        return str(self.event.get("subject") or "")

    @property
    def data(self) -> Mapping[str, Any]:
        data = self.event.get("data")
        return data if isinstance(data, Mapping) else {}

    def cloud_event(self) -> CloudEvent:
        attributes = {k: v for k, v in self.event.items() if k not in ("data", "data_base64")}
        if isinstance(attributes.get("time"), str):
            attributes["time"] = datetime.fromisoformat(attributes["time"])
        return CloudEvent(attributes, self.event.get("data"))


def read(url: str, **query: str | int | None) -> Iterator[Entry]:
    """The entries that are there, oldest first.

    query: after (a seq), tail (the newest so many), type, id, subject, causationid, limit. Raises HeadraceError when
    the journal does not answer.
    """
    return (e for e in _lines(url, query) if e is not None)


def follow(url: str, **query: str | int | None) -> Iterator[Entry | None]:
    """The entries that are there, then each as it comes, until the reader leaves; None every few seconds of silence.

    query and errors: as for `read`.
    """
    return _lines(url, {**query, "follow": "true"})


def _lines(url: str, query: Mapping[str, str | int | None]) -> Iterator[Entry | None]:
    wanted = {k: v for k, v in query.items() if v is not None}
    try:
        with urllib.request.urlopen(f"{url}?{urlencode(wanted)}", timeout=READ_S) as answer:
            for line in answer:
                yield entry(json.loads(line)) if line.strip() else None
    except urllib.error.HTTPError as e:
        raise HeadraceError(f"the journal at {url} answered {e.code}: {e.read(500).decode(errors='replace')}") from e
    except (urllib.error.URLError, TimeoutError, ConnectionError) as e:
        raise HeadraceError(f"the journal at {url} does not answer: {e}") from e


def entry(line: dict[str, Any]) -> Entry:
    """A line of the journal, parsed."""
    return Entry(
        seq=line["seq"],
        received=datetime.fromisoformat(line["received"]),
        event=line["event"],
        deliveries=tuple(line["deliveries"]),
    )
