"""The job watch: no training ends without a word, and none waits for ever for an event that was lost.

A Knative Service, `python -m functions.job_watch`, which gets every event that a trainer gets, by a Trigger of its own.
It keeps the event in the store and answers at once: an in-memory channel answers whoever has sent an event when all
have taken it. Then it looks at the Job that the JobSink has made of it, until that is over (`knative.jobs` decides):

- the Secret with the event was never made: the Job is deleted, the event given to the JobSink again, and
  training.failed told, retryable;
- the Job gave up (its tries or its time are used up, so that no pod could tell): training.failed, final;
- the Job is over and has told for itself: nothing.

Where trainings are TrainJobs (HEADRACE_TRAINING_KIND) there is no JobSink and no Secret: what Kubeflow Trainer has made
of the event is looked at, and only the second of these is told.

    <store>/watched/<digest>.json      `event`, whose Job is not over, in the JSON format; `again`: the JobSink that
                                       is to be given it again, or ""

Its pod stays longer than a Job may run; a new one goes on from the store.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from cloudevents.core.v1.event import CloudEvent

from eventing import binding, contract, receiver, sender, settings
from eventing.contract import DatasetArrived, DriftDetected, TrainingFailed
from eventing.errors import Rejected, RetryLater, Verdict
from functions.store import Store
from functions.trainings import training
from functions.trainings.training import Kind
from knative import job_sink, jobs, pods
from knative.client import Cluster, ClusterError, NotFound, Unreachable
from knative.jobs import Missed, Seen, State

SOURCE = "/headrace/functions/job-watch"
FOLDER = "watched"
TRAINERS = {"app.kubernetes.io/part-of": "headrace", "app.kubernetes.io/component": "trainer"}
MAX_BODY_BYTES = 4 * 1024 * 1024  # an event that no JobSink can keep must still be taken, to say so
POLL_S = 5.0  # between two looks at the Jobs; nothing is looked at where none is watched
RESUME_S = 60.0  # between two looks into the store for what another process has left
ABSENT_S = 3600.0  # without a Job: the Broker has given up long since, and the event is a dead letter
GONE_S = 60.0  # for a deleted Job to be gone, with its pod

Object = Mapping[str, Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the job watch is told at its start."""

    store: str
    """HEADRACE_STORE: fsspec URL of the store."""
    sink: str
    """K_SINK: URL that takes the events, the Broker's."""
    kubeconfig: str | None
    """KUBECONFIG: which cluster; unset in a pod, whose service account is used."""
    port: int
    """PORT: where events are taken."""
    host: str
    """Where to listen, as `eventing.settings.host` says."""
    kind: Kind = "Job"
    """HEADRACE_TRAINING_KIND: what an event becomes, a JobSink's Job or a TrainJob."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises Misconfigured naming the key."""
        return cls(
            store=settings.text(environ, "HEADRACE_STORE", "the store's fsspec URL, such as file:///var/headrace"),
            sink=settings.text(environ, "K_SINK", "the URL that takes the events"),
            kubeconfig=environ.get("KUBECONFIG") or None,
            port=settings.port(environ),
            host=settings.host(environ),
            kind=training.kind(environ),
        )


@dataclass(frozen=True, slots=True)
class Found:
    """The Job of an event, at one moment."""

    name: str
    job_sink: str
    """"" for a TrainJob's."""
    uid: str
    seen: Seen


@dataclass(slots=True)
class Watched:
    """An event whose Job is not over. Times are of a monotonic clock."""

    event: CloudEvent
    since_s: float
    """When its Job was last seen, or it came."""
    again: str = ""
    """The JobSink whose Job was deleted, and which has not taken the event again."""
    job: str | None = None
    """Uid of the Job that was seen last."""
    missed: Missed | None = None


def path_of(event: CloudEvent) -> str:
    """Where the event is kept: by source and id, which is how a JobSink knows it."""
    name = f"{event.get_source()}\0{event.get_id()}"
    return f"{FOLDER}/{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


class JobWatch:
    """Takes events, from several threads, and looks at their Jobs, in one.

    tell: sends an event to the Broker. post: sends one to a URL, once. Both raise Verdicts.
    """

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        tell: Callable[[CloudEvent], object],
        post: Callable[[str, CloudEvent], object],
        grace_s: float = jobs.GRACE_S,
        kind: Kind = "Job",
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._tell = tell
        self._post = post
        self._grace_s = grace_s
        self._kind = kind
        self._watched: dict[str, Watched] = {}
        self._lock = threading.Lock()

    def handle(self, event: CloudEvent) -> None:
        """Keeps the event. Raises Rejected for one that no trainer takes, RetryLater while the store is away."""
        if event.get_type() not in (DatasetArrived.TYPE, DriftDetected.TYPE):
            raise Rejected(f"event {event.get_id()} has type {event.get_type()}, which no trainer takes")
        if self._kind == "TrainJob":
            training.template_of(event)  # one that breaks the contract becomes no TrainJob
        path = path_of(event)
        with self._lock:
            if path in self._watched:
                return  # delivered twice
        new = Watched(event, time.monotonic())
        self._keep(path, new)
        with self._lock:
            self._watched.setdefault(path, new)

    def resume(self) -> None:
        """Take up what another process has left. Raises RetryLater while the store is away.

        What is there and holds no event stands in the log: it keeps no other from being watched.
        """
        for path in self._store.list(FOLDER):
            try:
                if (kept := self._store.read_json(path)) is None:
                    continue
                event, again = binding.from_json(kept.get("event")), str(kept.get("again") or "")
            except Rejected as e:
                log.error("%s holds nothing to watch: %s", path, e)
                continue
            with self._lock:
                self._watched.setdefault(path, Watched(event, time.monotonic(), again))

    def look(self, now_s: float) -> int:
        """One look at the Jobs of all that is watched; how many are not over. now_s: of a monotonic clock.

        Raises RetryLater while the cluster is away. What cannot be done about one event now is done at a later look.
        """
        with self._lock:
            watched = dict(self._watched)
        if not watched:
            return 0
        try:
            sinks = self._cluster.list("JobSink", TRAINERS) if self._kind == "Job" else []
            for path, each in watched.items():
                try:
                    if self._is_over(path, each, sinks, now_s):
                        self._store.delete(path)
                        with self._lock:
                            del self._watched[path]
                except Verdict as e:
                    log.warning("event %s: %s", each.event.get_id(), e)
        except Unreachable as e:
            raise RetryLater(str(e)) from e
        with self._lock:
            return len(self._watched)

    def _is_over(self, path: str, watched: Watched, sinks: Sequence[Object], now_s: float) -> bool:
        """Whether nothing more is to be said of the event's training; what is to be said, or done, now is.

        Raises Verdict where Broker, JobSink or store do not take it now.
        """
        if watched.again:
            # Also where there is a Job, of an attempt that failed half: then the JobSink changes nothing.
            return self._give_again(path, watched, sinks, now_s)
        found = self._find(watched.event, sinks)
        if found is None:
            if watched.job is not None:
                return True  # it was there and is not: somebody, or its time to live, has taken it away
            if now_s - watched.since_s > ABSENT_S:
                log.warning("nobody has made a Job of event %s", watched.event.get_id())
                return True
            return False
        watched.job, watched.since_s = found.uid, now_s
        if found.seen.state is State.gave_up:
            said = f"; it said last: {found.seen.said}" if found.seen.said else ""
            why = f"the Job gave up: {found.seen.reason}{said}"
            self._tell(self._failed(watched.event, found, why, retryable=False))
        if found.seen.state is not State.running:
            return True
        watched.missed, is_lost = jobs.lost(watched.missed, found.seen, now_s, self._grace_s)
        return is_lost and self._redo(path, watched, found, sinks, now_s)

    def _find(self, event: CloudEvent, sinks: Sequence[Object]) -> Found | None:
        """The Job that Kubeflow Trainer or one of the JobSinks has made of the event; None where there is none."""
        if self._kind == "TrainJob":
            return self._seen(training.job_of_train_job(event), "")
        made = (
            self._seen(job_sink.job_name(name, event.get_source(), event.get_id()), name)
            for name in (sink["metadata"]["name"] for sink in sinks)
        )
        return next((found for found in made if found is not None), None)

    def _seen(self, name: str, sink: str) -> Found | None:
        if (job := self._cluster.get("Job", name)) is None:
            return None
        its = self._cluster.list("Pod", {pods.JOB_LABEL: name})
        seen = jobs.see(job, its, ())
        if seen.state is State.running and sink:
            # Events are many: they are asked for only while a Job has not ended, and may wait for its Secret.
            seen = jobs.see(job, its, self._cluster.list("Event"))
        return Found(name, sink, str(job["metadata"]["uid"]), seen)

    def _redo(self, path: str, watched: Watched, found: Found, sinks: Sequence[Object], now_s: float) -> bool:
        """A new Job in place of one whose event is lost; whether there can be none, which is told."""
        event = watched.event
        size = len(orjson.dumps(binding.to_json(event)))
        why = f"Secret {found.name} with its event was never made"
        log.warning("Job %s waits for nothing: %s; deleting it", found.name, why)
        if size > job_sink.MAX_EVENT_BYTES:
            why = f"{why}: the event has {size:,} bytes, a Secret holds {job_sink.MAX_EVENT_BYTES:,}"
            self._tell(self._failed(event, found, why, retryable=False))
            self._delete(found)
            return True
        # First: whoever dies from here on leaves it to be given again.
        watched.again, watched.missed, watched.job = found.job_sink, None, None
        self._keep(path, watched)
        self._delete(found)
        try:
            self._tell(self._failed(event, found, f"{why}; the Job was deleted and is made again", retryable=True))
        except Verdict as e:
            log.warning("training.failed was not sent: %s", e)  # to be redone matters more than to be told
        return self._give_again(path, watched, sinks, now_s)

    def _give_again(self, path: str, watched: Watched, sinks: Sequence[Object], now_s: float) -> bool:
        """The event to the JobSink whose Job it had; whether that is gone. Raises Verdict where it is not taken.

        A JobSink that fails half once more has made a Job again, which is watched like the first.
        """
        sink = next((each for each in sinks if each["metadata"]["name"] == watched.again), None)
        if sink is None:
            log.warning("JobSink %s of event %s is gone", watched.again, watched.event.get_id())
            return True
        address = ((sink.get("status") or {}).get("address") or {}).get("url")
        if not address:
            raise RetryLater(f"JobSink {watched.again} has no address")
        self._post(address, watched.event)
        watched.again, watched.since_s = "", now_s
        self._keep(path, watched)
        return False

    def _keep(self, path: str, watched: Watched) -> None:
        event = orjson.loads(orjson.dumps(binding.to_json(watched.event)))
        self._store.write_json(path, {"event": event, "again": watched.again})

    def _delete(self, found: Found) -> None:
        """The Job, once it is gone. Raises RetryLater while it is not."""
        try:
            self._cluster.delete("Job", found.name)
        except NotFound:
            return
        ends = time.monotonic() + GONE_S
        while (job := self._cluster.get("Job", found.name)) is not None and job["metadata"]["uid"] == found.uid:
            if time.monotonic() > ends:
                raise RetryLater(f"Job {found.name} is not gone yet")
            time.sleep(0.2)

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


def run(watch: JobWatch, stop: threading.Event, poll_s: float = POLL_S) -> None:
    """Look again and again until `stop`, also at what another process leaves: of two revisions, both get events."""
    resume_s = 0.0
    while not stop.is_set():
        try:
            if time.monotonic() >= resume_s:
                watch.resume()
                resume_s = time.monotonic() + RESUME_S
            watch.look(time.monotonic())
        except (Verdict, ClusterError) as e:
            log.warning("%s; looking again in %.0f s", e, poll_s)
        except Exception:  # events are taken as long as this process lives, and nobody else would look at their Jobs
            log.exception("a look broke off; looking again in %.0f s", poll_s)
        stop.wait(poll_s)


def main(environ: Mapping[str, str]) -> None:
    """Serves until SIGTERM. Raises Misconfigured."""
    its = Settings.from_environment(environ)
    stop = threading.Event()
    broker = sender.Sender(its.sink)
    watch = JobWatch(
        Store.open(its.store),
        Cluster.connect(its.kubeconfig),
        tell=lambda event: broker.send(event, attempts=3),
        post=lambda url, event: sender.Sender(url).send(event, attempts=1),
        kind=its.kind,
    )
    threading.Thread(target=run, args=(watch, stop), name="job-watch").start()
    app = receiver.create_app(watch.handle, "job-watch", max_body_bytes=MAX_BODY_BYTES)
    try:
        receiver.serve(app, its.port, its.host, on_stopping=stop.set)
    finally:
        stop.set()


if __name__ == "__main__":
    settings.run(main, os.environ)
