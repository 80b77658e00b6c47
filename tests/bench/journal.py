"""What the journal of requests costs a request: the gateway with it and without, in turns, in one process.

    python -m tests.bench.journal [--turns 12] [--requests 2000]

Gateway, pod and client share one event loop on one core, so that what is counted is processor time per request, of all
three together. Each turn has its share with the journal and its share without, in alternating order; the medians are
compared, and the journal's own work is timed besides.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from headrace.local.gateway.request_journal import RequestJournal
from tests.headrace.local.gateway.fleet import Place, place, pod, saying

ABREAST = 8
MIB = 2**20


async def turn_s(at: Place, requests: int) -> float:
    """Processor seconds of one request."""
    began = time.process_time()

    async def client() -> None:
        for _ in range(requests // ABREAST):
            await at.get()

    await asyncio.gather(*(client() for _ in range(ABREAST)))
    return (time.process_time() - began) / (requests // ABREAST * ABREAST)


async def measure(folder: Path, turns: int, requests: int) -> tuple[list[float], list[float], float]:
    """(with, without) of each turn; seconds of writing one line."""
    async with place(folder) as at, pod(saying("ok")) as endpoint:
        at.flights()
        at.fleet.set("flights-1", endpoint)
        journal = RequestJournal(at.objects, folder / "home", 256 * MIB)
        await journal.start()
        await turn_s(at, requests)  # warm
        noted, bare = [], []
        for turn in range(turns):
            for with_journal in (turn % 2 == 0, turn % 2 == 1):
                at.gateway._revisions.journal = journal if with_journal else None
                (noted if with_journal else bare).append(await turn_s(at, requests))
        await journal.stop()
    record = (1_700_000_000.123456, "headrace", "flights-00001", 0.012345, 0.000012, False, 200)
    writer = RequestJournal(at.objects, folder / "alone", 256 * MIB)
    for file in writer._files.values():
        file.open()
    began = time.process_time()
    for _ in range(100):
        writer._write([record] * 1000, [])
    return noted, bare, (time.process_time() - began) / 100_000


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--requests", type=int, default=2000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-journal-") as folder:
        noted, bare, line_s = asyncio.run(measure(Path(folder), asked.turns, asked.requests))
    ratios = [a / b for a, b in zip(noted, bare, strict=True)]
    medians = [statistics.median(each) * 1e6 for each in (noted, bare)]
    print("with the journal {:.0f} us a request, without {:.0f}".format(*medians))
    print(f"ratio {statistics.median(ratios):.3f} (of the turns: {min(ratios):.3f} to {max(ratios):.3f})")
    print(f"writing a line: {line_s * 1e6:.2f} us")
    return 0


if __name__ == "__main__":
    sys.exit(main())
