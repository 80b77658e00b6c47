"""Logs of a JSON object in each line, and what collectors put around them: the object, and when the collector saw it.

Known: `kubectl logs`, with --timestamps and --prefix or without; files of container runtimes, CRI's text and Docker's
JSON; collectors that add `timestamp`, `@timestamp` or `time` to the object, or keep the line under `log` or `message`.

Source: kubernetes.io, Logging Architecture; cri-api, the format of container logs.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from headrace.tune.readers import source

EXAMPLES = 200
Fields = tuple[Any, ...]
Pick = Callable[[dict[str, Any]], Fields | None]

_STAMP = re.compile(rb"(?:^|\s)(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))\s")
_STAMPS = ("timestamp", "@timestamp", "time", "ts")
_WRAPPED = ("log", "message", "msg", "line", "textPayload")
COLLECTED = "\0collected"
"""The key under which an object has the time of its collector, where one wrote it before the object."""


@dataclass(slots=True)
class Skipped:
    """Lines that are no requests: how many, and the first."""

    count: int = 0
    example: bytes = b""

    def add(self, line: bytes) -> None:
        """One more."""
        self.count += 1
        self.example = self.example or line

    @property
    def notes(self) -> tuple[str, ...]:
        """The sentence about them; none without any."""
        if not self.count:
            return ()
        return (f"{self.count:,} lines are no requests and were passed over, the first: {self.shown!r}",)

    @property
    def shown(self) -> str:
        """The first of them, shortened."""
        return self.example[:80].decode(errors="replace")


def parsed(line: bytes) -> dict[str, Any] | None:
    """The object in a line, out of what is around it; None for a line without one."""
    begins = line.find(b"{")
    if begins < 0:
        return None
    found = _loads(line[begins:])
    if found is None:
        return None
    if begins and (stamp := _STAMP.search(line[:begins])):
        found[COLLECTED] = stamp[1].decode()
    for key in _WRAPPED:
        inner = found.get(key)
        if isinstance(inner, str) and inner.startswith("{") and (unwrapped := _loads(inner.encode())) is not None:
            when = found.get(COLLECTED) or next((found[k] for k in _STAMPS if k in found), None)
            return {**unwrapped, COLLECTED: when} if when is not None else unwrapped
    return found


def collected(found: dict[str, Any]) -> object:
    """When the collector saw the line, however it says it; None where none does."""
    if COLLECTED in found:
        return found[COLLECTED]
    return next((found[k] for k in _STAMPS if k in found), None)


def objects(head: bytes) -> list[dict[str, Any]]:
    """The first objects in the beginning of a file: more than one, for a log may begin with what is no request."""
    return list(itertools.islice(filter(None, map(parsed, head.splitlines())), EXAMPLES))


def rows(path: Path, pick: Pick, skipped: Skipped) -> Iterator[Sequence[Fields]]:
    """What `pick` takes of each line's object, some thousands at a time; None for an object that is no request."""
    for lines in source.lines(path):
        picked: list[Fields] = []
        for line in lines:
            found = parsed(line)
            fields = None if found is None else pick(found)
            if fields is None:
                skipped.add(line)
            else:
                picked.append(fields)
        yield picked


def _loads(text: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        # Go's `js`, in Knative's template, escapes the quote as JSON does not.
        if b"\\'" not in text:
            return None
        try:
            found = orjson.loads(text.replace(b"\\'", b"'"))
        except orjson.JSONDecodeError:
            return None
    return found if isinstance(found, dict) else None
