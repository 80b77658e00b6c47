"""Tasks that run for as long as a part of the platform does."""

from __future__ import annotations

import asyncio
import contextlib

AGAIN_S = 1.0


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel it and wait until it is over; None: it never began.

    It is cancelled again where it goes on: what it waits for may come at the same moment, and a library take the
    cancellation for done with that, as `asyncio.wait_for` of Python 3.11 does.
    """
    if task is None:
        return
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=AGAIN_S)
    with contextlib.suppress(asyncio.CancelledError):
        await task
