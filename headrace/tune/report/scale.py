"""Axes: from values to places on a plot, and where to put round marks. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

Label = Callable[[float], str]

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_TIME_STEPS_S = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
    1_209_600, 2_592_000, 7_776_000, 31_536_000,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from low to high on places from `at_low` to `at_high`; logarithmic or not. ticks: (value, label)."""

    low: float
    high: float
    at_low: float
    at_high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value stands; what lies outside, at the edge."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = math.log(max(value, 1e-300)) if self.log else value
        share = (value - low) / (high - low) if high > low else 0.5
        return self.at_low + min(1.0, max(0.0, share)) * (self.at_high - self.at_low)


def linear(high: float, places: tuple[float, float], label: Label, marks: int = 4) -> Axis:
    """From 0 to a round value not below `high`."""
    step = _round_step(max(high, 1e-9) / marks)
    top = step * max(1, math.ceil(high / step - 1e-9))
    ticks = tuple((step * n, label(step * n)) for n in range(round(top / step) + 1))
    return Axis(0.0, top, *places, ticks)


def logarithmic(low: float, high: float, places: tuple[float, float], label: Label, margin: float = 1.1) -> Axis:
    """From below `low` to above `high`, both above 0, with marks at 1, 2 and 5 of each decade, or at fewer."""
    low, high = low / margin, high * margin
    decades = math.log10(high / low)
    digits = (
        (1, 1.5, 2, 3, 4, 5, 7) if decades <= 1.2 else (1, 2, 5) if decades <= 2.5 else (1, 3) if decades <= 4 else (1,)
    )
    if decades < 0.35:
        step = _round_step((high - low) / 4)
        values = [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    else:
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [digit * 10.0**exponent for exponent in exponents for digit in digits]
    return Axis(low, high, *places, tuple((v, label(v)) for v in values if low <= v <= high), log=True)


def time(span_s: float, places: tuple[float, float], began: datetime | None, marks: int = 8) -> Axis:
    """From second 0 on: clock times where it is known when that was, else how long after."""
    step = next((s for s in _TIME_STEPS_S if span_s / s <= marks), _TIME_STEPS_S[-1])
    if began is None:
        ticks = [(float(s), _elapsed(s, step)) for s in range(0, int(span_s) + 1, step)]
    else:
        midnight = began.replace(hour=0, minute=0, second=0, microsecond=0)
        into_day = (began - midnight).total_seconds()
        first = math.ceil(into_day / step) * step
        ticks = []
        for at in range(first, int(into_day + span_s) + 1, step):
            ticks.append((at - into_day, _clock(midnight + timedelta(seconds=at), step)))
    return Axis(0.0, max(span_s, 1e-9), *places, tuple(ticks))


def _clock(at: datetime, step_s: int) -> str:
    if step_s >= 86_400 or (at.hour == at.minute == at.second == 0):
        return f"{at.day} {at:%b}"
    return f"{at:%H:%M:%S}" if step_s < 60 else f"{at:%H:%M}"


def _elapsed(seconds: int, step_s: int) -> str:
    if seconds == 0:
        return "0"
    if step_s >= 86_400:
        return f"{seconds // 86_400} d"
    if step_s >= 3600:
        return f"{seconds // 3600} h"
    if step_s >= 60:
        return f"{seconds // 60} min"
    return f"{seconds} s"


def _round_step(raw: float) -> float:
    size = 10.0 ** math.floor(math.log10(raw))
    return next(size * step for step in _STEPS if size * step >= raw * (1 - 1e-9))


def runs(values: Sequence[float]) -> list[range]:
    """Stretches of values that are there, between those that are NaN."""
    found, begin = [], 0
    for at in range(len(values) + 1):
        if at == len(values) or math.isnan(values[at]):
            if at > begin:
                found.append(range(begin, at))
            begin = at + 1
    return found
