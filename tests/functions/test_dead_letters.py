"""What nobody could take is kept whole, through the real process."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Any

from eventing import binding
from tests.eventing import serving

HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "/tests",
    "ce-type": "dev.headrace.model.trained.v1",
    "ce-subject": "flights",
    "ce-time": "2013-01-31T17:31:00.5Z",
    "ce-traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    "ce-knativeerrordest": "http://promoter.headrace.svc.cluster.local/",
    "ce-knativeerrorcode": "422",
    "ce-knativeerrordata": base64.b64encode(b'{"error": "no"}').decode(),
    "content-type": "application/json",
}


def letters(folder: Path) -> dict[str, dict[str, Any]]:
    return {f.name: json.loads(f.read_text()) for f in sorted((folder / "dead-letters").glob("*.json"))}


def process(folder: Path) -> Any:
    return serving.process("functions.dead_letters", {"HEADRACE_STORE": folder.as_uri()})


def test_an_event_is_kept_with_all_its_attributes_and_answered_with_nothing(tmp_path: Path) -> None:
    with process(tmp_path) as (_, url):
        status, _, body = serving.post(url, HEADERS, b'{"model": "flights"}')
        assert (status, body) == (204, b"")
        ((name, letter),) = letters(tmp_path).items()
        assert name.startswith("20130131T173100.500000Z-")
        assert {f"ce-{k}": v for k, v in letter.items()} | {"content-type": letter["datacontenttype"]} == {
            **HEADERS,
            "ce-time": "2013-01-31T17:31:00.5Z",
            "ce-data": {"model": "flights"},
            "ce-datacontenttype": "application/json",
        }
        event = binding.from_json(letter)
        assert (event.get_id(), event.get_extension("knativeerrorcode")) == ("1", "422")


def test_a_redelivered_letter_is_one_letter_and_another_destination_another(tmp_path: Path) -> None:
    with process(tmp_path) as (_, url):
        for _ in range(3):
            serving.post(url, HEADERS, b"{}")
        serving.post(url, {**HEADERS, "ce-knativeerrordest": "http://elsewhere/"}, b"{}")
        without_time = {k: v for k, v in HEADERS.items() if k != "ce-time"}
        serving.post(url, without_time, b"{}")
        serving.post(url, without_time, b"{}")
    assert [n.partition("-")[0] for n in letters(tmp_path)] == ["20130131T173100.500000Z"] * 2 + ["undated"]


def test_broken_data_is_kept_as_the_bytes_that_came(tmp_path: Path) -> None:
    with process(tmp_path) as (_, url):
        assert serving.post(url, HEADERS, b"{broken\xff")[0] == 204
        ((_, letter),) = letters(tmp_path).items()
    assert base64.b64decode(letter["data_base64"]) == b"{broken\xff"
    assert "data" not in letter


def test_a_large_letter_is_kept(tmp_path: Path) -> None:
    with process(tmp_path) as (_, url):
        assert serving.post(url, HEADERS, json.dumps(["x" * 1000] * 2000).encode())[0] == 204
        assert len(letters(tmp_path)) == 1


def test_a_store_that_is_away_is_asked_again(tmp_path: Path) -> None:
    with process(tmp_path / "store") as (_, url):
        (tmp_path / "store").write_text("no folder")
        status, headers, _ = serving.post(url, HEADERS, b"{}")
        assert status == 503 and int(headers["retry-after"]) > 0
        (tmp_path / "store").unlink()
        assert serving.post(url, HEADERS, b"{}")[0] == 204


def test_letters_that_come_at_once_are_all_kept(tmp_path: Path) -> None:
    with process(tmp_path) as (_, url):
        threads = [
            threading.Thread(target=serving.post, args=(url, {**HEADERS, "ce-id": str(i)}, b"{}")) for i in range(20)
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert {letter["id"] for letter in letters(tmp_path).values()} == set(map(str, range(20)))
