"""A predictor asked for more than it can do: `python -m tests.bench.overload [--factors 2,4] [--seconds 10]`.

A slow model on core 0, clients on the others. First the capacity is measured, by as many clients as there are
inferences at once; then requests come at a multiple of it, each at its time whatever became of those before (an open
loop, as a crowd is), over HTTP and as events. Prints the answers by status, the latency of those that were answered and
of the refusals, and the bound that the places set; exit 1 where an answer is neither 200 nor 503 with Retry-After,
where the 99th percentile of the admitted is above that bound, or where less than four fifths of the capacity was still
answered.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np

from functions.store import Store
from tests.bench import batching
from tests.functions import packages
from tests.functions.predictor import predictors

SIZES = (30, 3000, 3000, 3000, 1)  # 36 MFLOP per row
ROWS = 64  # of one request: some 50 ms, so that the clients are not what is measured
CONCURRENCY, WAITING = 4, 16
MOST_IN_FLIGHT = 2000  # of the clients: beyond it the run would measure them
# What is taken is answered in order, so that nobody waits much longer than all of them take: places by answers per
# second (Little's law), and as much again, because cores are shared and the clients' own delays are in it.
SLACK = 2.0
LEAST_SHARE = 0.8  # of the capacity that is to be answered under overload
CLOUD_EVENT = {
    "Ce-Specversion": "1.0", "Ce-Type": "dev.headrace.prediction.requested.v1", "Ce-Source": "/bench",
    "Ce-Subject": "network",
}  # fmt: skip


@dataclass
class Seen:
    """What the clients were answered. Latencies in seconds, from the moment at which a request was sent.

    late: by how much it was sent after it was due, which is the clients' own fault.
    """

    statuses: collections.Counter[str] = field(default_factory=collections.Counter)
    admitted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Clients:
    """Who asks: over HTTP, or by events."""

    def __init__(self, session: aiohttp.ClientSession, url: str, events: bool) -> None:
        self._session = session
        rows = np.random.default_rng(3).normal(size=(ROWS, SIZES[0])).round(4).tolist()
        inputs = {"instances": rows}
        self._url = f"{url}/" if events else f"{url}/v1/models/network:predict"
        self._body = json.dumps({"model": "network", "inputs": inputs} if events else inputs).encode()
        self._headers = {"Content-Type": "application/json", **(CLOUD_EVENT if events else {})}
        self._events = events
        self._asked = 0

    async def ask(self, seen: Seen, due: float) -> None:
        """One request. Its faults are noted, not raised."""
        self._asked += 1
        sent = time.perf_counter()
        seen.late.append(sent - due)
        named = {"Ce-Id": str(self._asked)} if self._events else {}
        try:
            async with self._session.post(self._url, data=self._body, headers=self._headers | named) as answer:
                text = await answer.text()
                status, after = str(answer.status), answer.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError) as e:
            status, after, text = type(e).__name__, None, str(e)
        seen.statuses[status] += 1
        took = time.perf_counter() - sent
        if status == "200":
            seen.admitted.append(took)
        elif status == "503" and after is not None:
            seen.refused.append(took)
        else:
            seen.faults.append(f"{status} {text[:200]}")

    async def closed(self, clients: int, seconds: float) -> Seen:
        """`clients` of them, each asking again as soon as it is answered."""
        seen, began = Seen(), time.perf_counter()

        async def go_on() -> None:
            while (now := time.perf_counter()) - began < seconds:
                await self.ask(seen, now)

        await asyncio.gather(*(go_on() for _ in range(clients)))
        seen.seconds = time.perf_counter() - began
        return seen

    async def open(self, per_s: float, seconds: float) -> Seen:
        """Requests at `per_s`, at random times, whatever is answered."""
        chance, seen, tasks = np.random.default_rng(4), Seen(), set[asyncio.Task[None]]()
        began = due = time.perf_counter()
        while due - began < seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if len(tasks) > MOST_IN_FLIGHT:
                raise SystemExit(f"{len(tasks)} requests are in flight: the predictor does not refuse them in time")
            task = asyncio.create_task(self.ask(seen, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += float(chance.exponential(1 / per_s))
        await asyncio.gather(*tasks)
        seen.seconds = time.perf_counter() - began
        return seen


async def measure(url: str, factors: Sequence[float], seconds: float) -> bool:
    """Prints what was seen; whether all of it kept within its bounds."""
    well = True
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        for door in ("http", "events"):
            clients = Clients(session, url, door == "events")
            await clients.closed(CONCURRENCY, 1.0)
            alone = await clients.closed(CONCURRENCY, min(seconds, 5.0))
            if not alone.admitted:
                raise SystemExit(f"{door}: nothing is answered: {alone.faults[:3] or alone.statuses}")
            capacity = len(alone.admitted) / alone.seconds
            print(f"{door}: {capacity:.0f} requests/s at {CONCURRENCY} clients, p99 {_ms(alone.admitted, 99)} ms")
            for factor in factors:
                seen = await clients.open(factor * capacity, seconds)
                answered = len(seen.admitted) / seen.seconds
                bound = SLACK * (CONCURRENCY + WAITING) / answered
                p99 = float(np.percentile(seen.admitted, 99))
                fine = not seen.faults and p99 <= bound and answered >= LEAST_SHARE * capacity
                well &= fine
                print(
                    f"  x{factor:g}: {sum(seen.statuses.values())} asked, {dict(seen.statuses)}; "
                    f"{answered:.0f}/s answered ({answered / capacity:.2f} of the capacity); admitted p50 "
                    f"{_ms(seen.admitted, 50)}, p99 {_ms(seen.admitted, 99)} ms (bound {1000 * bound:.0f}); "
                    f"refused p50 {_ms(seen.refused, 50)}, p99 {_ms(seen.refused, 99)} ms; "
                    f"sent late p99 {_ms(seen.late, 99)} ms"
                    f"{'' if fine else '   <-- out of bounds'}"
                )
                for fault in seen.faults[:3]:
                    print(f"    {fault}")
    return well


def _ms(seconds: Sequence[float], percent: float) -> str:
    return f"{1000 * np.percentile(seconds, percent):.1f}" if seconds else "-"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", default="2,4", help="multiples of the capacity, by commas")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    options = parser.parse_args()
    factors = [float(factor) for factor in options.factors.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open((Path(folder) / "store").as_uri())
        store.publish(batching.network_package(Path(folder) / "network", SIZES))
        settings = {
            "HEADRACE_MODEL": "network", "HEADRACE_MODEL_VERSION": packages.VERSION, "HEADRACE_BATCHING": "off",
            "HEADRACE_CONCURRENCY": str(CONCURRENCY), "HEADRACE_WAITING": str(WAITING),
        }  # fmt: skip
        with predictors.running(store.url, core=0, **settings) as predictor:
            predictor.until_ready()
            others = os.sched_getaffinity(0) - {0}
            if others:
                os.sched_setaffinity(0, others)
            return 0 if asyncio.run(measure(predictor.url, factors, options.seconds)) else 1


if __name__ == "__main__":
    sys.exit(main())
