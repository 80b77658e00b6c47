"""The predictors that are asked: real processes with models of every kind, their memory and their log."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from functions.store import Store
from tests.functions import packages
from tests.fuzz.wire import Answer, Connection, Request

START_S = 120.0
MAX_BODY_BYTES = 256 * 1024  # small, so that bodies at the limit are cheap
# A prediction that must be right whatever came before it: flights' first row, over a connection of its own.
QUESTION = Request("POST", "/v1/models/flights:predict", (), b'{"instances": [[300, 45, "AA"]]}')

MODELS = ("flights", "grid", "datatypes")
"""flights: two columns of numbers and one of text; grid: one tensor of 2 x 3; datatypes: one input of each."""


class Target:
    """One predictor process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self.process = process
        self.log = log
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._connection = Connection("127.0.0.1", port)
        self._right: bytes | None = None

    def connection(self) -> Connection:
        return Connection("127.0.0.1", self.port)

    def ask(self, request: Request) -> Answer:
        return self._connection.ask(request)

    def check(self) -> None:
        """Raises AssertionError where it has ended, or answers the one question otherwise than at first."""
        assert self.process.poll() is None, f"the predictor ended with {self.process.returncode}"
        answer = self.ask(QUESTION)
        assert answer.status == 200, answer.body
        self._right = self._right or answer.body
        assert answer.body == self._right, f"another answer than at first: {answer.body!r}"

    def rss_mib(self) -> float:
        """Resident memory now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        assert found, "no VmRSS"
        return int(found[1]) / 1024

    def tracebacks(self) -> list[str]:
        """The last line of each traceback in the log: what escaped, and was told as a fault nobody foresaw."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return [part.strip().splitlines()[-1][:300] for part in text.split("Traceback (most recent call last)")[1:]]


@contextmanager
def running(folder: Path, module: str = "functions.predictor") -> Iterator[Target]:
    """A predictor that serves MODELS from a store of its own, ready."""
    store = Store.open((folder / "store").as_uri())
    store.publish(packages.build_package(folder / "flights"))
    grid = packages.build_grid(_made(folder / "grid-graph")) / "model.onnx"
    store.publish(packages.build_of(grid.read_bytes(), folder / "grid", "grid"))
    store.publish(packages.build_of(packages.datatypes(), folder / "datatypes", "datatypes"))
    log = folder / "log"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "K_", "CE_"))}
    environ = clean | {
        "PORT": "0",
        "HEADRACE_STORE": store.url,
        "HEADRACE_MODELS": ",".join(MODELS),
        "HEADRACE_MODEL_LABELS": f"flights:stable={packages.VERSION}",
        "HEADRACE_MODEL_CONTROL": "off",
        "HEADRACE_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        "HEADRACE_DRAIN_S": "0",
    }
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", module], env=environ, stderr=out)
    try:
        port = _port(process, log)
        yield Target(process, log, port)
    finally:
        process.kill()
        process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """Where it listens, once each of its models is ready."""
    deadline = time.monotonic() + START_S
    while True:
        text = log.read_text(encoding="utf-8", errors="replace")
        if text.count(" is ready; seconds by phase") == len(MODELS):
            found = re.search(r"listening on (\S+:\d+)", text)
            assert found, text
            port = urlsplit(f"//{found[1]}").port
            assert port, text
            return port
        assert process.poll() is None, text
        assert time.monotonic() < deadline, f"not ready within {START_S:g} s: {text}"
        time.sleep(0.05)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
