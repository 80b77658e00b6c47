"""Reading what the Broker has seen: the journal over HTTP, one JSON line for each event."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import urllib3
from cloudevents.core.v1.event import CloudEvent

from eventing.errors import HeadraceError
from knative.streams import lines

READ_S = 120.0  # from zero, a pod has to start first; while following, a line comes every few seconds
TRIES = 20  # to follow on after a break, one after the other
AGAIN_S = 3.0
Wanted = str | int | bool | Sequence[str] | None

REMEMBERED = 100_000  # entries of a journal that is followed, so that none is told twice


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as the Broker took it, and what became of its deliveries."""

    seq: int
    """Its place in the journal, rising."""
    received: datetime
    event: Mapping[str, Any]
    """The CloudEvent, structured."""
    deliveries: tuple[Mapping[str, Any], ...]
    """Per Trigger: trigger, state, attempts, code. A cluster's Broker tells nobody: there it is empty."""

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


@dataclass(frozen=True, slots=True)
class Resume:
    """How a cluster's journal says where a reader that is cut off may go on."""

    after: int


class Journal:
    """One place's journal.

    ask: gives the open answer to a GET of a URL, as `headrace.reach.direct` does.
    """

    def __init__(self, url: str, ask: Callable[..., Any]) -> None:
        self.url = url
        self._ask = ask

    def read(self, **query: Wanted) -> Iterator[Entry]:
        """The entries that are there, oldest first.

        query: after (a seq), tail (the newest so many), limit; type, id, subject, causationid, one or several of which
        one will do; loop (the loop's own events alone or all but these: millions of predictions cost nothing then).
        Raises HeadraceError when the journal does not answer.
        """
        return (line for line in self._lines(query) if isinstance(line, Entry))

    def follow(self, **query: Wanted) -> Iterator[Entry | None]:
        """The entries that are there, then each as it comes, until the reader leaves; None every few seconds of
        silence.

        A cluster ends a request that lasts, and pods go: then it is asked again from where it said that it was, and
        what was told already is not told twice. query and errors: as for `read`.
        """
        told: dict[tuple[str, int], None] = {}
        wanted: dict[str, Wanted] = {**query, "follow": True}
        resume: int | None = None
        failed = 0
        while True:
            try:
                for line in self._lines(wanted):
                    failed = 0
                    if isinstance(line, Resume):
                        resume = line.after
                        yield None
                    elif line is None:
                        yield None
                    elif (line.id, line.seq) not in told:
                        told[line.id, line.seq] = None
                        if len(told) > REMEMBERED:
                            del told[next(iter(told))]
                        yield line
            except HeadraceError:
                failed += 1
                if resume is None or failed > TRIES:
                    raise
                time.sleep(AGAIN_S)
            if resume is None:
                return
            wanted = {**wanted, "after": resume, "tail": None}

    def _lines(self, query: Mapping[str, Wanted]) -> Iterator[Entry | Resume | None]:
        wanted = {k: str(v).lower() if isinstance(v, bool) else v for k, v in query.items() if v is not None}
        url = f"{self.url}?{urlencode(wanted, doseq=True)}" if wanted else self.url
        with closing(self._ask(url, read_s=READ_S)) as answer:
            try:
                if answer.status >= 300:
                    said = answer.data[:500].decode(errors="replace")
                    raise HeadraceError(f"the journal at {self.url} answered {answer.status}: {said}")
                for line in lines(answer):
                    yield _line(json.loads(line)) if line.strip() else None
            except urllib3.exceptions.HTTPError as e:
                raise HeadraceError(f"the journal at {self.url} broke off: {e}") from e
            except ValueError as e:
                raise HeadraceError(f"what answers at {self.url} is no journal: {e}") from e


def _line(value: dict[str, Any]) -> Entry | Resume:
    return Resume(int(value["resume"])) if "resume" in value else entry(value)


def entry(line: dict[str, Any]) -> Entry:
    """A line of the journal, parsed."""
    return Entry(
        seq=line["seq"],
        received=datetime.fromisoformat(line["received"]),
        event=line["event"],
        deliveries=tuple(line["deliveries"]),
    )
