"""The settings of a laptop's platform, and what it makes of them."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from eventing.errors import Misconfigured
from headrace.local.platform import REQUEST_JOURNAL_MIB, Platform, Settings
from tests.running import Platform as Running
from tests.running import flights_csv
from tests.waiting import until


def settings(home: Path, **environ: str) -> Settings:
    return Settings.from_environment({"HEADRACE_HOME": str(home), "HEADRACE_PORT": "0", **environ})


def test_the_journal_of_requests_is_kept_within_its_default_unless_told_otherwise(tmp_path: Path) -> None:
    assert settings(tmp_path).request_journal_mib == REQUEST_JOURNAL_MIB
    assert settings(tmp_path, HEADRACE_REQUEST_JOURNAL_MIB="7").request_journal_mib == 7


@pytest.mark.parametrize("value", ["-1", "off", "1.5", ""])
def test_a_bound_of_the_journal_that_is_none_is_refused_with_its_key(tmp_path: Path, value: str) -> None:
    with pytest.raises(Misconfigured, match="HEADRACE_REQUEST_JOURNAL_MIB"):
        settings(tmp_path, HEADRACE_REQUEST_JOURNAL_MIB=value)


@pytest.mark.parametrize(("mib", "kept"), [("0", False), ("1", True)])
def test_at_zero_no_journal_of_requests_is_kept(tmp_path: Path, mib: str, kept: bool) -> None:
    async def made() -> Platform:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return Platform(settings(tmp_path, HEADRACE_REQUEST_JOURNAL_MIB=mib), listener)

    platform = asyncio.run(made())
    try:
        assert (platform.request_journal is not None) is kept
    finally:
        platform.objects.close()


def test_what_runs_again_reads_the_settings_of_this_start_and_of_this_home(tmp_path: Path) -> None:
    """A home may be a copy, put back in another place; its source must not go on looking at the first one's folder."""
    first, second = Running(tmp_path / "first"), Running(tmp_path / "second")
    first.run("up", "--detach", "--port", "0", "--set", "HEADRACE_TRAINER=neural_net")
    first.run("down")
    first.home.rename(second.home)
    second.run("up", "--detach", "--port", "0", "--set", "HEADRACE_TRAINER=nobody")
    try:
        folder = second.home / "drop" / "flights"
        folder.mkdir()
        flights_csv(folder / "january.csv", rows=40)
        arrived = until("an arrival", lambda: events(second, "dataset.arrived"), 20, 0.5)
        assert arrived[0]["data"]["trainer"] == "nobody"
        assert arrived[0]["data"]["uri"].startswith((second.home / "store").as_uri())
        assert not first.home.exists()
    finally:
        second.run("down")


def events(platform: Running, type: str) -> list[Any]:
    return [json.loads(line)["event"] for line in platform.run("events", "--type", type, "-o", "json").splitlines()]
