"""The settings of a laptop's platform, and what it makes of them."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from eventing.errors import Misconfigured
from headrace.local.platform import REQUEST_JOURNAL_MIB, Platform, Settings


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
