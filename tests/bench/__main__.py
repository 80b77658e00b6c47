"""Every benchmark, one after the other, and what they print as docs/benchmarks.md: `python -m tests.bench [NAME…]`.

Each is a command of its own; without names all run, in about a quarter of an hour. The page keeps the section of what
was not run, with its own date: only figures of one section are figures of one run.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[2]
PAGE = HOUSE / "docs" / "benchmarks.md"
LIBRARIES = ("granian", "onnxruntime", "numpy", "orjson", "flask")
PEERS = {"kserve": "kserve", "mlserver": "mlserver", "bentoml": "bentoml", "litserve": "litserve", "wsgi": "gunicorn"}


@dataclass(frozen=True)
class Bench:
    """One command, and what its section says before its figures."""

    name: str
    title: str
    text: str


BENCHES = (
    Bench(
        "predictor",
        "The predictor beside its peers",
        "Each server alone on one core, the load from the other. Of many rows at once, what onnxruntime does alone is "
        "the most that any server of it can give.",
    ),
    Bench("hot_path", "Where the time of a request goes", "In the process, without the network."),
    Bench(
        "batching", "Adaptive batching", "A network of 9 MFLOP per row at 64 connections; a forest, which needs none."
    ),
    Bench("sessions", "onnxruntime's settings", "What each brings, against the settings that are served."),
    Bench("swaps", "Revisions replaced under load", "Through the gateway of `headrace up`, a new one every 4 s."),
    Bench("overload", "More than it can do", "An open loop at 2 and 4 times the capacity, over HTTP and by events."),
    Bench("journal", "What the journal of requests costs", "The gateway with it and without, in turns."),
    Bench("tune", "A day of traffic, simulated", "100 requests a second at the peak; 200 settings."),
    Bench("idle", "The platform while nobody asks", "`headrace up`, every function at zero."),
    Bench("loop", "What the loop adds to a training", "From the dropped file to the package, against a bare process."),
)
_SECTION = re.compile(r"^## .*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def machine() -> str:
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    system = f"{platform.system()} {platform.release()}"
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, {system}"


def versions() -> str:
    ours = [f"Python {platform.python_version()}", *(f"{name} {metadata.version(name)}" for name in LIBRARIES)]
    return ", ".join((*ours, *_peers()))


def _peers() -> list[str]:
    """The peers that are here, with their versions."""
    home = Path(os.environ.get("BENCH_HOME", Path.home() / ".cache" / "headrace-bench"))
    found = []
    for folder, package in PEERS.items():
        for info in (home / folder).glob(f"lib/python*/site-packages/{package}-*.dist-info"):
            found.append(f"{package} {info.name.removesuffix('.dist-info').rpartition('-')[2]}")
    return found


def section(bench: Bench, said: str) -> str:
    """The bench's part of the page; what is no table stands as it was printed."""
    blocks = [
        block if block.startswith("|") else f"```text\n{block}\n```"
        for block in re.split(r"\n\s*\n", said.strip())
        if block
    ]
    told = f"`python -m tests.bench.{bench.name}`, {datetime.now(UTC):%Y-%m-%d}. {bench.text}"
    return "\n\n".join((f"## {bench.title}", told, *blocks)) + "\n\n"


def page(sections: Mapping[str, str]) -> str:
    head = (
        "# Benchmarks\n\n"
        "Written by `make bench`. Only the ratios between figures of one table mean anything, and only on a machine\n"
        "that does nothing else. What each one does is said at the top of its file in `tests/bench/`.\n\n"
        f"Machine: {machine()}.\n"
        f"Versions: {versions()}.\n\n"
    )
    return head + "\n\n".join(sections[b.title].strip() for b in BENCHES if b.title in sections) + "\n"


def main() -> int:
    wanted = sys.argv[1:] or [bench.name for bench in BENCHES]
    if unknown := set(wanted) - {bench.name for bench in BENCHES}:
        print(f"no benchmark is called {', '.join(sorted(unknown))}; there are: {', '.join(b.name for b in BENCHES)}")
        return 2
    before = PAGE.read_text() if PAGE.exists() else ""
    sections = {found[3:].split("\n", 1)[0]: found for found in _SECTION.findall(before)}
    failed = []
    for bench in BENCHES:
        if bench.name not in wanted:
            continue
        print(f"== {bench.title}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"tests.bench.{bench.name}"],
            cwd=HOUSE,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        print(done.stdout, flush=True)
        if done.returncode != 0:
            failed.append(bench.name)
        if done.stdout.strip():
            sections[bench.title] = section(bench, done.stdout)
            PAGE.write_text(page(sections))
    if failed:
        print(f"not met, or not run to the end: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
