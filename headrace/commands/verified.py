"""How `tune --verify` and `check --verify` end: the count first, then both sides of what differs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace import screen
from headrace.screen import Output

if TYPE_CHECKING:
    from headrace.check.verify import Report as Verdicts
    from headrace.tune.verify import Report as Decisions

Recorded = Annotated[
    Path | None,
    typer.Option(
        "--verify", metavar="FILE", envvar="HEADRACE_VERIFY",
        help="Compare with what Knative itself answered, recorded as JSON lines, plain or gzipped.",
    ),
]  # fmt: skip
_DOUBTFUL_SETS = 10  # of differing verdicts so many are shown


def decisions(report: Decisions, output: Output) -> None:
    """Ends with exit status 1 where anything differs."""
    if output is Output.json:
        screen.json_line(dataclasses.asdict(report))
    else:
        screen.say(f"{report.decisions} decisions, {report.differ} differ")
        if report.derived:
            screen.say(f"{report.cases} cases, {len(report.derived)} with settings that Knative understood otherwise")
        for settings in report.derived:
            screen.say(f"\n{settings.case}: settings")
            _sides(settings.recorded, settings.ours, list(settings.recorded))
        for first in report.first:
            screen.say(f"\n{first.case}: decision {first.number}, at {first.at_s:g} s, {first.ready} ready")
            names = list(dict.fromkeys([*first.recorded, *first.ours]))
            _sides(first.recorded, first.ours, names)
            screen.say(f"ours, because {first.reason}")
    if not report.agrees:
        raise typer.Exit(1)


def verdicts(report: Verdicts, output: Output) -> None:
    """Ends with exit status 1 where anything differs."""
    if output is Output.json:
        screen.json_line(dataclasses.asdict(report))
    else:
        screen.say(f"{report.sets} sets, {report.differ} differ")
        for one in report.differing[:_DOUBTFUL_SETS]:
            screen.say(f"\nset {one.number}: {_settings(one.annotations)}")
            if one.config_autoscaler:
                screen.say(f"config-autoscaler: {_settings(one.config_autoscaler)}")
            recorded = {"valid": one.recorded_valid, "blamed": ", ".join(one.recorded_blamed) or None}
            ours = {"valid": not one.faults, "blamed": ", ".join(one.blamed) or None}
            _sides(recorded, ours, ["valid", "blamed"])
            for fault in one.faults:
                screen.say(f"ours, because {fault}")
        if len(report.differing) > _DOUBTFUL_SETS:
            screen.say(f"\nand {len(report.differing) - _DOUBTFUL_SETS} more; -o json has them all")
    if report.differ:
        raise typer.Exit(1)


def _settings(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key}: {value!r}" for key, value in values.items()) or "nothing set"


def _sides(recorded: Mapping[str, Any], ours: Mapping[str, Any], names: Sequence[str]) -> None:
    def cell(side: Mapping[str, Any], name: str) -> str:
        return str(side[name]) if side.get(name) is not None else "–"

    rows = [
        [name, cell(recorded, name), cell(ours, name), "" if recorded.get(name) == ours.get(name) else "differs"]
        for name in names
    ]
    screen.table(["", "RECORDED", "OURS", ""], rows)
