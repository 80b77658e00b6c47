"""The table of promises by place, out of what became of each test."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

PLACES = ("laptop", "cluster")
HEAD = """# Conformance: what a laptop and a cluster both promise

Written by `make conformance`. Each row is a test that is asked of both places in the same words, by the same manifests;
a number says of how many cases. *differs* names the row of [differences.md](differences.md) by which the test expects
something else of the laptop; – is a place that was never asked. What a run does not ask stays as the last one left it.
"""


@dataclass
class Outcome:
    """What a place made of one promise. failed: cases in which it does not hold. rows: of the table of differences."""

    cases: int = 0
    failed: list[str] = field(default_factory=list)
    rows: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        if self.failed:
            return f"FAILED: {', '.join(self.failed)}"
        said = "differs: " + "; ".join(sorted(self.rows)) if self.rows else "passed"
        return f"{said} ({self.cases})" if self.cases > 1 else said


@dataclass
class Results:
    """outcomes: by (area, promise), by place."""

    outcomes: dict[tuple[str, str], dict[str, Outcome]] = field(default_factory=dict)

    def note(self, nodeid: str, place: str, passed: bool, rows: set[str]) -> None:
        """nodeid: `…/test_area.py::test_a_promise[laptop-case]`, in whose brackets the place may stand last."""
        file, _, name = nodeid.partition("::")
        words, _, parameters = name.removesuffix("]").partition("[")
        area = re.sub(r".*test_(\w+)\.py", r"\1", file)
        outcome = self.outcomes.setdefault((title(area), title(words)), {}).setdefault(place, Outcome())
        case = parameters.replace(place, "", 1).strip("-") or "it"
        if case in outcome.failed:  # asked once more: the last answer counts
            outcome.failed.remove(case)
        else:
            outcome.cases += 1
        if not passed:
            outcome.failed.append(case)
        if place == "laptop":
            outcome.rows |= rows

    def page(self, before: str = "") -> str:
        """before: the page as it was."""
        cells = cells_of(before)
        for promise, told in self.outcomes.items():
            cells.setdefault(promise, {}).update({place: str(outcome) for place, outcome in told.items()})
        lines = [HEAD]
        for area in sorted({area for area, _ in cells}):
            lines += [f"## {area.capitalize()}", "", "| promise | laptop | cluster |", "|---|---|---|"]
            for (of, promise), told_now in cells.items():
                if of == area:
                    lines.append(f"| {promise} | {' | '.join(told_now.get(place, '–') for place in PLACES)} |")
            lines.append("")
        return "\n".join(lines)

    def summary(self) -> str:
        """`laptop 290 of 290, cluster 290 of 290`."""
        parts = []
        for place in PLACES:
            told = [by_place[place] for by_place in self.outcomes.values() if place in by_place]
            if cases := sum(outcome.cases for outcome in told):
                parts.append(f"{place} {cases - sum(len(outcome.failed) for outcome in told)} of {cases}")
        return ", ".join(parts)


def cells_of(page: str) -> dict[tuple[str, str], dict[str, str]]:
    """The page's cells: by (area, promise), by place."""
    area = ""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for line in page.splitlines():
        if line.startswith("## "):
            area = line.removeprefix("## ").lower()
        elif line.startswith("| ") and not line.startswith("| promise"):
            promise, *told = (cell.strip() for cell in line.strip("|").split("|"))
            found[area, promise] = dict(zip(PLACES, told, strict=True))
    return found


def title(name: str) -> str:
    """`test_a_promise` in words."""
    return name.removeprefix("test_").replace("_", " ")
