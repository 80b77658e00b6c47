"""A Broker and JobSinks as a process of their own, for tests that kill it: `python -m … HOME`, the URL on stdout."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.headrace.local import eventing_bench


async def serve(home: Path) -> None:
    async with eventing_bench.bench(home) as bench:
        sys.stdout.write(bench.url + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
