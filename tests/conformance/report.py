"""The table of promises by place, out of what became of each test."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

PLACES = ("laptop", "cluster")
HEAD = """# Conformance: what a laptop and a cluster both promise

Written by `make conformance`. Each row is a test that is asked of both places in the same words, by the same manifests.
*differs* names the rows of [differences.md](differences.md) that the test expects the laptop to keep to.
"""


@dataclass
class Results:
    """outcomes: by (module, sentence), what each place made of it."""

    outcomes: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def note(self, nodeid: str, place: str, passed: bool, rows: set[str]) -> None:
        """nodeid: `…/test_broker.py::test_a_sentence[laptop-parameter]`."""
        file, _, name = nodeid.partition("::")
        words, _, parameters = name.removesuffix("]").partition("[")
        case = parameters.replace(place, "", 1).strip("-")
        sentence = words.removeprefix("test_").replace("_", " ") + (f": {case}" if case else "")
        module = re.sub(r".*test_(\w+)\.py", r"\1", file).replace("_", " ")
        said = "passed" if passed else "FAILED"
        if passed and rows and place == "laptop":
            said = "differs: " + "; ".join(sorted(rows))
        self.outcomes.setdefault((module, sentence), {})[place] = said

    def page(self) -> str:
        lines = [HEAD]
        for module in dict.fromkeys(module for module, _ in self.outcomes):
            lines += [f"## {module.capitalize()}", "", "| promise | laptop | cluster |", "|---|---|---|"]
            for (of, sentence), said in self.outcomes.items():
                if of == module:
                    lines.append(f"| {sentence} | {' | '.join(said.get(place, '–') for place in PLACES)} |")
            lines.append("")
        return "\n".join(lines)

    def summary(self) -> str:
        """`laptop 96 of 96, cluster 96 of 96`."""
        parts = []
        for place in PLACES:
            said = [by_place[place] for by_place in self.outcomes.values() if place in by_place]
            if said:
                parts.append(f"{place} {len(said) - said.count('FAILED')} of {len(said)}")
        return ", ".join(parts)
