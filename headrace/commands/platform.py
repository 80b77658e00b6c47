"""Commands of the platform: up, down, status, url, demo."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from headrace import config, daemon, screen
from headrace import status as of_status
from headrace.commands import options
from headrace.place import NotHere
from headrace.screen import Output

SCALE_COLUMNS = (
    "REVISION", "TRAFFIC %", "DESIRED", "ACTUAL", "READY", "MODE", "STABLE", "PANIC", "TARGET", "EXCESS BURST",
    "REASON",
)  # fmt: skip


def up(
    context: typer.Context,
    port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="HEADRACE_PORT", help="The one port of everything; 0: any.")
    ] = (config.DEFAULT_PORT),
    detach: Annotated[
        bool, typer.Option("--detach", "-d", envvar="HEADRACE_DETACH", help="In the background.")
    ] = False,
    value: Annotated[
        list[str] | None,
        typer.Option(
            "--set", envvar="HEADRACE_VALUES", help="KEY=VALUE for the ConfigMap headrace, e.g. HEADRACE_CANARY_S=20."
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image", envvar="HEADRACE_IMAGES", help="REPOSITORY=PYTHON: the interpreter that stands for an image."
        ),
    ] = None,
) -> None:
    """Start the laptop's platform.

    It runs the manifests of a cluster without one.

    Example: headrace up --detach
    """
    settings: config.Config = context.obj
    images = {**daemon.functions_interpreter(), **options.pairs("--image", image)}
    environ = daemon.environment(settings.home, port, images, options.values(value))
    if not detach:
        screen.note(f"starting in {settings.home}; Ctrl-C stops it")
        os.execve(sys.executable, daemon.command(), environ)
    with screen.progress() as bar:
        bar.add_task("starting", total=None)
        running = daemon.start(settings.home, environ)
    screen.say(f"Headrace answers at {running.url} (process {running.pid}, home {settings.home})")
    screen.say(f"kubectl:  export KUBECONFIG={shlex.quote(running.kubeconfig)}")
    screen.say(f"page:     {running.url}/console")
    screen.say(f"drop:     headrace drop FILE --dataset NAME, or copy it to {settings.drop_folder}/NAME/")


def down(context: typer.Context) -> None:
    """Stop the laptop's platform; what it keeps stays.

    Example: headrace down
    """
    where: Path = context.obj.home
    with screen.progress() as bar:
        bar.add_task("stopping", total=None)
        process = daemon.stop(where)
    screen.say(f"no platform runs in {where}" if process is None else f"stopped process {process}")


def status(context: typer.Context, output: options.Json = Output.text) -> None:
    """What is here, and is it well.

    Services, broker, triggers, sinks; pods and why so many; trainings. Exit status 1 when a part is not ready.

    Of a revision: averages over the stable and the panic window, target per pod, excess burst capacity.

    Example: headrace status
    """
    report = of_status.report(options.place(context))
    if output is Output.json:
        screen.json_line(report.to_json())
    else:
        _show(report)
    if not report.healthy:
        raise typer.Exit(1)


def url(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="A Service's name, or broker, jobsink/NAME, console, api.")],
    output: options.Json = Output.text,
) -> None:
    """Print one URL, for scripts.

    Where it does not answer from here it is not printed, but what is needed. JSON has both.

    Example: curl "$(headrace url flights)/v2/models/flights"
    """
    here = options.place(context)
    found = here.url(what)
    needed = None if what in ("api", "console") else here.reach.explain(found)
    if output is Output.json:
        screen.json_line({"url": found, "needed": needed})
    elif needed is not None:
        raise NotHere(f"{what} is {found}; {needed}")
    else:
        screen.say(found)


def demo(
    keep: Annotated[bool, typer.Option("--keep", envvar="HEADRACE_KEEP", help="Leave it running at the end.")] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="HEADRACE_PORT", help="The platform's port; 0: any.")
    ] = config.DEFAULT_PORT,
) -> None:
    """Walk the whole loop on real flights.

    Train, promote, predict, drift, retrain: about two minutes.

    Example: headrace demo --keep
    """
    from headrace import demo as of_demo  # only it needs the flights

    raise typer.Exit(of_demo.run(keep=keep, port=port))


def _show(report: of_status.Report) -> None:
    screen.table(["KIND", "NAME", "READY", "REASON"], [[p.kind, p.name, p.ready, p.reason] for p in report.parts])
    if report.scales:
        screen.say("")
        screen.table(SCALE_COLUMNS, [_scale(s) for s in report.scales])
    if report.jobs:
        screen.say("")
        screen.table(["JOB", "STATE", "REASON"], [[j.name, j.state, j.reason] for j in report.jobs])
    for note in report.notes:
        screen.note(note)


def _scale(scale: of_status.Scale) -> list[object]:
    # Knative rounds the little that subtracting leaves below zero, to a negative zero.
    averages = [None if v is None else f"{v + 0.0:.4g}" for v in (scale.stable, scale.panic, scale.target)]
    counts = [scale.revision, scale.traffic, scale.desired, scale.actual, scale.ready]
    return [*counts, scale.mode, *averages, scale.excess_burst_capacity, scale.reason]
