"""Commands of data and models: drop, train, models, predict, promote, rollback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from eventing import landing
from eventing.errors import Rejected
from headrace import drop as of_drop
from headrace import follow, screen, serving
from headrace import models as of_models
from headrace import predict as of_predict
from headrace.commands import options
from headrace.screen import Output


def drop(
    context: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="CSV or Parquet files with a header.")
    ],
    dataset: Annotated[str, typer.Option(envvar="HEADRACE_DATASET", help="Its name; the model is named after it.")],
    trainer: Annotated[
        str | None, typer.Option(envvar="HEADRACE_TRAINER", help="random_forest (default) or neural_net.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(envvar="HEADRACE_TARGET", help="Column to predict. [default: the model's, else 'target']"),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", envvar="HEADRACE_PARAMETERS", help="KEY=VALUE for the trainer, e.g. min_samples_leaf=20."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", envvar="HEADRACE_WAIT", help="Until it serves, or will not.")] = False,
    output: options.Json = Output.text,
) -> None:
    """Give data to learn from. With --wait it ends when the model serves (0) or will not (1).

    Example: headrace drop january.csv --dataset flights --target late --wait
    """
    here = options.place(context)
    parameters = {k: options.scalar(v) for k, v in options.pairs("--parameter", parameter).items()} or None
    failed = False
    for file in files:
        try:
            dropped = of_drop.drop(here, file, dataset, trainer, target, parameters)
        except Rejected as e:  # the files after it may be good
            screen.err.print(f"headrace: {e}", markup=False)
            failed = True
            continue
        if output is Output.json:
            screen.json_line({"event": dropped.event_id, "known": dropped.known, **dropped.arrived.to_data()})
        else:
            follow.show_dropped(file, dropped)
        if wait:
            failed |= not follow.until_done(here, dropped, output)
    if failed:
        raise typer.Exit(1)


def train(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A CSV or Parquet file with a header.")],
    trainer: Annotated[str, typer.Option(envvar="HEADRACE_TRAINER", help="random_forest or neural_net.")],
    target: Annotated[str, typer.Option(envvar="HEADRACE_TARGET", help="Column to predict.")] = "target",
    out: Annotated[Path, typer.Option(envvar="HEADRACE_OUT", help="Folder for the package.")] = Path("package"),
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", envvar="HEADRACE_PARAMETERS", help="KEY=VALUE for the trainer.")
    ] = None,
) -> None:
    """Train here and now, without a platform.

    The same trainer, gate and package as in the loop.

    Example: headrace train january.csv --trainer random_forest --target late
    """
    command = [sys.executable, "-m", "trainers.job", "--file", str(file), "--trainer", trainer, "--target", target]
    command += ["--out", str(out), "--max-bytes", str(landing.max_bytes(os.environ))]
    for key, text in options.pairs("--parameter", parameter).items():
        command += ["--parameter", f"{key}={text}"]
    raise typer.Exit(1 if _run(command) else 0)


def _run(command: Sequence[str]) -> int:
    """The exit status of a program that this one waits for. It does not hear Ctrl-C: in the middle of its imports it
    would answer with a traceback. It is told to end instead, which it does without leaving half a package.
    """
    process = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise


def models(context: typer.Context, output: options.Json = Output.text) -> None:
    """List models: what serves, how good it is.

    Example: headrace models
    """
    rows = of_models.rows(options.place(context))
    if output is Output.json:
        screen.json_line(rows)
        return
    columns = ("model", "version", "serves", "trainer", "roc_auc", "accuracy", "rows", "parity", "created")
    screen.table([c.upper() for c in columns], [[row.get(c) for c in columns] for row in rows])


def predict(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Its name.")],
    rows: Annotated[
        str, typer.Option(envvar="HEADRACE_ROWS", help="CSV, Parquet, JSON or JSON lines; '-': stdin.")
    ] = "-",
    output: options.Json = Output.text,
) -> None:
    """Ask the served model, one answer per row.

    Example: headrace predict flights --rows tomorrow.csv
    """
    from headrace import rows as of_rows  # pyarrow takes as long to import as all else

    here = options.place(context)
    if rows == "-" and sys.stdin.isatty():
        screen.note("reading rows from the keyboard until Ctrl-D; --rows FILE names a file")
    given = of_rows.read(rows)
    asked, others = of_rows.fit(given, of_predict.inputs(here, model))
    if others:
        screen.note(f"left out, no inputs of {model}: {', '.join(others)}")
    answers = of_predict.predict(here, model, asked)
    if output is Output.json:
        screen.json_line(answers)
        return
    screen.table(["ROW", *answers[0]] if answers else ["ROW"], [[i + 1, *a.values()] for i, a in enumerate(answers)])


def promote(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Its name.")],
    version: Annotated[str | None, typer.Argument(help="[default: the newest]")] = None,
) -> None:
    """Let a version serve by your own decision.

    No comparison, no canary.

    Example: headrace promote flights v20261123-224512-1a2b3c
    """
    screen.say(serving.promote(options.place(context), model, version))


def rollback(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Its name.")],
    version: Annotated[str | None, typer.Argument(help="[default: the one that served before]")] = None,
) -> None:
    """Let the version before serve again, at once.

    Example: headrace rollback flights
    """
    screen.say(serving.rollback(options.place(context), model, version))
