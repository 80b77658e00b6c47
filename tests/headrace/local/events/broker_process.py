"""A Broker and JobSinks as a process of their own, for tests that kill it: `python -m … HOME [FILE_BYTES]`.

The URL goes to stdout. FILE_BYTES: no file may grow beyond it, as on a full disk.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from tests.headrace.local.events import eventing_bench


async def serve(home: Path) -> None:
    async with eventing_bench.bench(home) as bench:
        sys.stdout.write(bench.url + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    asyncio.run(serve(Path(sys.argv[1])))
