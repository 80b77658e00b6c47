"""The job watch, over the laptop's real Kubernetes API: a lost event is given again, an end is always told."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.v1.event import CloudEvent

from eventing import binding, contract, files, sender
from eventing.contract import DatasetArrived, TrainingFailed
from eventing.errors import Misconfigured, Rejected, RetryLater
from functions import job_watch
from functions.job_watch import JobWatch
from functions.store import Store
from functions.trainings import training
from knative import job_sink, jobs, pods
from tests.eventing import serving
from tests.eventing.sinks import Answer, Sink, sink
from tests.knative import local_api
from tests.knative.local_api import LocalAPI

NOW = datetime(2026, 11, 25, tzinfo=UTC)
SOURCE, ID = "/headrace/eventing/source", "dataset-1"
NAME = job_sink.job_name("random-forest", SOURCE, ID)
LABELS = {"app.kubernetes.io/part-of": "headrace", "app.kubernetes.io/component": "trainer"}


def arrived() -> CloudEvent:
    data = DatasetArrived(dataset="flights", uri="s3://b/x.csv", sha256="a" * 64, bytes=10, name="x.csv")
    return data.to_event(source=SOURCE, id=ID, time=NOW)


class House:
    """An API with the JobSink of a trainer, whose door and the Broker's are sinks; without a door there is none."""

    def __init__(self, api: LocalAPI, broker: Sink, door: Sink | None, store: Store) -> None:
        self.api, self.broker, self.store = api, broker, store
        template = {"spec": {"containers": [{"name": "trainer", "image": "i"}], "restartPolicy": "Never"}}
        self.template = template
        if door is None:
            return
        self.door = door
        made = self.create(
            {
                "apiVersion": "sinks.knative.dev/v1alpha1",
                "kind": "JobSink",
                "metadata": {"name": "random-forest", "namespace": "headrace", "labels": LABELS},
                "spec": {"job": {"spec": {"template": template}}},
            }
        )
        self.status(made, {"address": {"url": door.url}})

    def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        return dict(self.api.call(self.api.objects.create, obj))

    def status(self, obj: dict[str, Any], status: dict[str, Any]) -> None:
        def write() -> None:
            live = self.api.objects.get(obj["kind"], "headrace", obj["metadata"]["name"])
            assert live is not None
            self.api.objects.update({**live, "status": status}, subresource="status")

        self.api.call(write)

    def job(self, name: str = NAME, **condition: str) -> None:
        meta = {"name": name, "namespace": "headrace"}
        made = self.create(
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": self.template}}
        )
        if condition:
            self.status(made, {"conditions": [{"status": "True", **condition}]})

    def pod_without_secret(self, count: int) -> None:
        meta = {"name": f"{NAME}-abcde", "namespace": "headrace", "labels": {pods.JOB_LABEL: NAME}}
        pod = self.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": self.template["spec"]})
        waiting = {"name": "trainer", "state": {"waiting": {"reason": "ContainerCreating"}}}
        self.status(pod, {"phase": "Pending", "containerStatuses": [waiting]})
        self.missed(count)

    def missed(self, count: int) -> None:
        """The kubelet's word, for the `count`th time."""
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "missed", "namespace": "headrace"},
            "involvedObject": {"kind": "Pod", "name": f"{NAME}-abcde", "namespace": "headrace"},
            "reason": "FailedMount",
            "type": "Warning",
            "message": f'MountVolume.SetUp failed for volume "jobsink-event" : secret "{NAME}" not found',
            "count": count,
        }

        def write() -> None:
            if self.api.objects.get("Event", "headrace", "missed") is not None:
                self.api.objects.delete("Event", "headrace", "missed")
            self.api.objects.create(event)

        self.api.call(write)

    def watch(self, kind: training.Kind = "Job") -> JobWatch:
        """A process's: it takes up what is in the store."""
        broker = sender.Sender(self.broker.url, sleep=lambda _: None)
        watch = JobWatch(
            self.store,
            self.api.connect(),
            tell=lambda event: broker.send(event, attempts=1),
            post=lambda url, event: sender.Sender(url).send(event, attempts=1),
            kind=kind,
        )
        watch.resume()
        return watch

    def told(self) -> list[TrainingFailed]:
        return [TrainingFailed.from_event(event) for event in self.broker.events]

    def kept(self) -> int:
        return len(self.store.list(job_watch.FOLDER))

    def has_job(self, name: str = NAME) -> bool:
        return self.api.call(self.api.objects.get, "Job", "headrace", name) is not None


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with local_api.serving(tmp_path) as api, sink() as broker, sink() as door:
        yield House(api, broker, door, Store.open((tmp_path / "store").as_uri()))


def test_a_job_that_is_over_and_has_told_for_itself_needs_no_word(house: House) -> None:
    watch = house.watch()
    watch.handle(arrived())
    assert (watch.look(0.0), house.kept()) == (1, 1)
    house.job(type="Complete", reason="CompletionsReached")
    assert (watch.look(5.0), house.kept()) == (0, 0)
    assert not house.broker.requests


def test_of_a_train_job_it_is_told_that_it_gave_up_and_nothing_is_deleted(tmp_path: Path) -> None:
    with local_api.serving(tmp_path) as api, sink() as broker:
        house = House(api, broker, None, Store.open((tmp_path / "store").as_uri()))
        watch = house.watch(kind="TrainJob")
        watch.handle(arrived())
        assert (watch.look(0.0), house.kept()) == (1, 1)
        name = f"{training.name_of(arrived(), 'random-forest')}-node-0"
        house.job(name, type="Failed", reason="BackoffLimitExceeded", message="tried four times")
        assert (watch.look(5.0), house.kept()) == (0, 0)
        (told,) = house.told()
        assert (told.job, told.retryable) == (name, False)
        assert "tried four times" in told.reason
        assert house.has_job(name)
        broken = CloudEvent({"type": DatasetArrived.TYPE, "source": "/x", "id": "1"}, {"dataset": 1})
        with pytest.raises(Rejected, match="breaks the contract"):
            watch.handle(broken)


@pytest.mark.parametrize("reason", ["BackoffLimitExceeded", "DeadlineExceeded"])
def test_a_job_that_gave_up_is_told_of_as_final_and_twice_as_the_same(house: House, reason: str) -> None:
    house.job(type="Failed", reason=reason, message="as Kubernetes says")
    for _ in range(2):
        watch = house.watch()
        watch.handle(arrived())
        assert watch.look(0.0) == 0
    first, second = house.broker.events
    told = TrainingFailed.from_event(first)
    assert (told.model, told.job, told.retryable) == ("flights", NAME, False)
    assert told.reason == f"the Job gave up: {reason}: as Kubernetes says"
    assert first.get_id() == second.get_id()
    assert first.get_extension("causationid") == ID


def test_a_new_process_goes_on_with_what_another_one_was_told(house: House) -> None:
    house.watch().handle(arrived())
    house.job(type="Failed", reason="DeadlineExceeded", message="")
    assert house.watch().look(0.0) == 0
    assert len(house.told()) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"event": {"id": "1"}, "again": ""}', b'{"event": 5}'])
def test_what_lies_there_and_is_no_event_keeps_no_other_from_being_watched(house: House, content: bytes) -> None:
    house.watch().handle(arrived())
    files.open_files(house.store.url).write(f"{job_watch.FOLDER}/0-note.json", content)
    house.job(type="Failed", reason="DeadlineExceeded", message="")
    assert house.watch().look(0.0) == 0
    assert len(house.told()) == 1


def test_what_could_not_be_told_is_told_later_and_keeps_no_other_waiting(house: House) -> None:
    house.job(type="Failed", reason="DeadlineExceeded", message="")
    house.broker.answers[:] = [Answer(503), Answer(202)]
    watch = house.watch()
    watch.handle(arrived())
    assert (watch.look(0.0), watch.look(5.0)) == (1, 0)
    assert house.kept() == 0


def lose(house: House, watch: JobWatch, event: CloudEvent | None = None) -> None:
    """The event, its Job, and a kubelet that misses the Secret for half a minute."""
    watch.handle(event or arrived())
    house.job()
    house.pod_without_secret(1)
    watch.look(0.0)
    house.missed(6)
    watch.look(jobs.GRACE_S + 1)


def test_an_event_whose_secret_was_never_made_is_given_to_the_jobsink_again_and_told(house: House) -> None:
    watch = house.watch()
    lose(house, watch)
    (again,) = house.door.events
    assert (again.get_source(), again.get_id(), again.get_subject()) == (SOURCE, ID, "flights")
    assert DatasetArrived.from_event(again) == DatasetArrived.from_event(arrived())
    (told,) = house.told()
    assert told.retryable and told.reason.startswith(f"Secret {NAME} with its event was never made")
    assert told.log_uri.endswith(f"/pods/{NAME}-abcde/log")
    assert not house.has_job()
    house.job(type="Complete", reason="CompletionsReached")
    assert watch.look(60.0) == 0


def test_a_secret_that_was_missed_once_alone_is_left_to_come(house: House) -> None:
    watch = house.watch()
    watch.handle(arrived())
    house.job()
    house.pod_without_secret(1)
    assert [watch.look(now_s) for now_s in (0.0, 31.0, 600.0)] == [1, 1, 1]
    assert house.has_job() and not house.door.requests


def test_a_broker_that_is_away_does_not_keep_an_event_from_being_given_again(house: House) -> None:
    house.broker.answers[:] = [Answer(503)]
    lose(house, house.watch())
    assert len(house.door.events) == 1


def test_an_event_that_the_jobsink_did_not_take_again_is_given_by_the_next_process(house: House) -> None:
    house.door.answers[:] = [Answer(500), Answer(202)]
    lose(house, house.watch())
    assert len(house.door.requests) == 1 and not house.has_job()
    watch = house.watch()
    assert [watch.look(0.0), watch.look(5.0)] == [1, 1]
    assert len(house.door.requests) == 2


def test_a_job_whose_secret_is_missing_once_more_is_made_once_more(house: House) -> None:
    watch = house.watch()
    lose(house, watch)
    house.api.call(house.api.objects.delete, "Pod", "headrace", f"{NAME}-abcde")
    house.job()
    house.pod_without_secret(1)
    for now_s, count in ((40.0, 1), (80.0, 6)):
        house.missed(count)
        watch.look(now_s)
    assert len(house.door.events) == len(house.told()) == 2


def test_an_event_that_no_secret_can_hold_is_told_of_as_final(house: House) -> None:
    # Nobody of ours sends such a one: the contract ends at 64 KiB of data.
    large = CloudEvent(arrived().get_attributes(), {"dataset": "flights", "more": "x" * job_sink.MAX_EVENT_BYTES})
    lose(house, house.watch(), large)
    (told,) = house.told()
    assert not told.retryable and "a Secret holds 1,048,576" in told.reason
    assert not house.has_job() and not house.door.requests and house.kept() == 0


def test_a_job_that_somebody_takes_away_is_no_longer_watched(house: House) -> None:
    house.job()
    watch = house.watch()
    watch.handle(arrived())
    assert watch.look(0.0) == 1
    house.api.call(house.api.objects.delete, "Job", "headrace", NAME)
    assert watch.look(5.0) == 0


def test_an_event_of_which_no_job_comes_is_forgotten_after_an_hour(house: House) -> None:
    watch = house.watch()
    watch.handle(arrived())
    now_s = time.monotonic()
    assert [watch.look(now_s), watch.look(now_s + job_watch.ABSENT_S + 5)] == [1, 0]


def test_an_event_that_no_trainer_takes_is_rejected(house: House) -> None:
    event = contract.DatasetRejected("flights", "s3://b/x", ()).to_event(source="/s", id="1", time=NOW)
    with pytest.raises(Rejected, match="no trainer takes"):
        house.watch().handle(event)


def test_a_cluster_that_is_away_is_retry_later(tmp_path: Path) -> None:
    with local_api.serving(tmp_path) as api:
        cluster = api.connect()
    watch = JobWatch(Store.open(tmp_path.as_uri()), cluster, tell=print, post=print)
    watch.handle(arrived())
    with pytest.raises(RetryLater):
        watch.look(0.0)


def test_the_process_answers_at_once_and_tells_of_a_job_that_gave_up(house: House, tmp_path: Path) -> None:
    house.job(type="Failed", reason="DeadlineExceeded", message="")
    environ = {
        "HEADRACE_STORE": house.store.url, "K_SINK": house.broker.url, "KUBECONFIG": str(house.api.kubeconfig),
    }  # fmt: skip
    message = binding.to_binary(arrived())
    with serving.process("functions.job_watch", environ) as (child, url):
        assert serving.post(url, message.headers, message.body)[0] == 204
        end = time.monotonic() + 60
        while not house.broker.requests:
            assert time.monotonic() < end
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0


def test_a_setting_that_is_missing_is_refused_with_its_key() -> None:
    with pytest.raises(Misconfigured, match="K_SINK"):
        job_watch.Settings.from_environment({"HEADRACE_STORE": "memory://x"})
