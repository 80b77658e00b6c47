"""Are the rooms ours? Their names are plain words (`functions`, `eventing`), so another package may carry one too.

Called at the start of every command: a room that Python takes from somewhere else would fail later, far from the cause.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOMS = ("eventing", "functions", "trainers", "knative", "monitoring")

_VARIABLE = re.compile(r"[\"'](HEADRACE_[A-Z0-9_]+)[\"']")


class Shadowed(ImportError):
    """Another package, earlier on the path, bears the name of one of our rooms.

    No HeadraceError, because the room that holds those may be the very one that is shadowed.
    """


def verify(house: Path | None = None) -> None:
    """Pass when every room lies beside `headrace`. Raises Shadowed naming the room, where it was found, the way out.

    house: the folder that holds the rooms; by default the one this file was imported from.
    """
    house = house or Path(__file__).resolve().parent.parent
    faults = [fault for room in ROOMS if (fault := _fault(room, house))]
    if faults:
        raise Shadowed(
            "; ".join(faults)
            + ". Install headrace into an environment of its own (python -m venv), or start it from another folder."
        )


def variables() -> frozenset[str]:
    """Every `HEADRACE_` variable that the code of the house names, as its source spells it."""
    house = Path(__file__).resolve().parent.parent
    files = (file for room in (*ROOMS, "headrace") for file in (house / room).rglob("*.py"))
    return frozenset(name for file in files for name in _VARIABLE.findall(file.read_text(encoding="utf-8")))


def _fault(room: str, house: Path) -> str | None:
    spec = importlib.util.find_spec(room)
    places = [] if spec is None else [Path(p).resolve() for p in spec.submodule_search_locations or ()]
    if house / room in places:
        return None
    seen = str(places[0]) if places else getattr(spec, "origin", None) or "nowhere"
    return f"package {room!r} is taken from {seen}; expected {house / room}"
