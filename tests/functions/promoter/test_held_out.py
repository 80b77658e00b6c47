"""functions.promoter.held_out: what champion and challenger are compared on was learned from by neither."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventing.errors import Rejected
from functions.package import Manifest
from functions.promoter import held_out
from functions.store import Store
from tests.functions import packages
from trainers import heldout
from trainers.columns import Column
from trainers.dataset import Dataset

V1, V2 = "v20260101-000000-000001", "v20260201-000000-000002"
SPLIT = {"split": "by-content-1", "seed": 42, "test_share": 0.2}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open((tmp_path / "store").as_uri())


def version(store: Store, name: str, rows: range, datasets: tuple[str, ...] = ("a",), **changes: Any) -> Manifest:
    """A manifest, and in the store the held-out rows of it: row i is i flights long, with gaps."""
    number = np.array(rows, np.float32)
    number[number % 7 == 0] = np.nan
    values = {
        "distance": number[:, None],
        "carrier": np.array([[f"{i:04}"] for i in rows]),
        held_out.TARGET: np.array(rows, np.int64) % 2,
    }
    file = Path(store.uri("").removeprefix("file://")).parent / f"{name}.npz"
    np.savez(file, **values)
    store.put_file(f"heldout/flights/{name}.npz", file)
    parameters = {**SPLIT, "datasets": list(datasets), **changes}
    return packages.manifest("flights", name, parameters={k: v for k, v in parameters.items() if v is not None})


def test_the_same_split_compares_on_all_rows_held_out(store: Store, tmp_path: Path) -> None:
    champion, challenger = version(store, V1, range(200)), version(store, V2, range(300), ("a", "b"))
    rows, left_out = held_out.comparable(store, champion, challenger, tmp_path / "work")
    assert len(rows["carrier"]) == 300 and left_out is None


def test_other_files_compare_on_all_rows_held_out_however_they_were_split(store: Store, tmp_path: Path) -> None:
    champion, challenger = version(store, V1, range(200)), version(store, V2, range(300), ("b",), seed=7)
    rows, left_out = held_out.comparable(store, champion, challenger, tmp_path / "work")
    assert len(rows["carrier"]) == 300 and left_out is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 7}, "seed 42, not 7"),
        ({"test_share": 0.3}, "test_share 0.2, not 0.3"),
        ({"split": "by-content-2", "seed": 1}, "split by-content-1, not by-content-2 and seed 42, not 1"),
        ({"split": None}, "split by-content-1, not None"),  # a package older than the rule
    ],
)
def test_another_split_compares_on_what_both_held_out(
    store: Store, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    champion, challenger = version(store, V1, range(200)), version(store, V2, range(80, 300), **changes)
    rows, left_out = held_out.comparable(store, champion, challenger, tmp_path / "work")
    assert rows["carrier"].ravel().tolist() == [f"{i:04}" for i in range(80, 200)]
    assert len(rows["distance"]) == len(rows[held_out.TARGET]) == 120
    assert left_out is not None and left_out.startswith("120 of 220 held-out rows") and left_out.endswith(says)


def test_too_few_rows_new_to_both_are_no_comparison(store: Store, tmp_path: Path) -> None:
    champion, challenger = version(store, V1, range(200)), version(store, V2, range(150, 300), seed=7)
    with pytest.raises(Rejected, match=r"^50 of 150 held-out rows .*; expected 100 at least$"):
        held_out.comparable(store, champion, challenger, tmp_path / "work")


def test_a_file_that_holds_no_rows_is_rejected(store: Store, tmp_path: Path) -> None:
    champion = challenger = version(store, V1, range(200))
    file = tmp_path / "broken"
    file.write_bytes(b"PK no archive")
    store.put_file(f"heldout/flights/{V1}.npz", file)
    with pytest.raises(Rejected, match="holds no held-out rows"):
        held_out.comparable(store, champion, challenger, tmp_path / "work")


def test_rows_that_were_removed_are_not_waited_for(store: Store, tmp_path: Path) -> None:
    """They lie in the store before the package does, so that nobody brings them later."""
    champion, challenger = version(store, V1, range(200)), version(store, V2, range(300))
    store.delete(f"heldout/flights/{V2}.npz")
    with pytest.raises(Rejected, match=f"no held-out rows of {V2}"):
        held_out.comparable(store, champion, challenger, tmp_path / "work")


def test_rows_are_read_as_the_trainer_wrote_them(store: Store, tmp_path: Path) -> None:
    """One cell of 100,000 letters costs 100 KB and not 400 KB for each row; a name may end as a file's does."""
    codes = np.array([0, 1, -1, 1] * 500, np.int32)
    values = np.arange(2000, dtype=np.float32)
    held = Dataset(
        columns=(
            Column("note", codes=codes, words=("short", "x" * 100_000, "unused")),
            Column("tail", codes=codes, words=("a", "b")),
            Column("a", values=values),
            Column("a.npy", values=-values),
        ),
        target="late",
        labels=np.arange(2000) % 2,
        classes=(0, 1),
        lines=np.arange(2000),
        ids=np.arange(2000, dtype=np.uint64),
        files=("f.csv",),
        origins=np.zeros(2000, np.int32),
    )
    tracemalloc.start()
    file = heldout.write(held, tmp_path / "rows.npz")
    store.put_file(f"heldout/flights/{V1}.npz", file)
    rows = held_out.read(store, "flights", V1, tmp_path / "work")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 64 << 20
    assert rows["note"].shape == (2000, 1) and rows["note"][:3, 0].tolist() == ["short", "x" * 100_000, ""]
    assert rows["tail"][:3, 0].tolist() == ["a", "b", ""]
    assert rows["a"][1999, 0] == 1999 and rows["a.npy"][1999, 0] == -1999
    assert rows[held_out.TARGET].tolist() == held.labels.tolist()
