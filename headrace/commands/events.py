"""Commands of events: send, events, why, and the dead letters."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from eventing.errors import HeadraceError, Rejected
from headrace import events as of_events
from headrace import screen
from headrace import why as of_why
from headrace.commands import options
from headrace.screen import Output

ATTEMPTS = 5  # 3 s in all: a cluster's Broker is away while its channel moves to another node


def send(
    context: typer.Context,
    event: Annotated[str, typer.Argument(help="A structured CloudEvent in JSON: a file, or '-' for stdin.")],
) -> None:
    """Send an event to the Broker.

    One of our types is checked against its contract first.

    Example: headrace send prediction.json
    """
    try:
        text = sys.stdin.buffer.read() if event == "-" else Path(event).read_bytes()
    except OSError as e:
        raise typer.BadParameter(f"{event}: {e.strerror}") from e
    parsed = of_events.parse(text)
    options.place(context).broker.send(parsed, attempts=ATTEMPTS)
    screen.say(parsed.get_id())


def events(
    context: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", envvar="HEADRACE_FOLLOW", help="Go on as they come.")
    ] = False,
    type: Annotated[str | None, typer.Option(envvar="HEADRACE_TYPE", help="One type; a part of it will do.")] = None,
    output: options.Json = Output.text,
) -> None:
    """What happened, in order.

    Example: headrace events --type model.promoted
    """
    journal = options.place(context).journal
    names: dict[str, str] = {}
    for entry in journal.follow() if follow else journal.read():
        if entry is None:
            continue
        names |= of_why.file_names(entry.data)
        if type is not None and type not in entry.type:
            continue
        if output is Output.json:
            screen.json_line({"seq": entry.seq, "event": entry.event, "deliveries": entry.deliveries})
        else:
            says = of_why.named(of_why.describe(entry), names)
            screen.say(f"{screen.clock(entry.received)}  {_short_type(entry.type):20}  {says}")


def why(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="An event's id, a file's or package's sha256, a version, Job or Revision.")],
    output: options.Json = Output.text,
) -> None:
    """The chain around one id, both ways.

    File, event, Job, package, Revision, answer.

    Example: headrace why 3fa9c1d2
    """
    chain = of_why.look_up(options.place(context).journal, id)
    if chain is None:
        raise HeadraceError(
            f"no event of the journal is or names {id!r}; `headrace events` lists them. Of a digest, give the first "
            f"{of_why.DIGITS} digits or more"
        )
    if output is Output.json:
        screen.json_line([{"noun": k.noun, "says": k.says, "event": k.entry.event} for k in chain.links])
        return
    for link in chain.links:
        mark = "►" if link.asked else " "
        screen.say(f"{mark} {screen.clock(link.entry.received)}  {link.noun:9}  {link.says}")
        screen.say(f"               {'':9}  {link.entry.id}" + (f"  because of {c}" if (c := link.entry.cause) else ""))
    for missing in chain.missing:
        screen.note(f"the journal no longer holds {missing}")


def list_dead(context: typer.Context, output: options.Json = Output.text) -> None:
    """What lies there, oldest first.

    Example: headrace dead-letters list
    """
    found = of_events.dead_letters(options.place(context).store)
    if output is Output.json:
        screen.json_line([d.event for d in found])
        return
    keys = ("id", "type", "subject", "knativeerrordest", "knativeerrorcode")
    screen.table([k.upper() for k in keys], [[d.event.get(k) for k in keys] for d in found])


def show_dead(context: typer.Context, id: Annotated[str, typer.Argument(help="The event's id.")]) -> None:
    """One event whole, with what the subscriber said last.

    Example: headrace dead-letters show prediction-17
    """
    screen.out.print_json(json.dumps(of_events.dead_letter(options.place(context).store, id).event))


def replay_dead(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(help="Event ids. [default: all]")] = None,
) -> None:
    """Send them to the Broker again, then forget them here. What can be sent by no means stays, and is told.

    Example: headrace dead-letters replay
    """
    here = options.place(context)
    letters = [of_events.dead_letter(here.store, i) for i in ids] if ids else of_events.dead_letters(here.store)
    send = functools.partial(here.broker.send, attempts=ATTEMPTS)
    kept = []
    for letter in letters:
        try:
            of_events.replay(here.store, letter, send)
        except Rejected as e:
            kept.append(f"{letter.id} stays: {e}")
        else:
            screen.say(letter.id)
    if kept:
        raise HeadraceError("\n".join(kept))


def _short_type(type: str) -> str:
    return type.removeprefix("dev.headrace.").rsplit(".v", 1)[0]
