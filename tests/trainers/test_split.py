"""trainers.split: a file is split by its content, the same way whatever it is trained together with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from tests.trainers.conftest import MIXED_HEADER, mixed_rows
from trainers import split, training
from trainers.dataset import Dataset


def file(folder: Path, name: str, rows: list[str], header: str = MIXED_HEADER) -> Path:
    (folder / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder / name


def parts(*files: Path, seed: int = 42) -> tuple[Dataset, Dataset]:
    data, _ = training.read(files, "kind", 0.0)
    return training.split(data, 0.2, seed)


def content(data: Dataset) -> list[tuple[object, ...]]:
    """Each row's cells and class, as text, because NaN is unequal to itself."""
    return sorted(zip(*(map(str, t[:, 0]) for t in data.inputs().values()), map(str, data.labels), strict=True))


def test_a_fifth_of_each_class_is_held_out(tmp_path: Path) -> None:
    learned, held = parts(file(tmp_path, "a.csv", mixed_rows(300)))
    assert (learned.rows, held.rows) == (240, 60)
    share = np.bincount(held.labels) / np.bincount(np.append(learned.labels, held.labels))
    assert share == pytest.approx([0.2, 0.2], abs=0.01)


def test_no_row_is_learned_by_the_champion_of_one_file_and_held_out_of_a_union_or_the_other_way_round(
    tmp_path: Path,
) -> None:
    january, february = mixed_rows(400, seed=1), mixed_rows(250, seed=2)
    files = [
        file(tmp_path, "january.csv", january),
        file(tmp_path, "february.csv", february),
        file(tmp_path, "march.csv", [*january[100:180], *mixed_rows(300, seed=3), *february[:50]]),
    ]
    union = parts(*files)
    for champion in (parts(files[0]), parts(files[1]), parts(*files[:2])):
        for one, other in ((champion[0], union[1]), (union[0], champion[1])):
            assert set(content(one)).isdisjoint(content(other))
    assert 1000 < union[0].rows + union[1].rows < 1080 and 200 < union[1].rows < 220


def test_a_union_holds_out_what_its_files_hold_out_alone(tmp_path: Path) -> None:
    a, b = file(tmp_path, "a.csv", mixed_rows(300, seed=1)), file(tmp_path, "b.csv", mixed_rows(200, seed=2))
    held = parts(a, b)[1]
    assert content(held) == sorted(content(parts(a)[1]) + content(parts(b)[1]))
    assert [held.place(row).split(" of ")[1] for row in (0, held.rows - 1)] == ["a.csv", "b.csv"]


def test_a_row_that_two_files_have_and_only_one_holds_out_is_in_neither_part() -> None:
    held = np.array([True, False, True, False, True])
    ids = np.array([7, 8, 8, 9, 7], np.uint64)
    assert split.disputed(ids, held).tolist() == [False, True, True, False, False]


def test_the_split_is_the_same_for_another_order_of_columns_and_as_parquet(tmp_path: Path) -> None:
    rows = mixed_rows(200)
    plain = file(tmp_path, "a.csv", rows)
    turned = [",".join(reversed(row.split(","))) for row in rows]
    other = file(tmp_path, "b.csv", turned, ",".join(reversed(MIXED_HEADER.split(","))))
    assert parts(plain)[1].lines.tolist() == parts(other)[1].lines.tolist()
    numbers = [f"{i / 4},{i},{'ab'[i % 2]}" for i in range(100)]
    csv = file(tmp_path, "c.csv", numbers, "x,y,kind")
    pa.parquet.write_table(pa.csv.read_csv(csv), tmp_path / "c.parquet")
    assert (parts(csv)[1].lines - 1).tolist() == parts(tmp_path / "c.parquet")[1].lines.tolist()


def test_equal_rows_lie_on_both_sides(tmp_path: Path) -> None:
    """Else a table of few different rows would be judged on rows whose like was never learned."""
    learned, held = parts(file(tmp_path, "a.csv", [f"{i % 3},{'ab'[i % 2]}" for i in range(300)], "x,kind"))
    assert held.rows == 60 and set(content(held)) == set(content(learned))


def test_another_seed_is_another_split(tmp_path: Path) -> None:
    path = file(tmp_path, "a.csv", mixed_rows(100))
    assert parts(path)[1].lines.tolist() != parts(path, seed=7)[1].lines.tolist()


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ((2, 2), 0.2, (1, 1)),
        ((18, 2), 0.2, (3, 1)),
        ((2,) * 10, 0.2, (1,) * 10),
        ((50, 30, 20), 0.2, (10, 6, 4)),
        ((33, 33, 34), 0.2, (7, 6, 7)),
        ((100, 2), 0.9, (91, 1)),
        ((10, 10), 0.01, (1, 1)),
    ],
)
def test_every_class_is_on_both_sides_however_small_it_is(
    counts: tuple[int, ...], share: float, expected: tuple[int, ...]
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    ids = np.random.default_rng(0).integers(0, 1 << 63, len(labels)).astype(np.uint64)
    held = split.held_out(ids, labels, share, 42)
    assert tuple(np.bincount(labels[held], minlength=len(counts))) == expected


def test_classes_that_one_file_alone_has_are_split_there(tmp_path: Path) -> None:
    a = file(tmp_path, "a.csv", [f"{i},{'ab'[i % 2]}" for i in range(40)], "x,kind")
    b = file(tmp_path, "b.csv", [f"{i},{'bc'[i % 2]}" for i in range(60)], "x,kind")
    learned, held = parts(a, b)
    assert learned.classes == ("a", "b", "c")
    assert (np.bincount(held.labels).tolist(), np.bincount(learned.labels).tolist()) == ([4, 10, 6], [16, 40, 24])
