"""A function as a real process: `python -m tests.eventing.serving`, and how a test starts and asks it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cloudevents.core.v1.event import CloudEvent

from eventing import receiver
from eventing.errors import Rejected, RetryLater

MEETING = threading.Barrier(4)  # passed only by as many events at once
HOUSE = Path(__file__).parent.parent.parent


def handle(event: CloudEvent) -> CloudEvent | None:
    """Does what the event's type says."""
    match event.get_type():
        case "reject":
            raise Rejected("it can never be", ["one is 1; expected 2", "two is 2; expected 3"])
        case "later":
            raise RetryLater("not now", after_s=6.2)
        case "fault":
            raise KeyError("a secret")
        case "meet":
            MEETING.wait(30)
        case "slow":
            time.sleep(1.0)
        case "quiet":
            return None
    attributes = {"specversion": "1.0", "id": f"re-{event.get_id()}", "source": "/echo", "type": "echo"}
    return CloudEvent(attributes, event.get_data())


@contextmanager
def process(
    module: str, environ: Mapping[str, str] | None = None, port: int = 0
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The module as a process that listens on a port, 0: any, and its URL; killed in the end if it still runs."""
    port = port or free_port()
    child = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=HOUSE,
        env={**os.environ, **(environ or {}), "PORT": str(port)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until_ready(child, port)
        yield child, f"http://127.0.0.1:{port}/"
    finally:
        child.kill()
        child.communicate()


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_ready(child: subprocess.Popen[str], port: int, deadline_s: float = 60) -> None:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        assert child.poll() is None, child.stderr and child.stderr.read()
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/readiness", timeout=5).close()
            return
        except urllib.error.URLError:
            time.sleep(0.02)
    raise AssertionError("the process did not become ready")


def post(url: str, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Status, headers with lower-case names, and body of a POST."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, {k.lower(): v for k, v in e.headers.items()}, e.read()


def ask(url: str, type: str, data: object = None, id: str = "1") -> tuple[int, dict[str, str], bytes]:
    """An event of this type, in the binary mode."""
    headers = {"ce-specversion": "1.0", "ce-id": id, "ce-source": "/tests", "ce-type": type}
    return post(url, headers, json.dumps(data).encode())


if __name__ == "__main__":
    receiver.serve(
        receiver.create_app(handle, "echo", max_body_bytes=1000), int(os.environ["PORT"]), blocking_threads=4
    )
