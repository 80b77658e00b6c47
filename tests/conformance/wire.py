"""HTTP as a test writes it: one request on one connection, every header as given, the answer whatever its status."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

ANSWER_S = 60.0  # for one answer: a revision may start from zero meanwhile, on a busy machine


@dataclass(frozen=True, slots=True)
class Answer:
    """headers: by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def asked(
    address: str, path: str, method: str, headers: Mapping[str, str], body: Any = None, timeout_s: float = ANSWER_S
) -> Iterator[http.client.HTTPResponse]:
    """The answer of `address` (HOST:PORT) with its body unread. body: bytes, or some of them, to be chunked."""
    connection = http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        connection.request(method, path, body, dict(headers))
        yield connection.getresponse()
    finally:
        connection.close()


def ask(
    address: str,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    timeout_s: float = ANSWER_S,
) -> Answer:
    with asked(address, path, method, headers or {}, body, timeout_s) as answer:
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read())


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as the container saw it. headers: by lower-case name. at: seconds since the epoch."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    environment: Mapping[str, str]

    @classmethod
    def of(cls, note: Mapping[str, Any]) -> Seen:
        headers = dict(note["headers"])
        body = base64.b64decode(note["body"])
        return cls(note["method"], note["path"], headers, body, note["at"], note.get("environment", {}))


def binary(id: str, type: str = "test.happened", **attributes: str) -> dict[str, str]:
    """The headers of a CloudEvent in binary mode, with JSON for data; an attribute of None is left out."""
    event: dict[str, str | None] = {
        "specversion": "1.0",
        "source": "/conformance",
        "id": id,
        "type": type,
        **attributes,
    }
    headers = {f"ce-{name}": value for name, value in event.items() if value is not None}
    return {"content-type": "application/json", **headers}
