"""Requests sent when their time has come, whatever became of those before: users do not wait for each other.

Latency counts from the moment a request was due, so that a client that is late makes its own numbers worse, not better;
how late it was is told, and who measures with it refuses a run where that matters.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import numpy as np
from numpy.typing import NDArray

NO_ANSWER = 0  # status of a request whose connection broke
SPIN_S = 0.0005  # nearer than this to the next request the loop does not sleep: its timers have a millisecond


@dataclass(frozen=True, slots=True, eq=False)
class Replies:
    """What became of each request, (n,) each, in the order of the traffic.

    status: HTTP's, 0 for none; latency_s: from when it was due to its whole answer; late_s: from when it was due to
    when it was sent.
    """

    began_s: float
    """Second 0, since the epoch."""
    status: NDArray[np.int64]
    latency_s: NDArray[np.float64]
    late_s: NDArray[np.float64]


async def send(
    url: str,
    starts_s: NDArray[np.float64],
    service_s: NDArray[np.float64],
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
) -> Replies:
    """Ask `url` at each of `starts_s` for an answer after `service_s`."""
    count = starts_s.size
    status = np.zeros(count, np.int64)
    latency_s, late_s = np.zeros(count), np.zeros(count)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    timeout = aiohttp.ClientTimeout(total=timeout_s)

    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as client:
        began = time.perf_counter() + 0.5
        began_s = time.time() + 0.5

        async def ask(at: int) -> None:
            due = began + starts_s[at]
            late_s[at] = time.perf_counter() - due
            try:
                async with client.get(f"{url}?s={service_s[at]:.6f}", headers=headers) as answer:
                    await answer.read()
                    status[at] = answer.status
            except (aiohttp.ClientError, TimeoutError):
                status[at] = NO_ANSWER
            latency_s[at] = time.perf_counter() - due

        tasks: set[asyncio.Task[None]] = set()
        gc.collect()
        gc.disable()  # a collection of a long run's objects would make one request late in every few thousand
        try:
            for at in range(count):
                while (left := began + starts_s[at] - time.perf_counter()) > 0:
                    await asyncio.sleep(left if left > SPIN_S else 0)
                task = asyncio.create_task(ask(at))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)
        finally:
            gc.enable()
    return Replies(began_s, status, latency_s, late_s)
