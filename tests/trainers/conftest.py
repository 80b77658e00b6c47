"""What the trainers' tests share: small tables, and a broker that only listens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest


class Sink:
    """A real HTTP sink. status: what it answers. events: what it took, in order, attributes and data."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.status = 202
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if sink.status < 300:
                    attributes = {k[3:].lower(): v for k, v in self.headers.items() if k.lower().startswith("ce-")}
                    sink.events.append({**attributes, "data": json.loads(body)})
                self.send_response(sink.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet: the test's output is the test's."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/broker"
        # It looks for its end every 10 ms: with the default of 500 the tests would wait for nothing else.
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def of(self, noun: str) -> list[dict[str, Any]]:
        """Events of one type, such as `model.trained`."""
        return [event for event in self.events if event["type"] == f"dev.headrace.{noun}.v1"]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    it = Sink()
    yield it
    it.close()


MIXED_HEADER = "größe,Farbe der Tür,temp.c,flag,kind"


def mixed_rows(rows: int, seed: int = 0) -> list[str]:
    """Rows of numbers, categories and gaps in which `kind` (yes, no) can be learned."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(rows):
        size, colour = float(random.normal()), str(random.choice(["rot", "blau", "grün", ""], p=[0.4, 0.3, 0.2, 0.1]))
        celsius = "" if random.random() < 0.2 else f"{random.normal(10, 4):.3f}"
        flag = str(random.choice(["True", "False"]))
        likely = size + (colour == "rot") + 0.3 * float(random.normal()) > 0.4
        made.append(f"{size:.5f},{colour},{celsius},{flag},{'yes' if likely else 'no'}")
    return made


@pytest.fixture
def mixed_csv(tmp_path: Path) -> Path:
    """A file of 300 rows; the target is `kind`."""
    file = tmp_path / "mixed.csv"
    file.write_text("\n".join([MIXED_HEADER, *mixed_rows(300)]) + "\n", encoding="utf-8")
    return file
