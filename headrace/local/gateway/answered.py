"""The moment at which a pod's answer begins: from now on its end has a deadline, and a cold start's time is told.

Called by `headrace.local.gateway.gateway` and `headrace.local.gateway.streams`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from headrace.local.gateway.revision_queue import Activation


class Answered:
    """Called when a pod's answer begins; gives the header fields to add to it.

    deadline: of the request; ends_at: what it is from then on, in the loop's time.
    """

    __slots__ = ("_activation", "_arrived", "_clock", "_deadline", "_ends_at", "_ready")

    def __init__(
        self,
        deadline: asyncio.Timeout,
        ends_at: float,
        activation: Activation | None,
        arrived: float,
        clock: Callable[[], float],
    ) -> None:
        self._deadline, self._ends_at = deadline, ends_at
        self._activation, self._arrived, self._clock = activation, arrived, clock
        self._ready = clock()

    def __call__(self) -> Mapping[str, str]:
        if not self._deadline.expired():
            self._deadline.reschedule(self._ends_at)
        if self._activation is None:
            return {}
        return _timing(self._activation, self._arrived, self._ready, self._clock())


def _timing(activation: Activation, arrived: float, ready: float, answered: float) -> Mapping[str, str]:
    """Where a cold start's time went, as browsers' developer tools show it. Source: W3C Server Timing."""
    phases = {"activation": (ready - arrived) * 1000, **activation.phases_ms(), "answer": (answered - ready) * 1000}
    return {"Server-Timing": ", ".join(f"{name};dur={ms:.1f}" for name, ms in phases.items())}
