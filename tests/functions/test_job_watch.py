"""The job watch, over the laptop's real Kubernetes API: a lost event is given again, an end is always told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.v1.event import CloudEvent

from eventing import contract, sender
from eventing.contract import DatasetArrived, TrainingFailed
from eventing.errors import Misconfigured, Rejected, RetryLater
from functions import job_watch
from functions.job_watch import JobWatch
from knative import job_sink, jobs
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
    """An API with the JobSink of a trainer, whose door and the Broker's are sinks."""

    def __init__(self, api: LocalAPI, broker: Sink, door: Sink) -> None:
        self.api, self.broker, self.door = api, broker, door
        template = {"spec": {"containers": [{"name": "trainer", "image": "i"}], "restartPolicy": "Never"}}
        self.template = template
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

    def job(self, **condition: str) -> None:
        meta = {"name": NAME, "namespace": "headrace"}
        made = self.create(
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": self.template}}
        )
        if condition:
            self.status(made, {"conditions": [{"status": "True", **condition}]})

    def pod_without_secret(self, count: int) -> None:
        meta = {"name": f"{NAME}-abcde", "namespace": "headrace", "labels": {jobs.JOB_NAME: NAME}}
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

    def watch(self, hold_s: float = 2.0) -> JobWatch:
        broker = sender.Sender(self.broker.url, sleep=lambda _: None)
        return JobWatch(
            self.api.connect(),
            tell=lambda event: broker.send(event, attempts=1),
            post=lambda url, event: sender.Sender(url).send(event, attempts=1),
            hold_s=hold_s,
            grace_s=0.2,
            poll_s=0.05,
        )

    def has_job(self) -> bool:
        return self.api.call(self.api.objects.get, "Job", "headrace", NAME) is not None


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with local_api.serving(tmp_path) as api, sink() as broker, sink() as door:
        yield House(api, broker, door)


def failure(event: CloudEvent | None) -> TrainingFailed:
    assert event is not None
    return TrainingFailed.from_event(event)


def test_a_job_that_is_over_and_has_told_for_itself_needs_no_word(house: House) -> None:
    house.job(type="Complete", reason="CompletionsReached")
    assert house.watch().handle(arrived()) is None


@pytest.mark.parametrize("reason", ["BackoffLimitExceeded", "DeadlineExceeded"])
def test_a_job_that_gave_up_is_told_of_as_final_and_twice_as_the_same(house: House, reason: str) -> None:
    house.job(type="Failed", reason=reason, message="as Kubernetes says")
    first, second = house.watch().handle(arrived()), house.watch().handle(arrived())
    told = failure(first)
    assert (told.model, told.job, told.retryable) == ("flights", NAME, False)
    assert told.reason == f"the Job gave up: {reason}: as Kubernetes says"
    assert first and second and first.get_id() == second.get_id()
    assert first.get_extension("causationid") == ID


def test_a_job_that_goes_on_is_asked_for_again(house: House) -> None:
    house.job()
    with pytest.raises(RetryLater, match=f"Job {NAME} goes on"):
        house.watch(hold_s=0.2).handle(arrived())


def test_an_event_of_which_no_job_was_made_is_asked_for_again(house: House) -> None:
    with pytest.raises(RetryLater, match="no JobSink has made a Job of it yet"):
        house.watch(hold_s=0.2).handle(arrived())


def test_an_event_whose_secret_was_never_made_is_given_to_the_jobsink_again_and_told(house: House) -> None:
    house.job()
    house.pod_without_secret(1)
    threading.Timer(0.5, house.missed, (4,)).start()
    with pytest.raises(RetryLater):
        house.watch(hold_s=3.0).handle(arrived())
    (again,) = house.door.events
    assert (again.get_source(), again.get_id(), again.get_subject()) == (SOURCE, ID, "flights")
    assert DatasetArrived.from_event(again) == DatasetArrived.from_event(arrived())
    told = failure(house.broker.events[0])
    assert told.retryable and told.reason.startswith(f"Secret {NAME} with its event was never made")
    assert told.log_uri.endswith(f"/pods/{NAME}-abcde/log")
    assert not house.has_job()


def test_a_secret_that_was_missed_once_alone_is_left_to_come(house: House) -> None:
    house.job()
    house.pod_without_secret(1)
    with pytest.raises(RetryLater, match="goes on"):
        house.watch(hold_s=1.0).handle(arrived())
    assert house.has_job() and not house.door.requests


def test_a_broker_that_is_away_does_not_keep_an_event_from_being_given_again(house: House) -> None:
    house.broker.answers[:] = [Answer(503)]
    house.job()
    house.pod_without_secret(1)
    threading.Timer(0.5, house.missed, (4,)).start()
    with pytest.raises(RetryLater):
        house.watch(hold_s=3.0).handle(arrived())
    assert len(house.door.events) == 1


def test_a_jobsink_that_fails_again_is_tried_with_the_next_delivery(house: House) -> None:
    house.door.answers[:] = [Answer(500), Answer(202)]
    house.job()
    house.pod_without_secret(1)
    threading.Timer(0.5, house.missed, (4,)).start()
    with pytest.raises(RetryLater, match="500"):
        house.watch(hold_s=3.0).handle(arrived())
    assert not house.has_job()


def test_an_event_that_no_secret_can_hold_is_told_of_as_final(house: House) -> None:
    house.job()
    house.pod_without_secret(1)
    threading.Timer(0.5, house.missed, (4,)).start()
    # Nobody of ours sends such a one: the contract ends at 64 KiB of data.
    large = CloudEvent(arrived().get_attributes(), {"dataset": "flights", "more": "x" * job_sink.MAX_EVENT_BYTES})
    told = failure(house.watch(hold_s=3.0).handle(large))
    assert not told.retryable and "a Secret holds 1,048,576" in told.reason
    assert not house.has_job() and not house.door.requests


def test_a_job_that_somebody_takes_away_is_no_longer_watched(house: House) -> None:
    house.job()
    threading.Timer(0.5, house.api.connect().delete, ("Job", NAME)).start()
    assert house.watch(hold_s=5.0).handle(arrived()) is None


def test_an_event_that_no_trainer_takes_is_rejected(house: House) -> None:
    event = contract.DatasetRejected("flights", "s3://b/x", ()).to_event(source="/s", id="1", time=NOW)
    with pytest.raises(Rejected, match="no trainer takes"):
        house.watch().handle(event)


def test_a_cluster_that_is_away_is_retry_later(tmp_path: Path) -> None:
    with local_api.serving(tmp_path) as api:
        cluster = api.connect()
    with pytest.raises(RetryLater):
        JobWatch(cluster, tell=print, post=print).handle(arrived())


def test_a_bad_setting_is_refused_with_its_key() -> None:
    with pytest.raises(Misconfigured, match="K_SINK"):
        job_watch.Settings.from_environment({})
    with pytest.raises(Misconfigured, match="HEADRACE_HOLD_S"):
        job_watch.Settings.from_environment({"K_SINK": "http://b", "HEADRACE_HOLD_S": "0"})
