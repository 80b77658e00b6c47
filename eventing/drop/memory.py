"""What was told already, kept as one JSON file of the store, beside the datasets that it speaks of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eventing.drop.place import Stamp


@dataclass
class Memory:
    """What became of every file that was seen."""

    files: dict[str, tuple[Stamp, str]]
    """Path in the drop place to its stamp then, and what became of it: a SHA-256, or `rejected`."""
    contents: set[str]
    """`<dataset>/<sha256>` of everything that was told."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Memory:
        files = {path: (tuple(stamp), became) for path, (stamp, became) in value.get("files", {}).items()}
        return cls(files, set(value.get("contents", ())))

    def to_json(self) -> dict[str, Any]:
        return {"files": self.files, "contents": sorted(self.contents)}

    def knows(self, path: str, stamp: Stamp) -> bool:
        """Whether the file was dealt with as it is now."""
        return self.files.get(path, (None,))[0] == stamp
