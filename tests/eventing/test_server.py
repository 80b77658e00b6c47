"""The web server as a real process: drained by SIGTERM, gone with SIGKILL."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from eventing import server
from eventing.errors import Misconfigured
from tests import signals
from tests.eventing import serving

ECHO = "tests.eventing.serving"


def test_what_is_in_flight_is_answered_after_sigterm_and_the_exit_is_0() -> None:
    with serving.process(ECHO) as (child, url), ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(serving.ask, url, "slow", id=str(i)) for i in range(4)]
        time.sleep(0.4)
        child.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        child.send_signal(signal.SIGTERM)  # an impatient second one changes nothing
        assert [a.result()[0] for a in answers] == [200] * 4
        assert child.wait(30) == 0


def test_a_signal_ends_it_whichever_thread_the_system_gives_it_to() -> None:
    with serving.process(ECHO) as (child, url):
        assert serving.ask(url, "echo", id="1")[0] == 200
        signals.to_another_thread(child.pid, signal.SIGTERM)
        assert child.wait(30) == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/nowhere", 404), ("GET", "/nowhere", 404), ("GET", "/health/liveness", 200)],
)
@pytest.mark.parametrize(("size", "kept"), [(2_000, True), (2_000_000, True)])
def test_a_body_that_nobody_read_leaves_the_connection_usable_or_closes_it_in_words(
    method: str, path: str, status: int, size: int, kept: bool
) -> None:
    with serving.process(ECHO) as (_, url):
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
        for _ in range(20):
            connection.request(method, path, b"x" * size)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
            assert (answer.headers.get("Connection") == "close") is not kept
        connection.close()


def test_an_idle_connection_does_not_hold_up_the_end() -> None:
    with serving.process(ECHO) as (child, url):
        idle = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
        idle.request("GET", "/health/liveness")
        idle.getresponse().read()
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
        idle.close()


# A server that asks itself over a kept connection, and prints what it holds the answering socket to.
ASKS_ITSELF = """
import os, signal, socket, threading
from pathlib import Path
from eventing import server

def app(environ, start_response):
    start_response("200 OK", [])
    return iter([b"in a second part"])

def look(port):
    try:
        client = socket.create_connection(("127.0.0.1", port), 30)
        client.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        client.recv(1000)
        for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
            try:
                found = socket.socket(fileno=os.dup(number))
                if found.getpeername() == client.getsockname():
                    print(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            except OSError:
                pass  # no socket, or one that nobody is connected to
    finally:
        os.kill(os.getpid(), signal.SIGTERM)

server.serve(app, 0, on_listening=lambda port: threading.Thread(target=look, args=(port,)).start())
"""


def test_an_answer_in_two_parts_is_not_held_back_between_them() -> None:
    """Until the client has acknowledged the first, 40 ms later: each answer by Flask would take that."""
    done = subprocess.run([sys.executable, "-c", ASKS_ITSELF], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["1"]


def test_idle_connections_shut_nobody_out() -> None:
    with serving.process(ECHO) as (_, url), ExitStack() as kept:
        for _ in range(20 * server.BLOCKING_THREADS):
            idle = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
            kept.callback(idle.close)
            idle.request("GET", "/health/liveness")
            assert idle.getresponse().read()


def test_it_is_one_process_so_sigkill_leaves_nothing() -> None:
    with serving.process(ECHO) as (child, _):
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
        assert children.read_text().split() == []
        child.kill()
        assert child.wait(30) == -signal.SIGKILL


def test_large_and_chunked_bodies_meet_the_limit() -> None:
    with serving.process(ECHO) as (_, url):
        assert serving.ask(url, "echo", "x" * 2000)[0] == 413
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
        headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "echo"}
        connection.request("POST", "/", iter([b"x" * 600] * 4), headers, encode_chunked=True)
        assert connection.getresponse().status == 413
        connection.close()


def test_a_body_without_end_is_refused_in_words_to_whom_reads_them() -> None:
    with serving.process(ECHO) as (_, url):
        at = urllib.parse.urlsplit(url)
        connection = socket.create_connection((at.hostname, at.port), 30)
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        with suppress(OSError):
            while True:
                connection.sendall(b"x" * 1_000_000)
        # What it had sent behind the close is lost, and with it, on some systems, the answer.
        with suppress(OSError):
            assert connection.recv(12) in (b"HTTP/1.1 404", b"")
        connection.close()
        assert serving.ask(url, "echo", id="1")[0] == 200


def _half_sent(url: str, head: str, length: int, body: bytes) -> socket.socket:
    """A connection on which a request of `length` bytes has begun, with `body` as its beginning."""
    at = urllib.parse.urlsplit(url)
    connection = socket.create_connection((at.hostname, at.port), 30)
    connection.sendall(f"{head}\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode() + body)
    return connection


def test_an_event_that_was_cut_on_its_way_is_not_handled() -> None:
    """Text that is cut is text: nothing but its length says so."""
    attributes = "ce-specversion: 1.0\r\nce-id: 1\r\nce-source: /s\r\nce-type: echo"
    head = f"POST / HTTP/1.1\r\n{attributes}\r\nContent-Type: text/plain"
    with serving.process(ECHO) as (_, url), _half_sent(url, head, 20, b"the first half") as connection:
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400")


def test_clients_who_never_send_what_they_told_do_not_hold_every_thread() -> None:
    with serving.process(ECHO) as (_, url), ExitStack() as kept:
        for _ in range(8):  # of four threads, all would wait for the rest
            kept.enter_context(_half_sent(url, "POST /nowhere HTTP/1.1", 100, b"x"))
        assert serving.ask(url, "echo", id="1")[0] == 200


def test_requests_are_handled_at_once_up_to_the_threads() -> None:
    with serving.process(ECHO) as (_, url), ThreadPoolExecutor(4) as pool:
        assert [a[0] for a in pool.map(lambda i: serving.ask(url, "meet", id=str(i)), range(4))] == [200] * 4


def test_a_taken_port_is_a_setting_that_cannot_work() -> None:
    with serving.process(ECHO) as (_, url):
        port = urllib.parse.urlsplit(url).port
        assert port is not None
        with pytest.raises(Misconfigured, match="PORT"):
            server.serve(lambda *_: [], port)
