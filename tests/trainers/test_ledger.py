"""trainers.ledger: of several Jobs for one training one trains, and none waits for a dead one for ever."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from eventing import files
from eventing.errors import RetryLater
from trainers.ledger import Claimant, Ledger, Turn


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store's URL, on this machine's disk and in a bucket of a real S3 server."""
    return str(request.getfixturevalue("s3_url")) if request.param == "s3" else tmp_path.as_uri()


FIRST, SECOND = Claimant("job-1", "job-1-aaaaa", "event-1"), Claimant("job-2", "job-2-bbbbb", "event-2")


def ledger(url: str, lease_s: float = 30.0) -> Ledger:
    return Ledger(files.open_files(url), "key", lease_s=lease_s, beat_s=0.02, poll_s=0.01)


def killed(url: str, me: Claimant) -> None:
    """A try whose process is gone without a word."""
    at = files.open_files(url)
    number = len(ledger(url).tries()) + 1
    value = {"number": number, "version": f"v{number}", "job": me.job, "pod": me.pod, "event": me.event, "began": ""}
    files.write_json(at, f"runs/key/{number:04}.json", value)


def take(url: str, me: Claimant, lease_s: float = 30.0) -> Turn:
    """The turn to train; it is let go of at once."""
    with ledger(url, lease_s).turn(me, lambda: "v", lambda: False) as turn:
        assert turn is not None
        return turn


def test_the_first_one_trains_and_says_when_it_has_ended(url: str) -> None:
    with ledger(url).turn(FIRST, lambda: "v1", lambda: False) as turn:
        assert turn is not None
        turn.hold()
        (entry,) = ledger(url).tries()
        assert (entry.number, entry.version, entry.job, entry.event) == (1, "v1", "job-1", "event-1")
        assert not entry.ended
    assert ledger(url).tries()[0].ended


def test_who_comes_while_another_one_trains_waits_for_its_package(url: str) -> None:
    done = threading.Event()
    second: list[Turn | None] = []

    def wait() -> None:
        with ledger(url, lease_s=0.5).turn(SECOND, lambda: "v2", done.is_set) as turn:
            second.append(turn)

    with ledger(url).turn(FIRST, lambda: "v1", lambda: False):
        waiting = threading.Thread(target=wait)
        waiting.start()
        # Much longer than the lease: its beats keep it.
        while ledger(url).tries()[0].beats < 50:
            assert waiting.is_alive()
        done.set()
        waiting.join()
    assert second == [None] and len(ledger(url).tries()) == 1


def test_an_owner_that_ended_without_a_package_is_followed_at_once(url: str) -> None:
    take(url, FIRST)
    assert take(url, SECOND).entry.number == 2


def test_an_earlier_pod_of_the_same_job_is_known_to_be_dead(url: str) -> None:
    killed(url, FIRST)
    assert take(url, Claimant("job-1", "job-1-ccccc", "event-1")).entry.number == 2


def test_an_owner_whose_beats_have_stopped_loses_its_lease(url: str) -> None:
    killed(url, FIRST)
    assert take(url, SECOND, lease_s=0.2).entry.number == 2


def test_an_owner_that_slept_through_its_lease_lets_go_before_it_publishes(url: str) -> None:
    turn = take(url, FIRST)
    killed(url, SECOND)
    with pytest.raises(RetryLater, match="job-2 has taken this training over, as v2"):
        turn.hold()


def test_of_many_that_come_at_once_one_trains_at_a_time(url: str) -> None:
    training: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        me = Claimant(f"job-{number}", f"job-{number}-aaaaa", "event")
        with ledger(url).turn(me, lambda: f"v{number}", lambda: False):
            training.append(number)
            most.append(len(training))
            training.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8 and [one.number for one in ledger(url).tries()] == list(range(1, 9))
