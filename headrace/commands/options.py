"""What the commands share: where they act, how they print, KEY=VALUE options."""

from __future__ import annotations

import difflib
import json
from typing import Annotated, Any

import typer

from eventing.errors import HeadraceError
from headrace import config, readers, rooms, screen
from headrace.place import Place
from headrace.screen import Output
from knative.client import Cluster
from knative.literals import SECOND, parse_duration

Json = Annotated[Output, typer.Option("-o", "--output", envvar="HEADRACE_OUTPUT", help="text, or json for programs.")]


def place(context: typer.Context) -> Place:
    """The place the command acts on."""
    return Place.of(context.obj)


def cluster(context: typer.Context) -> Cluster:
    """The cluster that deploy and undeploy act on: the named one, else kubectl's own, never the laptop's unasked."""
    settings: config.Config = context.obj
    named = str(settings.kubeconfig) if settings.kubeconfig else None
    return Cluster.connect(named, settings.namespace, settings.context, config.NAMESPACE)


def pairs(option: str, texts: list[str] | None) -> dict[str, str]:
    """KEY=VALUE options. Misuse is exit status 2, as typer's own."""
    for text in texts or ():
        if "=" not in text.lstrip("="):
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint=option)
    return dict(text.split("=", 1) for text in texts or ())


def values(texts: list[str] | None) -> dict[str, str]:
    """The KEY=VALUE options `--set`. Of a key that nobody would read, and that would change nothing without a word,
    stderr says so.

    Raises HeadraceError, every fault named, where a part would end at its start for such a value.
    """
    found = pairs("--set", texts)
    if found and (faults := readers.faults(found)):  # else nothing need be imported
        raise HeadraceError("; ".join(f"--set {fault}" for fault in faults))
    if suspect := [key for key in found if key.startswith("HEADRACE_")]:
        known = rooms.variables()
        for key in suspect:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"; is {near[0]} meant?" if near else ""
                screen.note(f"--set {key}: nothing here reads a setting of that name{hint}")
    return found


def scalar(text: str) -> Any:
    """A parameter as JSON has it: number, true, null; anything else is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def seconds(text: str | float) -> float:
    """A length of time as Go and Knative write it, `250ms` or `1h30m`, in seconds. A parser of typer's."""
    if isinstance(text, float):
        return text  # typer parses defaults too
    try:
        return parse_duration(text) / SECOND
    except ValueError as e:
        raise typer.BadParameter(f"{text!r} is not a length of time; expected one such as 250ms, 2s or 1h30m") from e
