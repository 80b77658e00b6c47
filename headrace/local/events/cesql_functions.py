"""Values of CloudEvents SQL, how they become each other, and the functions over them. Pure.

A value is a text, a whole number of 32 bits or a truth. Used by `headrace.local.events.cesql`.
Source: cloudevents/spec cesql/spec.md 1.0, sections 2.4 (casts) and 3.5 (functions); cloudevents/sdk-go sql/v2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eventing.errors import HeadraceError

Value = str | int | bool
Cast = Callable[[Value], Value]

LEAST, MOST = -(2**31), 2**31 - 1
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")  # Python would refuse to read thousands of digits, none of which would fit


class CannotEvaluate(HeadraceError):
    """An expression has no value for this event: a missing attribute, a cast or a function that fails."""


def text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def integer(value: Value) -> int:
    """Raises CannotEvaluate."""
    if isinstance(value, int):
        return int(value)  # of a truth, too
    if not _WHOLE.fullmatch(value) or wrapped(int(value)) != int(value):
        raise CannotEvaluate(f"{value!r:.40} is no whole number of 32 bits")
    return int(value)


def boolean(value: Value) -> bool:
    """Raises CannotEvaluate."""
    if isinstance(value, int):
        return bool(value)
    if value.lower() not in ("true", "false"):
        raise CannotEvaluate(f"{value!r:.40} is neither true nor false")
    return value.lower() == "true"


def cast_like(value: Value, other: Value) -> Value:
    """The value in the type of the other. Raises CannotEvaluate."""
    if isinstance(other, bool):
        return boolean(value)
    return integer(value) if isinstance(other, int) else text(value)


def wrapped(number: int) -> int:
    """The number in 32 bits: what is too large comes round at the other end, as in Go."""
    return (number - LEAST) % 2**32 + LEAST


def quotient(left: int, right: int) -> int:
    """Towards zero, as in Go. Raises CannotEvaluate."""
    if right == 0:
        raise CannotEvaluate("division by zero")
    return abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)


def remainder(left: int, right: int) -> int:
    """With the sign of what is divided. Raises CannotEvaluate."""
    return left - right * quotient(left, right)


@dataclass(frozen=True, slots=True)
class Function:
    """takes: how each argument is cast. more: how those beyond are, None where there may be none."""

    does: Callable[..., Value]
    takes: tuple[Cast, ...]
    more: Cast | None = None


def call(name: str, arguments: Sequence[Value]) -> Value:
    """Raises CannotEvaluate, for a function that is not there too."""
    for function in FUNCTIONS.get(name, ()):
        if len(arguments) == len(function.takes) or (function.more and len(arguments) > len(function.takes)):
            casts = [*function.takes, *[function.more or text] * (len(arguments) - len(function.takes))]
            return function.does(*(cast(argument) for cast, argument in zip(casts, arguments, strict=True)))
    raise CannotEvaluate(f"there is no function {name} of {len(arguments)} arguments")


def _as_it_is(value: Value) -> Value:
    return value


def _can(cast: Cast) -> Callable[[Value], bool]:
    def can(value: Value) -> bool:
        try:
            cast(value)
        except CannotEvaluate:
            return False
        return True

    return can


def _absolute(number: int) -> int:
    if number == LEAST:
        raise CannotEvaluate("ABS of the least number does not fit into 32 bits")
    return abs(number)


def _joined(separator: str, *parts: str) -> str:
    return separator.join(parts)


def _left(value: str, count: int) -> str:
    _not_negative("LEFT", count)
    return _characters(value.encode()[:count])


def _right(value: str, count: int) -> str:
    _not_negative("RIGHT", count)
    raw = value.encode()
    return _characters(raw[max(len(raw) - count, 0) :])


def _substring(value: str, position: int, length: int = MOST) -> str:
    """From a position counted from 1, or from the end where it is negative."""
    raw = value.encode()
    if position == 0:
        return ""
    if not -len(raw) <= position <= len(raw):
        raise CannotEvaluate(f"SUBSTRING: position {position} is outside the text")
    _not_negative("SUBSTRING", length)
    begin = position - 1 if position > 0 else len(raw) + position
    return _characters(raw[begin : begin + length])


def _not_negative(function: str, count: int) -> None:
    if count < 0:
        raise CannotEvaluate(f"{function} of {count} characters")


def _characters(raw: bytes) -> str:
    return raw.decode(errors="replace")  # positions are bytes, as in Go: one may lie within a character


def _concatenated(*parts: str) -> str:
    return "".join(parts)


_ANY: Any = _as_it_is
FUNCTIONS: Mapping[str, tuple[Function, ...]] = {
    "ABS": (Function(_absolute, (integer,)),),
    "LENGTH": (Function(lambda value: len(value.encode()), (text,)),),
    "CONCAT": (Function(_concatenated, (), text),),
    "CONCAT_WS": (Function(_joined, (text,), text),),
    "LOWER": (Function(str.lower, (text,)),),
    "UPPER": (Function(str.upper, (text,)),),
    "TRIM": (Function(str.strip, (text,)),),
    "LEFT": (Function(_left, (text, integer)),),
    "RIGHT": (Function(_right, (text, integer)),),
    "SUBSTRING": (Function(_substring, (text, integer)), Function(_substring, (text, integer, integer))),
    "INT": (Function(integer, (_ANY,)),),
    "BOOL": (Function(boolean, (_ANY,)),),
    "STRING": (Function(text, (_ANY,)),),
    "IS_INT": (Function(_can(integer), (_ANY,)),),
    "IS_BOOL": (Function(_can(boolean), (_ANY,)),),
}
