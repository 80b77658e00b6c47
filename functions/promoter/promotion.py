"""One trained model on its way to a verdict: what the promoter does between an event and its reply.

Each step reads the model's Knative Service, decides, and writes with the resourceVersion that it read; whatever step
the process dies in, the next delivery reads the same Service and goes on. Nothing is kept in memory that a verdict
needs but what was seen of a running canary, which a new watcher simply sees again.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cloudevents.core.v1.event import CloudEvent

from eventing import contract
from eventing.contract import ModelPromoted, ModelRejected, ModelRolledBack, ModelTrained
from eventing.errors import RetryLater
from functions.promoter import challenge, deployment, verdicts
from functions.promoter.verdicts import NOUNS, Verdict
from functions.promoter.watch import Watch
from functions.store import Serving, Store
from knative import canary, client, follow, rollout
from knative.canary import Canary, Limits, Observation, Readiness
from knative.json_patch import Operation

INVALID = (400, 422)  # statuses of an object that is never taken as it is
RETRY_S = 10.0  # after which a delivery that could not be held to its end may come again

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Means:
    """What every promotion works with."""

    cluster: client.Cluster
    store: Store
    limits: Limits
    max_regression: float
    """By how much a challenger's primary score may be worse than the champion's."""
    hold_s: float
    """How long one delivery is held at most."""
    poll_s: float
    """Time between two looks at a running canary."""
    stop: threading.Event
    """Set when the process is to end: whatever is held then is answered RetryLater at once."""
    grpc: bool = False
    """Whether a model without a gRPC Service is given one; those that are there follow the model's in any case."""
    predictor_patch: tuple[Operation, ...] = ()
    """What the place wants otherwise in the manifests that a model's Services are made of."""
    clock: Callable[[], float] = time.time


class Promotion:
    """One delivery of `model.trained`.

    work: a folder of its own for what has to be downloaded.
    """

    def __init__(self, means: Means, trained: ModelTrained, event: str, work: Path) -> None:
        self._means = means
        self._cluster, self._store = means.cluster, means.store
        self._trained = trained
        self._event = event
        self._work = work
        self._watches: dict[str, Watch] = {}
        self._companion: client.Object | None = None
        self._mine = False  # a rollout of this version was seen running by this delivery

    def verdict(self) -> tuple[Verdict, datetime]:
        """What became of the version, and when; the same for every delivery once it is decided.

        Raises RetryLater when the store or the cluster is away, or a canary, of this version or of another one, goes on
        for longer than this delivery is held.
        """
        ends = time.monotonic() + self._means.hold_s
        while True:
            try:
                if (said := self._step()) is not None:
                    return said
            except client.Conflict as e:
                log.info("%s changed meanwhile, reading it again: %s", self._trained.model, e)
            self._pause(ends)

    def _step(self) -> tuple[Verdict, datetime] | None:
        """One look and at most one write; the verdict once there is one."""
        trained = self._trained
        service = self._cluster.get("Service", trained.model)
        self._follow(service)
        running = rollout.canary_of(service) if service is not None else None
        own = running is not None and running.version == trained.version
        # A rollout of this version is brought to its end first, though its verdict be written down already.
        if not own and (said := self._recorded()) is not None:
            return said
        if service is not None and running is not None:
            self._mine = self._mine or own
            # Another's canary is its own delivery's to watch, unless that one died and did not come back.
            if own or canary.is_abandoned(running, self._means.clock(), self._means.limits):
                ended = self._advance(service, running)
                return self._recorded() if own and ended else None
            return None
        if self._mine:
            return self._decided_by_hand(service)
        return self._begin(service)

    def _decided_by_hand(self, service: client.Object | None) -> tuple[Verdict, datetime] | None:
        """What somebody who ended this version's canary has decided for it; None while Knative is on its way there."""
        trained, reason = self._trained, "by hand while the canary was watched, and that stands"
        if service is not None and rollout.version_of(service["spec"]["template"]) == trained.version:
            if rollout.is_moving(service):
                return None
            revision = rollout.serving_revision(service)
            if self._version(revision) == trained.version:
                said = f"somebody promoted it {reason}"
                return self._promoted(ModelPromoted(trained.model, trained.version, said, revision=revision))
        return self._record(ModelRolledBack(trained.model, trained.version, f"somebody changed the Service {reason}"))

    def _begin(self, service: client.Object | None) -> tuple[Verdict, datetime] | None:
        """Judges the challenger, and starts its rollout where it passes."""
        trained = self._trained
        revision = rollout.serving_revision(service) if service is not None else None
        champion = None
        if service is not None:
            if rollout.model_of(service) != trained.model:
                return self._reject(f"there is a Service {trained.model} which does not serve this model", None)
            if rollout.is_split(service):
                advice = f"`headrace promote {trained.model} VERSION` ends that"
                return self._reject(f"its traffic is split by hand between several revisions; {advice}", None)
            if rollout.is_moving(service):
                return None  # the champion is whoever serves when that has ended
            champion = self._version(revision)
        if champion == trained.version:
            reason = "it serves already"
            return self._promoted(ModelPromoted(trained.model, trained.version, reason, revision=revision))
        if champion is not None and champion > trained.version:
            return self._reject(f"superseded: {champion} was trained later and serves already", champion)
        gate = challenge.challenge(self._store, trained, champion, self._means.max_regression, self._work)
        if not gate.passed:
            return self._reject(gate.reason, champion, dict(gate.evidence))
        now = self._means.clock()
        state = Canary(
            version=trained.version,
            champion=champion,
            champion_revision=revision if champion is not None else None,
            since=now,
            phase="starting",
            phase_since=now,
            event=self._event,
            evidence={**gate.evidence, "passed": gate.reason},
        )
        log.info("%s %s passed the gate: %s", trained.model, trained.version, gate.reason)
        if service is not None:
            self._cluster.patch("Service", trained.model, rollout.start_patch(service, state))
            return None
        try:
            self._cluster.create(deployment.service(trained.model, state, self._means.predictor_patch))
        except client.Refused as e:
            if e.status not in INVALID:
                raise  # a right that ops may still grant, a token that is renewed: no fault of the model's
            return self._reject(f"Kubernetes takes no Service of this name: {e.reason}", None)
        return None

    def _advance(self, service: client.Object, running: Canary) -> bool:
        """Brings a rollout, of this version or of one whose watcher died, one step on; whether that ended it."""
        means, model = self._means, self._trained.model
        seen = self._observe(service, running)
        state, decision = canary.decide(running, seen, means.clock(), means.limits)
        log.log(
            logging.DEBUG if decision.action == "wait" else logging.INFO,
            "%s %s is %s: %s, %s",
            *(model, running.version, running.phase, decision.action, decision.reason),
        )
        patch = None
        if running.phase == "starting" and decision.action in ("shift", "promote"):
            state = replace(state, revision=rollout.newest_revision(service))  # the one that was seen ready
        if decision.action == "shift":
            patch = rollout.shift_patch(service, state, means.limits.canary_percent)
        elif decision.action == "promote":
            patch = rollout.promote_patch(service, state)
        elif decision.action == "roll_back":
            patch = rollout.revert_patch(service, state)
        elif decision.action == "finish":
            self._finish(service, running)
            settled = running.phase == "promoting" or seen.revision.status == "True"
            patch = rollout.finish_patch(service, settled)
        if patch is not None:
            self._follow(self._cluster.patch("Service", model, patch))
        return decision.action == "finish"

    def _observe(self, service: client.Object, running: Canary) -> Observation:
        if running.phase == "starting":
            return Observation(self._both(service, lambda service: self._canary_readiness(service, running)))
        ready = self._both(service, rollout.readiness)
        if running.phase != "watching" or running.champion is None:
            return Observation(ready)
        watch = self._watches.get(running.version)
        if watch is None:
            package = self._store.fetch(self._trained.model, running.version, self._work)
            watch = Watch(self._trained.model, running.version, running.champion, package)
            self._watches[running.version] = watch
        ours, theirs = rollout.tag_url(service, rollout.CANARY), rollout.tag_url(service, rollout.CHAMPION)
        if ours is not None and theirs is not None:
            watch.look(ours, theirs)
        return Observation(
            revision=ready,
            canary=watch.challenger,
            champion=watch.champion,
            probes_ok=watch.probes_ok,
            probes_failed=watch.probes_failed,
            mismatch=watch.mismatch,
        )

    def _follow(self, service: client.Object | None) -> None:
        """Brings the model's gRPC Service after `service`, as it was just read or written; its own are left alone."""
        self._companion = None
        if service is not None and rollout.model_of(service) == self._trained.model:
            template = functools.partial(deployment.grpc_service, self._means.predictor_patch)
            self._companion = follow.follow(self._cluster, service, template if self._means.grpc else None)

    def _both(self, service: client.Object, ready: Callable[[client.Object], Readiness]) -> Readiness:
        """What `ready` says of the model's Service, and once that is ready, of its gRPC Service, where there is one."""
        said = ready(service)
        if said.status != "True" or self._companion is None:
            return said
        said = ready(self._companion)
        return Readiness(said.status, f"over gRPC: {said.reason}" if said.reason else "")

    def _canary_readiness(self, service: client.Object, running: Canary) -> Readiness:
        """Whether the challenger's revision is made, ready, and reached by what will carry its traffic."""
        name = rollout.newest_revision(service)
        found = None if name is None else self._cluster.get("Revision", name)
        if found is None or rollout.version_of(found) != running.version:
            return Readiness("Unknown", "Knative has not made its revision yet")
        ready = rollout.readiness(found)
        if ready.status != "True":
            return ready
        routed = name == (
            rollout.serving_revision(service)
            if running.champion is None
            else rollout.tagged_revision(service, rollout.CANARY)
        )
        return ready if routed else Readiness("Unknown", f"no traffic reaches {name} yet")

    def _finish(self, service: client.Object, running: Canary) -> None:
        """Writes down how a rollout ended, before the Service forgets it."""
        kind = ModelPromoted if running.phase == "promoting" else ModelRolledBack
        verdict = kind(
            model=self._trained.model,
            version=running.version,
            reason=running.reason,
            previous=running.champion,
            evidence=running.evidence,
            revision=running.revision,
        )
        if isinstance(verdict, ModelPromoted):
            self._promoted(verdict)
        else:
            self._record(verdict)

    def _promoted(self, verdict: ModelPromoted) -> tuple[Verdict, datetime]:
        """Whatever follows from a version's serving; each part may be there already."""
        if self._cluster.get("Trigger", f"{verdict.model}-predictions") is None:
            try:
                self._cluster.create(deployment.trigger(verdict.model))
            except client.Conflict:
                log.info("the Trigger of %s was made by another", verdict.model)
        said, at = self._record(verdict)
        # The Service is the truth, this follows it: read by whoever explains, not by whoever serves.
        serving = self._store.serving(verdict.model)
        if serving is None or serving.version != verdict.version:
            previous = verdict.previous or (serving.version if serving is not None else None)
            self._store.set_serving(verdict.model, Serving(verdict.version, previous, at.isoformat(), said.reason))
        return said, at

    def _reject(
        self, reason: str, previous: str | None, evidence: dict[str, object] | None = None
    ) -> tuple[Verdict, datetime]:
        trained = self._trained
        return self._record(ModelRejected(trained.model, trained.version, reason, previous, evidence))

    def _record(self, verdict: Verdict) -> tuple[Verdict, datetime]:
        """The verdict on a version, as the first who came to one wrote it down: told twice it stays the same."""
        return verdicts.record(self._store, verdict, self._means.clock())

    def _recorded(self, version: str | None = None) -> tuple[Verdict, datetime] | None:
        return verdicts.recorded(self._store, self._trained.model, version or self._trained.version)

    def _version(self, revision: str | None) -> str | None:
        found = None if revision is None else self._cluster.get("Revision", revision)
        return None if found is None else rollout.version_of(found)

    def _pause(self, ends: float) -> None:
        """Until the next look. Raises RetryLater when the process is to end, or the delivery was held long enough."""
        model, version = self._trained.model, self._trained.version
        if self._means.stop.wait(self._means.poll_s):
            raise RetryLater(f"{model} {version}: the promoter is stopping; the next delivery goes on", after_s=1)
        if time.monotonic() >= ends:
            raise RetryLater(f"{model} {version}: not decided yet; the next delivery goes on", after_s=RETRY_S)


def reply(verdict: Verdict, at: datetime, cause: CloudEvent, source: str) -> CloudEvent:
    """The verdict as the event that answers `cause`; its id is the same whenever the verdict is."""
    id = contract.derived_id("promotion", verdict.model, verdict.version, NOUNS[type(verdict)])
    return verdict.to_event(source=source, id=id, time=at, cause=cause)
