"""Command logs: what a training, a model or a part of Headrace wrote."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace import logs as of_logs
from headrace import screen
from headrace.commands import options


def logs(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="A Job's, a TrainJob's, a Service's, a ContainerSource's or a model's name.")
    ],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", envvar="HEADRACE_FOLLOW", help="Go on as it is written, until it ends.")
    ] = False,
) -> None:
    """What a training, a Service or the source of files wrote.

    Of a Service the newest pod's; of a model without one, its last training's.

    Example: headrace logs flights --follow
    """
    for line in of_logs.lines(options.place(context), name, follow):
        screen.line(line)
