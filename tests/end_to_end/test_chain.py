"""From a file's digest to an answer: every link is there, and `why` walks them both ways."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from eventing.contract import DatasetArrived, ModelPromoted, ModelTrained, PredictionMade
from headrace.journal import Entry
from tests.end_to_end import tables
from tests.end_to_end.conftest import MODEL
from tests.end_to_end.house import House, prediction_requested, until


@pytest.fixture(scope="module")
def answer(house: House) -> Entry:
    """prediction.made of a prediction that was asked for by an event."""
    assert house.send(prediction_requested("chain-ask", MODEL, tables.questions(1, seed=9)[0])) == 202
    found = until("an answer", lambda: house.entries(type=PredictionMade.TYPE, causationid="chain-ask"))
    return found[0]


@pytest.fixture(scope="module")
def chain(house: House, answer: Entry) -> dict[str, Entry]:
    """The events of the chain by type, found from the answer's version alone."""
    entries = house.entries()
    by_id = {e.id: e for e in entries}
    promoted = next(e for e in entries if e.type == ModelPromoted.TYPE and e.data["version"] == answer.data["version"])
    trained = by_id[str(promoted.cause)]
    return {e.type: e for e in (answer, by_id[str(answer.cause)], promoted, trained, by_id[str(trained.cause)])}


def test_an_answer_leads_back_to_the_digest_of_the_file(house: House, chain: dict[str, Entry]) -> None:
    arrived, trained = chain[DatasetArrived.TYPE], chain[ModelTrained.TYPE]
    file = Path(unquote(urlsplit(arrived.data["uri"]).path))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == arrived.data["sha256"] == trained.data["dataset_sha256"]


def test_the_package_that_serves_has_the_digest_that_was_told(house: House, chain: dict[str, Entry]) -> None:
    trained = chain[ModelTrained.TYPE]
    package = house.store / "models" / MODEL / trained.data["version"]
    assert hashlib.sha256((package / "SHA256SUMS").read_bytes()).hexdigest() == trained.data["sha256"]
    for line in (package / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((package / name.lstrip("*")).read_bytes()).hexdigest() == digest


def test_the_job_and_the_revision_that_are_named_exist(house: House, chain: dict[str, Entry]) -> None:
    job = house.get("job", chain[ModelTrained.TYPE].data["job"])
    assert job["status"]["succeeded"] == 1
    revision = house.get("revision", chain[ModelPromoted.TYPE].data["revision"])
    variables = {v["name"]: v["value"] for v in revision["spec"]["containers"][0]["env"]}
    assert variables["HEADRACE_MODEL_VERSION"] == chain[ModelTrained.TYPE].data["version"]
    assert chain[PredictionMade.TYPE].data["revision"] == revision["metadata"]["name"]


def test_every_cause_that_is_named_is_in_the_journal(house: House, answer: Entry) -> None:
    entries = house.entries()
    ids = {e.id for e in entries}
    assert [e.id for e in entries if e.cause and e.cause not in ids] == []


def test_why_walks_the_chain_from_any_of_its_ids(house: House, chain: dict[str, Entry]) -> None:
    """Forward from the file, backward from the answer, both from the middle."""
    arrived, trained, promoted = (chain[t.TYPE] for t in (DatasetArrived, ModelTrained, ModelPromoted))
    answer = chain[PredictionMade.TYPE]
    training: set[str] = {arrived.id, trained.id, promoted.id}
    for asked in (
        trained.id,
        arrived.data["sha256"],
        trained.data["version"],
        trained.data["job"],
        promoted.data["revision"],
    ):
        assert training <= _why(house, asked), asked
    assert {*training, answer.id, str(answer.cause)} <= _why(house, answer.id)


def _why(house: House, asked: str) -> set[str]:
    links: list[dict[str, Any]] = json.loads(house.headrace("why", asked, "-o", "json"))
    return {link["event"]["id"] for link in links}
