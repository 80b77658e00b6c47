"""A Pod's log stays within bounds, whoever has it open."""

from __future__ import annotations

from pathlib import Path

from headrace.local.pods import pod_log


def test_a_long_log_keeps_its_end_and_says_so(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    with log.open("ab") as writer:  # as a container has it open
        assert pod_log.shorten(log, max_bytes=1000, kept_bytes=100)
        writer.write(b"the next line\n")
    lines = log.read_text().splitlines()
    assert lines[0].startswith("... earlier lines were dropped")
    assert lines[1:-1] == [f"line {number}" for number in range(991, 1000)] or lines[-2] == "line 999"
    assert lines[-1] == "the next line"


def test_a_short_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("all of it\n")
    assert not pod_log.shorten(log)
    assert not pod_log.shorten(tmp_path / "none.log")
    assert log.read_text() == "all of it\n"


def test_only_the_latest_logs_of_pods_that_are_gone_stay(tmp_path: Path) -> None:
    for number in range(pod_log.KEPT_LOGS + 5):
        (tmp_path / f"p{number:03d}.log").touch()
    pod_log.prune(tmp_path, keep=lambda pod: pod == "p000")
    assert len(list(tmp_path.glob("*.log"))) == pod_log.KEPT_LOGS + 1
    assert (tmp_path / "p000.log").exists()
