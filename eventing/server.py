"""The web server of every function: one WSGI app, one process, SIGTERM answers what is in flight.

Called from the `main()` of each function, the predictor among them.

Granian's own WSGI servers run the app in a child process. That child would go on after its parent's SIGKILL, hold a
second interpreter, and be forked from a process in which onnxruntime already has threads. So Granian's worker runs here
instead: one process, which takes its signals itself. These names of Granian are internal; a test starts a real process
on them, so that an upgrade which moves them is seen.

Source: granian 2.8, granian/server/mp.py, `_spawn_wsgi_worker`, and granian/wsgi.py, `_callback_wrapper`, which do the
same inside the child.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, cast

from granian._futures import _new_cbscheduler
from granian._granian import SocketHolder, WorkerSignal, WSGIWorker
from granian.log import LogLevels, configure_logging
from granian.wsgi import Response, ResponseIterWrap

from eventing.errors import Misconfigured

BLOCKING_THREADS = 8  # requests handled at once; more wait in order
BACKLOG = 1024  # connections that the kernel holds for us
# At once. Granian's own default, what its threads can work on, counts idle ones too: clients that keep theirs would
# shut the others out, probes among them.
CONNECTIONS = 10_000
IDLE_THREAD_S = 30  # after which a thread that handles nothing ends

log = logging.getLogger(__name__)


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


Direct = Callable[[Mapping[str, Any]], Answer | None]


def serve(
    app: Callable[..., Any],
    port: int,
    host: str = "127.0.0.1",
    *,
    direct: Direct | None = None,
    blocking_threads: int = BLOCKING_THREADS,
    drain_s: float = 0.0,
    on_listening: Callable[[int], object] | None = None,
    on_stopping: Callable[[], object] | None = None,
    on_drained: Callable[[], object] | None = None,
) -> None:
    """Serves a WSGI app in this process until SIGTERM or SIGINT, then answers what is in flight and returns.

    port: 0 for any free one; on_listening is told which it became. direct: asked before the app, with the request's own
    keys of the WSGI environment alone; None from it hands the request to the app. blocking_threads: requests handled at
    once. drain_s: how long requests
    that arrive after the signal are still taken, until every router knows; a second signal cuts it short. on_stopping:
    called at the signal, before the drain; on_drained: when the last answer is out. All of them run in this, the main
    thread. Raises Misconfigured when the port is taken.
    """
    try:
        listener = socket.create_server((host, port), backlog=BACKLOG)
    except OSError as e:
        raise Misconfigured("PORT", port, f"a port that is free on {host} ({e.strerror})") from e
    bound = listener.getsockname()[1]
    configure_logging(LogLevels.warning)
    stop, drained = WorkerSignal(), threading.Event()
    stop.add_cb(drained.set)
    # Of all that may wake a thread, this alone may be called where a signal finds it.
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.put(number))
    # Any: the type stubs of these two are older than the extension.
    worker = cast(Any, WSGIWorker)(
        1,  # worker's number
        (None, cast(Any, SocketHolder)(listener.detach(), False, BACKLOG)),  # detached: the worker closes it
        None,  # no pipe to a parent
        1,  # Rust thread for the connections: Python is the limit, not they
        2,  # Rust threads for blocking calls
        blocking_threads,
        IDLE_THREAD_S,
        CONNECTIONS,
        "auto",  # HTTP/1.1, and HTTP/2 for who begins with it
        None,
        None,
        None,  # no static files
        *(False, None, None, None, "tls1.3", None, [], False),  # TLS is the mesh's or the gateway's
        (None, None),  # our metrics are our own
    )
    loop = asyncio.new_event_loop()  # the scheduler wants one; a WSGI app never runs on it
    worker.serve_mtr(_new_cbscheduler(loop, _handler(app, direct), impl_asyncio=True), loop, stop)
    log.info("listening on %s:%d", host, bound)
    if on_listening:
        on_listening(bound)
    log.info("%s: stopping", signal.Signals(signals.get()).name)
    if on_stopping:
        on_stopping()
    with suppress(queue.Empty):
        signals.get(timeout=drain_s)  # asked twice: whoever asks is in a hurry
    stop.set()
    drained.wait()
    loop.close()
    if on_drained:
        on_drained()


def _handler(app: Callable[..., Any], direct: Direct | None) -> Callable[[Any, dict[str, Any]], int]:
    """What Granian calls for each request, in place of its own: without the process's environment in the request's."""
    common = {
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
            # hyper adds Content-Length to a body that is whole.
            proto.response_bytes(answer.status, [("Content-Type", answer.content_type), *answer.headers], answer.body)
            return answer.status
        response = Response()
        body = app(common | scope, response)
        if isinstance(body, list):
            proto.response_bytes(response.status, response.headers, b"".join(body))
        else:
            proto.response_iter(response.status, response.headers, ResponseIterWrap(body))
        return int(response.status)

    return handle
