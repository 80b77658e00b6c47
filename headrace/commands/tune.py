"""Command tune: what to set, and why."""

from __future__ import annotations

import typer

from headrace import screen
from headrace.commands import options, verified
from headrace.screen import Output
from headrace.tune import verify as of_verify


def tune(verify: verified.Recorded = None, output: options.Json = Output.text) -> None:
    """Compare our autoscaler's decisions with recorded ones of Knative.

    Exit status 1 when any differs, 2 when the file holds no recording.

    Example: headrace tune --verify traces.jsonl.gz
    """
    if verify is None:
        raise typer.BadParameter("give a recording", param_hint="--verify")
    with screen.progress() as bar:
        bar.add_task("deciding again", total=None)
        report = of_verify.verify(verify)
    verified.decisions(report, output)
