"""Which platform runs in a home, and what is said of one that is not there, not yet, or not anybody's."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventing.errors import HeadraceError
from headrace import daemon
from headrace.config import Config
from headrace.local import platform_state
from headrace.place import NotHere, Place

# Takes the home, answers after a while, and ends when it is told to: a platform, as far as others see it.
SLOW = """
import os, pathlib, signal, sys, threading
from headrace.local import platform_state
home = pathlib.Path(sys.argv[1])
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
with platform_state.hold(home):
    print("held", flush=True)
    told.wait(float(sys.argv[2]))
    platform_state.Running(os.getpid(), "http://127.0.0.1:1", "kubeconfig").write(home)
    told.wait(60)
    platform_state.forget(home)
    sys.exit(0 if told.is_set() else 1)
"""


@contextmanager
def slow(home: Path, answers_after_s: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SLOW, str(home), str(answers_after_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def test_a_platform_that_still_starts_is_waited_for_and_stopped(tmp_path: Path) -> None:
    with slow(tmp_path, answers_after_s=0.5) as process:
        assert platform_state.read(tmp_path) is None
        assert daemon.stop(tmp_path) == process.pid
        assert process.wait() == 0
    assert platform_state.holder(tmp_path) is None


def test_a_platform_that_ends_already_is_waited_for(tmp_path: Path) -> None:
    with slow(tmp_path, answers_after_s=60) as process:
        threading.Timer(0.3, process.send_signal, [signal.SIGTERM]).start()
        assert daemon.stop(tmp_path) == process.pid


def test_a_command_while_it_starts_does_not_say_that_none_runs(tmp_path: Path) -> None:
    with slow(tmp_path, answers_after_s=60) as process:
        with pytest.raises(NotHere, match=rf"process {process.pid}\) starts or stops"):
            Place.of(Config(tmp_path, kubeconfig=None))
        process.kill()


def test_who_looks_whether_a_platform_runs_keeps_none_from_starting(tmp_path: Path) -> None:
    platform_state.make(tmp_path)
    with (tmp_path / platform_state.LOCK_FILE).open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, [looking, fcntl.LOCK_UN]).start()
        with platform_state.hold(tmp_path):
            assert platform_state.holder(tmp_path) == os.getpid()


def test_a_second_platform_in_a_home_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    with slow(tmp_path, answers_after_s=60) as process:
        began = time.monotonic()
        with pytest.raises(HeadraceError, match=f"already .process {process.pid}."):
            platform_state.hold(tmp_path)
        assert time.monotonic() > began
        process.kill()


@pytest.mark.parametrize("home", ["file/below", "file"])
def test_a_home_that_cannot_be_made_is_said_so_with_what_to_do(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HeadraceError, match=rf"{tmp_path / home} cannot be used.*--home"):
        daemon.start(tmp_path / home, {})
