"""SIGTERM and SIGINT for the main thread of a server, whichever thread of the process the system gives them to.

Used by `eventing.server` and by the predictor's gRPC door.
"""

from __future__ import annotations

import signal
import socket


class Signals:
    """From its making on, both are taken; the main thread makes it, and waits by `next`.

    By a file descriptor: the system may give a signal to any thread, and Python calls a handler in the main thread
    alone, once that runs. One that waits in a lock or a queue would sleep on.
    """

    def __init__(self) -> None:
        self._waiting, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: None)

    def next(self, within_s: float | None = None) -> str | None:
        """The name of the next one, None where none comes in time."""
        # 0 would mean not to wait at all, and an error.
        self._waiting.settimeout(within_s if within_s is None else max(within_s, 0.001))
        try:
            return signal.Signals(self._waiting.recv(1)[0]).name
        except TimeoutError:
            return None
