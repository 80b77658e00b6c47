"""A laptop's platform for tests: started by the command line, on a free port, in a home that is thrown away."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Platform:
    """A platform that runs, and the command line to talk to it."""

    home: Path

    @property
    def environ(self) -> dict[str, str]:
        """An environment in which `headrace` is this one, and talks to this platform."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "KUBECONFIG"))}
        return clean | {"HEADRACE_HOME": str(self.home), "PATH": f"{BIN}{os.pathsep}{clean.get('PATH', '')}"}

    def call(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """`headrace ARGUMENTS`, as a process."""
        return subprocess.run(
            [sys.executable, "-m", "headrace.cli", *arguments],
            env=self.environ, input=input, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip

    def run(self, *arguments: str) -> str:
        """What `headrace ARGUMENTS` prints; it must succeed."""
        done = self.call(*arguments)
        assert done.returncode == 0, f"headrace {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def train(self, folder: Path) -> None:
        """Let the model `flights` serve."""
        january = flights_csv(folder / "january.csv", rows=400)
        parameters = ("--parameter", "n_estimators=10")
        self.run("drop", str(january), "--dataset", "flights", "--target", "late", *parameters, "--wait")


def platform() -> Iterator[Platform]:
    """A running platform; stopped and forgotten afterwards. For a fixture."""
    with tempfile.TemporaryDirectory(prefix="headrace-test-") as folder:
        here = Platform(Path(folder) / "home")
        here.run("up", "--detach", "--port", "0")
        try:
            yield here
        finally:
            here.run("down")


def flights_csv(file: Path, rows: int) -> Path:
    """A table with the columns of the documentation: distance and hour, carrier, and whether the flight was late."""
    chance = random.Random(7)
    with file.open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["distance", "hour", "carrier", "late"])
        for _ in range(rows):
            hour, carrier = chance.randint(5, 23), chance.choice(["AA", "B6", "DL", "UA"])
            late = chance.random() < 0.05 + 0.035 * (hour - 5) + (0.15 if carrier == "B6" else 0)
            distance = "" if chance.random() < 0.02 else chance.randint(80, 4900)
            table.writerow([distance, hour, carrier, int(late)])
    return file
