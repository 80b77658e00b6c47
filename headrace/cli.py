"""The command line: what `headrace` is, and how it ends.

Results on stdout, progress on stderr; exit status 0 done, 1 failed, 2 misused. Each option has a `HEADRACE_` twin. The
commands themselves live in `headrace.commands`, by what they are about.
"""

from __future__ import annotations

import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated

from headrace import rooms

try:
    rooms.verify()
except rooms.Shadowed as e:  # before any room is imported: the message would be another room's ImportError
    sys.exit(f"headrace: {e}")

import typer

from eventing.errors import HeadraceError, Misconfigured
from headrace import config, screen
from headrace.commands import check, deploy, events, logs, models, platform, tune
from headrace.local import disk

app = typer.Typer(
    name="headrace",
    help="Drop data, get a served, explained prediction: event-driven serverless inference on Knative.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
dead_letters = typer.Typer(
    no_args_is_help=True, help="Events that nobody could be brought to take. Example: headrace dead-letters list"
)

PLACE_OPTIONS = ("--home", "--kubeconfig", "--context", "--namespace", "-n", "--gateway")
COMMANDS: tuple[Callable[..., None], ...] = (
    *(platform.up, platform.down, platform.status, platform.url),
    *(models.drop, models.train, models.models, models.predict, models.promote, models.rollback),
    *(events.send, events.events, events.why, logs.logs, tune.tune, check.check, platform.demo),
    *(deploy.deploy, deploy.undeploy),
)
WHERE = "In which place: --home, --kubeconfig, --context, --namespace, --gateway, as `headrace --help` tells them."
ON_THIS_MACHINE = (platform.up, platform.down)


def _epilog(command: Callable[..., None]) -> str | None:
    """What the help of a command that acts in a place says of the options that every such command takes."""
    acts = "context" in inspect.signature(command).parameters and command not in ON_THIS_MACHINE
    return WHERE if acts else None


for command in COMMANDS:
    app.command(epilog=_epilog(command))(command)
dead_letters.command("list", epilog=WHERE)(events.list_dead)
dead_letters.command("show", epilog=WHERE)(events.show_dead)
dead_letters.command("replay", epilog=WHERE)(events.replay_dead)
app.add_typer(dead_letters, name="dead-letters")


def _version(asked: bool) -> None:
    if asked:
        screen.say(f"headrace {metadata.version('headrace')}")
        raise typer.Exit


@app.callback()
def _settings(
    context: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(envvar="HEADRACE_HOME", help="Folder of the laptop's platform. [default: ~/.headrace]"),
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(envvar="HEADRACE_KUBECONFIG", help="Talk to this cluster instead of the laptop.")
    ] = None,
    kube_context: Annotated[
        str | None,
        typer.Option(
            "--context", envvar="HEADRACE_CONTEXT", help="Of that kubeconfig, or of kubectl's own: talk to its cluster."
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", envvar="HEADRACE_NAMESPACE", help="[default: the context's, or headrace]"),
    ] = None,
    gateway: Annotated[
        str | None,
        typer.Option(envvar="HEADRACE_GATEWAY", help="Where the cluster's Services answer by Host, http://ADDRESS."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    context.obj = config.Config.from_environment(os.environ, home, kubeconfig, kube_context, namespace, gateway)


def hoist(words: Sequence[str]) -> list[str]:
    """The command line with the options that name the place in front, wherever they were written.

    They say where every command acts, so nobody should have to know that they belong before the command's name.
    """
    front: list[str] = []
    rest: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            rest += [word, *left]
        elif word in PLACE_OPTIONS:
            front += [word, *(value for value in [next(left, None)] if value is not None)]
        elif word.startswith(tuple(f"{option}=" for option in PLACE_OPTIONS)) or re.match("-n[^-=]", word):
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def main() -> None:
    """The commands, as `headrace.__main__` starts them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shall not lose the line
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=hoist(sys.argv[1:]))
    except Misconfigured as e:
        screen.err.print(f"headrace: {e}", markup=False)
        sys.exit(2)
    except HeadraceError as e:
        screen.err.print(f"headrace: {e}", markup=False)
        sys.exit(1)
    except BrokenPipeError:  # `headrace events | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as e:
        if not disk.is_at_fault(e):
            raise
        screen.err.print(f"headrace: {e}", markup=False)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # it may be what cannot be written
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
