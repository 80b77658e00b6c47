"""Granian's WSGI worker in this process, and its requests as a WSGI application sees them.

Used by `eventing.server` alone. Granian's own servers run the app in a child process. That child would go on after its
parent's SIGKILL, hold a second interpreter, and be forked from a process in which onnxruntime already has threads. So
the worker runs here instead. The extension module is loaded without the package around it, whose import of a command
line, of multiprocessing and of asyncio takes 0.1 s of every cold start. The names of Granian used here are internal; a
test starts a real process on them, so that an upgrade which moves them is seen.

Source: granian 2.8, granian/server/mp.py, `_spawn_wsgi_worker`, granian/wsgi.py, `_callback_wrapper`, and
granian/_futures.py, which do the same inside the child.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, Protocol

BACKLOG = 1024  # connections that the kernel holds for us
# At once. Granian's own default, what its threads can work on, counts idle ones too: clients that keep theirs would
# shut the others out, probes among them.
CONNECTIONS = 10_000
IDLE_THREAD_S = 30  # after which a thread that handles nothing ends
REST_SHARE = 16  # one thread of so many may wait for the rest of a refused request
REST_WAIT_S = 0.1  # that others wait for that: what is on its way already is read sooner
REST_BYTES = 32 * 1024 * 1024  # of a refused request: twice what a predictor takes, 10 ms of one thread
PART_BYTES = 256 * 1024
EXTENSION = "granian._granian"


class Answer(Protocol):
    """What `direct` gives: a response whose body is whole."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...
    @property
    def content_type(self) -> str: ...
    @property
    def headers(self) -> tuple[tuple[str, str], ...]: ...


Direct = Callable[[dict[str, Any]], Answer | None]
"""Takes the request's own keys of the WSGI environment; None hands the request to the application."""


class Worker:
    """The worker on a listening socket, from `start` until `stop`. threads: requests handled at once."""

    def __init__(self, app: Callable[..., Any], direct: Direct | None, listener: socket.socket, threads: int) -> None:
        granian = _extension()
        logging.getLogger("_granian").setLevel(logging.WARNING)  # it tells of each start and stop
        self._signal = granian.WorkerSignal()
        self._loop = _NoLoop()
        self._callback = granian.CallbackScheduler(self._loop, _handler(app, direct, threads), None, None, None)
        self._worker = granian.WSGIWorker(
            1,  # worker's number
            (None, granian.SocketHolder(listener.detach(), False, BACKLOG)),  # detached: the worker closes it
            None,  # no pipe to a parent
            1,  # Rust thread for the connections: Python is the limit, not they
            2,  # Rust threads for blocking calls
            threads,
            IDLE_THREAD_S,
            CONNECTIONS,
            "auto",  # HTTP/1.1, and HTTP/2 for who begins with it
            None,
            None,
            None,  # no static files
            *(False, None, None, None, "tls1.3", None, [], False),  # TLS is the mesh's or the gateway's
            (None, None),  # our metrics are our own
        )

    def start(self, on_drained: Callable[[], object]) -> None:
        """Take requests from now on. on_drained: called when, after `stop`, the last one is answered."""
        self._signal.add_cb(on_drained)
        self._worker.serve_mtr(self._callback, self._loop, self._signal)

    def stop(self) -> None:
        """Take no more connections, and answer what is in flight."""
        self._signal.set()


class _NoLoop:
    """In place of the event loop that Granian's scheduler holds for ASGI applications; a WSGI one never runs on it."""

    def call_soon(self, *_: object, **__: object) -> None:
        raise NotImplementedError("a WSGI application runs on no event loop")

    call_soon_threadsafe = call_soon


class _Started:
    """PEP 3333's start_response, which keeps what it is told."""

    __slots__ = ("headers", "status")

    def __init__(self) -> None:
        self.status = 500
        self.headers: list[tuple[str, str]] = []

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
        self.status = int(status[:3])
        self.headers = headers


class _Body:
    """A body that comes in parts, as Granian's worker iterates and closes it."""

    __slots__ = ("_parts", "_source")

    def __init__(self, source: Iterable[bytes]) -> None:
        self._source = source
        self._parts: Iterator[bytes] = iter(source)

    def __next__(self) -> bytes:
        return next(self._parts)

    def close(self) -> None:
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


def _handler(app: Callable[..., Any], direct: Direct | None, threads: int) -> Callable[[Any, dict[str, Any]], int]:
    """What the worker calls for each request. Unlike Granian's own it copies no process environment into it."""
    readers = threading.BoundedSemaphore(max(1, threads // REST_SHARE))
    common: Mapping[str, Any] = {
        "SCRIPT_NAME": "",
        "wsgi.errors": sys.stderr,
        "wsgi.input_terminated": True,
        "wsgi.multiprocess": False,
        "wsgi.multithread": True,
        "wsgi.run_once": False,
        "wsgi.version": (1, 0),
    }

    def handle(proto: Any, scope: dict[str, Any]) -> int:
        answer = direct(scope) if direct is not None else None
        if answer is not None:
            headers = [("Content-Type", answer.content_type), *answer.headers]
            if answer.status >= 400 or scope["REQUEST_METHOD"] != "POST":
                _take_rest(scope, headers, readers)
            # hyper adds Content-Length to a body that is whole.
            proto.response_bytes(answer.status, headers, answer.body)
            return answer.status
        started = _Started()
        body = app({**common, **scope}, started)
        if started.status >= 400 or scope["REQUEST_METHOD"] != "POST":
            _take_rest(scope, started.headers, readers)
        if isinstance(body, list):
            proto.response_bytes(started.status, started.headers, b"".join(body))
        else:
            proto.response_iter(started.status, started.headers, _Body(body))
        return started.status

    return handle


def _take_rest(scope: Mapping[str, Any], headers: list[tuple[str, str]], readers: threading.BoundedSemaphore) -> None:
    """See to a body that nobody read, as of a refusal or a GET: it is read to its end, else the close is told.

    hyper closes a connection whose request was not read to its end. A client that was not told sends its next request
    into it; one that is still sending hears of a broken pipe, and never what it was refused for. readers: who may wait
    for such a body, which may never come: clients who send slowly must not be all that the process does.
    """
    if "HTTP_TRANSFER_ENCODING" not in scope and scope.get("CONTENT_LENGTH", "0") == "0":
        return
    if readers.acquire(timeout=REST_WAIT_S):
        try:
            if _passes_over(scope["wsgi.input"]):
                return
        finally:
            readers.release()
    headers.append(("Connection", "close"))


def _passes_over(body: Any) -> bool:
    """Whether the body had an end within REST_BYTES."""
    left = REST_BYTES
    while left > 0:
        part = len(body.read(min(left, PART_BYTES)))
        if part == 0:
            return True
        left -= part
    return False


def _extension() -> ModuleType:
    """Granian's extension module, its package left aside."""
    if EXTENSION in sys.modules:
        return sys.modules[EXTENSION]
    package = importlib.util.find_spec("granian")
    places = package.submodule_search_locations if package is not None else None
    spec = importlib.machinery.PathFinder.find_spec(EXTENSION, list(places)) if places else None
    if spec is None or spec.loader is None:
        raise ImportError(f"{EXTENSION} is not installed; expected granian 2.8 or later")
    module = importlib.util.module_from_spec(spec)
    sys.modules[EXTENSION] = module
    spec.loader.exec_module(module)
    return module
