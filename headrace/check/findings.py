"""What a check finds: one thing about one field, for a person and for a program."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headrace.check.documents import Document

# Keys of these are no fields but names that somebody chose, often with dots in them.
_CHOSEN = re.compile(r"^(.*\b(?:annotations|labels|matchLabels|data|nodeSelector))\.(.+)$")


class Level(enum.StrEnum):
    """fault: a cluster refuses it. warning: it takes it, and it is hardly what was meant."""

    fault = "fault"
    warning = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about one field.

    object: kind and name. path: `spec.template.metadata.annotations[autoscaling.knative.dev/window]`. seen: its value,
    None where it has none. allowed: what it takes, "" where the problem says so. meant: what was probably meant.
    """

    level: Level
    file: str
    line: int
    object: str
    path: str
    seen: Any
    problem: str
    allowed: str = ""
    meant: str = ""


def shown_path(path: str) -> str:
    """`metadata.annotations[a.b/c]` for `metadata.annotations.a.b/c`."""
    return _CHOSEN.sub(r"\1[\2]", path)


def values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every field below `value`, by its path."""
    if path:
        yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from values(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from values(item, f"{path}[{index}]")


class Finder:
    """Makes findings about one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._values = dict(values(document.value))
        meta = document.value.get("metadata") if isinstance(document.value, dict) else None
        name = meta.get("name") or meta.get("generateName") if isinstance(meta, dict) else None
        kind = document.value.get("kind") if isinstance(document.value, dict) else None
        self._object = " ".join(str(word) for word in (kind or "object", name) if word)

    def fault(self, path: str, problem: str, allowed: str = "", meant: str = "") -> Finding:
        return self._find(Level.fault, path, problem, allowed, meant)

    def warning(self, path: str, problem: str, allowed: str = "", meant: str = "") -> Finding:
        return self._find(Level.warning, path, problem, allowed, meant)

    def _find(self, level: Level, path: str, problem: str, allowed: str, meant: str) -> Finding:
        document = self._document
        return Finding(
            level, document.file, document.line_of(path), self._object, shown_path(path), self._values.get(path),
            problem, allowed, meant,
        )  # fmt: skip
