"""Recordings of Knative's own answers, one JSON object a line, plain or gzipped: read, and refused where they are none.

Called by `headrace.tune.verify` and `headrace.check.verify`, which compare them with ours.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import orjson

from eventing.errors import Misconfigured
from headrace import gzipped

_MISSING = object()


class Line:
    """One object of a recording, or one within it. Every `Misconfigured` names the file, the line and the field."""

    def __init__(self, where: str, value: Mapping[str, Any]) -> None:
        self.where = where
        self._value = value

    def refuse(self, field: str, seen: object, expected: str) -> NoReturn:
        raise Misconfigured(f"{self.where}: {field}", seen, expected)

    def has(self, field: str) -> bool:
        return self._value.get(field) is not None

    def number(self, field: str, default: Any = _MISSING) -> float:
        value = self._get(field, default, "a number")
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(field, value, "a number")
        return float(value)

    def whole(self, field: str, default: Any = _MISSING, least: int | None = None) -> int:
        expected = "a whole number" if least is None else f"a whole number, at least {least}"
        value = self._get(field, default, expected)
        if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
            self.refuse(field, value, expected)
        return value

    def flag(self, field: str, default: Any = _MISSING) -> bool:
        value = self._get(field, default, "true or false")
        if not isinstance(value, bool):
            self.refuse(field, value, "true or false")
        return value

    def text(self, field: str, default: Any = _MISSING) -> str:
        value = self._get(field, default, "a text")
        if not isinstance(value, str):
            self.refuse(field, value, "a text")
        return value

    def texts(self, field: str, default: Any = _MISSING) -> dict[str, str]:
        value = self._get(field, default, "an object of texts")
        if not isinstance(value, dict):
            self.refuse(field, value, "an object of texts")
        for key, item in value.items():
            if not isinstance(item, str):
                self.refuse(f"{field}[{key}]", item, "a text, as annotations and ConfigMaps hold")
        return value

    def items(self, field: str) -> list[Any]:
        value = self._get(field, _MISSING, "a list")
        if not isinstance(value, list):
            self.refuse(field, value, "a list")
        return value

    def within(self, field: str, value: Any) -> Line:
        """The object `value`, found at `field`."""
        if not isinstance(value, dict):
            self.refuse(field, value, "an object")
        return Line(f"{self.where}: {field}", value)

    def get(self, field: str) -> Any:
        """What is there, None where nothing is."""
        return self._value.get(field)

    def _get(self, field: str, default: Any, expected: str) -> Any:
        value = self._value.get(field, default)
        if value is _MISSING:
            self.refuse(field, "missing", expected)
        return value


def lines(path: Path) -> Iterator[Line]:
    """Every object of the file, in order. Raises Misconfigured where it is not there, no such file, or empty."""
    number = objects = 0
    try:
        with gzipped.opened(path) as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    objects += 1
                    yield _line(f"{path}, line {number}", text)
    except FileNotFoundError as e:
        raise Misconfigured("--verify", str(path), "a file that is there") from e
    except (OSError, EOFError, zlib.error) as e:  # BadGzipFile is an OSError
        place = f"--verify {path}, after line {number}" if number else f"--verify {path}"
        raise Misconfigured(place, str(e), "JSON lines, plain or gzipped") from e
    if not objects:
        raise Misconfigured(f"--verify {path}", "an empty file", "one recorded case a line")


def _line(where: str, text: bytes) -> Line:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as e:
        start = text[:40].decode("utf-8", "replace").strip()
        raise Misconfigured(where, start, f"one JSON object ({e.msg} at column {e.colno})") from e
    if not isinstance(value, dict):
        raise Misconfigured(where, value, "one JSON object")
    return Line(where, value)
