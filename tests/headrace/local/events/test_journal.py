"""What the Broker's journal keeps, forgets and tells."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from eventing import contract
from eventing.contract import DatasetArrived, DriftDetected, ModelPromoted, ModelTrained, PredictionMade
from eventing.errors import Misconfigured
from headrace.local.events.journal import Attempt, Journal, JournalFull, Limits, Pending, Query, Taken
from headrace.local.events.stored_event import StoredEvent

NOW = 1_000_000_000.0
T1, T2 = ("uid-1", "first"), ("uid-2", "second")


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


@contextlib.asynccontextmanager
async def opened(path: Path, limits: Limits | None = None) -> AsyncIterator[Journal]:
    journal = Journal(path, limits)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


def taken(id: str, *triggers: tuple[str, str], received: float = 9e9, data: bytes = b"{}", **more: Any) -> Taken:
    attributes = {"specversion": "1.0", "id": id, "source": "/s", "type": "t", "datacontenttype": "application/json"}
    return Taken("ns", "default", StoredEvent({**attributes, **more}, data), received, 255, triggers)


def delivered(attempts: int = 1) -> Attempt:
    return Attempt("delivered", attempts, NOW, 204)


async def ids(journal: Journal, **query: Any) -> list[str]:
    asked = {key: (value,) if isinstance(value, str) else value for key, value in query.items()}
    return [entry["event"]["id"] for entry in await journal.entries(Query("ns", "default", **asked))]


def test_what_is_accepted_is_there_after_the_file_is_opened_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "e.db") as journal:
            seq = await journal.accept(taken("1", T1, T2, subject="flights", data=b'{"a": 1}'))
        async with opened(tmp_path / "e.db") as journal:
            assert await journal.pending() == [Pending(seq, "uid-1"), Pending(seq, "uid-2")]
            event = (await journal.event(seq)).event
            assert (event.attributes["subject"], event.data) == ("flights", b'{"a": 1}')

    run(work())


def test_the_next_attempt_and_what_the_last_one_said_survive(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "e.db") as journal:
            seq = await journal.accept(taken("1", T1))
            again = Attempt("pending", 3, NOW, 503, "busy", NOW + 9, True, "http://x", b"body")
            assert await journal.record(Pending(seq, "uid-1"), again) == (True, None)
        async with opened(tmp_path / "e.db") as journal:
            assert await journal.pending() == [Pending(seq, "uid-1", True, 3, NOW + 9, 503, "http://x", b"body")]

    run(work())


def test_a_reply_is_taken_with_the_delivery_or_not_at_all(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "e.db") as journal:
            seq = await journal.accept(taken("1", T1))
            assert await journal.record(Pending(seq, "uid-1"), delivered(), taken("reply", T2)) == (True, seq + 1)
            # Its second delivery, after a crash say, finds it settled: no second reply.
            assert await journal.record(Pending(seq, "uid-1"), delivered(), taken("reply", T2)) == (False, None)
            assert await ids(journal) == ["1", "reply"]

    run(work())


def test_a_dropped_delivery_stays_dropped(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "e.db") as journal:
            seq = await journal.accept(taken("1", T1, T2))
            assert await journal.drop("uid-1", "the Trigger was deleted", NOW) == 1
            await journal.record(Pending(seq, "uid-1"), delivered())
            (entry,) = await journal.entries(Query("ns", "default"))
            assert [(d["trigger"], d["state"], d["reason"]) for d in entry["deliveries"]] == [
                ("first", "dropped", "the Trigger was deleted"),
                ("second", "pending", ""),
            ]

    run(work())


def test_events_are_found_by_what_they_say(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "e.db") as journal:
            await journal.accept(taken("1", subject="flights"))
            await journal.accept(taken("2", causationid="1", subject="houses"))
            await journal.accept(taken("3", causationid="1", type="other"))
            assert await ids(journal) == ["1", "2", "3"]
            assert await ids(journal, after=1, limit=1) == ["2"]
            assert await ids(journal, causationid="1") == ["2", "3"]
            assert await ids(journal, causationid="1", type="other") == ["3"]
            assert await ids(journal, subject="flights") == ["1"]
            assert await ids(journal, id="2") == ["2"]
            assert await ids(journal, id=("3", "1", "no")) == ["1", "3"]
            assert await ids(journal, loop=True) == []
            await journal.accept(taken("4", type=contract.DriftDetected.TYPE))
            await journal.accept(taken("5", type=contract.PredictionMade.TYPE))
            assert await ids(journal, loop=True) == await ids(journal, loop=True, tail=1) == ["4"]
            assert await ids(journal, loop=False) == ["1", "2", "3", "5"]
            assert await ids(journal, loop=False, id=("4", "5")) == ["5"]
            assert await journal.entries(Query("ns", "another")) == []
            assert await ids(journal, tail=2) == ["4", "5"]
            assert await ids(journal, tail=1, causationid="1", type="t") == ["2"]
            assert await ids(journal, tail=9) == ["1", "2", "3", "4", "5"]
            assert await ids(journal, tail=0) == []

    run(work())


@pytest.mark.parametrize(
    ("attributes", "data", "told"),
    [
        ({}, b'{"a": [1]}', {"data": {"a": [1]}}),
        ({}, b"", {}),
        ({}, b"{broken", {"data_base64": "e2Jyb2tlbg=="}),
        ({"datacontenttype": "text/plain"}, b"hello", {"data": "hello"}),
        ({"datacontenttype": "application/x-npy"}, b"\xff\x00", {"data_base64": "/wA="}),
        ({"datacontenttype": "application/vnd.x+json"}, b"[1]", {"data": [1]}),
    ],
)
def test_an_entry_tells_the_data_as_the_json_format_does(
    tmp_path: Path, attributes: dict[str, str], data: bytes, told: dict[str, Any]
) -> None:
    async def work() -> None:
        async with opened(tmp_path / "e.db") as journal:
            await journal.accept(taken("1", data=data, **attributes))
            (entry,) = await journal.entries(Query("ns", "default"))
            assert {k: v for k, v in entry["event"].items() if k.startswith("data") and k != "datacontenttype"} == told

    run(work())


def test_beyond_the_limits_the_oldest_delivered_are_forgotten_and_the_pending_never(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "e.db", Limits(events=3)) as journal:
            await journal.accept(taken("pending", T1))
            for i in range(6):
                await journal.accept(taken(f"done-{i}"))
            await journal.prune(NOW)
            assert await ids(journal) == ["pending", "done-3", "done-4", "done-5"]

    run(work())


@pytest.mark.parametrize("limits", [Limits(events=50), Limits(bytes=400_000)], ids=["number", "size"])
def test_predictions_push_out_predictions_and_not_what_a_model_came_of(tmp_path: Path, limits: Limits) -> None:
    async def work() -> None:
        async with opened(tmp_path / "e.db", limits) as journal:
            told = [DatasetArrived.TYPE, ModelTrained.TYPE, ModelPromoted.TYPE]
            for kind in told:
                await journal.accept(taken(kind, type=kind))
            made = [taken(f"made-{i}", type=PredictionMade.TYPE, data=b"x" * 700) for i in range(900)]
            await asyncio.gather(*map(journal.accept, made))
            await journal.prune(NOW)
            left = await ids(journal)
            assert left[:3] == told
            assert left[-1] == "made-899" and len(left) < 450

    run(work())


def test_where_nothing_else_is_left_the_loops_own_events_are_bounded_too(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "e.db", Limits(events=3)) as journal:
            for i in range(6):
                await journal.accept(taken(f"drift-{i}", type=DriftDetected.TYPE))
            await journal.prune(NOW)
            assert await ids(journal) == ["drift-3", "drift-4", "drift-5"]

    run(work())


def test_what_is_too_old_is_forgotten(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "e.db", Limits(age_s=100)) as journal:
            await journal.accept(taken("old", received=NOW - 101))
            await journal.accept(taken("new", received=NOW - 99))
            await journal.prune(NOW)
            assert await ids(journal) == ["new"]

    run(work())


def test_the_file_stays_bounded(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "e.db", Limits(bytes=2_000_000)) as journal:
            await asyncio.gather(*(journal.accept(taken(str(i), data=b"x" * 5000)) for i in range(3000)))
        async with opened(tmp_path / "e.db", Limits(bytes=2_000_000)):
            pass
        assert (tmp_path / "e.db").stat().st_size < 6_000_000

    run(work())


def test_a_journal_full_of_undelivered_events_takes_no_more_until_some_are_delivered(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "e.db", Limits(bytes=100_000, pending_bytes=300_000)) as journal:
            seqs = []
            with pytest.raises(JournalFull):
                for i in range(1000):
                    seqs.append(await journal.accept(taken(str(i), T1, data=b"x" * 5000)))
            for seq in seqs:  # replies are taken even now: they let deliveries end
                await journal.record(Pending(seq, "uid-1"), delivered(), taken(f"reply-{seq}"))
            await journal.prune(NOW)
            await journal.accept(taken("again", T1))

    run(work())


def test_a_write_that_fails_takes_none_of_its_neighbours_with_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "e.db") as journal:
            broken = Taken("ns", "default", StoredEvent({"id": "x", "type": None, "source": "/"}), NOW, 255, ())
            broken_type = Taken("ns", None, broken.event, NOW, 255, ())  # type: ignore[arg-type]
            works = [journal.accept(taken(str(i))) for i in range(5)]
            works.insert(2, journal.accept(broken_type))
            results = await asyncio.gather(*works, return_exceptions=True)
            assert [isinstance(r, sqlite3.IntegrityError) for r in results] == [False, False, True, False, False, False]
            assert await ids(journal) == ["0", "1", "2", "3", "4"]

    run(work())


def test_a_file_that_is_no_journal_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "e.db").write_bytes(b"something else" * 1000)
    with pytest.raises(Misconfigured, match=r"e\.db"):
        run(Journal(tmp_path / "e.db").open())


def test_a_follower_hears_of_every_event(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "e.db") as journal:
            with journal.follow() as news:
                await journal.accept(taken("1"))
                await asyncio.wait_for(news.wait(), 30)

    run(work())
