"""A predictor for tests: the application in this process, or the real process on a free port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkzeug.test import Client

from functions.model import Model
from functions.predictor.app import App
from functions.predictor.catalog import Catalog
from functions.predictor.served import Served
from functions.predictor.wire.bodies import Bodies
from tests.functions import packages

MODEL, VERSION = "flights", packages.VERSION
MAX_BODY_BYTES = 100_000
DEADLINE_S = 60.0  # generous: two cores, several test runs


def serving(
    package: Path, name: str = MODEL, version: str = VERSION, labels: Mapping[str, Mapping[str, str]] | None = None
) -> tuple[Client, Catalog]:
    """A client of the application that serves `package`. labels: version by label, by model."""
    catalog = Catalog([(name, version)], labels)
    app = App(catalog, Bodies(MAX_BODY_BYTES))
    catalog.put(Served(name, version, Model.load(package), revision="flights-00001"))
    return Client(app), catalog


def starting() -> tuple[Client, Catalog]:
    """A client of the application whose model is not ready yet."""
    catalog = Catalog([(MODEL, VERSION)])
    return Client(App(catalog, Bodies(MAX_BODY_BYTES))), catalog


def environment(store: str, **settings: str) -> dict[str, str]:
    """The environment of a predictor process."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "K_"))},
        "PORT": "0",
        "HEADRACE_STORE": store,
        "HEADRACE_MODEL": MODEL,
        "HEADRACE_MODEL_VERSION": VERSION,
        "HEADRACE_DRAIN_S": "0.2",
        **settings,
    }


@dataclass
class Running:
    """A running process of either door. log: its lines so far."""

    process: subprocess.Popen[str]
    log: list[str]

    def told(self, what: str) -> str:
        """What stands behind `what` in its log."""
        return next(line for line in self.log if what in line).rsplit(what, 1)[1].strip()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)


@contextmanager
def process(module: str, store: str, core: int | None = None, **settings: str) -> Iterator[Running]:
    """`python -m module`, listening; killed at the end where the test did not stop it. core: the one it may use."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    command = [*pinned, sys.executable, "-m", module]
    started = subprocess.Popen(command, env=environment(store, **settings), stderr=subprocess.PIPE, text=True)
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.extend(started.stderr or ()), daemon=True)
    reader.start()
    try:
        until(lambda: any("listening on" in line for line in log) or started.poll() is not None)
        assert started.poll() is None, "".join(log)
        yield Running(started, log)
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()
        reader.join()
        if started.stderr:
            started.stderr.close()


class Predictor(Running):
    """A running HTTP predictor."""

    @property
    def url(self) -> str:
        return f"http://{self.told('listening on ')}"

    def ask(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Status and JSON (or text) of an answer."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
                return response.status, _value(response.read())
        except urllib.error.HTTPError as e:
            with e:
                return e.code, _value(e.read())

    def until_ready(self) -> None:
        until(lambda: self.ask("/v2/health/ready")[0] == 200)


@contextmanager
def running(store: str, core: int | None = None, **settings: str) -> Iterator[Predictor]:
    """An HTTP predictor that listens. core: the only one it may use."""
    with process("functions.predictor", store, core, **settings) as started:
        yield Predictor(started.process, started.log)


def until(true: Any) -> None:
    """Wait for a condition, with a deadline that only a broken program meets."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def _value(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError:
        return content.decode()
