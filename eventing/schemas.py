"""Writes the JSON Schema of every event type to a folder: `python -m eventing.schemas docs/events`.

The dataclasses of `eventing.contract` are the source; a test fails when a file and its dataclass differ.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from eventing import contract

USAGE = "usage: python -m eventing.schemas FOLDER\n"


def files() -> dict[str, str]:
    """File name to text, one per event type."""
    return {f"{name}.json": json.dumps(schema, indent=2) + "\n" for name, schema in contract.schemas()}


def write(folder: Path) -> None:
    """Puts the schemas into `folder`, and takes away those of types that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = files()
    for stale in set(folder.glob("dev.headrace.*.json")) - {folder / name for name in wanted}:
        stale.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text)


def main(arguments: list[str]) -> None:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write(USAGE)
        sys.exit(os.EX_USAGE)
    write(Path(arguments[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
