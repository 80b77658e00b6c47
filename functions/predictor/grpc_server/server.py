"""The gRPC server of the door: one port, cleartext HTTP/2, from the open port to the last answer.

What `eventing.server` is for HTTP, with the same hooks.
Source: grpc.io, Python API, `grpc.server`; github.com/grpc/grpc, include/grpc/impl/channel_arg_names.h.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc

from eventing.errors import Misconfigured
from eventing.signals import Signals

ANSWER_S = 600.0  # for requests in flight, when the drain is over: the longest that Knative lets a request take
MOST_BYTES = 2**31 - 1  # what an option of grpc's holds

log = logging.getLogger(__name__)


def serve(
    services: Sequence[Callable[[grpc.Server], object]],
    port: int,
    host: str,
    *,
    threads: int,
    max_message_bytes: int,
    drain_s: float,
    on_listening: Callable[[int], object],
    on_stopping: Callable[[], object],
    on_drained: Callable[[], object],
) -> None:
    """Serves until SIGTERM or SIGINT, then answers what is in flight and returns. To be called from the main thread.

    services: each adds itself to the server. port: 0 for any free one; on_listening is told which it became. threads:
    calls handled at once. max_message_bytes: the longest request, as sent and once it is decompressed; a longer one is
    RESOURCE_EXHAUSTED. drain_s: how long calls that arrive after the signal are still taken; a second signal cuts it
    short. on_stopping: called at the signal, before the drain; on_drained: when the last answer is out. Raises
    Misconfigured when the port is taken.
    """
    server = grpc.server(
        ThreadPoolExecutor(threads, "grpc"),
        options=(
            ("grpc.max_receive_message_length", min(max_message_bytes, MOST_BYTES)),
            ("grpc.max_send_message_length", -1),  # the client says what it takes
            # Two processes on one port would share its connections, where the second one is a mistake.
            ("grpc.so_reuseport", 0),
        ),
    )
    for add in services:
        add(server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as e:
        raise Misconfigured("PORT", port, f"a port that is free on {host}") from e
    signals = Signals()
    server.start()
    log.info("listening on %s:%d", host, bound)
    on_listening(bound)
    log.info("%s: stopping", signals.next())
    on_stopping()
    signals.next(drain_s)  # asked twice: whoever asks is in a hurry
    server.stop(ANSWER_S).wait()
    on_drained()
