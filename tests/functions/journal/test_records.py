"""What the journal keeps of an event, and what a reader may ask."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from eventing import binding, contract
from eventing.errors import Rejected
from functions.journal import records
from functions.journal.records import Query, Record

PROMOTED = contract.ModelPromoted.TYPE
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def event(**attributes: str) -> CloudEvent:
    headers = {"specversion": "1.0", "id": "1", "source": "/t", "type": "t", **attributes}
    return binding.receive({f"ce-{k}": v for k, v in headers.items()}, b'{"a": 1}', parse_data=False)[0]


def of(seq: int, id: str, **attributes: str) -> Record:
    return Record(seq, {"specversion": "1.0", "id": id, "source": "/t", "type": "t", **attributes})


@pytest.mark.parametrize(
    ("arrived", "seq"),
    [
        ("2026-11-25T11:59:58.123456Z", 1795607998123456),
        ("2026-11-25T12:59:58.123456789+01:00", 1795607998123456),
        ("yesterday", 1795608000000000),
        ("2026-11-25T11:59:58", 1795608000000000),
        ("2026-11-25T12:00:59Z", 1795608059000000),
        ("0001-01-01T00:00:00Z", 1795608000000000),
        ("0001-01-01T00:00:00+02:00", 1795608000000000),
        ("9999-12-31T23:59:59-02:00", 1795608000000000),
    ],
)
def test_a_place_is_when_the_broker_took_the_event_so_that_a_redelivery_finds_the_same(arrived: str, seq: int) -> None:
    assert records.record(event(knativearrivaltime=arrived), NOW).seq == seq


def test_without_a_word_of_the_broker_it_is_when_it_came_here() -> None:
    assert records.record(event(), NOW).seq == 1795608000000000


def test_what_is_written_is_read_again_and_told_with_its_time() -> None:
    kept = records.record(event(subject="flights"), NOW)
    (read,) = records.parse(kept.line())
    assert (read.seq, read.event) == (kept.seq, kept.event)
    told = orjson.loads(read.told())
    assert told["received"] == "2026-11-25T12:00:00.000000+00:00"
    assert (told["seq"], told["deliveries"], told["event"]["subject"]) == (kept.seq, [], "flights")


@pytest.mark.parametrize("content", [b"{}\n", b"no json\n", b'{"seq": "x", "event": {}}\n', b"[]\n"])
def test_a_broken_object_is_named_and_nothing_guessed(content: bytes) -> None:
    with pytest.raises(Rejected, match="broken"):
        list(records.parse(content))


def test_several_objects_become_one_row_each_event_once_at_its_first_place() -> None:
    one, two = [of(5, "b"), of(9, "c")], [of(7, "b"), of(1, "a"), of(9, "d")]
    for told in (one + two, two + one):
        assert [(r.seq, r.event["id"]) for r in records.merged(told)][:2] == [(1, "a"), (5, "b")]
        assert {r.event["id"] for r in records.merged(told)} == {"a", "b", "c", "d"}


def test_the_same_id_of_another_source_is_another_event() -> None:
    assert len(records.merged([of(1, "a"), of(2, "a", source="/other")])) == 2


def test_a_query_filters_by_place_and_by_attributes() -> None:
    query = Query.parse([("after", "4"), ("type", "t"), ("subject", "flights")])
    wanted = [of(4, "a", subject="flights"), of(5, "b", subject="flights"), of(6, "c"), of(7, "d", type="u")]
    assert [r.event["id"] for r in wanted if query.wants(r)] == ["b"]


def test_of_several_values_of_one_attribute_one_will_do() -> None:
    query = Query.parse([("id", "a"), ("id", "b"), ("subject", "flights")])
    asked = [of(1, "a", subject="flights"), of(2, "b", subject="flights"), of(3, "c", subject="flights"), of(4, "a")]
    assert [r.seq for r in asked if query.wants(r)] == [1, 2]


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        ([], ["loop", "traffic"]),
        ([("loop", "true")], ["loop"]),
        ([("loop", "false")], ["traffic"]),
        ([("type", PROMOTED)], ["loop"]),
        ([("type", "com.example.t")], ["traffic"]),
        ([("type", PROMOTED), ("type", "com.example.t")], ["loop", "traffic"]),
        ([("type", PROMOTED), ("loop", "false")], []),
    ],
)
def test_a_query_tells_which_objects_may_hold_what_it_wants(asked: list[tuple[str, str]], kinds: list[str]) -> None:
    query = Query.parse(asked)
    assert list(query.kinds) == kinds
    for type in (PROMOTED, "com.example.t", contract.PredictionMade.TYPE):
        if query.wants(record := of(1, "a", type=type)):
            assert record.kind in query.kinds


@given(text=st.text(min_size=1), key=st.sampled_from(["id", "subject", "causationid", "type"]))
def test_what_is_wanted_passes_the_sieves_whatever_it_is_called(text: str, key: str) -> None:
    query = Query.parse([(key, text)])
    (read,) = records.parse(of(1, **{"id": "a", key: text}).line(), query.sieves)
    assert query.wants(read)
    assert not list(records.parse(of(1, id="a").line(), Query.parse([("id", text + "..")]).sieves))


def test_every_fault_of_a_query_is_named() -> None:
    with pytest.raises(Rejected) as refused:
        Query.parse([("after", "-1"), ("tail", "x"), ("follow", "yes"), ("bogus", "1"), ("loop", "")])
    assert len(refused.value.faults) == 5
