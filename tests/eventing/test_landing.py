"""A dropped file lands whole, or is refused in words that help."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pytest

from eventing import landing
from eventing.errors import Misconfigured, Rejected

NOW = datetime(2013, 2, 1, tzinfo=UTC)
CSV = b"carrier,delay\nAA,5\nUA,\n"


@pytest.fixture
def store(tmp_path: Path) -> str:
    return (tmp_path / "store").as_uri()


def dropped(folder: Path, content: bytes, name: str = "jan.csv") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def refusal(file: Path, dataset: str = "flights", max_bytes: int = 1000) -> str:
    with pytest.raises(Rejected) as seen:
        landing.land(file, dataset, (file.parent / "store").as_uri(), max_bytes=max_bytes)
    assert not list((file.parent / "store").rglob("*.*")), "something of a refused file lies in the store"
    return str(seen.value)


def test_a_file_lies_in_the_store_by_its_digest_with_its_sidecar(tmp_path: Path, store: str) -> None:
    arrived = landing.land(dropped(tmp_path, CSV), "flights", store)
    sha256 = hashlib.sha256(CSV).hexdigest()
    assert arrived.uri == f"{store}/datasets/flights/{sha256}.csv"
    assert (arrived.sha256, arrived.bytes, arrived.trainer) == (sha256, len(CSV), "random_forest")
    folder = tmp_path / "store" / "datasets" / "flights"
    assert (folder / f"{sha256}.csv").read_bytes() == CSV
    record = json.loads((folder / f"{sha256}.json").read_text())
    assert {k: record[k] for k in ("uri", "name", "bytes")} == {
        "uri": arrived.uri,
        "name": "jan.csv",
        "bytes": len(CSV),
    }
    assert datetime.fromisoformat(record["at"]).tzinfo is not None
    assert sorted(p.name for p in folder.iterdir()) == [f"{sha256}.csv", f"{sha256}.json"]


def test_the_same_content_lands_once_and_keeps_its_first_time(tmp_path: Path, store: str) -> None:
    first = landing.land(dropped(tmp_path, CSV), "flights", store)
    sidecar = tmp_path / "store" / "datasets" / "flights" / f"{first.sha256}.json"
    told = sidecar.read_text()
    again = landing.land(dropped(tmp_path, CSV, "copy.csv"), "flights", store)
    assert again == first
    assert sidecar.read_text() == told


def test_an_object_store_gets_the_same_files(tmp_path: Path) -> None:
    arrived = landing.land(dropped(tmp_path, CSV), "flights", "memory://landing")
    assert arrived.uri == f"memory://landing/datasets/flights/{arrived.sha256}.csv"
    with fsspec.open(arrived.uri) as f:
        assert f.read() == CSV
    with fsspec.open(arrived.uri.replace(".csv", ".json")) as f:
        assert json.load(f)["name"] == "jan.csv"


def test_a_parquet_file_is_known_by_both_its_ends(tmp_path: Path, store: str) -> None:
    assert "cut off" in refusal(dropped(tmp_path, b"PAR1....", "jan.parquet"))
    assert "begins with b'carr'" in refusal(dropped(tmp_path, CSV, "jan.parquet"))
    assert landing.land(dropped(tmp_path, b"PAR1....PAR1", "jan.PARQUET"), "flights", store).uri.endswith(".parquet")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \r\n\n", "blanks alone"),
        (b"carrier,delay\n", "expected rows below"),
        (b"carrier,delay\r\n  \r\n", "expected rows below"),
        (b"a,b\n1,\x00\n", "line 2 holds a NUL byte"),
        (b"a,b\n1,2\n3,\xe9\n", "not UTF-8 in line 3"),
        (b"a,b\n1,\xc3", "ends within a character"),
        (b"PAR1....PAR1", "a Parquet file, not CSV; name it .parquet"),
        (b"\x1f\x8b\x08...", "gzip-compressed, not CSV; unpack it first"),
        (b"PK\x03\x04...", "an Excel workbook or a zip archive"),
        (b"\xff\xfea\0,\0", "UTF-16"),
        (b"a,b\n" + b"1,2\n" * 500, "at most 1,000 are allowed"),
    ],
)
def test_what_can_never_be_learned_from_is_refused_in_words(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refusal(dropped(tmp_path, content))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("jan.csv.gz", "unpack it first"),
        ("jan.xlsx", "save the sheet"),
        ("jan", "export the table"),
        ("jan.tsv", "commas"),
    ],
)
def test_another_kind_of_file_is_refused_with_advice(tmp_path: Path, name: str, said: str) -> None:
    assert said in refusal(dropped(tmp_path, CSV, name))


@pytest.mark.parametrize("text", ["a,b\r\n1,2\r\n", "a,b\r1,2\r", "\ufeffa,b\n1,é\n", "\n\na,b\n1,2"])
def test_text_of_any_system_is_taken(tmp_path: Path, store: str, text: str) -> None:
    assert landing.land(dropped(tmp_path, text.encode()), "flights", store).bytes == len(text.encode())


def test_a_character_across_two_chunks_is_no_fault(tmp_path: Path, store: str) -> None:
    text = b"a,b\n" + b"x" * (landing.CHUNK_BYTES - 5) + "é,1\n".encode()
    assert landing.land(dropped(tmp_path, text), "flights", store).bytes == len(text)


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "huge.csv"
    with file.open("wb") as f:
        f.truncate(1024**3)  # sparse: reading it would meet its NUL bytes first
    assert "1,073,741,824 bytes" in refusal(file, max_bytes=landing.MAX_BYTES)


@pytest.mark.parametrize(
    "name", ["Flights", "1st", "a_b", "", "-a", "a-", "a.b", "../x", "x" * 41, "promoter", "drift-watch"]
)
def test_a_dataset_is_named_so_that_its_model_can_be_a_service(tmp_path: Path, name: str) -> None:
    assert "name" in refusal(dropped(tmp_path, CSV), name)


def test_a_missing_file_and_a_strange_trainer_are_refused(tmp_path: Path, store: str) -> None:
    with pytest.raises(Rejected, match="is not there"):
        landing.land(tmp_path / "no.csv", "flights", store)
    with pytest.raises(Rejected, match="trainer"):
        landing.land(dropped(tmp_path, CSV), "flights", store, trainer="Random Forest")


def test_a_disk_that_fails_for_the_moment_is_no_verdict_on_the_file(tmp_path: Path, store: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(
            str(tmp_path / "f.csv")
        )  # cannot be opened: ENXIO, one of the errors that say nothing of the file
        with pytest.raises(landing.Unfinished, match="cannot be read now"):
            landing.land(tmp_path / "f.csv", "flights", store)


def test_a_file_whose_name_no_event_can_carry_is_refused(tmp_path: Path) -> None:
    file = dropped(tmp_path, CSV, os.fsdecode(b"j\xe4nner.csv"))
    assert "j\\udce4nner.csv has a name that is not UTF-8" in refusal(file)


def test_a_store_that_is_no_url_is_a_setting_that_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="HEADRACE_STORE"):
        landing.land(dropped(tmp_path, CSV), "flights", "nowhere://x")


def test_the_same_drop_is_the_same_event_and_another_wish_another(tmp_path: Path, store: str) -> None:
    file = dropped(tmp_path, CSV)
    ids = [
        landing.arrived_event(landing.land(file, "flights", store, **wish), NOW).get_id()
        for wish in (
            {},
            {"trainer": "random_forest"},
            {"trainer": "neural_net"},
            {"target": "delay"},
            {"parameters": {"a": 1}},
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


def test_the_event_names_the_trainer_for_the_triggers(tmp_path: Path, store: str) -> None:
    event = landing.arrived_event(landing.land(dropped(tmp_path, CSV), "flights", store, "neural_net"), NOW)
    assert event.get_extension("trainer") == "neural_net"
    assert (event.get_source(), event.get_subject()) == (landing.SOURCE, "flights")
