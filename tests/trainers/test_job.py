"""trainers.job: one event is one training, whatever dies when. Real processes, a real sink, a store in a folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eventing import binding, contract, sender
from eventing.contract import Data, DatasetArrived, DriftDetected, PredictionRequested
from eventing.errors import Rejected
from functions.model import Model
from functions.store import Serving, Store
from tests import clocks
from tests.s3_server import S3
from tests.trainers.conftest import MIXED_HEADER, Sink, mixed_rows
from trainers import job, training, wish
from trainers.voice import Voice

FAST = {"n_estimators": 10}
DRIFTED = DriftDetected("doors", "größe", "psi", 0.4, 0.2, 1000)


class Place:
    """A store with dropped files, and Jobs that are started for events."""

    def __init__(self, folder: Path, sink: Sink) -> None:
        self.folder, self.sink = folder, sink
        self.url = (folder / "store").as_uri()
        self.store = Store.open(self.url)
        self._events = 0
        self.max_dataset_bytes = 1 << 26
        self.now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
        """The time of events; files come a second apart from 0:00 on."""

    def drop(self, content: str | bytes, **fields: Any) -> DatasetArrived:
        """A file in the store, as `eventing.source` leaves it."""
        raw = content.encode() if isinstance(content, str) else content
        sha256 = hashlib.sha256(raw).hexdigest()
        path = f"datasets/doors/{sha256}.csv"
        (self.folder / "dropped").write_bytes(raw)
        self.store.put_file(path, self.folder / "dropped")
        at = f"2026-01-01T00:00:{len(self.store.datasets('doors')):02}+00:00"
        uri = self.store.uri(path)
        record = {"uri": uri, "name": "a.csv", "bytes": len(raw), "at": at}
        self.store.write_json(f"datasets/doors/{sha256}.json", record)
        return DatasetArrived("doors", uri, sha256, len(raw), **{"target": "kind", "parameters": FAST, **fields})

    def start(self, data: Data, again: str = "", **environ: str) -> subprocess.Popen[str]:
        """A pod of the event's Job. again: makes it another event that says the same, and so another Job."""
        self._events += 1
        folder = self.folder / f"event-{self._events}"
        folder.mkdir()
        id = contract.derived_id("test", json.dumps(data.to_data(), sort_keys=True), again)
        event = data.to_event(source="/headrace/eventing/source", id=id, time=self.now)
        (folder / "event").write_bytes(binding.to_structured(event).body)
        return subprocess.Popen(
            [sys.executable, "-m", "trainers.job"],
            env={
                **os.environ,
                "HEADRACE_STORE": self.url,
                "K_SINK": self.sink.url,
                "K_EVENT_PATH": str(folder),
                "HOSTNAME": f"random-forest-0123{again}-{self._events:05}",
                "TMPDIR": str(self.folder),
                "HEADRACE_PATIENCE_S": "0",
                **environ,
            },
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, data: Data, **environ: str) -> tuple[int, str]:
        """Exit status and log of a process."""
        process = self.start(data, **environ)
        _, log = process.communicate(timeout=120)
        return process.returncode, log

    def handle(self, data: Data) -> tuple[int, str]:
        """As `run`, without a process: of most promises the process is no part, and it takes seconds to start."""
        self._events += 1
        pod = f"random-forest-0123-{self._events:05}"
        to = job.Settings(self.url, self.sink.url, self.folder / "event", pod, "headrace", self.max_dataset_bytes)
        cause = data.to_event(source="/headrace/eventing/source", id="test-1", time=self.now)
        voice = Voice(sender.Sender(self.sink.url), cause, to.job)
        scratch = self.folder / f"scratch-{self._events}"
        try:
            job.train(cause, self.store, voice, to, scratch)
        except Rejected as e:
            return job.conclude(cause, voice, to, e), str(e)
        return os.EX_OK, ""


@pytest.fixture
def place(tmp_path: Path, sink: Sink) -> Place:
    return Place(tmp_path, sink)


def mixed(rows: int = 120, seed: int = 0, constant: str = "") -> str:
    """constant: of a further column, `month`, the same in every row."""
    table = [MIXED_HEADER, *mixed_rows(rows, seed)]
    if constant:
        table = [f"{row},{constant if i else 'month'}" for i, row in enumerate(table)]
    return "\n".join(table) + "\n"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a Job makes of the first file, trained once for all tests that need a champion."""
    folder = tmp_path_factory.mktemp("champion")
    (folder / "a.csv").write_text(mixed(constant="1"))
    sha256 = hashlib.sha256(mixed(constant="1").encode()).hexdigest()
    plan = training.Plan(
        "doors", "v20260101-000000-abcdef", "random_forest", "kind", FAST, None, "file:///a", sha256, (sha256,)
    )
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return training.train(plan, [folder / "a.csv"], folder, now, lambda step, done, what: None).package


@pytest.fixture
def champion(place: Place, package: Path) -> str:
    """The version that serves; its file was dropped."""
    place.drop(mixed(constant="1"))
    version = place.store.publish(package).version
    place.store.set_serving("doors", Serving(version, None, "2026-01-01T00:00:00+00:00", "first"))
    return version


def test_a_dropped_file_becomes_a_package_and_an_event(place: Place) -> None:
    arrived = place.drop(mixed())
    status, log = place.run(arrived)
    assert status == 0, log
    (trained,) = place.sink.of("model.trained")
    data = trained["data"]
    assert place.store.versions("doors") == (data["version"],)
    pointer = place.store.read_json(f"models/doors/{data['version']}.json") or {}
    assert data["sha256"] == pointer["sha256"] and data["dataset_sha256"] == arrived.sha256
    assert data["job"] == "random-forest-0123" and trained["causationid"].startswith("test-")
    assert (trained["source"], trained["subject"]) == ("/headrace/trainers/job", "doors")
    assert place.store.list("heldout") == (f"heldout/doors/{data['version']}.npz",)
    steps = [event["data"]["step"] for event in place.sink.of("training.progressed")]
    assert list(dict.fromkeys(steps)) == ["read", "fit", "export", "parity", "package"] and len(steps) <= 15
    assert place.store.manifest("doors", data["version"]).parameters["target"] == "kind"


def test_an_event_in_the_environment_is_learned_from_as_one_in_a_file(place: Place) -> None:
    arrived = place.drop(mixed())
    event = arrived.to_event(source="/headrace/eventing/source", id="by-environment", time=place.now)
    status, log = place.run(arrived, K_EVENT_PATH="", HEADRACE_EVENT=json.dumps(binding.to_json(event)))
    assert status == 0, log
    (trained,) = place.sink.of("model.trained")
    assert trained["causationid"] == "by-environment"
    status, log = place.run(arrived, K_EVENT_PATH="", HEADRACE_EVENT="{no JSON")
    assert status == 65
    assert "{no JSON" in log


def test_a_redelivered_event_trains_once_and_is_told_of_again(place: Place) -> None:
    arrived = place.drop(mixed())
    assert place.run(arrived)[0] == 0
    assert place.run(arrived)[0] == 0
    first, second = place.sink.of("model.trained")
    assert first == second
    assert len(place.store.versions("doors")) == 1


def test_the_same_file_with_defaults_spelled_out_is_no_other_training(place: Place) -> None:
    plain = place.drop(mixed())
    spelled = place.drop(mixed(), trainer="random_forest", parameters={**FAST, "seed": 42})
    other = place.drop(mixed(), parameters={**FAST, "seed": 43})
    keys = [wish.of_arrival(arrived, place.store, 1 << 20).key() for arrived in (plain, spelled, other)]
    assert keys[0] == keys[1] != keys[2]


def test_two_jobs_at_once_for_the_same_training_make_one_package_and_tell_one_event(place: Place) -> None:
    arrived = place.drop(mixed(600))
    both = [place.start(arrived), place.start(arrived, again="-once-more")]
    logs = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], logs
    (version,) = place.store.versions("doors")
    first, second = place.sink.of("model.trained")
    assert first["id"] == second["id"] and first["data"] == second["data"] and first["data"]["version"] == version
    assert place.store.list("heldout") == (f"heldout/doors/{version}.npz",)
    steps = [event["data"]["step"] for event in place.sink.of("training.progressed")]
    assert steps.count("package") == 1


def test_a_job_that_waits_for_another_one_goes_on_when_that_one_fails(place: Place) -> None:
    arrived = place.drop(mixed(500), parameters={"n_estimators": 100})
    owner = place.start(arrived)
    while not place.store.list("runs"):
        assert owner.poll() is None
        time.sleep(0.01)
    waiting = place.start(arrived, again="-once-more")
    assert waiting.stderr is not None
    log = ""
    while "waiting for it" not in log:
        log += (line := waiting.stderr.readline())
        assert line, log
    owner.kill()
    owner.communicate()
    # The owner's Job starts its next pod, which need not wait for the lease of the first to run out.
    assert place.run(arrived)[0] == 0
    waiting.communicate(timeout=120)
    assert waiting.returncode == 0
    assert len(place.store.versions("doors")) == 1
    assert len({event["id"] for event in place.sink.of("model.trained")}) == 1


@pytest.mark.parametrize("name", ["promoter", "Doors", "a" * 60, "../x"])
@pytest.mark.parametrize("of", ["dataset.arrived", "drift.detected"])
def test_a_name_that_no_model_can_have_is_refused_for_good(place: Place, name: str, of: str) -> None:
    arrived = DatasetArrived(name, place.store.uri("datasets/x.csv"), "0" * 64, 10, target="kind")
    drifted = DriftDetected(name, "größe", "psi", 0.4, 0.2, 1000)
    status, log = place.handle(arrived if of == "dataset.arrived" else drifted)
    assert status == os.EX_DATAERR and not place.store.list("runs"), log
    (failed,) = place.sink.of("training.failed")
    assert "name" in failed["data"]["reason"] and failed["data"]["retryable"] is False


def test_a_package_whose_event_nobody_took_is_told_of_at_the_next_try(place: Place) -> None:
    arrived = place.drop(mixed())
    place.sink.status = 503
    status, log = place.run(arrived)
    assert status == os.EX_TEMPFAIL, log
    # What is told with a Job that gives up.
    assert re.search(r"exit status 75 after [\d.]+ s: \S", log.strip().splitlines()[-1]), log
    assert len(place.store.versions("doors")) == 1 and not place.sink.events
    place.sink.status = 202
    status, log = place.run(arrived)
    assert status == 0 and "was trained before" in log
    assert len(place.sink.of("model.trained")) == len(place.store.versions("doors")) == 1


def test_a_broker_that_is_away_when_the_training_is_done_is_waited_for(place: Place) -> None:
    """A Job has four tries, which are used up in less time than a Broker may be away for."""
    place.sink.status = 503
    process = place.start(place.drop(mixed()), HEADRACE_PATIENCE_S="60")
    assert process.stderr is not None
    log = ""
    while "tried again in" not in log:
        log += (line := process.stderr.readline())
        assert line, log
    place.sink.status = 202
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 0, log + rest
    assert len(place.sink.of("model.trained")) == len(place.store.versions("doors")) == 1


def test_a_store_that_is_away_when_a_training_begins_is_waited_for(place: Place, s3: S3, s3_url: str) -> None:
    arrived = place.drop(mixed())
    s3.shut = True
    threading.Timer(0.5, setattr, (s3, "shut", False)).start()
    found = job.patiently(lambda: wish.of_arrival(arrived, Store.open(s3_url), 1 << 20), 60.0, 0.1)
    assert found.parent is None and not s3.shut


def test_a_trainer_killed_at_any_moment_leaves_one_package_in_the_end(place: Place) -> None:
    arrived = place.drop(mixed(500), parameters={"n_estimators": 20})
    marks = [lambda: place.store.list("runs"), lambda: place.store.list("heldout"), lambda: place.store.list("models")]
    for mark in marks:
        process = place.start(arrived)
        while process.poll() is None and not mark():
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    status, log = place.run(arrived)
    assert status == 0, log
    (version,) = place.store.versions("doors")
    assert {event["data"]["version"] for event in place.sink.of("model.trained")} == {version}
    assert len({event["id"] for event in place.sink.of("model.trained")}) == 1
    place.store.fetch("doors", version, place.folder / "fetched")


def test_sigterm_ends_it_at_once_with_nothing_half(place: Place) -> None:
    process = place.start(place.drop(mixed(3000), parameters={"n_estimators": 3000}))
    while not place.store.list("runs"):
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert place.store.models() == () and not list(place.folder.glob("headrace-training-*"))


def test_broken_rows_are_rejected_with_line_column_and_count(place: Place) -> None:
    status, _ = place.run(place.drop(mixed() + "oops,rot,1.0,True,yes\n1,rot\n"))
    assert status == os.EX_DATAERR
    (rejected,) = place.sink.of("dataset.rejected")
    assert rejected["data"]["broken_rows"] == 2
    assert [(r.get("row"), r.get("column")) for r in rejected["data"]["reasons"]] == [(122, "größe"), (123, None)]
    assert place.store.models() == () and not place.sink.of("training.failed")


def test_allowed_broken_rows_are_told_of_and_the_rest_is_learned_from(place: Place) -> None:
    status, log = place.handle(place.drop(mixed() + "1,rot\n", parameters={**FAST, "max_broken_share": 0.1}))
    assert status == 0, log
    assert place.sink.of("dataset.rejected")[0]["data"]["broken_rows"] == 1
    assert place.sink.of("model.trained")[0]["data"]["rows"] == 120


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"a,b\n" + b"1,2\n" * 30, "there is no column 'kind'"),
        (b"a,kind\n" + b"1,x\n" * 30, "expected at least two classes"),
        (b"PK\x03\x04" + bytes(range(200)), "Excel"),
    ],
)
def test_a_file_nobody_can_learn_from_is_rejected_in_words(place: Place, content: bytes, says: str) -> None:
    status, _ = place.handle(place.drop(content))
    assert status == os.EX_DATAERR
    assert says in place.sink.of("dataset.rejected")[0]["data"]["reasons"][0]["what"]


def test_a_file_over_the_limit_is_rejected_before_it_is_read(place: Place) -> None:
    arrived = DatasetArrived("doors", place.store.uri("datasets/doors/none.csv"), "0" * 64, 1 << 30, target="kind")
    assert place.handle(arrived)[0] == os.EX_DATAERR
    what = place.sink.of("dataset.rejected")[0]["data"]["reasons"][0]["what"]
    assert "1,073,741,824 bytes; at most 67,108,864" in what


def test_a_thousand_reasons_in_many_letters_fit_into_one_event(place: Place) -> None:
    header = "ü" * 300 + ",kind"
    rows = [f"{i},{'ab'[i % 2]}" for i in range(3000)] + [f"{'ж' * 500},a"] * 120
    status, log = place.handle(place.drop("\n".join([header, *rows])))
    assert status == os.EX_DATAERR, log
    rejected = place.sink.of("dataset.rejected")[0]["data"]
    assert rejected["broken_rows"] == 120 and len(json.dumps(rejected)) < 64 * 1024 and rejected["reasons"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"trainer": "oracle"}, "there is no trainer 'oracle'"),
        ({"parameters": {"leaves": 1}}, "unknown: leaves"),
        ({"parameters": {**FAST, "min_samples_leaf": 3, "tolerance": 0.0}}, "does not answer as the trained one"),
    ],
)
def test_a_training_that_cannot_work_fails_for_good_and_says_why(
    place: Place, fields: dict[str, Any], says: str
) -> None:
    assert place.handle(place.drop(mixed(), **fields))[0] == os.EX_DATAERR
    (failed,) = place.sink.of("training.failed")
    assert says in failed["data"]["reason"] and failed["data"]["retryable"] is False
    assert failed["data"]["log_uri"].endswith("/pods/random-forest-0123-00001/log")
    assert place.store.models() == ()


def test_names_and_classes_that_are_longer_than_an_event_are_told_in_part(place: Place) -> None:
    long = "x" * 30_000
    rows = "".join(f"{i},{'abc'[i % 3]}{long}\n" for i in range(60))
    assert place.handle(place.drop(f"size,kind\n{rows}"))[0] == 0
    assert any("classes axxx" in event["data"]["what"] for event in place.sink.of("training.progressed"))
    status, _ = place.handle(place.drop(f"{long}{long},{long}{long},kind\n{rows}"))
    (rejected,) = place.sink.of("dataset.rejected")
    assert status == os.EX_DATAERR and len(rejected["data"]["reasons"][0]["column"]) < 300


def test_a_file_that_was_changed_after_the_drop_is_refused(place: Place) -> None:
    arrived = place.drop(mixed())
    (place.folder / "store" / "datasets" / "doors" / f"{arrived.sha256}.csv").write_text("other")
    assert place.handle(arrived)[0] == os.EX_DATAERR
    assert "changed after it was dropped" in place.sink.of("training.failed")[0]["data"]["reason"]


def test_a_file_that_is_not_there_yet_is_tried_again_later(place: Place) -> None:
    arrived = DatasetArrived("doors", place.store.uri("datasets/doors/none.csv"), "0" * 64, 10, target="kind")
    assert place.run(arrived)[0] == os.EX_TEMPFAIL
    assert not place.sink.events


def test_an_event_of_another_type_is_final(place: Place) -> None:
    assert place.run(PredictionRequested("doors", {"instances": []}))[0] == os.EX_DATAERR


def test_a_missing_setting_is_named_at_start(place: Place) -> None:
    status, log = place.run(place.drop(mixed()), K_SINK="")
    assert status == os.EX_CONFIG and "K_SINK" in log


def test_a_later_file_takes_the_champions_target_and_columns_and_names_it_as_parent(
    place: Place, champion: str
) -> None:
    # A colour is missing all month, and the month, another constant, is a column that the champion does not know.
    later = "\n".join(
        row if i == 0 else ",".join([row.split(",")[0], "", *row.split(",")[2:]])
        for i, row in enumerate(mixed(seed=1, constant="2").splitlines())
    )
    status, log = place.handle(place.drop(later, target=None))
    assert status == 0, log
    manifest = place.store.manifest("doors", place.sink.of("model.trained")[0]["data"]["version"])
    assert (manifest.parent, manifest.parameters["target"]) == (champion, "kind")
    asked = place.store.manifest("doors", champion).signature.inputs
    assert [(i.name, i.datatype) for i in manifest.signature.inputs] == [(i.name, i.datatype) for i in asked]
    assert manifest.parameters["left_out"] == ["month"]


def test_a_drift_with_nothing_new_to_learn_from_fails_for_good(place: Place, champion: str) -> None:
    assert place.handle(DRIFTED)[0] == os.EX_DATAERR
    assert f"nothing new to learn from: {champion}" in place.sink.of("training.failed")[0]["data"]["reason"]


def test_a_drift_trains_on_every_file_dropped_that_can_be_learned_from(place: Place, champion: str) -> None:
    place.drop("broken,file\n")
    place.drop(mixed(80, seed=1, constant="2"))
    status, log = place.handle(DRIFTED)
    assert status == 0, log
    trained = place.sink.of("model.trained")[-1]["data"]
    manifest = place.store.manifest("doors", trained["version"])
    assert trained["rows"] == 200 and len(manifest.parameters["datasets"]) == 3
    assert [note.split(":")[0] for note in manifest.parameters["notes"]] == [
        "a.csv was left out",
        "'month' was left out",
    ]
    assert manifest.parameters["n_estimators"] == 10


def test_a_drift_trains_on_the_newest_files_that_together_are_not_too_many_bytes(place: Place, champion: str) -> None:
    """Each drop adds one: all that ever came would one day be more than a trainer has memory for."""
    files = [place.drop(mixed(80, seed=seed, constant="2")) for seed in (1, 2, 3)]
    limit = files[1].bytes + files[2].bytes
    for max_bytes, count in ((limit, 2), (limit - 1, 1), (1, 1), (1 << 26, 4)):
        asked = wish.of_drift(DRIFTED, place.now, place.store, max_bytes)
        assert [file.sha256 for file in asked.files][-3:] == [file.sha256 for file in files][-count:][-3:]
        assert len(asked.files) == count
        assert [note.split(" were")[0] for note in asked.notes] == ([f"{4 - count} older files"] if count < 4 else [])
    place.max_dataset_bytes = limit
    status, log = place.handle(DRIFTED)
    assert status == 0, log
    manifest = place.store.manifest("doors", place.sink.of("model.trained")[0]["data"]["version"])
    assert manifest.dataset["rows"] == 160 and manifest.parameters["notes"][0].startswith("2 older files were left out")


def test_a_drift_trains_on_no_file_that_somebody_has_removed(place: Place, champion: str) -> None:
    gone = place.drop(mixed(80, seed=1, constant="2"))
    kept = place.drop(mixed(80, seed=2, constant="2"))
    place.store.delete(f"datasets/doors/{gone.sha256}.csv")
    asked = wish.of_drift(DRIFTED, place.now, place.store)
    assert [file.sha256 for file in asked.files][1:] == [kept.sha256]


def test_a_drift_told_again_trains_on_no_file_that_came_later(place: Place, champion: str) -> None:
    """Else a Job that was killed, and the next file dropped meanwhile, would make two models of one drift."""
    place.drop(mixed(80, seed=1, constant="2"))
    place.now = datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert place.handle(DRIFTED)[0] == 0
    place.drop(mixed(80, seed=2, constant="3"))
    # It serves by now, so it knows all files of then; still the event is the one that asked for it.
    new = place.sink.of("model.trained")[0]["data"]["version"]
    place.store.set_serving("doors", Serving(new, champion, "2026-01-01T00:00:02+00:00", "better"))
    status, log = place.handle(DRIFTED)
    assert status == 0, log
    assert len(place.store.versions("doors")) == 2
    assert place.sink.of("model.trained")[0] == place.sink.of("model.trained")[1]
    assert place.sink.of("model.trained")[0]["data"]["rows"] == 200


def test_an_event_is_trained_by_the_trainer_that_it_names(place: Place) -> None:
    fast = {"epochs": 2, "first_units": 8, "second_units": 4, "batch_size": 16}
    status, log = place.run(place.drop(mixed(80), trainer="neural_net", parameters=fast))
    assert status == 0, log
    (trained,) = place.sink.of("model.trained")
    manifest = place.store.manifest("doors", trained["data"]["version"])
    assert (trained["data"]["trainer"], manifest.trainer, manifest.parameters["epochs"]) == (*["neural_net"] * 2, 2)
    assert manifest.parity["rows"] == 16 and manifest.parity["label_flips"] == 0
    Model.load(place.store.fetch("doors", manifest.version, place.folder / "fetched")).self_test()
    assert any("epoch 2 of 2" in event["data"]["what"] for event in place.sink.of("training.progressed"))


def test_a_file_is_trained_here_and_now_without_event_and_store(tmp_path: Path, mixed_csv: Path) -> None:
    command = [sys.executable, "-m", "trainers.job", "--file", str(mixed_csv), "--target", "kind", "--out"]
    done = subprocess.run(
        [*command, str(tmp_path / "out"), "--parameter", "n_estimators=10"], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [result["version"]]
    assert sorted(p.name for p in Path(result["package"]).iterdir()) == [
        "SHA256SUMS",
        "model.json",
        "model.onnx",
        "sample.json",
    ]
    assert result["scores"]["roc_auc"] > 0.5 and "100 %  package" in done.stderr
    refused = subprocess.run([*command, str(tmp_path / "out"), "--trainer", "x"], capture_output=True, text=True)
    assert refused.returncode == os.EX_DATAERR and "there is no trainer 'x'" in json.loads(refused.stdout)["error"]


def test_a_job_whose_clock_is_an_hour_behind_makes_a_version_after_the_one_that_serves(
    place: Place, champion: str, tmp_path: Path
) -> None:
    library = clocks.library(tmp_path)
    if library is None:
        pytest.skip("there is no C compiler here, for a program whose clock is off")
    since_s = int((datetime.now(UTC) - datetime(2025, 12, 31, 23, tzinfo=UTC)).total_seconds())
    hour_before = {**clocks.environ(str(library), -since_s), "TZ": "UTC"}
    arrived = place.drop(mixed(seed=1, constant="2"))
    status, log = place.run(arrived, **hour_before)
    assert status == os.EX_OK, log
    assert "2025-12-31 23:0" in log, "the clock was not turned back"
    versions = place.store.versions("doors")
    assert versions[0] == champion and versions[1].startswith("v20260101-000001-")
