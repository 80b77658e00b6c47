"""Numbers and durations as Go writes and reads them, since Knative's settings are texts that Go parses.

Called by `knative.settings` and `knative.annotations`. Python's `float("1_0")` or `int(" 5 ")` accept what Knative's
webhook refuses, and `float("1e999")` is a silent infinity where Go reports a range: hence readers of our own.

Source: Go's strconv (ParseFloat, ParseInt, ParseBool) and time (ParseDuration, Duration.String).
"""

from __future__ import annotations

import math
import re

SECOND = 1_000_000_000
"""Nanoseconds in a second. Durations are whole nanoseconds, as in Go: rounding is then Go's rounding."""

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
# An underscore stands between digits; in hexadecimal also right behind the prefix. Go's integers of base 10 have none.
_FLOAT = re.compile(
    r"[+-]?([0-9](_?[0-9])*\.?([0-9](_?[0-9])*)?|\.[0-9](_?[0-9])*)([eE][+-]?[0-9](_?[0-9])*)?", re.ASCII
)
_HEX_FLOAT = re.compile(
    r"[+-]?0[xX](_?[0-9a-fA-F])*\.?([0-9a-fA-F](_?[0-9a-fA-F])*)?[pP][+-]?[0-9](_?[0-9])*", re.ASCII
)
_INFINITY = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class OutOfRange(ValueError):
    """A whole number too large for its type; the webhook then names the range instead of calling the text malformed."""


def parse_float(text: str) -> float:
    """The float64 that strconv.ParseFloat reads. Raises ValueError for another syntax or an overflow."""
    if _FLOAT.fullmatch(text):
        value = float(text)
    elif _HEX_FLOAT.fullmatch(text):
        try:
            return float.fromhex(text.replace("_", ""))
        except OverflowError:
            value = math.inf
    elif _INFINITY.fullmatch(text):
        return -math.inf if text[0] == "-" else math.inf
    elif text.lower() == "nan" and text.isascii():  # unsigned only
        return math.nan
    else:
        raise ValueError(f"{text!r} is not a number")
    if math.isinf(value):
        raise ValueError(f"{text!r} is out of float64's range")
    return value


def parse_int(text: str, limit: int = INT32_MAX) -> int:
    """The whole number that strconv.ParseInt reads. Raises OutOfRange beyond -limit-1..limit, ValueError for other
    text.
    """
    negative, digits = text[:1] == "-", text[1:] if text[:1] in ("+", "-") else text
    value = 0
    # From left to right as Go does: of a letter and a digit too many, the one that comes first is told.
    for digit in digits or "?":
        if not "0" <= digit <= "9":
            raise ValueError(f"{text!r} is not a whole number")
        value = value * 10 + int(digit)
        if value > 2 * limit + 1:
            raise OutOfRange(f"{text!r} is out of range")
    value = -value if negative else value
    if not -limit - 1 <= value <= limit:
        raise OutOfRange(f"{text!r} is out of range")
    return value


def parse_bool(text: str) -> bool:
    """What strconv.ParseBool reads. Raises ValueError for anything else."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"{text!r} is not true or false")


def parse_duration(text: str) -> int:
    """Nanoseconds of a duration such as `1m30s`, as time.ParseDuration reads it. Raises ValueError otherwise."""
    negative, rest = text.startswith("-"), text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    total, at = 0, 0
    while at < len(rest):
        match = _DURATION.match(rest, at)
        if match is None or not (match[1] or match[2]) or len(match[1].lstrip("0")) > 19:
            raise ValueError(f"{text!r} is not a duration")
        unit = _UNITS[match[3]]
        total += int(match[1] or "0") * unit + _fraction(match[2] or "", unit)
        at = match.end()
    if not rest or total > INT64_MAX + negative:
        raise ValueError(f"{text!r} is not a duration")
    return -total if negative else total


def _fraction(digits: str, unit: int) -> int:
    """Nanoseconds of the digits behind the point: as many as an int64 holds, times a float64, cut off."""
    value, scale = 0, 1.0
    for digit in digits:
        longer = value * 10 + int(digit)
        if value > INT64_MAX // 10 or longer > INT64_MAX + 1:
            break
        value, scale = longer, scale * 10
    return int(float(value) * (float(unit) / scale))


def format_duration(nanoseconds: int) -> str:
    """As Go prints it: 90 s are `1m30s`, nothing is `0s`."""
    if nanoseconds == 0:
        return "0s"
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if left < SECOND:
        unit, size = next((u, s) for u, s in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)) if left >= s)
        return f"{sign}{_decimal(left, size)}{unit}"
    minutes, rest = divmod(left, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{head}{_decimal(rest, SECOND)}s"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    return f"{whole}.{str(rest).zfill(len(str(unit)) - 1).rstrip('0')}" if rest else str(whole)


def seconds(nanoseconds: int) -> float:
    """The same length of time in seconds, as Go's Duration.Seconds has it to the last bit: 6.56 s are 6 + 0.56."""
    whole, rest = divmod(abs(nanoseconds), SECOND)
    return math.copysign(whole + rest / SECOND, nanoseconds) if nanoseconds else 0.0


def nanoseconds(seconds_: float) -> int:
    """The same moment or length in whole nanoseconds, so that 0.962 + 60 equals 60.962 as it does in Go."""
    return round(seconds_ * SECOND)
