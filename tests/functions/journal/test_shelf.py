"""The journal's objects: what lies there twice is one, and nothing is lost on the way to fewer of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventing import contract, files
from eventing.errors import RetryLater
from eventing.files import Files
from functions.journal import reader, records, shelf
from functions.journal.records import Query, Record
from functions.journal.shelf import Merged, Name, Object, Shelf

HOUR = "2026-11-25T12"


def of(seq: int, size: int = 0) -> Record:
    event = {"specversion": "1.0", "id": str(seq), "source": "/t", "type": "t", "data": "x" * size}
    return Record(seq, event)


def promoted(seq: int) -> Record:
    return Record(seq, {**of(seq).event, "type": contract.ModelPromoted.TYPE})


class Dies(Exception):
    """In place of a kill -9."""


class Dying:
    """A store at whose n-th change the process dies, before or after it."""

    def __init__(self, inner: Files, changes: int, after: bool) -> None:
        self._inner, self._left, self._after = inner, changes, after

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        if name not in ("write", "delete"):
            return found

        def change(*arguments: object) -> object:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Dies
            given = found(*arguments)
            if self._left == 0:
                raise Dies
            return given

        return change


@pytest.fixture
def place(tmp_path: Path) -> Files:
    return files.open_files(tmp_path.as_uri())


def ids(kept: Shelf, **query: Any) -> list[int]:
    return [int(r.event["id"]) for r in reader.read(kept, Query(**query))]


def test_the_same_records_are_the_same_object_whoever_writes_them(place: Files) -> None:
    assert Shelf(place).put(HOUR, [of(1), of(2)]) == Shelf(place).put(HOUR, [of(1), of(2)])
    assert len(Shelf(place).names(HOUR)) == 1


def test_a_name_tells_what_is_in_the_object_and_others_are_none(place: Files) -> None:
    name = Shelf(place).put(HOUR, [of(1), of(7)])
    assert Name.parse(str(name)) == name
    assert (name.first, name.last) == (1, 7)
    assert [
        Name.parse(text) for text in ("x.jsonl", "1-2-3-ab-loop.json", "1-2-ab-loop.jsonl", "a-2-3-ab-loop.jsonl")
    ] == [None] * 4
    assert Name.parse("1-2-3-ab-other.jsonl") is None


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies_at", range(1, 8))
def test_who_dies_while_merging_has_lost_and_doubled_nothing(place: Files, dies_at: int, after: bool) -> None:
    for seq in range(1, 7):
        Shelf(place).put(HOUR, [of(seq)])
    with pytest.raises(Dies):
        Shelf(Dying(place, dies_at, after)).merge(HOUR)  # type: ignore[arg-type]
    assert ids(Shelf(place)) == [1, 2, 3, 4, 5, 6]
    Shelf(place).merge(HOUR)
    assert ids(Shelf(place)) == [1, 2, 3, 4, 5, 6]
    assert len(Shelf(place).names(HOUR)) == 1


def test_two_who_merge_different_views_of_an_hour_keep_everything(place: Files) -> None:
    kept = Shelf(place)
    first = [kept.put(HOUR, [of(1)]), kept.put(HOUR, [of(2)])]
    seen_by_one = [record for _, record in kept.read([(HOUR, name) for name in first])]
    kept.put(HOUR, [of(3)])
    kept.merge(HOUR)  # the other one, who saw all three
    kept.replace(HOUR, first, seen_by_one)
    assert ids(kept) == [1, 2, 3]


def test_what_is_merged_while_it_is_read_is_read_from_what_it_became(place: Files) -> None:
    class Merging(Shelf):
        """A reader between whose listing and whose reads another process merges, once."""

        def objects(self, kinds: Collection[str] = records.KINDS) -> list[Object]:
            found = super().objects(kinds)
            Shelf(place).merge(HOUR)
            return found

    for seq in range(2, 5):
        Shelf(place).put(HOUR, [of(seq)])
    Shelf(place).put("2026-11-25T11", [of(1)])
    assert ids(Merging(place)) == [1, 2, 3, 4]
    Shelf(place).put(HOUR, [of(5)])
    assert ids(Merging(place), tail=2) == [4, 5]


def test_an_hour_that_is_merged_in_the_middle_goes_on_where_it_was(
    place: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Shelf):
        """What it reads goes after three records, the first time."""

        left = 3

        def read(self, *asked: Any) -> Iterator[tuple[str, Record]]:
            for each in super().read(*asked):
                self.left -= 1
                if self.left == -1:
                    raise Merged(HOUR)
                yield each

    monkeypatch.setattr(reader, "REMEMBERED", 1)
    kept = Interrupted(place)
    for seq in range(1, 6):
        kept.put(HOUR, [of(seq)])
    assert ids(kept) == [1, 2, 3, 4, 5]


def test_an_hour_that_is_merged_again_and_again_is_said_to_be(place: Files) -> None:
    class Gone(Shelf):
        """One whose listing is always of before."""

        def objects(self, kinds: Collection[str] = records.KINDS) -> list[Object]:
            return [(HOUR, Name(1, 1, 1, "gone", "traffic"))]

    for query in (Query(), Query(tail=1)):
        with pytest.raises(RetryLater, match="is being merged"):
            list(reader.read(Gone(place), query))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=9), max_size=9))
def test_whatever_lies_in_whichever_object_is_told_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, objects: list[list[tuple[int, bool]]]
) -> None:
    kept = Shelf(files.open_files(tmp_path_factory.mktemp("journal").as_uri()))
    for content in objects:
        for of_kind in (of, promoted):
            if found := sorted({seq * 2 + loop for seq, loop in content if loop == (of_kind is promoted)}):
                kept.put(HOUR, [of_kind(seq) for seq in found])
    everything = sorted({seq * 2 + loop for content in objects for seq, loop in content})
    for _ in range(2):
        assert ids(kept) == everything
        assert ids(kept, loop=True) == ids(kept, type=frozenset({promoted(1).event["type"]}))
        assert ids(kept, loop=True) == [seq for seq in everything if seq % 2]
        assert ids(kept, loop=False) == [seq for seq in everything if not seq % 2]
        assert ids(kept, tail=3) == everything[-3:]
        assert ids(kept, tail=3, loop=True) == [seq for seq in everything if seq % 2][-3:]
        assert ids(kept, after=40, limit=2) == [seq for seq in everything if seq > 40][:2]
        assert ids(kept, id=frozenset({"5", "6", "7"})) == [seq for seq in everything if seq in (5, 6, 7)]
        kept.merge(HOUR)
    assert len(kept.names(HOUR)) <= 2


def test_what_a_model_came_of_is_read_without_the_predictions(place: Files) -> None:
    opened: list[str] = []

    class Told:
        def __getattr__(self, name: str) -> object:
            return getattr(place, name)

        def read(self, path: str) -> bytes | None:
            opened.append(path)
            return place.read(path)

    kept = Shelf(Told())  # type: ignore[arg-type]
    for seq in range(20):
        kept.put(HOUR, [of(seq)])
    kept.put(HOUR, [promoted(20)])
    kept.merge(HOUR)
    opened.clear()
    assert ids(kept, loop=True) == ids(kept, loop=True, tail=1) == [20]
    assert len(opened) == 2


def test_large_objects_are_left_as_they_are() -> None:
    sizes = [10, shelf.FULL_BYTES, 20, shelf.FULL_BYTES - 20, 5]
    names = [Name(i, i, size, "d", kind) for i, size in enumerate(sizes) for kind in records.KINDS]
    for group in shelf.groups(names):
        assert len({n.kind for n in group}) == 1
    assert [[n.first for n in group] for group in shelf.groups(names)] == [[0, 2], [3, 4]] * 2


def test_the_newest_are_found_from_the_end_and_a_limit_is_kept(place: Files) -> None:
    kept = Shelf(place)
    kept.put("2026-11-25T10", [of(1), of(2)])
    kept.put("2026-11-25T11", [of(3)])
    kept.put(HOUR, [of(4)])
    assert ids(kept) == [1, 2, 3, 4]
    assert ids(kept, tail=3) == [2, 3, 4]
    assert ids(kept, tail=0) == []
    assert ids(kept, limit=2) == [1, 2]
    assert ids(kept, after=2, limit=5) == [3, 4]


def test_an_hour_goes_when_it_ended_long_enough_ago_and_what_is_no_hour_stays(place: Files) -> None:
    kept = Shelf(place)
    for hour in ("2026-11-25T10", "2026-11-25T11", "2026-11-25T12"):
        kept.put(hour, [of(int(hour[-2:]))])
    place.write("journal/notes/x.jsonl", b"of ops")
    assert kept.forget(datetime(2026, 11, 25, 12, 0, tzinfo=UTC)) == 2
    assert kept.hours() == ["2026-11-25T12"]
    assert place.children("journal") == ("2026-11-25T12", "notes")
