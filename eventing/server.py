"""The web server of every function: one WSGI app, one process, SIGTERM answers what is in flight.

Called from the `main()` of each function, the predictor among them; `eventing.worker` is Granian's part of it.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

from eventing.errors import Misconfigured
from eventing.signals import Signals
from eventing.worker import BACKLOG, Direct, Worker

BLOCKING_THREADS = 8  # requests handled at once; more wait in order

log = logging.getLogger(__name__)


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
    once. drain_s: how long requests that arrive after the signal are still taken, until every router knows; a second
    signal cuts it short. on_stopping: called at the signal, before the drain; on_drained: when the last answer is out.
    All of them run in this, the main thread. Raises Misconfigured when the port is taken.
    """
    try:
        listener = socket.create_server((host, port), backlog=BACKLOG)
    except OSError as e:
        raise Misconfigured("PORT", port, f"a port that is free on {host} ({e.strerror})") from e
    # Taken over by each connection. An answer that goes out in two parts, head and body, would else wait 40 ms in the
    # middle for the client's delayed acknowledgement of the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bound = listener.getsockname()[1]
    drained = threading.Event()
    signals = Signals()
    worker = Worker(app, direct, listener, blocking_threads)
    worker.start(drained.set)
    log.info("listening on %s:%d", host, bound)
    if on_listening:
        on_listening(bound)
    log.info("%s: stopping", signals.next())
    if on_stopping:
        on_stopping()
    signals.next(drain_s)  # asked twice: whoever asks is in a hurry
    worker.stop()
    drained.wait()
    if on_drained:
        on_drained()
