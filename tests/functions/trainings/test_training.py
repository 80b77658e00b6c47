"""From an event to the object that trains."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from cloudevents.core.v1.event import CloudEvent

from eventing.contract import DatasetArrived, DriftDetected
from eventing.errors import Rejected
from functions.trainings import training

Object = dict[str, Any]


def arrived(id: str = "dataset-1", **changes: Any) -> CloudEvent:
    data: Object = {"dataset": "flights", "uri": "s3://headrace/x.csv", "sha256": "0" * 64, "bytes": 10, **changes}
    return DatasetArrived(**data).to_event(source="/headrace/eventing/source", id=id, time=datetime.now(UTC))


def drifted(trainer: str | None) -> CloudEvent:
    data = DriftDetected(
        model="flights", feature="hour", statistic="psi", value=1.0, threshold=0.25, window=9, trainer=trainer
    )
    return data.to_event(source="/headrace/functions/drift-watch", id="drift-1", time=datetime.now(UTC))


CRON_JOB: Object = yaml.safe_load("""
apiVersion: batch/v1
kind: CronJob
metadata: {name: random-forest, namespace: headrace}
spec:
  schedule: "0 0 31 2 *"
  suspend: true
  jobTemplate:
    metadata: {labels: {team: blue}, annotations: {a: b}}
    spec:
      backoffLimit: 3
      template: {spec: {restartPolicy: Never, containers: [{name: trainer, image: t:1, env: [{name: A, value: b}]}]}}
""")
RUNTIME: Object = {"kind": "TrainingRuntime", "metadata": {"name": "neural-net"}}


@pytest.mark.parametrize(
    ("event", "template"),
    [
        (arrived(), "random-forest"),
        (arrived(trainer="neural_net"), "neural-net"),
        (drifted("neural_net"), "neural-net"),
        (drifted(None), "random-forest"),
    ],
)
def test_a_training_is_made_of_its_trainers_template(event: CloudEvent, template: str) -> None:
    assert training.asks_for_training(event)
    assert training.template_of(event) == template


def test_the_same_event_has_one_name_and_another_event_another() -> None:
    names = {training.name_of(arrived(id), "random-forest") for id in ("a", "a", "b")}
    assert len(names) == 2
    assert all(len(name) <= 63 - 16 for name in {*names, training.name_of(arrived(), "t" * 60)})


def test_a_job_is_the_cron_jobs_with_the_event_in_its_environment() -> None:
    event = arrived(parameters={"note": "costs $(HOME) and ünïcode"})
    job = training.job(event, CRON_JOB)
    assert job["spec"]["backoffLimit"] == 3
    assert job["metadata"]["labels"] == {"team": "blue", **training.LABELS}
    assert job["metadata"]["annotations"] == {"a": "b"}
    (container,) = job["spec"]["template"]["spec"]["containers"]
    before, variable = container["env"]
    assert before == {"name": "A", "value": "b"}
    # As Kubernetes would write it into the environment.
    said = json.loads(variable["value"].replace("$$", "$"))
    assert "$$(HOME)" in variable["value"] and said["data"]["parameters"]["note"] == "costs $(HOME) and ünïcode"
    assert (said["id"], said["source"]) == (event.get_id(), event.get_source())
    # The template is read again for the next event.
    assert len(CRON_JOB["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["env"]) == 1


def test_a_train_job_names_its_runtime_and_has_the_event() -> None:
    made = training.train_job(arrived(), RUNTIME)
    assert made["spec"]["runtimeRef"]["name"] == "neural-net"
    (variable,) = made["spec"]["trainer"]["env"]
    assert json.loads(variable["value"])["id"] == "dataset-1"


def test_an_event_that_no_environment_takes_is_rejected() -> None:
    event = arrived()
    event.get_attributes()["note"] = "x" * training.MAX_EVENT_BYTES
    with pytest.raises(Rejected, match="bytes"):
        training.job(event, CRON_JOB)


def test_a_broken_event_is_rejected_with_its_faults() -> None:
    event = CloudEvent({"type": DatasetArrived.TYPE, "source": "/x", "id": "1"}, {"dataset": 1})
    with pytest.raises(Rejected, match="breaks the contract"):
        training.template_of(event)
