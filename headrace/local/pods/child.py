"""A child process: in a session of its own, its output in a file, its exit heard of without a poll.

Used by `headrace.local.pods.pod`, which gives it a container's meaning. Nothing here knows Kubernetes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

# Below the range from which Linux (32768) and macOS (49152) take the ports of outgoing connections: a port that was
# free at the test is not lent to somebody's client before the child binds it.
FIRST_PORT, LAST_PORT = 20000, 32767
KILLED_BY = 128  # exit code of a process that signal n ended is 128 + n, as container runtimes report it


class Child:
    """One started process and all that it starts.

    exited: its exit code, once it is over; by then its whole process group has been killed too.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._listen()

    @property
    def pid(self) -> int:
        """Also the id of its process group and session."""
        return self._process.pid

    def terminate(self) -> None:
        """Ask it to end. Like a container runtime, ask the main process alone: it knows in which order its own end."""
        self._signal(os.kill, signal.SIGTERM)

    def kill(self) -> None:
        """End it and everything in its process group."""
        self._signal(os.killpg, signal.SIGKILL)

    def _signal(self, send: Callable[[int, int], None], number: int) -> None:
        if not self.exited.done():  # afterwards the id may be another process's
            with contextlib.suppress(ProcessLookupError):
                send(self._process.pid, number)

    def _listen(self) -> None:
        try:
            pidfd = os.pidfd_open(self._process.pid)
        except (AttributeError, OSError):  # not Linux: a thread that waits
            threading.Thread(target=self._wait, name=f"wait-{self.pid}", daemon=True).start()
        else:
            self._loop.add_reader(pidfd, self._on_exit, pidfd)

    def _on_exit(self, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        os.close(pidfd)
        # Before it is reaped: until then its id, which is its group's too, cannot be given to another process.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._ended(self._process.wait())

    def _wait(self) -> None:
        status = self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(RuntimeError):  # the loop was closed first
            self._loop.call_soon_threadsafe(self._ended, status)

    def _ended(self, status: int) -> None:
        if not self.exited.done():
            self.exited.set_result(status if status >= 0 else KILLED_BY - status)


def spawn(argv: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> Child:
    """Start a process in `folder`, with nothing of ours but `environment`; its output goes to the end of `log`.

    Raises OSError when it cannot be executed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        # Append mode matters: the file can be cut short while the child writes (`headrace.local.pods.pod_log`).
        process = subprocess.Popen(
            argv,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            close_fds=True,
            start_new_session=True,
        )
    return Child(process)


def free_port(taken: Collection[int]) -> int:
    """A TCP port of 127.0.0.1 that nothing listens on and that is not in `taken`. Raises OSError when there is none."""
    for port in random.sample(range(FIRST_PORT, LAST_PORT + 1), k=256):
        if port in taken:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no free port between {FIRST_PORT} and {LAST_PORT}")
