"""Start and stop the laptop's platform as a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from eventing.errors import HeadraceError
from headrace.local import platform_state

START_S = 60.0  # a cold disk and a slow machine; a healthy start takes two to three
LOG_BYTES = 5_000_000
FULL_BYTES = 1_000_000  # below it not even the databases can be made
STOP_S = 60.0  # the platform itself gives requests and processes 15 s
# What holds no trainer; the trainers' image is this command's own environment.
FUNCTIONS_IMAGES = ("ghcr.io/headrace/predictor", "ghcr.io/headrace/functions")


def environment(home: Path, port: int, images: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """The environment of a platform's process, over that of this one."""
    return {
        **os.environ,
        "HEADRACE_HOME": str(home),
        "HEADRACE_PORT": str(port),
        "HEADRACE_IMAGES": "\n".join(f"{k}={v}" for k, v in images.items()),
        "HEADRACE_VALUES": "\n".join(f"{k}={v}" for k, v in values.items()),
    }


def functions_interpreter(beside: Path | None = None) -> dict[str, str]:
    """The interpreter for the images of predictor and functions: an environment without trainers, where there is one.

    `make setup` puts it beside the environment that this command runs from. Without it the functions run on this
    interpreter, which is right for them too, but proves less.
    """
    candidate = (beside or Path(sys.prefix)).parent / ".venv-functions" / "bin" / "python"
    return dict.fromkeys(FUNCTIONS_IMAGES, str(candidate)) if candidate.exists() else {}


def free_port(preferred: int) -> int:
    """`preferred` when nobody listens there, else 0: any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return 0
    return preferred


def command() -> list[str]:
    """What `headrace up` becomes."""
    return [sys.executable, "-m", "headrace.local"]


def start(home: Path, environ: Mapping[str, str]) -> platform_state.Running:
    """Start a platform in the background and return once it answers. Raises HeadraceError with its own last words.

    Who is interrupted while it waits, by Ctrl-C, leaves nothing behind.
    """
    platform_state.make(home)
    if (running := platform_state.read(home)) is not None:
        raise HeadraceError(
            f"a platform runs in {home} already, at {running.url} (process {running.pid}); use it, stop it with "
            "`headrace down`, or give another --home"
        )
    log = home / "platform.log"
    try:
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))  # the last one is kept, as for pods
        with log.open("ab") as out:
            begin = out.tell()
            process = subprocess.Popen(
                command(), env=dict(environ), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
    except OSError as e:
        raise HeadraceError(f"the platform cannot be started in {home}: {e}") from e
    try:
        return _answering(home, process, log, begin)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise


def _answering(home: Path, process: subprocess.Popen[bytes], log: Path, begin: int) -> platform_state.Running:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if (running := platform_state.read(home)) is not None and running.pid == process.pid:
            return running
        if process.poll() is not None:
            said = _last_words(log, begin) or f"it said nothing and ended with status {process.returncode}"
            raise HeadraceError(f"the platform did not start: {said}{_no_space(home)}")
        time.sleep(0.05)
    process.terminate()
    raise HeadraceError(f"the platform did not answer within {START_S:.0f} s; its log is {log}{_no_space(home)}")


def stop(home: Path) -> int | None:
    """Stop the platform in `home` and wait for its end: the process that it was; None when none runs.

    One that still starts is waited for, and stopped then. Raises HeadraceError when it hangs.
    """
    first = platform_state.holder(home)
    told: int | None = None
    deadline = time.monotonic() + STOP_S
    while (holder := platform_state.holder(home)) is not None:
        running = platform_state.read(home)
        if running is not None and told is None:
            told = running.pid
            os.kill(told, signal.SIGTERM)
        if time.monotonic() > deadline:
            raise HeadraceError(f"process {holder} did not stop within {STOP_S:.0f} s; its log is {home}/platform.log")
        time.sleep(0.05)
    return told or first


def wipe(home: Path) -> None:
    """Forget everything that a stopped platform kept."""
    shutil.rmtree(home)


def _last_words(log: Path, begin: int) -> str:
    with log.open("rb") as f:
        f.seek(begin)
        lines = f.read().decode(errors="replace").strip().splitlines()
    # Of two that are started at once, the one that goes on writes into the same log.
    said = [line for line in lines if " ERROR " in line] or lines
    return said[-1].rpartition(" ERROR ")[2] if said else ""


def _no_space(home: Path) -> str:
    """What a full disk keeps the platform from saying itself."""
    free = shutil.disk_usage(home).free
    return f"; no space is left on the device of {home} ({free:,} bytes)" if free < FULL_BYTES else ""
