"""A sink that keeps what it gets and answers as told: the fake at the process seam, for any test that sends events."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from cloudevents.core.v1.event import CloudEvent

from eventing import binding


@dataclass
class Answer:
    """What the sink says to one request."""

    status: int = 202
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    hang_up: bool = False
    """Whether the connection is closed without an answer."""


@dataclass
class Sink:
    """A running sink."""

    url: str
    answers: list[Answer]
    """Used up in order; the last one stays."""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0

    @property
    def events(self) -> list[CloudEvent]:
        return [binding.receive(headers, body)[0] for headers, body in list(self.requests)]


@contextmanager
def sink(answers: Sequence[Answer] = (), port: int = 0) -> Iterator[Sink]:
    """A sink on a free port, or on `port`; it answers 202 unless told otherwise."""
    its = Sink("", list(answers) or [Answer()])

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            its.connections += 1
            super().setup()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            its.requests.append((dict(self.headers.items()), body))
            answer = its.answers.pop(0) if len(its.answers) > 1 else its.answers[0]
            if answer.hang_up:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            """Keeps the tests' output to the tests."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", port), Handler) as server:
        its.url = f"http://127.0.0.1:{server.server_address[1]}/broker?x=1"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield its
        finally:
            server.shutdown()
            thread.join()
