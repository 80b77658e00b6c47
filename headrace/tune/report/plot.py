"""Plots as inline SVG, drawn for this report: lines over one shared time axis, and a cloud with its front. Pure.

Colours are CSS classes, so that one drawing serves light, dark and paper; what a colour tells, a dash or a shape tells
as well. Each plot has a title and a description for those who do not see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

import numpy as np
from numpy.typing import NDArray

from headrace.tune.report import scale
from headrace.tune.report.scale import Axis, Label

WIDTH = 1000
LEFT, RIGHT = 62, 986
PANEL, GAP, TOP, BOTTOM = 150, 46, 30, 26

# Of a cloud's dots, the later ones over the earlier.
KINDS = ("failing", "tried", "front", "present", "recommended")
NAMED = ("present", "recommended")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One series of a panel. name: its class in the style sheet, `present` or `recommended`."""

    name: str
    values: Floats
    steps: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One of several plots over the same time. label: of its values' marks."""

    title: str
    lines: tuple[Line, ...]
    label: Label
    log: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """One dot of a cloud. kind: its class, one of `KINDS`; tip: what it stands for."""

    x: float
    y: float
    kind: str
    tip: str = ""


def over_time(panels: Sequence[Panel], bin_s: float, began: datetime | None, title: str, description: str) -> str:
    """Panels one below the other; bins of equal width from second 0 on."""
    height = TOP + len(panels) * PANEL + (len(panels) - 1) * GAP + BOTTOM
    span_s = bin_s * len(panels[0].lines[0].values)
    x = scale.time(span_s, (LEFT, RIGHT), began)
    parts = [_open(height, title, description)]
    for number, panel in enumerate(panels):
        top = TOP + number * (PANEL + GAP)
        parts += _panel(panel, x, bin_s, top, top + PANEL)
    parts += [
        f'<text class="tick" x="{x.place(v):.1f}" y="{height - 6}" text-anchor="{_anchor(x.place(v))}">'
        f"{escape(label)}</text>"
        for v, label in x.ticks
    ]
    return "\n".join([*parts, "</svg>"])


def _anchor(place: float) -> str:
    """A mark at the right edge ends there, or it would be cut."""
    return "end" if place > RIGHT - 12 else "middle"


def _panel(panel: Panel, x: Axis, bin_s: float, top: float, bottom: float) -> list[str]:
    y = _values_axis(panel, (bottom, top))
    parts = [f'<text class="panel" x="{LEFT}" y="{top - 11}">{escape(panel.title)}</text>']
    parts += _grid(x, y, top, bottom)
    for line in panel.lines:
        parts.append(_line(line, x, y, bin_s))
    return parts


def _values_axis(panel: Panel, places: tuple[float, float]) -> Axis:
    there = np.concatenate([line.values[~np.isnan(line.values)] for line in panel.lines])
    high = float(there.max()) if there.size else 1.0
    positive = there[there > 0]
    if panel.log and positive.size and high > 8 * float(positive.min()):
        return scale.logarithmic(float(positive.min()), high, places, panel.label)
    return scale.linear(high or 1.0, places, panel.label)


def _grid(x: Axis, y: Axis, top: float, bottom: float) -> list[str]:
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y.place(v):.1f}" y2="{y.place(v):.1f}"/>'
        f'<text class="tick" x="{LEFT - 8}" y="{y.place(v) + 4:.1f}" text-anchor="end">{escape(label)}</text>'
        for v, label in y.ticks
    ]
    parts += [
        f'<line class="grid faint" x1="{x.place(v):.1f}" x2="{x.place(v):.1f}" y1="{top}" y2="{bottom}"/>'
        for v, _ in x.ticks
    ]
    return parts


def _line(line: Line, x: Axis, y: Axis, bin_s: float) -> str:
    """A path with a gap where there is no value; a value stands in the middle of its bin, a step is as wide as it."""
    commands: list[str] = []
    for run in scale.runs(line.values.tolist()):
        pen, last = "M", None
        for at in run:
            height = f"{y.place(float(line.values[at])):.1f}"
            if line.steps:
                left, right = x.place(at * bin_s), x.place((at + 1) * bin_s)
                if height == last:  # one longer step instead of many
                    commands[-1] = f"H{right:.1f}"
                    continue
                commands += [f"{pen}{left:.1f} {height}" if pen == "M" else f"V{height}", f"H{right:.1f}"]
                last = height
            else:
                commands.append(f"{pen}{x.place((at + 0.5) * bin_s):.1f} {height}")
                if len(run) == 1:
                    commands.append("h0.1")  # a lone value is a dot
            pen = "L"
    return f'<path class="line {line.name}" d="{"".join(commands)}"/>'


def cloud(
    points: Sequence[Point], x_title: str, y_title: str, labels: tuple[Label, Label], title: str, description: str
) -> str:
    """Dots on two logarithmic axes; those of the front are joined, the present and the recommended one are named."""
    height, top, bottom = 430, 34, 376
    xs, ys = [p.x for p in points], [p.y for p in points]
    x = scale.logarithmic(min(xs), max(xs), (LEFT + 6, RIGHT - 6), labels[0], 1.06)
    y = scale.logarithmic(min(ys), max(ys), (bottom, top), labels[1], 1.06)
    parts = [_open(height, title, description), f'<text class="panel" x="{LEFT}" y="18">{escape(y_title)}</text>']
    parts += _grid(x, y, top, bottom)
    parts += [
        f'<text class="tick" x="{x.place(v):.1f}" y="{bottom + 20}" text-anchor="middle">{escape(label)}</text>'
        for v, label in x.ticks
    ]
    parts.append(f'<text class="panel" x="{RIGHT}" y="{height - 10}" text-anchor="end">{escape(x_title)}</text>')
    joined = [p for p in points if p.kind == "front"]
    steps = "".join(
        f"{'M' if n == 0 else 'H'}{x.place(p.x):.1f}" + (f" {y.place(p.y):.1f}" if n == 0 else f"V{y.place(p.y):.1f}")
        for n, p in enumerate(joined)
    )
    parts.append(f'<path class="front-line" d="{steps}"/>')
    for point in sorted(points, key=lambda p: KINDS.index(p.kind)):
        parts.append(_dot(point, x.place(point.x), y.place(point.y)))
    parts += _names([p for p in points if p.kind in NAMED], x, y)
    return "\n".join([*parts, "</svg>"])


def _dot(point: Point, x: float, y: float) -> str:
    tip = f"<title>{escape(point.tip)}</title>" if point.tip else ""
    if point.kind == "present":
        return f'<rect class="dot present" x="{x - 6:.1f}" y="{y - 6:.1f}" width="12" height="12">{tip}</rect>'
    if point.kind == "recommended":
        diamond = f"M{x:.1f} {y - 9:.1f}l9 9l-9 9l-9 -9z"
        return f'<path class="dot recommended" d="{diamond}">{tip}</path>'
    if point.kind == "failing":
        return f'<path class="dot failing" d="M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6">{tip}</path>'
    radius = 4 if point.kind == "front" else 2.5
    return f'<circle class="dot {point.kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{tip}</circle>'


def _names(points: Sequence[Point], x: Axis, y: Axis) -> list[str]:
    """Beside their dots, on the side that has room, and not over one another."""
    parts: list[str] = []
    taken: list[tuple[float, float]] = []
    for point in points:
        at_x, at_y = x.place(point.x), y.place(point.y) - 12
        while any(abs(at_x - other_x) < 130 and abs(at_y - other_y) < 18 for other_x, other_y in taken):
            at_y += 34
        taken.append((at_x, at_y))
        left = at_x > RIGHT - 150
        anchor = "end" if left else "start"
        parts.append(
            f'<text class="name {point.kind}" x="{at_x + (-8 if left else 8):.1f}" y="{at_y:.1f}" '
            f'text-anchor="{anchor}">{point.kind}</text>'
        )
    return parts


def _open(height: int, title: str, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    )
