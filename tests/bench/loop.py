"""What the loop adds to a bare training script: from the drop to `model.trained`, beside the script alone.

    python -m tests.bench.loop [--runs 3] [--trainer random_forest]

The bare script is the same trainer, gate and package on the same file in a process of its own (`tests.bench.bare`),
without command line, platform, events or store. Both run one after the other, alternating, on the same machine; the
medians are compared.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from eventing import contract
from headrace import config, daemon, drop, flights
from headrace.place import Place

SHARE, SECONDS = 0.05, 2.0


def variants(folder: Path, runs: int) -> list[Path]:
    """January in as many random orders: the same content would not be learned twice."""
    whole = folder / "january.csv"
    flights.write_month(1, whole)
    with whole.open(newline="", encoding="utf-8") as f:
        header, *rows = csv.reader(f)
    files = []
    for n in range(runs):
        random.Random(n).shuffle(rows)
        files.append(folder / f"january-{n}.csv")
        with files[-1].open("w", newline="", encoding="utf-8") as f:
            csv.writer(f).writerows([header, *rows])
    return files


def bare_s(file: Path, trainer: str, out: Path) -> float:
    command = [sys.executable, "-m", "tests.bench.bare", str(file), trainer, flights.TARGET, str(out)]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, env=os.environ)
    return time.monotonic() - began


def looped_s(place: Place, file: Path, trainer: str, dataset: str) -> float:
    began = datetime.now().astimezone()
    dropped = drop.drop(place, file, dataset, trainer, flights.TARGET)
    for entry in drop.consequences(place, dropped.event_id, dropped.after):
        if entry.type == contract.ModelTrained.TYPE:
            return (entry.received - began).total_seconds()
    raise SystemExit("the training ended without a model")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--trainer", default="random_forest")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-loop-") as name:
        folder = Path(name)
        home = folder / "home"
        daemon.start(home, daemon.environment(home, 0, daemon.functions_interpreter(), {}))
        try:
            place = Place.of(config.Config(home, None))
            bare, looped = [], []
            for n, file in enumerate(variants(folder, arguments.runs)):
                bare.append(bare_s(file, arguments.trainer, folder / f"package-{n}"))
                looped.append(looped_s(place, file, arguments.trainer, f"bench-{n}"))
                print(f"  bare {bare[-1]:.2f} s, loop {looped[-1]:.2f} s")
        finally:
            daemon.stop(home)
    alone, whole = statistics.median(bare), statistics.median(looped)
    allowed = alone * (1 + SHARE) + SECONDS
    print(f"bare {alone:.2f} s, loop {whole:.2f} s: {whole - alone:+.2f} s (at most {allowed - alone:+.2f} s)")
    return 0 if whole <= allowed else 1


if __name__ == "__main__":
    sys.exit(main())
