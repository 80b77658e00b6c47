"""Which column of a table holds what: the usual spellings, and the unit that a name ends with.

Names are compared in snake_case without their unit, so `startTime`, `Start Time` and `start_time_ms` are one word.
Where several columns could serve, the earlier in these lists wins.

Source: Huawei's cold starts of 2025 (`totalCost_cold_start`, in seconds).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headrace.tune.traffic import BadTraffic


def _words_of(role: str) -> tuple[str, ...]:
    return tuple(role.split())


START = _words_of(
    "start start_time starts starts_at started started_at start_timestamp begin began begin_time request_start arrival"
    " arrival_time arrived arrived_at received received_at timestamp time datetime date_time ts at when date"
)
END = _words_of(
    "end end_time ends ended ended_at end_timestamp finish finished finished_at finish_time completed completed_at stop"
    " stopped stop_time"
)
SERVICE = _words_of("service_time execution_time exec_time execution_duration processing_time run_time runtime service")
LATENCY = _words_of(
    "duration latency request_duration response_time request_time elapsed elapsed_time time_taken total_time took dur"
)
COLD = _words_of(
    "total_cost_cold_start cold_start cold_start_time cold_start_duration init_duration coldstart cold is_cold"
    " is_cold_start"
)
POD = _words_of("pod pod_name pod_ip pod_id instance instance_id server_ip")
WHICH = _words_of("function func func_name function_name service_name revision route host authority app name")
# Units that a published format fixes and its names do not say.
_KNOWN = {"total_cost_cold_start": "s"}

_UNIT = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "msecs", "milli", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "µs", "usec", "micro", "micros", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nano", "nanos", "nanosecond", "nanoseconds"), "ns"),
}
_FILLERS = {"in", "epoch", "unix", "utc"}  # start_in_ms, epoch_ms, timestamp_utc


@dataclass(frozen=True, slots=True)
class Column:
    """A column under its own name, and the unit in it, where it has one."""

    name: str
    unit: str | None


@dataclass(frozen=True, slots=True)
class Columns:
    """What a table has of what can be used. `latency` is what a caller saw, `service` what a pod spent."""

    start: Column | None
    end: Column | None
    service: Column | None
    latency: Column | None
    cold: Column | None
    pod: Column | None
    which: Column | None

    @property
    def names(self) -> list[str]:
        """The columns to read, in no order."""
        found = (self.start, self.end, self.service, self.latency, self.cold, self.pod, self.which)
        return [c.name for c in found if c is not None]


def recognise(names: Sequence[str]) -> Columns:
    """The roles of a table's columns. Raises BadTraffic where no column says when requests came."""
    words = {name: _words(name) for name in names}
    chosen = Columns(
        start=_first(START, words),
        end=_first(END, words),
        service=_first(SERVICE, words),
        latency=_first(LATENCY, words),
        cold=_first(COLD, words),
        pod=_first(POD, words),
        which=_first(WHICH, words),
    )
    if chosen.start is None and chosen.end is None:
        raise BadTraffic(
            f"no column says when requests came: there are {shown(names)}; expected one called start, timestamp or end "
            "(a header line must name the columns)"
        )
    return chosen


def has_times(names: Sequence[str]) -> bool:
    """Whether a column says when requests came."""
    words = {name: _words(name) for name in names}
    return _first((*START, *END), words) is not None


def duration(names: Sequence[str]) -> Column | None:
    """The column of durations in a table that may have no times; None without one."""
    words = {name: _words(name) for name in names}
    return _first((*COLD, *SERVICE, *LATENCY, "seconds", "time"), words)


def shown(names: Iterable[str]) -> str:
    """Names for a message, the first few of many."""
    listed = list(names)
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return ", ".join(repr(n) for n in listed[:8]) + more


def _first(role: Sequence[str], words: dict[str, tuple[str, str | None]]) -> Column | None:
    for word in role:
        for name, (base, unit) in words.items():
            if base == word:
                return Column(name, unit or _KNOWN.get(base))
    return None


def _words(name: str) -> tuple[str, str | None]:
    """The name in snake_case without its unit, and the unit."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.strip())
    parts = [p for p in re.split(r"[^0-9a-zµ]+", spaced.lower().replace("μ", "µ")) if p]
    unit = next((_UNIT[p] for p in reversed(parts[-1:]) if p in _UNIT), None)
    if unit is not None:
        parts = parts[:-1]
    kept = [p for p in parts if p not in _FILLERS]
    return "_".join(kept) or ("time" if parts or unit else ""), unit
