"""How a reply to an event introduces itself, as an operator of KServe's model server sets it.

Source: kserve python/kserve/kserve/utils/utils.py, `create_response_cloudevent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eventing.errors import Misconfigured

EVENT_HEADER = "HTTP_CE_SPECVERSION"  # in the WSGI environment of an event in binary mode
EVENT_KEY = "specversion"  # in the body's object of one in structured mode


@dataclass(frozen=True, slots=True)
class ReplyAs:
    """The type and source of replies; without any of these, each door's own."""

    type: str | None = None
    """CE_TYPE: the type of every reply."""
    source: str | None = None
    """CE_SOURCE: the source of every reply."""
    merge: bool = False
    """CE_MERGE: whether a reply carries over what the request said of itself, its subject and extensions; not its id,
    time and content type, which are the reply's own."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> ReplyAs:
        """The settings in `environ`. Raises Misconfigured for a CE_MERGE that is neither true nor false."""
        merge = environ.get("CE_MERGE", "").strip().lower()
        if merge not in ("", "true", "false"):
            raise Misconfigured("CE_MERGE", environ["CE_MERGE"], "true or false")
        return cls(
            environ.get("CE_TYPE", "").strip() or None, environ.get("CE_SOURCE", "").strip() or None, merge == "true"
        )
