"""Takes events where there is no JobSink, and where there is no Broker: each is dealt with before it is answered.

Two places. On Knative with Kubeflow Trainer it is the subscriber of the trainers' Triggers, and makes a TrainJob. In a
cluster without Eventing it is everybody's K_SINK, and makes a Job; predictions go on to the drift watch, whose reply
may ask for a training, and of everything else the log tells. Nothing is kept here: whoever gets no 2xx sends again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from cloudevents.core.v1.event import CloudEvent

from eventing import contract, receiver, settings
from eventing.contract import DatasetRejected, PredictionMade, TrainingFailed
from eventing.errors import Rejected, RetryLater
from eventing.sender import Sender
from functions.trainings import training
from functions.trainings.training import TEMPLATE, Kind
from knative import client

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What the receiver is told at its start."""

    kubeconfig: str | None
    """KUBECONFIG: which cluster; unset in a pod, whose service account is used."""
    port: int
    """PORT: where events are taken."""
    host: str
    """Where to listen, as `eventing.settings.host` says."""
    kind: Kind = "Job"
    """HEADRACE_TRAINING_KIND: what is made for a training, a Job or a TrainJob."""
    drift_watch: str | None = None
    """HEADRACE_DRIFT_WATCH: where predictions go on to, for there is no Broker that does it; None: nowhere."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises Misconfigured naming the key."""
        return cls(
            kubeconfig=environ.get("KUBECONFIG") or None,
            port=settings.port(environ),
            host=settings.host(environ),
            kind=training.kind(environ),
            drift_watch=environ.get("HEADRACE_DRIFT_WATCH") or None,
        )


class Trainings:
    """Takes events from several threads at once. drift_watch: who is asked about predictions; None: nobody."""

    def __init__(self, cluster: client.Cluster, kind: Kind, drift_watch: Sender | None = None) -> None:
        self._cluster = cluster
        self._kind = kind
        self._drift_watch = drift_watch

    def handle(self, event: CloudEvent) -> None:
        """Does what follows from an event.

        Raises Rejected for an event that breaks the contract or asks for a trainer that is not here; RetryLater while
        the API server or the drift watch is away, or the training may not be made: a quota or a right, for ops to give.
        """
        if training.asks_for_training(event):
            self._start(event)
        elif event.get_type() == PredictionMade.TYPE and self._drift_watch is not None:
            reply = self._drift_watch.send(event)
            if reply is not None and training.asks_for_training(reply):
                self._start(reply)
        else:
            _tell(event)

    def _start(self, event: CloudEvent) -> None:
        name, kind = training.template_of(event), TEMPLATE[self._kind]
        template = self._cluster.get(kind, name)
        if template is None:
            raise Rejected(f"there is no {kind} {name} here, so nobody trains as event {event.get_id()} asks")
        make = training.job if self._kind == "Job" else training.train_job
        try:
            made = self._cluster.create(make(event, template))
        except client.Conflict:
            log.info("event %s, of %s, was taken before", event.get_id(), event.get_subject())
        except client.Refused as e:
            if e.status != 403:
                raise  # the template is broken: no fault of the event's
            raise RetryLater(f"no training of {event.get_subject()} is made: {e.reason}") from e
        else:
            log.info("%s %s learns from event %s", self._kind, made["metadata"]["name"], event.get_id())


def _tell(event: CloudEvent) -> None:
    """What nobody waits for, in the log: the last words of a training with their reasons."""
    data = contract.parse(event)
    if isinstance(data, DatasetRejected | TrainingFailed):
        log.warning("%s: %s", event.get_type(), data.to_data())
    else:
        log.info("%s of %s, event %s", event.get_type(), event.get_subject(), event.get_id())


def main(environ: Mapping[str, str]) -> None:
    """Serves until SIGTERM. Raises Misconfigured."""
    its = Settings.from_environment(environ)
    watch = Sender(its.drift_watch) if its.drift_watch else None
    trainings = Trainings(client.Cluster.connect(its.kubeconfig), its.kind, watch)
    receiver.serve(receiver.create_app(trainings.handle, "trainings"), its.port, its.host)
