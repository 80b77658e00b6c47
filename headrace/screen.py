"""What a person or a program reads: tables and sentences on stdout, JSON on request, progress on stderr."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Output(enum.StrEnum):
    """`-o`: for people or for programs."""

    text = "text"
    json = "json"


def json_line(value: Any) -> None:
    """One JSON value on one line of stdout."""
    out.file.write(json_text(value) + "\n")
    out.file.flush()


def json_text(value: Any) -> str:
    """A value as JSON, on one line."""
    return orjson.dumps(value, default=str).decode()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table without lines, one row a line whatever the width of the screen, as kubectl prints them: what is cut or
    wrapped cannot be copied or counted. A column is right-aligned where all its values are numbers.
    """
    values = [list(r) for r in rows]
    cells = [list(columns), *(["" if v is None else " ".join(str(v).splitlines()) for v in r] for r in values)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [bool(values) and all(isinstance(r[i], int | float) for r in values) for i in range(len(columns))]
    for n, row in enumerate(cells):
        aligned = (c.rjust(w) if right else c.ljust(w) for c, w, right in zip(row, widths, numeric, strict=True))
        out.print("   ".join(aligned).rstrip(), style="bold" if n == 0 else None, markup=False)


def say(text: str) -> None:
    out.print(escape(text))


def line(text: str) -> None:
    """A line of somebody else's, as it is, seen at once."""
    out.file.write(text + "\n")
    out.file.flush()


def note(text: str) -> None:
    """To stderr: what is worth knowing but is not the result."""
    err.print(escape(text), style="dim")


def progress() -> Progress:
    """A bar on stderr; nothing where stderr is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


def clock(at: datetime) -> str:
    """The local time of day, to the millisecond."""
    return at.astimezone().strftime("%H:%M:%S.%f")[:-3]


def figures(values: Mapping[str, Any], names: Sequence[str]) -> str:
    """`roc_auc 0.9123, accuracy 0.8877` for the names that are there."""
    return ", ".join(f"{n} {values[n]:.4f}" for n in names if isinstance(values.get(n), int | float))
