"""Promotion in a cluster without Knative: the gate, then a rolling update of the model's Deployment.

`python -m functions.promoter.plain`. It looks at the store and at the Deployments again and again, so that no event can
be lost on the way and any line may be the one on which the process dies. Per Deployment with the label of a model:

1. a version newer than the one that serves, without a verdict: the gate (`functions.promoter.challenge`), which rejects
   it or has it rolled out; its pods prove themselves before they take requests, the old ones answer until then;
2. rolled out: `model.promoted`. Not ready in time (`progressDeadlineSeconds`): rolled back, `model.rolledback`;
3. a version that a person rolled out, by `kubectl rollout undo`, has a verdict already: that stands, and serves.

There is no canary: without Knative nothing splits the traffic. Verdicts go to the store, where Knative's promoter has
its own, and to the log.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from eventing import settings
from eventing.contract import ModelPromoted, ModelRejected, ModelRolledBack, ModelTrained
from eventing.errors import Rejected, RetryLater
from functions.promoter import challenge, verdicts
from functions.promoter.verdicts import NOUNS, Verdict
from functions.store import Serving, Store
from knative import client, rolling

PREDICTORS = {"app.kubernetes.io/component": "predictor"}

log = logging.getLogger("functions.promoter.plain")


@dataclass(frozen=True)
class Settings:
    """What the process is told at its start."""

    store: str
    """HEADRACE_STORE: the store's URL."""
    kubeconfig: str | None
    """KUBECONFIG: which cluster; unset in a pod, whose service account is used."""
    max_regression: float = 0.0
    """HEADRACE_MAX_REGRESSION: by how much a challenger's primary score may be worse than the champion's."""
    poll_s: float = 5.0
    """HEADRACE_PROMOTER_POLL_S: time between two looks at store and Deployments."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises Misconfigured naming the key."""
        return cls(
            store=settings.text(environ, "HEADRACE_STORE", "the store's URL, e.g. s3://headrace"),
            kubeconfig=environ.get("KUBECONFIG") or None,
            max_regression=settings.number(environ, "HEADRACE_MAX_REGRESSION", cls.max_regression, 0, 1000),
            poll_s=settings.number(environ, "HEADRACE_PROMOTER_POLL_S", cls.poll_s, 0.01, 3600),
        )


@dataclass
class PlainPromoter:
    """All models of one namespace, one look at a time."""

    cluster: client.Cluster
    store: Store
    max_regression: float = 0.0
    clock: Callable[[], float] = time.time
    _gates: dict[str, dict[str, object]] = field(default_factory=dict)
    """By model and version, what the gate measured; lost with the process, and then missing in the verdict alone."""

    def look(self) -> None:
        """One step for each model. Raises RetryLater when the cluster is away, Refused where it shows none of them."""
        for deployment in self.cluster.list("Deployment", PREDICTORS):
            if (model := rolling.model_of(deployment)) is None:
                continue
            try:
                self._step(model, deployment)
            except client.Conflict as e:
                log.info("%s changed meanwhile, and is looked at again: %s", model, e)
            except RetryLater as e:
                log.warning("%s: %s", model, e)  # the other models go on
            except Rejected as e:
                log.error("%s: a broken thing in the store: %s", model, e)
            except client.ClusterError as e:  # a webhook's no, or it was deleted meanwhile: the other models go on
                log.error("%s: %s", model, e)

    def _step(self, model: str, deployment: client.Object) -> None:
        pinned, serving = rolling.version_of(deployment), self.store.serving(model)
        champion = serving.version if serving else None
        if pinned is not None and pinned != champion:
            self._roll(model, deployment, pinned, champion)
        elif champion is not None and pinned is None:
            # The store was there before this cluster, or somebody removed the annotation.
            self._pin(model, deployment, champion)
        else:
            self._challenge(model, deployment, champion)

    def _roll(self, model: str, deployment: client.Object, version: str, champion: str | None) -> None:
        """Brings a rolling update to its end."""
        rollout = rolling.rollout_of(deployment)
        if rollout.progress == "rolling":
            log.info("%s %s is rolled out: %s", model, version, rollout.reason)
        elif rollout.progress == "done":
            known = verdicts.recorded(self.store, model, version)
            reason = "it passed the gate, and its pods proved it"
            if known is not None and not isinstance(known[0], ModelPromoted):
                reason = "somebody rolled it out by hand, and that stands"
            evidence = self._gates.pop(f"{model} {version}", None)
            said = ModelPromoted(model, version, reason, champion, evidence, deployment["metadata"]["name"])
            _, at = self._record(said)
            now = datetime.fromtimestamp(self.clock(), UTC) if known else at
            self.store.set_serving(model, Serving(version, champion, now.isoformat(), reason))
        else:
            # Back first: a process that dies in between finds the version unjudged, and tries it once more.
            self._pin(model, deployment, champion)
            self._gates.pop(f"{model} {version}", None)
            self._record(ModelRolledBack(model, version, rollout.reason, champion))

    def _challenge(self, model: str, deployment: client.Object, champion: str | None) -> None:
        """Judges the newest version that nobody has judged yet."""
        newer = (v for v in self.store.versions(model) if champion is None or v > champion)
        version = max((v for v in newer if verdicts.recorded(self.store, model, v) is None), default=None)
        if version is None:
            return
        if self._gates.pop(f"{model} {version}", None) is not None:
            # It was being rolled out, and the Deployment names it no more.
            reason = "somebody took it back by hand while it was rolled out, and that stands"
            self._record(ModelRolledBack(model, version, reason, champion))
            return
        try:
            trained = self._trained(model, version)
        except Rejected as e:
            self._record(ModelRejected(model, version, f"its package cannot serve: {e}", champion))
            return
        with tempfile.TemporaryDirectory(prefix="promoter-") as folder:
            gate = challenge.challenge(self.store, trained, champion, self.max_regression, Path(folder))
        if not gate.passed:
            self._record(ModelRejected(model, version, gate.reason, champion, dict(gate.evidence)))
            return
        log.info("%s %s passed the gate: %s", model, version, gate.reason)
        self._pin(model, deployment, version)
        self._gates[f"{model} {version}"] = {**gate.evidence, "passed": gate.reason}

    def _pin(self, model: str, deployment: client.Object, version: str | None) -> None:
        self.cluster.patch("Deployment", deployment["metadata"]["name"], rolling.pin_patch(deployment, version))
        log.info("%s: %s is to serve", model, version or "whichever the store says")

    def _record(self, verdict: Verdict) -> tuple[Verdict, datetime]:
        said, at = verdicts.record(self.store, verdict, self.clock())
        log.info("%s %s %s: %s", said.model, said.version, NOUNS[type(said)], said.reason)
        return said, at

    def _trained(self, model: str, version: str) -> ModelTrained:
        """What the trainer told of the package, as the store has it."""
        manifest = self.store.manifest(model, version)
        pointer = self.store.read_json(f"models/{model}/{version}.json") or {}
        return ModelTrained(
            model=model,
            version=version,
            uri=self.store.uri(f"models/{model}/{version}"),
            sha256=str(pointer.get("sha256")),
            scores=dict(manifest.scores),
            parity=dict(manifest.parity),
            rows=manifest.dataset["rows"],
            seconds=float(manifest.parameters.get("seconds", 0)),
            dataset_sha256=manifest.dataset["sha256"],
        )


def main(environ: Mapping[str, str]) -> None:
    """Looks until SIGTERM. Raises Misconfigured."""
    its = Settings.from_environment(environ)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    promoter = PlainPromoter(client.Cluster.connect(its.kubeconfig), Store.open(its.store), its.max_regression)
    log.info("looking at %s and at the Deployments of models every %g s", its.store, its.poll_s)
    while not stop.is_set():
        try:
            promoter.look()
        except RetryLater as e:
            log.warning("%s", e)
        stop.wait(its.poll_s)


if __name__ == "__main__":
    settings.run(main, os.environ)
