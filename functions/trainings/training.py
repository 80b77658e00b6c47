"""From an event to the object that trains: a Job, or a TrainJob of Kubeflow Trainer. Pure.

Used by `functions.trainings.function`, and by the job watch, which looks at what has come of it. The object is named
after the event, so that the API server itself refuses a second one for the same event, as JobSink has it. The event
travels in the environment: it holds references and never rows, and so needs neither a Secret nor the right to make one.

Source: `kubectl create job --from=cronjob/NAME` (a suspended CronJob as a Job's template); kubeflow/trainer
pkg/apis/trainer/v1alpha1, RuntimeRef and Trainer.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, get_args

from cloudevents.core.v1.event import CloudEvent

from eventing import binding, contract, landing
from eventing.contract import DatasetArrived, DriftDetected
from eventing.errors import Misconfigured, Rejected

Object = dict[str, Any]
Kind = Literal["Job", "TrainJob"]

KINDS: tuple[Kind, ...] = get_args(Kind)
TEMPLATE = {"Job": "CronJob", "TrainJob": "TrainingRuntime"}
"""The kind in which the way to train lies in the cluster, one object per trainer."""

EVENT = "HEADRACE_EVENT"
# Linux takes 128 KiB for one variable; an event of ours has 64 KiB of data at most.
MAX_EVENT_BYTES = 120 * 1024
LABELS = {"app.kubernetes.io/part-of": "headrace", "app.kubernetes.io/component": "trainer"}


def kind(environ: Mapping[str, str]) -> Kind:
    """HEADRACE_TRAINING_KIND, a Job where nothing is said. Raises Misconfigured naming the key."""
    said = environ.get("HEADRACE_TRAINING_KIND", "").strip() or KINDS[0]
    found = next((each for each in KINDS if each == said), None)
    if found is None:
        raise Misconfigured("HEADRACE_TRAINING_KIND", said, " or ".join(KINDS))
    return found


def asks_for_training(event: CloudEvent) -> bool:
    """Whether a training follows from an event of this type."""
    return event.get_type() in (DatasetArrived.TYPE, DriftDetected.TYPE)


def template_of(event: CloudEvent) -> str:
    """The name of the trainer's template. Raises Rejected for an event that breaks the contract."""
    data = contract.parse(event)
    assert isinstance(data, DatasetArrived | DriftDetected)
    trainer = data.trainer or str(event.get_extension("trainer") or "") or landing.DEFAULT_TRAINER
    return trainer.replace("_", "-")


def name_of(event: CloudEvent, template: str) -> str:
    """The training's name: the same for the same event, another for each other one."""
    digest = hashlib.sha256(f"{event.get_source()}\0{event.get_id()}".encode()).hexdigest()
    # A JobSet adds up to 16 characters to its pods' names, which have 63.
    return f"{template[:30]}-{digest[:16]}"


def job_of_train_job(event: CloudEvent) -> str:
    """The name of the Job that Kubeflow Trainer has made of the event's TrainJob: the only one of its one step, `node`.

    Raises Rejected for an event that breaks the contract. Source: sigs.k8s.io/jobset pkg/util/placement, GenJobName.
    """
    return f"{name_of(event, template_of(event))}-node-0"


def job(event: CloudEvent, cron_job: Object) -> Object:
    """The Job that learns from `event`, as the CronJob's `jobTemplate` says."""
    template = copy.deepcopy(cron_job["spec"]["jobTemplate"])
    container = template["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [*(container.get("env") or ()), _variable(event)]
    metadata = template.get("metadata") or {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name_of(event, cron_job["metadata"]["name"]),
            "labels": {**(metadata.get("labels") or {}), **LABELS},
            "annotations": metadata.get("annotations") or {},
        },
        "spec": template["spec"],
    }


def train_job(event: CloudEvent, runtime: Object) -> Object:
    """The TrainJob that learns from `event`, in the TrainingRuntime `runtime` of the same namespace."""
    name = runtime["metadata"]["name"]
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name_of(event, name), "labels": LABELS},
        "spec": {
            "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": name},
            "trainer": {"env": [_variable(event)]},
        },
    }


def _variable(event: CloudEvent) -> Object:
    text = json.dumps(binding.to_json(event), ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > MAX_EVENT_BYTES:
        raise Rejected(f"event {event.get_id()} is over {MAX_EVENT_BYTES} bytes; rows belong in the store")
    # Kubernetes replaces $(NAME) in a value, and takes $$ for a $.
    return {"name": EVENT, "value": text.replace("$", "$$")}
