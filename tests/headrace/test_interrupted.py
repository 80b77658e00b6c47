"""Ctrl-C, at any moment: a command ends quietly with 130 or by the signal, and leaves nothing half behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.local import platform_state
from tests.running import Platform, flights_csv

PATIENCE_S = 60.0

# A program in which Ctrl-C comes at the very moment at which a module is asked for.
AT_IMPORT = """
import os, runpy, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {at!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["headrace", "status"]
runpy.run_module({program!r}, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("program", "at"),
    [("headrace", "typer"), ("headrace", "headrace.commands"), ("headrace.local", "headrace.local.platform")],
)
def test_while_it_imports_there_is_no_traceback(tmp_path: Path, program: str, at: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_IMPORT.format(program=program, at=at)],
        env=Platform(tmp_path / "home").environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
    assert not (tmp_path / "home").exists()


def test_a_start_in_the_background_that_is_interrupted_leaves_no_platform(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = interrupted(
        ["up", "--detach", "--port", "0"], home, when=lambda: platform_state.holder(home) not in (None, 0)
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert platform_state.holder(home) is None
    assert not (home / platform_state.STATE_FILE).exists()


def test_a_training_here_and_now_that_is_interrupted_leaves_no_package(tmp_path: Path) -> None:
    file, out = flights_csv(tmp_path / "january.csv", rows=400), tmp_path / "out"
    words = ["train", str(file), "--trainer", "random_forest", "--target", "late", "--out", str(out)]
    parameters = ["--parameter", "n_estimators=3000"]
    done = interrupted([*words, *parameters], tmp_path / "home", when=lambda: out.exists() and any(out.iterdir()))
    assert (done.returncode, done.stdout) == (130, "")
    assert "Traceback" not in done.stderr
    assert list(out.iterdir()) == []


def interrupted(words: list[str], home: Path, when: Callable[[], object]) -> subprocess.CompletedProcess[str]:
    """`headrace WORDS` to its end; Ctrl-C at its terminal comes as soon as `when` says so."""
    command = [sys.executable, "-m", "headrace", *words]
    with subprocess.Popen(
        command, env=Platform(home).environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while not when():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess(command, process.returncode, out, err)
