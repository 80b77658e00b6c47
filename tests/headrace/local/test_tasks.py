"""headrace.local.tasks: a part that is told to end ends."""

from __future__ import annotations

import asyncio

import pytest

from headrace.local import tasks


def test_a_task_that_takes_its_cancellation_for_something_else_ends_all_the_same() -> None:
    swallowed = 0

    async def work() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if swallowed == 1:
                    raise
                swallowed += 1

    async def ended() -> bool:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        await tasks.end(task)
        return task.cancelled()

    assert asyncio.run(ended()) and swallowed == 1


def test_a_task_that_broke_down_says_so_at_its_end() -> None:
    async def broken() -> None:
        raise ValueError("no such thing")

    async def ended() -> None:
        task = asyncio.create_task(broken())
        await asyncio.sleep(0)
        await tasks.end(task)

    with pytest.raises(ValueError, match="no such thing"):
        asyncio.run(ended())
