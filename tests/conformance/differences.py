"""The only way for a test to expect something else of the laptop than of a cluster: by a row of the docs' one table."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.place import Place

TABLE = Path(__file__).parents[2] / "docs" / "differences.md"


def rows() -> dict[str, tuple[str, str]]:
    """The table: what it is about, to what is said of a cluster and of a laptop."""
    found = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and cells[0] and set(cells[0]) != {"-"}:
            found[cells[0]] = (cells[1], cells[2])
    return found


def differs(place: Place, row: str) -> bool:
    """Whether this is the laptop, which differs from a cluster as the row says. Fails where there is no such row."""
    assert row in rows(), f"docs/differences.md has no row {row!r}; a difference that is not in it is a defect"
    place.named.add(row)
    return place.is_laptop
