"""No process outlives its platform: what a kill -9 of the platform leaves is found by a mark in its environment.

Every process that the platform starts, and all that those start, carry HEADRACE_POD_HOME and HEADRACE_POD_RUN. Twice
they are looked for:
- at once, by the watchdog: a process of its own session that sleeps on a pipe from the platform. However the platform
  ends, the system closes the pipe; the watchdog kills what carries its run and ends.
- at the next start, before anything is reconciled: what carries this home and another run is killed (the watchdog may
  have been killed as well).

Rejected: PR_SET_PDEATHSIG. It is Linux alone, needs code between fork and exec (unsafe beside threads) or a launcher
(2 to 14 ms of every cold start), follows the thread that forked rather than the process, and spares grandchildren.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

HOME_MARK = "HEADRACE_POD_HOME"
RUN_MARK = "HEADRACE_POD_RUN"
POD_MARK = "HEADRACE_POD_UID"
ROUNDS = 20  # a process may start another between the look and the kill
ROUND_S = 0.05


def marks(home: Path, run: str, pod_uid: str) -> dict[str, str]:
    """What a process of this platform carries in its environment."""
    return {HOME_MARK: str(home), RUN_MARK: run, POD_MARK: pod_uid}


def kill_leftovers(home: Path, run: str) -> int:
    """Kill what earlier platforms of this home left; how many processes that were. `run`: this platform's, spared."""
    return _kill(lambda marks: marks.get(HOME_MARK) == str(home) and marks.get(RUN_MARK) != run)


def kill_run(run: str) -> int:
    """Kill all that one platform started; how many processes that were."""
    return _kill(lambda marks: marks.get(RUN_MARK) == run)


def start_watchdog(run: str) -> subprocess.Popen[bytes]:
    """The watchdog of this process; closing its stdin, or the end of this process, sets it to work and ends it."""
    return subprocess.Popen(
        [sys.executable, "-I", __file__, run],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        close_fds=True,
        start_new_session=True,
    )


def _kill(ours: Callable[[Mapping[str, str]], bool]) -> int:
    killed: set[int] = set()
    for _ in range(ROUNDS):
        found = [process for process in psutil.process_iter() if ours(_environment(process))]
        if not found:
            break
        for process in found:
            killed.add(process.pid)
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=ROUND_S)
    return len(killed)


def _environment(process: psutil.Process) -> Mapping[str, str]:
    """Empty for a process that is over, a zombie, or not ours to read."""
    try:
        return process.environ() if process.pid != os.getpid() else {}
    except (psutil.Error, OSError):
        return {}


def main() -> int:
    """The watchdog: `python orphans.py RUN`, until its standard input ends."""
    # A Ctrl-C or a shutdown is for the platform to handle; the watchdog ends after it, whatever it does.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while sys.stdin.buffer.read(1):
        pass
    kill_run(sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
