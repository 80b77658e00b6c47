"""The journal's objects: what lies there twice is one, and nothing is lost on the way to fewer of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from eventing import files
from eventing.files import Files
from functions.journal import reader, shelf
from functions.journal.records import Query, Record
from functions.journal.shelf import Name, Shelf

HOUR = "2026-11-25T12"


def of(seq: int, size: int = 0) -> Record:
    event = {"specversion": "1.0", "id": str(seq), "source": "/t", "type": "t", "data": "x" * size}
    return Record(seq, event)


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


def ids(kept: Shelf, **query: int) -> list[int]:
    return [int(r.event["id"]) for r in reader.read(kept, Query(**query))]


def test_the_same_records_are_the_same_object_whoever_writes_them(place: Files) -> None:
    assert Shelf(place).put(HOUR, [of(1), of(2)]) == Shelf(place).put(HOUR, [of(1), of(2)])
    assert len(Shelf(place).names(HOUR)) == 1


def test_a_name_tells_what_is_in_the_object_and_others_are_none(place: Files) -> None:
    name = Shelf(place).put(HOUR, [of(1), of(7)])
    assert Name.parse(str(name)) == name
    assert (name.first, name.last) == (1, 7)
    assert [Name.parse(text) for text in ("x.jsonl", "1-2-3-ab.json", "1-2-ab.jsonl", "a-2-3-ab.jsonl")] == [None] * 4


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
    seen_by_one = kept.get(HOUR, first)
    kept.put(HOUR, [of(3)])
    kept.merge(HOUR)  # the other one, who saw all three
    assert seen_by_one is not None
    kept.replace(HOUR, first, seen_by_one)
    assert ids(kept) == [1, 2, 3]


def test_what_is_merged_while_it_is_read_is_read_from_what_it_became(place: Files) -> None:
    class Merging(Shelf):
        """A reader between whose listing and whose reads another process merges, once."""

        def names(self, hour: str) -> list[Name]:
            found = super().names(hour)
            Shelf(place).merge(hour)
            return found

    for seq in range(1, 4):
        Shelf(place).put(HOUR, [of(seq)])
    assert ids(Merging(place)) == [1, 2, 3]


def test_large_objects_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [10, shelf.FULL_BYTES, 20, shelf.FULL_BYTES - 20, 5]
    names = [Name(i, i, size, "d") for i, size in enumerate(sizes)]
    assert [[n.first for n in group] for group in shelf.groups(names)] == [[0, 2], [3, 4]]


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
