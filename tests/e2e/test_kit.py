"""What a run of `make e2e` makes of a cluster that it finds; the kit is one of a single daemon that sleeps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.e2e.__main__ import ROOT
from tests.e2e.kit import Kit, KitFailed
from tests.waiting import until

UP = """#!/bin/sh
mkdir -p "$CLUSTER_STATE"
[ ! -e "$CLUSTER_STATE/pids" ] || exit 1
sleep 600 > /dev/null 2>&1 &
echo "$! sleep" > "$CLUSTER_STATE/pids"
"""
DOWN = """#!/bin/sh
read -r pid name < "$CLUSTER_STATE/pids" && kill "$pid"
rm -rf "$CLUSTER_STATE"
"""
RUN = """
import os, subprocess, sys
from pathlib import Path
from tests.e2e.kit import Kit
kit = Kit.of(Path(sys.argv[1]), os.environ)
with kit.reserved():
    kit.keep(sys.argv[2] == "kept")
    kit.up()
    tests = subprocess.Popen(["sleep", "600"], env=kit.test_environ())
    print(tests.pid, flush=True)
    tests.wait()
"""


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    for name, text in {"up": UP, "down": DOWN}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("CLUSTER_STATE", str(tmp_path / "state"))
    kit = Kit.of(tmp_path, os.environ)
    yield kit
    kit.kill_tests()
    with suppress(KitFailed):
        os.kill(kit._pid("sleep"), signal.SIGKILL)


@pytest.fixture
def killed(kit: Kit, request: pytest.FixtureRequest) -> Kit:
    """After a run that brought the cluster up, began its tests (their PID is in `tests`) and was killed; its parameter
    is whether the cluster was to be kept.
    """
    with subprocess.Popen(
        [sys.executable, "-c", RUN, kit.folder, request.param], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        (kit.folder / "tests").write_text(run.stdout.readline())
        assert kit.is_up
        with pytest.raises(KitFailed, match="another run has the cluster"), kit.reserved():
            pass
        run.kill()
    return kit


@pytest.mark.parametrize("killed", ["stopped"], indirect=True)
def test_a_cluster_whose_run_was_killed_is_left_over(killed: Kit) -> None:
    with killed.reserved():
        assert killed.is_up
        assert killed.is_left_over

        killed.down()
        assert not killed.is_up
        assert not killed.is_left_over


@pytest.mark.parametrize("killed", ["kept"], indirect=True)
def test_a_cluster_that_was_to_be_kept_is_somebodys(killed: Kit) -> None:
    with killed.reserved():
        assert killed.is_up
        assert not killed.is_left_over


@pytest.mark.parametrize("killed", ["kept", "stopped"], indirect=True)
def test_a_cluster_whose_daemons_have_ended_is_left_over(killed: Kit) -> None:
    os.kill(killed._pid("sleep"), signal.SIGKILL)

    until("its end", lambda: not killed.is_up, 10, 0.01)
    assert killed.is_left_over
    killed.down()
    killed.keep(False)
    killed.up()
    assert killed.is_up


@pytest.mark.parametrize("killed", ["kept", "stopped"], indirect=True)
def test_the_tests_of_a_run_that_was_killed_end(killed: Kit) -> None:
    tests = psutil.Process(int((killed.folder / "tests").read_text()))
    assert tests.is_running()

    with killed.reserved():
        killed.kill_tests()

    until("their end", lambda: not psutil.pid_exists(tests.pid), 10, 0.01)
    assert killed.is_up


def test_where_no_cluster_was_there_is_none_to_be_taken_away(kit: Kit) -> None:
    assert not kit.is_up
    assert not kit.is_left_over
