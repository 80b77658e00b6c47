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
    return [sys.executable, "-m", "headrace.local.platform"]


def start(home: Path, environ: Mapping[str, str]) -> platform_state.Running:
    """Start a platform in the background and return once it answers. Raises HeadraceError with its own last words."""
    log = home / "platform.log"
    try:
        home.mkdir(parents=True, exist_ok=True)
        log.touch()
    except OSError as e:
        raise HeadraceError(f"{home} cannot be a home: {e.strerror}; give another --home, where you may write") from e
    if (running := platform_state.read(home)) is not None:
        raise HeadraceError(
            f"a platform runs in {home} already, at {running.url} (process {running.pid}); use it, stop it with "
            "`headrace down`, or give another --home"
        )
    if log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))  # the last one is kept, as for pods
    with log.open("ab") as out:
        begin = out.tell()
        process = subprocess.Popen(
            command(), env=dict(environ), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if (running := platform_state.read(home)) is not None and running.pid == process.pid:
            return running
        if process.poll() is not None:
            raise HeadraceError(f"the platform did not start: {_last_words(log, begin)}")
        time.sleep(0.05)
    process.terminate()
    raise HeadraceError(f"the platform did not answer within {START_S:.0f} s; its log is {log}")


def stop(home: Path) -> platform_state.Running | None:
    """Stop the platform in `home` and wait for its end; None when none runs. Raises HeadraceError when it hangs."""
    running = platform_state.read(home)
    if running is None:
        return None
    os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        if not platform_state.held(home):
            return running
        time.sleep(0.05)
    raise HeadraceError(f"process {running.pid} did not stop within {STOP_S:.0f} s; its log is {home}/platform.log")


def wipe(home: Path) -> None:
    """Forget everything that a stopped platform kept."""
    shutil.rmtree(home)


def _last_words(log: Path, begin: int) -> str:
    with log.open("rb") as f:
        f.seek(begin)
        lines = f.read().decode(errors="replace").strip().splitlines()
    return lines[-1].rpartition(" ERROR ")[2] if lines else "it said nothing"
