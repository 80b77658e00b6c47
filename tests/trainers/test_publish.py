"""trainers.job.publish: what a training has made gets into the store once the store is there again."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventing import files
from eventing.errors import RetryLater
from functions.store import Store
from tests.functions import packages
from tests.s3_server import S3
from trainers import job
from trainers.ledger import Claimant, Ledger, TakenOver

HELDOUT = f"heldout/flights/{packages.VERSION}.npz"


@pytest.fixture
def trained(tmp_path: Path) -> Any:
    (tmp_path / "rows.npz").write_bytes(b"rows")
    return SimpleNamespace(package=packages.build_package(tmp_path / "built"), heldout=tmp_path / "rows.npz")


def test_a_store_that_answers_503_when_the_training_is_done_is_waited_for(s3: S3, s3_url: str, trained: Any) -> None:
    store, tries = Store.open(s3_url), Ledger(files.open_files(s3_url), "key", beat_s=60)
    with tries.turn(Claimant("job-1", "job-1-aaaaa", "e"), lambda: packages.VERSION, lambda: False) as turn:
        assert turn is not None
        s3.shut = True

        def open_again() -> None:
            s3.shut = False

        threading.Timer(1.0, open_again).start()
        job.publish(store, turn, HELDOUT, trained, lambda: False, pause_s=0.1)
    assert store.versions("flights") == (packages.VERSION,)
    assert store.list("heldout") == (HELDOUT,)


def test_a_store_that_stays_away_ends_the_patience(s3: S3, s3_url: str, trained: Any) -> None:
    tries = Ledger(files.open_files(s3_url), "key", beat_s=60)
    with tries.turn(Claimant("job-1", "job-1-aaaaa", "e"), lambda: packages.VERSION, lambda: False) as turn:
        assert turn is not None
        s3.shut = True
        with pytest.raises(RetryLater, match="cannot be reached"):
            job.publish(Store.open(s3_url), turn, HELDOUT, trained, lambda: False, patience_s=0.5, pause_s=0.1)
        s3.shut = False


def test_who_waited_so_long_that_another_job_went_on_publishes_nothing(tmp_path: Path, trained: Any) -> None:
    url = (tmp_path / "store").as_uri()
    place = files.open_files(url)
    with Ledger(place, "key").turn(Claimant("job-1", "p-1", "e"), lambda: packages.VERSION, lambda: False) as turn:
        assert turn is not None
        with (
            Ledger(place, "key", lease_s=0.2, poll_s=0.01).turn(
                Claimant("job-2", "p-2", "e"), lambda: "v2", lambda: False
            ),
            pytest.raises(TakenOver),
        ):
            job.publish(Store.open(url), turn, HELDOUT, trained, lambda: False)
    assert Store.open(url).list("models") == Store.open(url).list("heldout") == ()
