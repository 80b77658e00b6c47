"""The command line: each command parses, makes one call, prints. Results on stdout, progress on stderr.

Exit status 0 done, 1 failed, 2 misused. Each option has a `HEADRACE_` twin. Heavy rooms are imported by the command
that needs them, so that `headrace url` in a script costs no more than it must.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

from headrace import rooms

try:
    rooms.verify()
except rooms.Shadowed as e:  # before any room is imported: the message would be another room's ImportError
    sys.exit(f"headrace: {e}")

import typer

from eventing.errors import HeadraceError, Misconfigured
from headrace import config, screen
from headrace.screen import Output

app = typer.Typer(
    name="headrace",
    help="Drop data, get a served, explained prediction: event-driven serverless inference on Knative.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
dead_letters_app = typer.Typer(
    no_args_is_help=True, help="Events that nobody could be brought to take. Example: headrace dead-letters list"
)
app.add_typer(dead_letters_app, name="dead-letters")

Json = Annotated[Output, typer.Option("-o", "--output", envvar="HEADRACE_OUTPUT", help="text, or json for programs.")]


@app.callback()
def _place(
    context: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(envvar="HEADRACE_HOME", help="Folder of the laptop's platform. [default: ~/.headrace]"),
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(envvar="HEADRACE_KUBECONFIG", help="Talk to this cluster instead of the laptop.")
    ] = None,
) -> None:
    context.obj = config.Config.from_environment(os.environ, home, kubeconfig)


def _here(context: typer.Context) -> Any:
    """The place the command acts on. Imported late: the Kubernetes client is the slowest import of all."""
    from headrace.place import Place

    return Place.of(context.obj)


# ---- the platform ----------------------------------------------------------------------------------------------------


@app.command()
def up(
    context: typer.Context,
    port: Annotated[int, typer.Option(envvar="HEADRACE_PORT", help="The one port of everything; 0: any.")] = (
        config.DEFAULT_PORT
    ),
    home: Annotated[Path | None, typer.Option(envvar="HEADRACE_HOME", help="Folder for all that is kept.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", envvar="HEADRACE_DETACH", help="In the background.")
    ] = False,
    value: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE for the ConfigMap headrace, e.g. HEADRACE_CANARY_S=20.")
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", help="REPOSITORY=PYTHON: the interpreter that stands for an image.")
    ] = None,
) -> None:
    """Start the laptop's platform: the manifests of a cluster, without one.

    Example: headrace up --detach
    """
    from headrace import daemon

    settings = config.Config.from_environment(os.environ, home or context.obj.home)
    images = {**daemon.functions_interpreter(), **_pairs("--image", image)}
    environ = daemon.environment(settings.home, port, images, _pairs("--set", value))
    if not detach:
        screen.note(f"starting in {settings.home}; Ctrl-C stops it")
        os.execve(sys.executable, daemon.command(), environ)
    running = daemon.start(settings.home, environ)
    screen.say(f"Headrace answers at {running.url} (process {running.pid}, home {settings.home})")
    screen.say(f"kubectl:  export KUBECONFIG={running.kubeconfig}")
    screen.say(f"page:     {running.url}/console")
    screen.say(f"drop:     headrace drop FILE --dataset NAME, or copy it to {settings.drop_folder}/NAME/")


@app.command()
def down(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option(envvar="HEADRACE_HOME", help="Folder of the platform.")] = None,
) -> None:
    """Stop the laptop's platform; what it keeps stays.

    Example: headrace down
    """
    from headrace import daemon

    where = config.Config.from_environment(os.environ, home or context.obj.home).home
    running = daemon.stop(where)
    screen.say(f"stopped process {running.pid}" if running else f"no platform runs in {where}")


@app.command()
def status(context: typer.Context, output: Json = Output.text) -> None:
    """What is here, and is it well: services, broker, triggers, jobs.

    Example: headrace status
    """
    from headrace import status as of

    report = of.report(_here(context))
    if output is Output.json:
        screen.json_line(report.to_json())
    else:
        of.show(report)
    if not report.healthy:
        raise typer.Exit(1)


@app.command()
def url(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="A Service's name, or broker, jobsink/NAME, console, api.")],
) -> None:
    """Print one URL, for scripts.

    Example: curl "$(headrace url flights)/v2/models/flights"
    """
    screen.say(_here(context).url(what))


# ---- data and models -------------------------------------------------------------------------------------------------


@app.command()
def drop(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="CSV or Parquet files with a header.")],
    dataset: Annotated[str, typer.Option(envvar="HEADRACE_DATASET", help="Its name; the model is named after it.")],
    trainer: Annotated[
        str | None, typer.Option(envvar="HEADRACE_TRAINER", help="random_forest (default) or neural_net.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(envvar="HEADRACE_TARGET", help="Column to predict. [default: the model's, else 'target']"),
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", help="KEY=VALUE for the trainer, e.g. min_samples_leaf=20.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", envvar="HEADRACE_WAIT", help="Until it serves, or will not.")] = False,
    output: Json = Output.text,
) -> None:
    """Give data to learn from. With --wait it ends when the model serves (0) or will not (1).

    Example: headrace drop january.csv --dataset flights --target late --wait
    """
    from headrace import drop as of
    from headrace import follow

    here = _here(context)
    parameters = {k: _scalar(v) for k, v in _pairs("--parameter", parameter).items()} or None
    failed = False
    for file in files:
        dropped = of.drop(here, file, dataset, trainer, target, parameters)
        if output is Output.json:
            screen.json_line({"event": dropped.event_id, "known": dropped.known, **dropped.arrived.to_data()})
        else:
            follow.show_dropped(file, dropped)
        if wait:
            failed |= not follow.until_done(here, dropped, output)
    if failed:
        raise typer.Exit(1)


@app.command()
def train(
    file: Annotated[Path, typer.Argument(help="A CSV or Parquet file with a header.")],
    trainer: Annotated[str, typer.Option(envvar="HEADRACE_TRAINER", help="random_forest or neural_net.")],
    target: Annotated[str, typer.Option(envvar="HEADRACE_TARGET", help="Column to predict.")] = "target",
    out: Annotated[Path, typer.Option(envvar="HEADRACE_OUT", help="Folder for the package.")] = Path("package"),
    parameter: Annotated[list[str] | None, typer.Option("--parameter", help="KEY=VALUE for the trainer.")] = None,
) -> None:
    """One training here and now, no platform: the same trainer, gate and package as in the loop.

    Example: headrace train january.csv --trainer random_forest --target late
    """
    command = [sys.executable, "-m", "trainers.job", "--file", str(file), "--trainer", trainer, "--target", target]
    command += ["--out", str(out)]
    for key, text in _pairs("--parameter", parameter).items():
        command += ["--parameter", f"{key}={text}"]
    raise typer.Exit(1 if subprocess.run(command, check=False).returncode else 0)


@app.command()
def models(context: typer.Context, output: Json = Output.text) -> None:
    """Every model and version, what serves, how good it is.

    Example: headrace models
    """
    from headrace import models as of

    rows = of.rows(_here(context))
    if output is Output.json:
        screen.json_line(rows)
        return
    columns = ("model", "version", "serves", "trainer", "roc_auc", "accuracy", "rows", "parity", "created")
    screen.table([c.upper() for c in columns], [[row.get(c) for c in columns] for row in rows])


@app.command()
def predict(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Its name.")],
    rows: Annotated[
        str, typer.Option(envvar="HEADRACE_ROWS", help="A CSV, JSON or JSON-lines file of rows; '-': stdin.")
    ] = "-",
    output: Json = Output.text,
) -> None:
    """Ask the served model over HTTP, one answer per row.

    Example: headrace predict flights --rows tomorrow.csv
    """
    from headrace import predict as of

    answers = of.predict(_here(context), model, of.read_rows(rows))
    if output is Output.json:
        screen.json_line(answers)
        return
    screen.table(["ROW", *answers[0]] if answers else ["ROW"], [[i + 1, *a.values()] for i, a in enumerate(answers)])


@app.command()
def promote(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Its name.")],
    version: Annotated[str | None, typer.Argument(help="[default: the newest]")] = None,
) -> None:
    """Let a version serve by your own decision: no comparison, no canary.

    Example: headrace promote flights v20261123-224512-1a2b3c
    """
    from headrace import serving

    screen.say(serving.promote(_here(context), model, version))


@app.command()
def rollback(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Its name.")],
    version: Annotated[str | None, typer.Argument(help="[default: the one that served before]")] = None,
) -> None:
    """Let the version before serve again, at once.

    Example: headrace rollback flights
    """
    from headrace import serving

    screen.say(serving.rollback(_here(context), model, version))


# ---- events ----------------------------------------------------------------------------------------------------------


@app.command()
def send(
    context: typer.Context,
    event: Annotated[str, typer.Argument(help="A structured CloudEvent in JSON: a file, or '-' for stdin.")],
) -> None:
    """Send an event to the Broker; ours are checked against the contract first.

    Example: headrace send prediction.json
    """
    from eventing import sender
    from headrace import events as of

    try:
        text = sys.stdin.buffer.read() if event == "-" else Path(event).read_bytes()
    except OSError as e:
        raise typer.BadParameter(f"{event}: {e.strerror}") from e
    parsed = of.parse(text)
    sender.Sender(_here(context).broker_url).send(parsed)
    screen.say(parsed.get_id())


@app.command()
def events(
    context: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", envvar="HEADRACE_FOLLOW", help="Go on as they come.")
    ] = False,
    type: Annotated[str | None, typer.Option(envvar="HEADRACE_TYPE", help="One type; a part of it will do.")] = None,
    output: Json = Output.text,
) -> None:
    """What happened, in order, and what became of each event.

    Example: headrace events --type model.promoted
    """
    from headrace import journal, why

    for entry in journal.read(_here(context).journal_url, follow=follow):
        if type is not None and type not in entry.type:
            continue
        if output is Output.json:
            screen.json_line({"seq": entry.seq, "event": entry.event, "deliveries": entry.deliveries})
        else:
            screen.say(f"{screen.clock(entry.received)}  {_short_type(entry.type):20}  {why.describe(entry)}")


@app.command()
def why(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="An event's id, a file's or package's sha256, a version, Job or Revision.")],
    output: Json = Output.text,
) -> None:
    """The chain around one id, both ways: file, event, Job, package, Revision, answer.

    Example: headrace why 3fa9c1d2
    """
    from headrace import journal
    from headrace import why as of

    chain = of.explain(list(journal.read(_here(context).journal_url)), id)
    if chain is None:
        raise HeadraceError(f"no event of the journal is or names {id!r}; `headrace events` lists them")
    if output is Output.json:
        screen.json_line([{"noun": k.noun, "says": k.says, "event": k.entry.event} for k in chain.links])
        return
    for link in chain.links:
        mark = "►" if link.asked else " "
        screen.say(f"{mark} {screen.clock(link.entry.received)}  {link.noun:9}  {link.says}")
        screen.say(f"               {'':9}  {link.entry.id}" + (f"  because of {c}" if (c := link.entry.cause) else ""))
    for missing in chain.missing:
        screen.note(f"the journal no longer holds {missing}")


@dead_letters_app.command("list")
def dead_letters_list(context: typer.Context, output: Json = Output.text) -> None:
    """What lies there, oldest first.

    Example: headrace dead-letters list
    """
    from headrace import events as of

    found = of.dead_letters(_here(context).store)
    if output is Output.json:
        screen.json_line([d.event for d in found])
        return
    keys = ("id", "type", "subject", "knativeerrordest", "knativeerrorcode")
    screen.table([k.upper() for k in keys], [[d.event.get(k) for k in keys] for d in found])


@dead_letters_app.command("show")
def dead_letters_show(context: typer.Context, id: Annotated[str, typer.Argument(help="The event's id.")]) -> None:
    """One event whole, with what the subscriber said last.

    Example: headrace dead-letters show prediction-17
    """
    from headrace import events as of

    screen.out.print_json(json.dumps(of.dead_letter(_here(context).store, id).event))


@dead_letters_app.command("replay")
def dead_letters_replay(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(help="Event ids. [default: all]")] = None,
) -> None:
    """Send them to the Broker again, then forget them here.

    Example: headrace dead-letters replay
    """
    from eventing import sender
    from headrace import events as of

    here = _here(context)
    letters = [of.dead_letter(here.store, i) for i in ids] if ids else of.dead_letters(here.store)
    broker = sender.Sender(here.broker_url)
    for letter in letters:
        broker.send(letter.cloud_event())
        here.store.delete(letter.path)  # after the 202: twice is harmless, never is not
        screen.say(letter.id)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", envvar="HEADRACE_KEEP", help="Leave it running at the end.")] = False,
    port: Annotated[
        int, typer.Option(envvar="HEADRACE_PORT", help="The platform's port; 0: any.")
    ] = config.DEFAULT_PORT,
) -> None:
    """The whole loop on real flights: train, promote, predict, drift, retrain.

    Example: headrace demo --keep
    """
    from headrace import demo as of

    raise typer.Exit(of.run(keep=keep, port=port))


def _pairs(option: str, texts: list[str] | None) -> dict[str, str]:
    """KEY=VALUE options. Misuse is exit status 2, as typer's own."""
    for text in texts or ():
        if "=" not in text.lstrip("="):
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint=option)
    return dict(text.split("=", 1) for text in texts or ())


def _scalar(text: str) -> Any:
    """A parameter as JSON has it: number, true, null; anything else is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _short_type(type: str) -> str:
    return type.removeprefix("dev.headrace.").rsplit(".v", 1)[0]


def main() -> None:
    """Entry point `headrace`."""
    try:
        app()
    except Misconfigured as e:
        screen.err.print(f"headrace: {e}", markup=False)
        sys.exit(2)
    except HeadraceError as e:
        screen.err.print(f"headrace: {e}", markup=False)
        sys.exit(1)
    except BrokenPipeError:  # `headrace events | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
