"""The web server as a real process: drained by SIGTERM, gone with SIGKILL."""

from __future__ import annotations

import ctypes
import http.client
import platform
import signal
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from eventing import server
from eventing.errors import Misconfigured
from tests.eventing import serving

ECHO = "tests.eventing.serving"
TGKILL = {"x86_64": 234, "aarch64": 131}.get(platform.machine(), 234)  # older C libraries name it not


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
        tasks = [int(task.name) for task in Path(f"/proc/{child.pid}/task").iterdir()]
        other = next(task for task in tasks if task != child.pid)
        assert ctypes.CDLL(None, use_errno=True).syscall(TGKILL, child.pid, other, signal.SIGTERM) == 0
        assert child.wait(30) == 0


@pytest.mark.parametrize(("size", "kept"), [(2_000, True), (200_000, False)])
def test_a_refused_body_leaves_the_connection_usable_or_closes_it_in_words(size: int, kept: bool) -> None:
    with serving.process(ECHO) as (_, url):
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
        for _ in range(20):
            connection.request("POST", "/nowhere", b"x" * size)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 404
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


def test_requests_are_handled_at_once_up_to_the_threads() -> None:
    with serving.process(ECHO) as (_, url), ThreadPoolExecutor(4) as pool:
        assert [a[0] for a in pool.map(lambda i: serving.ask(url, "meet", id=str(i)), range(4))] == [200] * 4


def test_a_taken_port_is_a_setting_that_cannot_work() -> None:
    with serving.process(ECHO) as (_, url):
        port = urllib.parse.urlsplit(url).port
        assert port is not None
        with pytest.raises(Misconfigured, match="PORT"):
            server.serve(lambda *_: [], port)
