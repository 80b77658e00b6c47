"""What the journal is told by its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eventing import settings

DAYS = 30


@dataclass(frozen=True)
class Settings:
    """What this function is told by its environment."""

    store: str
    """HEADRACE_STORE: fsspec URL of the store."""
    days: int = DAYS
    """HEADRACE_JOURNAL_DAYS: how long an event is kept."""
    host: str = "127.0.0.1"
    port: int = 8080
    """PORT: where to listen."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises Misconfigured naming the key."""
        return cls(
            store=settings.text(environ, "HEADRACE_STORE", "the store's fsspec URL, such as file:///var/headrace"),
            days=settings.whole_number(environ, "HEADRACE_JOURNAL_DAYS", DAYS, 1, 3650),
            host=settings.host(environ),
            port=settings.port(environ),
        )
