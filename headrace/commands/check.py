"""Command check: what a cluster would refuse, and what it would take though it is foolish."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any

import typer
from rich.markup import escape

from headrace import screen
from headrace.check import documents, judge
from headrace.check import verify as of_verify
from headrace.check.findings import Finding, Level
from headrace.commands import options, verified
from headrace.screen import Output

_STYLES = {Level.fault: "red", Level.warning: "yellow"}


def check(
    manifests: Annotated[
        list[str] | None, typer.Argument(metavar="[MANIFEST]…", help="Files, folders, or - for standard input.")
    ] = None,
    verify: verified.Recorded = None,
    output: options.Json = Output.text,
) -> None:
    """Judge manifests without a cluster.

    As a strict API server and Knative's webhook would. Exit status 1 where a cluster would refuse one; warnings alone
    are 0.

    Example: headrace check functions/manifests -o json
    """
    if verify is not None:
        if manifests:
            raise typer.BadParameter("takes a recording alone, no manifests", param_hint="--verify")
        verified.verdicts(of_verify.verify(verify), output)
        return
    if not manifests:
        raise typer.BadParameter("give files, folders, or - for standard input", param_hint="MANIFEST")
    read = list(documents.read(manifests, sys.stdin.buffer))
    found = judge.judge(read)
    faults = sum(finding.level is Level.fault for finding in found)
    if output is Output.json:
        screen.json_line(
            {
                "objects": len(read),
                "faults": faults,
                "warnings": len(found) - faults,
                "findings": [dataclasses.asdict(finding) for finding in found],
            }
        )
    else:
        _show(found)
        files = len({document.file for document in read})
        screen.say(
            f"{_count(len(read), 'object')} in {_count(files, 'file')}:"
            f" {_count(faults, 'fault')}, {_count(len(found) - faults, 'warning')}"
        )
    if faults:
        raise typer.Exit(1)


def _show(found: Sequence[Finding]) -> None:
    for (file, of), group in groupby(found, key=lambda finding: (finding.file, finding.object)):
        screen.out.print(escape(f"{of} in {file}"), style="bold")
        for finding in group:
            path = finding.path or "(the whole)"
            screen.out.print(escape(f"  {finding.level}: line {finding.line}, {path}"), style=_STYLES[finding.level])
            rows = (
                ("seen", _short(finding.seen)),
                ("because", finding.problem),
                ("allowed", finding.allowed),
                ("meant?", finding.meant),
            )
            for label, text in rows:
                if text:
                    screen.say(f"    {label:<9}{text}")
        screen.say("")


def _short(value: Any) -> str:
    """The value as JSON has it, one line at most."""
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 100 else f"{text[:97]}…"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
