"""Recorded verdicts of Knative's webhook on sets of annotations, given again by ours: where do they differ?

Called by `headrace check --verify`. What Knative said (`valid`, `blamed`) is compared and never read otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eventing.errors import Misconfigured
from headrace.recorded import Line, lines
from knative import annotations as annotations_
from knative.settings import Config


@dataclass(frozen=True, slots=True)
class Difference:
    """A set that Knative judged otherwise: its number from 1, both verdicts, and why ours.

    blamed: annotation names without their group; recorded_blamed the same of Knative's.
    """

    number: int
    annotations: Mapping[str, str]
    config_autoscaler: Mapping[str, str]
    recorded_valid: bool
    recorded_blamed: tuple[str, ...]
    blamed: tuple[str, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What a file of recorded verdicts says."""

    sets: int
    differ: int
    differing: tuple[Difference, ...]


def verify(path: Path) -> Report:
    """Every set of the file judged again. Raises Misconfigured, with file and line, where it is no recording."""
    sets = 0
    differing: list[Difference] = []
    for sets, line in enumerate(lines(path), 1):
        found = compare(sets, line)
        differing += [found] if found else []
    return Report(sets, len(differing), tuple(differing))


def compare(number: int, line: Line) -> Difference | None:
    """None where the verdicts agree, in whether it is valid and in who is to blame."""
    annotations, config = line.texts("annotations"), line.texts("config_autoscaler", {})
    valid, blamed = line.flag("valid"), _names(line)
    try:
        faults = annotations_.faults(annotations, Config.from_map(config))
    except Misconfigured as e:
        raise Misconfigured(f"{line.where}: config_autoscaler", str(e), "settings that Knative takes") from e
    ours = annotations_.mentioned(faults)
    if valid == (not faults) and ours == frozenset(blamed):
        return None
    said = tuple(map(str, faults))
    return Difference(number, annotations, config, valid, blamed, tuple(sorted(ours)), said)


def _names(line: Line) -> tuple[str, ...]:
    names = line.items("blamed")
    for index, name in enumerate(names):
        if not isinstance(name, str):
            line.refuse(f"blamed[{index}]", name, "a text, the name of an annotation")
    return tuple(sorted(names))
