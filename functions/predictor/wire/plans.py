"""What reading requests and writing answers want to know of a signature, looked up once and not per request."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from functions.package import Signature

KEPT = 256  # signatures; a process serves a few

T = TypeVar("T")


def per_signature(make: Callable[[Signature], T]) -> Callable[[Signature], T]:
    """`make`, called once for each signature.

    By identity: to hash a signature of thirty columns costs more than to read a request of one row.
    """
    kept: dict[int, tuple[Signature, T]] = {}

    def plan_of(signature: Signature) -> T:
        found = kept.get(id(signature))
        # Who has gone may have left its id to another.
        if found is None or found[0] is not signature:
            if len(kept) >= KEPT:
                kept.clear()
            found = kept[id(signature)] = (signature, make(signature))
        return found[1]

    return plan_of
