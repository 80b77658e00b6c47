"""What an HTTP server said to one request, whatever its status; for the laptop's tests and the cluster's."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    """From the request to the whole answer."""

    def json(self) -> Any:
        return json.loads(self.body)


def ask(url: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout_s: float = 60.0) -> Answer:
    """The answer to a POST of `body` as JSON, or to a GET where that is None. Raises OSError when there is none."""
    said = {"Content-Type": "application/json", **(headers or {})}
    data = None if body is None else json.dumps(body).encode()
    began = time.monotonic()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, said), timeout=timeout_s) as answer:
            status, heard, read = answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as e:
        status, heard, read = e.code, dict(e.headers), e.read()
    return Answer(status, heard, read, time.monotonic() - began)
