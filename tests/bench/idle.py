"""What `headrace up` costs while nobody asks for anything: share of one core, resident memory.

    python -m tests.bench.idle [--seconds 60]

Starts a platform of its own, waits until every function has gone to zero, then reads the processor time and resident
memory of the platform and of every process it keeps, over the given time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil

from headrace import daemon

SETTLE_S = 300.0  # at most: stable window, grace period and drain of what was started to become Ready
CORE_SHARE = 0.02
MEMORY_MIB = 150


def family(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def settle(pid: int) -> None:
    """Wait until no function runs any more."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        if not any("functions." in word for p in family(pid) for word in p.cmdline()):
            return
        time.sleep(1)
    raise SystemExit(f"functions still run after {SETTLE_S:.0f} s")


def processor_s(processes: list[psutil.Process]) -> float:
    return sum(t.user + t.system for p in processes for t in [p.cpu_times()])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="headrace-idle-") as folder:
        home = Path(folder) / "home"
        running = daemon.start(home, daemon.environment(home, 0, daemon.functions_interpreter(), {}))
        try:
            settle(running.pid)
            processes = family(running.pid)
            before, began = processor_s(processes), time.monotonic()
            time.sleep(seconds)
            spent = (processor_s(processes) - before) / (time.monotonic() - began)
            memory = sum(p.memory_full_info().uss for p in family(running.pid)) / 2**20
            resident = sum(p.memory_info().rss for p in family(running.pid)) / 2**20
            for p in family(running.pid):
                name = " ".join(p.cmdline()[1:])[:70]
                print(f"  {p.memory_info().rss / 2**20:6.1f} MiB resident  {name}")
        finally:
            daemon.stop(home)
    print(f"idle: {spent:.2%} of a core (at most {CORE_SHARE:.0%}), {resident:.0f} MiB resident (at most {MEMORY_MIB})")
    print(f"      {memory:.0f} MiB of it shared with nobody; {len(processes)} processes; {os.cpu_count()} cores")
    return 0 if spent <= CORE_SHARE and resident <= MEMORY_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
