"""Revisions replaced under load, through the gateway: `python -m tests.bench.swaps [--requests 100000] [--every 4]`.

A platform with one model, 16 clients that never stop, and a new revision every few seconds: pods start and drain all
the while. Prints how many requests failed, of how many, over how many revisions; exit 1 where one did.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from tests.end_to_end import tables
from tests.end_to_end.house import House, open_house, until

MODEL = "walk"
CLIENTS = 16


class Load:
    """Clients that ask one after another until `total` answers are in."""

    def __init__(self, url: str, total: int) -> None:
        self._url = url
        self._left = itertools.count(total, -1)
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.examples: dict[str, str] = {}
        # Rows of all kinds: the same few over and over are a drift.
        rows = tables.questions(tables.MANY, seed=11)
        self._bodies = itertools.cycle([json.dumps({"instances": [row]}).encode() for row in rows])

    async def run(self) -> None:
        connector = aiohttp.TCPConnector(limit=CLIENTS)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
            await asyncio.gather(*(self._ask(session) for _ in range(CLIENTS)))

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        while next(self._left) > 0:
            try:
                async with session.post(self._url, data=next(self._bodies)) as answer:
                    text = await answer.text()
                    outcome = str(answer.status)
            except (aiohttp.ClientError, TimeoutError) as e:
                outcome, text = type(e).__name__, str(e)
            self.outcomes[outcome] += 1
            if outcome != "200":
                self.examples.setdefault(outcome, text[:300])


async def replace(house: House, every_s: float, ends: asyncio.Event) -> int:
    """A new revision every `every_s`, each once the one before is ready; how many."""
    for number in itertools.count(1):
        patch = {"spec": {"template": {"metadata": {"annotations": {"headrace.dev/swap": str(number)}}}}}
        words = ("patch", "ksvc", MODEL, "--type=merge", "-p", json.dumps(patch))
        await asyncio.to_thread(house.kubectl, *words)
        await asyncio.to_thread(until, "the new revision", lambda: _settled(house))
        try:
            await asyncio.wait_for(ends.wait(), every_s)
            return number
        except TimeoutError:
            continue
    raise AssertionError("the count ends with the load")


def _settled(house: House) -> bool:
    """Whether all traffic goes to the revision that was created last."""
    status = house.get("ksvc", MODEL)["status"]
    return bool(status["latestReadyRevisionName"] == status["latestCreatedRevisionName"])


async def measure(house: House, requests: int, every_s: float) -> tuple[Load, int]:
    load = Load(f"{house.url}/svc/headrace/{MODEL}/v1/models/{MODEL}:predict", requests)
    ends = asyncio.Event()
    replacing = asyncio.create_task(replace(house, every_s, ends))
    await load.run()
    ends.set()
    return load, await replacing


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--every", type=float, default=4.0, help="seconds between two revisions")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-swaps-") as name:
        folder = Path(name)
        with open_house(folder / "home") as house:
            house.learn(tables.table(folder / "table.csv", seed=1), MODEL)
            # All traffic to the newest revision, as an operator does who rolls out by himself.
            traffic = {"spec": {"traffic": [{"latestRevision": True, "percent": 100}]}}
            house.kubectl("patch", "ksvc", MODEL, "--type=merge", "-p", json.dumps(traffic))
            began = time.monotonic()
            load, revisions = asyncio.run(measure(house, arguments.requests, arguments.every))
            seconds = time.monotonic() - began
    failed = sum(count for outcome, count in load.outcomes.items() if outcome != "200")
    total = sum(load.outcomes.values())
    print(f"{failed} failed of {total:,} requests, {revisions} revisions, {seconds:.0f} s, {total / seconds:,.0f}/s")
    for outcome, text in load.examples.items():
        print(f"  {outcome}: {load.outcomes[outcome]} times, such as {text}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
