"""A real S3 server for tests, SeaweedFS from PyPI, and a door before it that counts, and that can be shut.

One server for all tests of a run, started by the first that asks for it; every test has a bucket of its own.
"""

from __future__ import annotations

import http.client
import http.server
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

KEYS = {"AWS_ACCESS_KEY_ID": "headrace", "AWS_SECRET_ACCESS_KEY": "headrace-secret", "AWS_DEFAULT_REGION": "us-east-1"}
# Not SlowDown: at that word s3fs tries five times more, over four seconds.
AWAY = b"<?xml version='1.0'?><Error><Code>ServiceUnavailable</Code><Message>Service is unable.</Message></Error>"


@dataclass
class S3:
    """A running service, seen through its door."""

    endpoint: str
    requests: list[str] = field(default_factory=list)
    """Method and path of each, in order."""
    shut: bool = False
    """Whether all requests are answered 503."""
    lose_answers: int = 0
    """So many of the next PUTs are done, and the client hears 500."""

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to reach it. Two tries: a test does not wait for five."""
        return KEYS | {"AWS_ENDPOINT_URL": self.endpoint, "AWS_MAX_ATTEMPTS": "2", "AWS_EC2_METADATA_DISABLED": "true"}


@contextmanager
def running() -> Iterator[S3]:
    """The server, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="headrace-s3-") as folder:
        port = _free_ports(1)[0]
        with subprocess.Popen(
            _command(Path(folder), port), env={**os.environ, **KEYS, "HOME": folder},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as server:  # fmt: skip
            try:
                _wait_until_ready(server, port)
                with _door(port) as its:
                    yield its
            finally:
                server.send_signal(signal.SIGKILL)


def _command(folder: Path, port: int) -> list[str]:
    """Master, volumes, filer and S3 in one process, each on free ports of the loopback."""
    others = ("master.port", "volume.port", "filer.port")
    numbers = iter(_free_ports(2 * len(others) + 1))
    ports = [f"-{name}{kind}={next(numbers)}" for name in others for kind in ("", ".grpc")]
    fixed = {
        "dir": folder, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "filer.localSocket": folder / "filer.sock",
        "s3.port": port, "s3.port.grpc": next(numbers), "s3.port.iceberg": 0, "s3.port.lance": 0,
        "s3.localSocket": folder / "s3.sock", "master.volumeSizeLimitMB": 64, "volume.max": 10,
        "master.telemetry": "false",
    }  # fmt: skip
    weed = Path(sys.executable).parent / "weed"
    return [str(weed), "server", "-s3", *ports, *(f"-{key}={value}" for key, value in fixed.items())]


def _free_ports(number: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, deadline_s: float = 120) -> None:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        assert server.poll() is None, "the S3 server ended"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise AssertionError("the S3 server did not become ready")


@contextmanager
def _door(port: int) -> Iterator[S3]:
    """A proxy before the server; the Host stays as it is signed."""
    its = S3("")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            its.requests.append(f"{self.command} {self.path}")
            if its.shut:
                self.answer(503, [("Content-Type", "application/xml")], AWAY)
                return
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            reply = upstream.getresponse()
            content = reply.read()
            upstream.close()
            if self.command == "PUT" and its.lose_answers > 0:
                its.lose_answers -= 1
                self.answer(500, [("Content-Type", "application/xml")], b"<Error><Code>InternalError</Code></Error>")
                return
            kept = [(k, v) for k, v in reply.getheaders() if k.lower() not in ("connection", "transfer-encoding")]
            self.answer(reply.status, kept, content)

        def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            if "content-length" not in {name.lower() for name, _ in headers}:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on

        def log_message(self, *_: object) -> None:
            """Keeps the tests' output to the tests."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    its.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield its
    finally:
        server.shutdown()
        server.server_close()
