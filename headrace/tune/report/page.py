"""The report: what to set, why, and how it would have been, on one page. Pure but for reading its style sheet.

Called by `headrace.commands.tune`. Nothing in it is fetched from anywhere: no script, no font, no image.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from html import escape
from importlib import metadata, resources

import numpy as np

from headrace.tune import advice, summary, words
from headrace.tune.aims import Aim, Candidate
from headrace.tune.report import plot
from headrace.tune.report.plot import Line, Panel, Point
from headrace.tune.report.scale import Label
from headrace.tune.simulation import Outcome, Series
from headrace.tune.tuning import Tuned

KEYS = {
    "present": '<svg viewBox="0 0 30 14" aria-hidden="true"><path class="line present" d="M1 7H29"/></svg>present',
    "recommended": '<svg viewBox="0 0 30 14" aria-hidden="true"><path class="line recommended" d="M1 7H29"/></svg>'
    "recommended",
}


def html(tuned: Tuned, price: float | None) -> str:
    """The page. price: of an hour of a pod, None where nobody has said."""
    style = resources.files("headrace.tune.report").joinpath("style.css").read_text(encoding="utf-8")
    body = "\n".join(
        part for section in (_head, _apply, _why, _over_time, _front, _assumed, _foot) for part in section(tuned, price)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(_title(tuned))}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def _title(tuned: Tuned) -> str:
    name = tuned.wish.present.name
    return f"What to set for {name}, and why" if name else "What to set, and why"


def _head(tuned: Tuned, price: float | None) -> Iterator[str]:
    traffic, span = tuned.traffic, max(tuned.traffic.span_s, 1e-9)
    begins = np.flatnonzero(np.diff(np.floor(traffic.starts_s), prepend=-1.0, append=np.inf))
    busiest = int(np.diff(begins).max())
    began = f", from {traffic.began:%d %B %Y %H:%M} UTC" if traffic.began else ""
    yield f"<header><h1>{escape(_title(tuned))}</h1>"
    yield f"<p>{escape(traffic.source)}{began}</p>"
    yield (
        f"<p>{traffic.count:,} requests in {summary.length(traffic.span_s)}: {traffic.count / span:.3g} a second on "
        f"average, {busiest:,} in the busiest; {words.milliseconds(float(traffic.service_s.mean()))} of service each."
        "</p>"
        "</header>"
    )
    missed = "" if tuned.advice.holds else " missed"
    yield f'<p class="verdict{missed}">{escape(summary.verdict(tuned))}</p>'
    yield '<dl class="figures">'
    yield from _figures(tuned.present.outcome, tuned.advice.recommended.outcome, price)
    yield "</dl>"


def _figures(before: Outcome, after: Outcome, price: float | None) -> Iterator[str]:
    cases = [
        ("p50 latency", before.p50_s, after.p50_s, words.milliseconds),
        ("p95 latency", before.p95_s, after.p95_s, words.milliseconds),
        ("p99 latency", before.p99_s, after.p99_s, words.milliseconds),
        ("met a cold start", before.cold_share, after.cold_share, words.share),
        ("ended with 5xx", before.failed_share, after.failed_share, words.share),
        ("pod time", before.pod_seconds, after.pod_seconds, words.pod_time),
    ]
    if price is not None:
        cases.append(("cost", summary.cost(before, price), summary.cost(after, price), lambda v: f"{v:,.2f}"))
    for name, was, now, text in cases:
        change = ""
        if was > 0 and not math.isnan(now) and abs(now / was - 1) >= 0.005:
            kind = "better" if now < was else "worse"
            change = f' <span class="{kind}">{(now / was - 1) * 100:+.0f}\N{NO-BREAK SPACE}%</span>'
        elif was == 0 and now > 0:
            change = ' <span class="worse">more</span>'
        yield f'<div><dt>{name}</dt><dd>{text(now)}</dd><dd class="was">now {text(was)}{change}</dd></div>'


def _apply(tuned: Tuned, price: float | None) -> Iterator[str]:
    setting, present = tuned.advice.recommended.setting, tuned.wish.present
    if not tuned.advice.changed:
        yield "<h2>Leave it as it is</h2><p>Nothing that was tried does better.</p>"
        return
    yield "<h2>Set this</h2><p>In the Service’s manifest, or by the command below; either makes a new revision.</p>"
    yield f"<pre>{escape(advice.paste(setting, present))}</pre>"
    yield f"<pre>{escape(advice.command(setting, present))}</pre>"


def _why(tuned: Tuned, price: float | None) -> Iterator[str]:
    if not tuned.advice.reasons:
        return
    yield (
        "<h2>Why each of these</h2><p>Each was taken away once, or put back to what is set now, and the whole traffic "
        "simulated again; the differences are measured, not estimated.</p>"
    )
    yield '<div class="scroll"><table><thead><tr><th scope="col">setting</th><th scope="col">value</th>'
    yield '<th scope="col">what it does here</th></tr></thead><tbody>'
    for reason in tuned.advice.reasons:
        value = escape(reason.value) if reason.value is not None else "not set"
        yield (
            f'<tr><th scope="row" class="name-cell">{escape(reason.name)}</th><td class="name-cell">{value}</td>'
            f'<td>{escape(reason.does)} <span class="otherwise">{escape(reason.otherwise)}</span></td></tr>'
        )
    yield "</tbody></table></div>"


def _over_time(tuned: Tuned, price: float | None) -> Iterator[str]:
    before, after = tuned.present.outcome.series, tuned.advice.recommended.outcome.series
    if before is None or after is None:
        return
    panels = (
        _panel("Requests in flight", "concurrency", before, after, _count),
        _panel("Pods, starting and ending ones included", "pods", before, after, _count, steps=True),
        _panel("p95 latency of the requests that came then", "p95_s", before, after, _axis_time, log=True),
    )
    yield "<h2>How it would have been</h2><p>The same requests under the present and under the recommended setting.</p>"
    description = (
        f"Under the present setting at most {before.pods.max():.0f} pods on average over "
        f"{summary.length(before.bin_s)}, under the recommended one at most {after.pods.max():.0f}."
    )
    yield f"<figure><figcaption>{''.join(f'<span class=key>{k}</span>' for k in KEYS.values())}</figcaption>"
    yield plot.over_time(
        panels, before.bin_s, tuned.traffic.began, "Requests in flight, pods and latency over time", description
    )
    yield "</figure>"


def _panel(
    title: str, field: str, before: Series, after: Series, label: Label, *, steps: bool = False, log: bool = False
) -> Panel:
    lines = (Line("present", getattr(before, field), steps), Line("recommended", getattr(after, field), steps))
    return Panel(title, lines, label, log)


def _front(tuned: Tuned, price: float | None) -> Iterator[str]:
    found, aim = tuned.found, tuned.wish.aim
    what = "p99" if aim.p95_s is None and aim.p99_s is not None else "p95"
    yield (
        f"<h2>What was to choose from</h2><p>Each dot is a setting, simulated on all of the traffic: "
        f"{len(found.candidates)} of them. The line is the front: nothing tried is both cheaper and faster"
        f"{_but_failing(tuned)}.</p>"
    )
    points, outside = _near(list(_points(tuned)))
    if len(points) > 1:
        yield f"<figure><figcaption>{_cloud_keys()}</figcaption>"
        size, unit = _unit(points)
        ends = [
            f"{words.pod_time(c.outcome.pod_seconds)} of pods at {words.milliseconds(aim.latency_s(c.outcome))}"
            for c in (found.front[0], found.front[-1])
        ]
        yield plot.cloud(
            [dataclasses.replace(p, x=p.x / size) for p in points],
            unit,
            f"{what} latency",
            (_count, _axis_time),
            "Pod time and latency of each setting",
            f"The front goes from {ends[0]} to {ends[1]}.",
        )
        yield "</figure>"
    if outside:
        yield f"<p class=note>{outside} more lie outside the picture, much slower or much dearer.</p>"
    yield '<div class="scroll" style="margin-top:18px"><table><thead><tr>'
    heads = summary.columns(price)
    yield "".join(
        f'<th scope="col"{"" if n == 0 else " class=n"}>{escape(_head_of(h))}</th>' for n, h in enumerate(heads)
    )
    yield "</tr></thead><tbody>"
    yield _row("present", summary.row("present", tuned.present.outcome, price))
    yield _row("recommended", summary.row("recommended", tuned.advice.recommended.outcome, price))
    for cells in summary.front_rows(tuned, price):
        yield _row("front", cells)
    yield "</tbody></table></div>"


def _fails(candidate: Candidate, aim: Aim) -> bool:
    return candidate.outcome.failed_share > aim.max_failed


def _but_failing(tuned: Tuned) -> str:
    aim = tuned.wish.aim
    failing = any(_fails(c, aim) for c in tuned.found.candidates)
    return f", but where more than {aim.max_failed:.1%} of the requests fail (crosses)" if failing else ""


def _head_of(column: str) -> str:
    return column.lower() if column not in ("5XX",) else "5xx"


def _row(kind: str, cells: list[str]) -> str:
    rest = "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells[1:])
    return f'<tr class="{kind}"><th scope="row">{escape(cells[0])}</th>{rest}</tr>'


def _points(tuned: Tuned) -> Iterator[Point]:
    aim, front = tuned.wish.aim, set(map(id, tuned.found.front))

    def point(candidate: Candidate, kind: str) -> Point | None:
        outcome = candidate.outcome
        latency = aim.latency_s(outcome)
        if not (math.isfinite(latency) and latency > 0 and outcome.pod_seconds > 0):
            return None
        tip = (
            f"{summary.short(candidate.setting, tuned)}: {words.milliseconds(latency)}, "
            f"{words.pod_time(outcome.pod_seconds)} of pods"
        )
        if _fails(candidate, aim):
            tip += f", {outcome.failed_share:.2%} fail"
        return Point(outcome.pod_seconds, latency, kind, tip)

    others = [c for c in tuned.found.candidates if id(c) not in front]
    found = [point(c, "failing" if _fails(c, aim) else "tried") for c in others]
    found += [point(c, "front") for c in tuned.found.front]
    found += [point(tuned.present, "present"), point(tuned.advice.recommended, "recommended")]
    yield from (p for p in found if p is not None)


def _near(points: list[Point]) -> tuple[list[Point], int]:
    """Without those far beyond the front, the present and the recommended setting, which would press these into a
    corner; and how many they were.
    """
    marked = [p for p in points if p.kind not in ("tried", "failing")]
    if not marked:
        return points, 0
    most_x, most_y = max(p.x for p in marked) * 1.25, max(p.y for p in marked) * 1.25
    near = [p for p in points if p.x <= most_x and p.y <= most_y]
    return near, len(points) - len(near)


def _cloud_keys() -> str:
    shapes = (
        ('<rect class="dot present" x="9" y="1" width="12" height="12"/>', "present"),
        ('<path class="dot recommended" d="M15 0l7 7l-7 7l-7 -7z"/>', "recommended"),
        ('<circle class="dot front" cx="15" cy="7" r="4"/>', "front"),
        ('<circle class="dot tried" cx="15" cy="7" r="2.5"/>', "tried"),
        ('<path class="dot failing" d="M12 4l6 6m0 -6l-6 6"/>', "requests fail"),
    )
    return "".join(
        f'<span class="key"><svg viewBox="0 0 30 14" aria-hidden="true">{shape}</svg>{name}</span>'
        for shape, name in shapes
    )


def _assumed(tuned: Tuned, price: float | None) -> Iterator[str]:
    yield "<h2>What was assumed</h2>"
    yield "<p>Decisions are Knative’s, exactly. The rest is a model, and this is where it may err.</p>"
    yield '<div class="scroll"><table><thead><tr><th scope="col">taken for granted</th><th scope="col">the error it '
    yield "brings</th></tr></thead><tbody>"
    for assumption in tuned.assumptions:
        yield f"<tr><td>{escape(assumption.says)}</td><td>{escape(assumption.error)}</td></tr>"
    yield "</tbody></table></div>"


def _foot(tuned: Tuned, price: float | None) -> Iterator[str]:
    found = tuned.found
    screened = f", {len(found.candidates)} of them on all of the traffic" if found.screened else ""
    yield (
        f"<footer>Headrace {escape(metadata.version('headrace'))}: {found.tried} settings tried{screened}, "
        f"in {tuned.seconds:.1f} s; seed {tuned.wish.seed}.</footer>"
    )


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


def _axis_time(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def _unit(points: list[Point]) -> tuple[float, str]:
    """Pod-seconds, or pod-hours where there are many: the divisor and the axis' title."""
    return (3600.0, "pod time, h") if max(p.x for p in points) >= 36_000 else (1.0, "pod time, s")
