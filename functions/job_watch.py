"""The job watch: no training ends without a word, and none waits for ever for an event that was lost.

A Knative Service, `python -m functions.job_watch`, which gets every event that a trainer gets, by a Trigger of its own,
and so holds the event while it watches the Job that the JobSink has made of it (`knative.jobs` decides):

- the Secret with the event was never made: the Job is deleted, the event given to the JobSink again, and
  training.failed told, retryable;
- the Job gave up (its tries or its time are used up, so that no pod could tell): the reply is training.failed, final;
- the Job is over and has told for itself: nothing.

A delivery is held for HEADRACE_HOLD_S at most, then answered 503, and comes again: the Broker is the memory.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from cloudevents.core.v1.event import CloudEvent

from eventing import binding, contract, receiver, sender, settings
from eventing.contract import DatasetArrived, DriftDetected, TrainingFailed
from eventing.errors import Rejected, RetryLater, Verdict
from knative import job_sink, jobs
from knative.client import Cluster, NotFound, Unreachable
from knative.jobs import Missed, Seen, State

SOURCE = "/headrace/functions/job-watch"
TRAINERS = {"app.kubernetes.io/part-of": "headrace", "app.kubernetes.io/component": "trainer"}
# More than the Service's containerConcurrency: health and metrics are answered while every delivery is held.
BLOCKING_THREADS = 40
MAX_BODY_BYTES = 4 * 1024 * 1024  # an event that no JobSink can keep must still be taken, to say so
ABSENT_S = 20.0  # the JobSink is told at the same moment; its Job comes within seconds
GONE_S = 60.0  # for a deleted Job to be gone, with its pod

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the job watch is told at its start."""

    sink: str
    """K_SINK: URL that takes the events, the Broker's."""
    kubeconfig: str | None
    """KUBECONFIG: which cluster; unset in a pod, whose service account is used."""
    port: int
    """PORT: where events are taken."""
    host: str
    """Where to listen, as `eventing.settings.host` says."""
    hold_s: float = 240.0
    """HEADRACE_HOLD_S: how long one delivery is held; below the Service's timeoutSeconds and the Trigger's timeout."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises Misconfigured naming the key."""
        return cls(
            sink=settings.text(environ, "K_SINK", "the URL that takes the events"),
            kubeconfig=environ.get("KUBECONFIG") or None,
            port=settings.port(environ),
            host=settings.host(environ),
            hold_s=settings.number(environ, "HEADRACE_HOLD_S", 240.0, 1, 600),
        )


@dataclass(frozen=True, slots=True)
class Found:
    """The Job of an event, at one moment."""

    name: str
    job_sink: Mapping[str, Any]
    uid: str
    seen: Seen


class JobWatch:
    """The handler; from several threads at once.

    post: sends an event to a URL once. stop: ends what is held.
    """

    def __init__(
        self,
        cluster: Cluster,
        tell: Callable[[CloudEvent], object],
        post: Callable[[str, CloudEvent], object],
        hold_s: float = 240.0,
        grace_s: float = jobs.GRACE_S,
        poll_s: float = 2.0,
        stop: threading.Event | None = None,
    ) -> None:
        self._cluster = cluster
        self._tell = tell
        self._post = post
        self._hold_s = hold_s
        self._grace_s = grace_s
        self._poll_s = poll_s
        self._stop = stop or threading.Event()

    def handle(self, event: CloudEvent) -> CloudEvent | None:
        """What is left to say of the training that the event asks for.

        Raises Rejected for an event that no trainer takes; RetryLater while the training goes on, the cluster is away.
        """
        if event.get_type() not in (DatasetArrived.TYPE, DriftDetected.TYPE):
            raise Rejected(f"event {event.get_id()} has type {event.get_type()}, which no trainer takes")
        try:
            return self._watch(event)
        except Unreachable as e:
            raise RetryLater(str(e)) from e

    def _watch(self, event: CloudEvent) -> CloudEvent | None:
        began_s, redone = time.monotonic(), False
        missed: Missed | None = None
        found: Found | None = None
        while time.monotonic() - began_s < (self._hold_s if found else min(ABSENT_S, self._hold_s)):
            before, found = found, self._find(event)
            if found is None and before is not None and not redone:
                return None  # it was there and is not: somebody, or its time to live, has taken it away
            if found is not None:
                if found.seen.state is State.done:
                    return None
                if found.seen.state is State.gave_up:
                    reason = f"the Job gave up: {found.seen.reason}"
                    return self._failed(event, found, reason, retryable=False)
                missed, is_lost = jobs.lost(missed, found.seen, time.monotonic(), self._grace_s)
                if is_lost and (reply := self._redo(event, found)) is not None:
                    return reply
                missed, redone = (None, True) if is_lost else (missed, redone)
            if self._stop.wait(self._poll_s):
                break
        what = f"Job {found.name} goes on" if found else "no JobSink has made a Job of it yet"
        raise RetryLater(f"event {event.get_id()}: {what}", after_s=5.0)

    def _find(self, event: CloudEvent) -> Found | None:
        """The Job that some JobSink of a trainer has made of the event; None where there is none."""
        for sink in self._cluster.list("JobSink", TRAINERS):
            name = job_sink.job_name(sink["metadata"]["name"], event.get_source(), event.get_id())
            if (job := self._cluster.get("Job", name)) is not None:
                pods = self._cluster.list("Pod", {jobs.JOB_NAME: name})
                seen = jobs.see(job, pods, ())
                if seen.state is State.running:
                    # Events are many: they are asked for only while a Job has not ended.
                    seen = jobs.see(job, pods, self._cluster.list("Event"))
                return Found(name, sink, str(job["metadata"]["uid"]), seen)
        return None

    def _redo(self, event: CloudEvent, found: Found) -> CloudEvent | None:
        """A new Job in place of one whose event is lost; the reply where there can be none.

        Raises RetryLater when the JobSink does not take the event now: the next delivery finds no Job, or one more that
        waits, and goes on from there.
        """
        size = len(orjson.dumps(binding.to_json(event)))
        why = f"Secret {found.name} with its event was never made"
        log.warning("Job %s waits for nothing: %s; deleting it", found.name, why)
        self._delete(found)
        if size > job_sink.MAX_EVENT_BYTES:
            why = f"{why}: the event has {size:,} bytes, a Secret holds {job_sink.MAX_EVENT_BYTES:,}"
            return self._failed(event, found, why, retryable=False)
        try:
            self._tell(self._failed(event, found, f"{why}; the Job was deleted and is made again", retryable=True))
        except Verdict as e:
            log.warning("training.failed was not sent: %s", e)  # to be redone matters more than to be told
        address = ((found.job_sink.get("status") or {}).get("address") or {}).get("url")
        if not address:
            raise RetryLater(f"JobSink {found.job_sink['metadata']['name']} has no address")
        self._post(address, event)
        return None

    def _delete(self, found: Found) -> None:
        """The Job, once it is gone. Raises RetryLater while it is not."""
        try:
            self._cluster.delete("Job", found.name)
        except NotFound:
            return
        ends = time.monotonic() + GONE_S
        while (job := self._cluster.get("Job", found.name)) is not None and job["metadata"]["uid"] == found.uid:
            if time.monotonic() > ends or self._stop.wait(0.2):
                raise RetryLater(f"Job {found.name} is not gone yet")

    def _failed(self, event: CloudEvent, found: Found, reason: str, *, retryable: bool) -> CloudEvent:
        """Told twice, it is the same event: its id is of the Job, the very one, and of what is said."""
        namespace = self._cluster.namespace
        log_uri = (
            f"/api/v1/namespaces/{namespace}/pods/{found.seen.pod}/log"
            if found.seen.pod
            else f"/apis/batch/v1/namespaces/{namespace}/jobs/{found.name}"
        )
        data = TrainingFailed(event.get_subject() or "unknown", found.name, reason[:4000], log_uri, retryable)
        id = contract.derived_id("job", found.uid, str(retryable))
        return data.to_event(source=SOURCE, id=id, time=datetime.now(UTC), cause=event)


def main(environ: Mapping[str, str]) -> None:
    """Serves until SIGTERM. Raises Misconfigured."""
    its = Settings.from_environment(environ)
    stop = threading.Event()
    broker = sender.Sender(its.sink)
    watch = JobWatch(
        Cluster.connect(its.kubeconfig),
        tell=lambda event: broker.send(event, attempts=3),
        post=lambda url, event: sender.Sender(url).send(event, attempts=1),
        hold_s=its.hold_s,
        stop=stop,
    )
    app = receiver.create_app(watch.handle, "job-watch", max_body_bytes=MAX_BODY_BYTES)
    # What is held is answered before the server waits for it: a watch may take longer than the grace period.
    receiver.serve(app, its.port, its.host, blocking_threads=BLOCKING_THREADS, on_stopping=stop.set)


if __name__ == "__main__":
    settings.run(main, os.environ)
