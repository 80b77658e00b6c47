"""The promoter: a trained model becomes the one that serves, or does not, and the reply says why.

A Knative Service that takes `model.trained` and replies `model.promoted`, `model.rejected` or `model.rolledback`. Three
steps, each of which may be the one in which the process dies, and from each of which a redelivery goes on:

1. the gate (`functions.promoter.challenge`): parity, digest, and no worse than the champion on the same held-out rows;
2. the canary (`knative.canary` decides, `knative.rollout` patches, `functions.promoter.watch` looks): its state is an
annotation
   on the model's Knative Service, so that two deliveries never interleave: one is told Conflict, and reads again;
3. the verdict, written to the store as `verdicts/<model>/<version>.json` before the reply: told twice, it is the same.

The request is held while the canary is watched, because a pod without a request is scaled away.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cloudevents.core.v1.event import CloudEvent

from eventing import receiver, settings
from eventing.contract import ModelTrained
from eventing.errors import Misconfigured
from functions.promoter import deployment, promotion
from functions.promoter.promotion import Means, Promotion
from functions.store import Store
from knative import client, json_patch
from knative.canary import Limits
from knative.json_patch import Operation

SOURCE = "/headrace/functions/promoter"
# More than the Service's containerConcurrency: health and metrics are answered while every promotion is held.
BLOCKING_THREADS = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the promoter is told at its start."""

    store: str
    """HEADRACE_STORE: the store's URL."""
    kubeconfig: str | None
    """KUBECONFIG: which cluster; unset in a pod, whose service account is used."""
    port: int
    """PORT: where events are taken."""
    host: str
    """Where to listen, as `eventing.settings.host` says."""
    limits: Limits = field(default_factory=Limits)
    """HEADRACE_CANARY_PERCENT, HEADRACE_CANARY_S, HEADRACE_READY_S, HEADRACE_MIN_REQUESTS, HEADRACE_MAX_ERROR_SHARE,
    HEADRACE_MAX_LATENCY_FACTOR, HEADRACE_LATENCY_FLOOR_MS: what a canary may do; see `knative.canary.Limits`."""
    max_regression: float = 0.0
    """HEADRACE_MAX_REGRESSION: by how much a challenger's primary score may be worse than the champion's."""
    hold_s: float = 240.0
    """HEADRACE_HOLD_S: how long one delivery is held; below the Service's timeoutSeconds and the Trigger's timeout."""
    poll_s: float = 1.0
    """HEADRACE_CANARY_POLL_S: time between two looks at a running canary."""
    grpc: bool = False
    """HEADRACE_GRPC: `on` gives each model a gRPC Service beside its own."""
    predictor_patch: tuple[Operation, ...] = ()
    """HEADRACE_PREDICTOR_PATCH: a JSON patch of the manifests that a model's Services are made of."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises Misconfigured naming the first key that cannot work."""
        usual, number, whole = Limits(), settings.number, settings.whole_number
        limits = replace(
            usual,
            canary_percent=whole(environ, "HEADRACE_CANARY_PERCENT", usual.canary_percent, 1, 99),
            canary_s=number(environ, "HEADRACE_CANARY_S", usual.canary_s, 0, 86400),
            ready_s=number(environ, "HEADRACE_READY_S", usual.ready_s, 1, 3600),
            min_requests=whole(environ, "HEADRACE_MIN_REQUESTS", usual.min_requests, 1, 1_000_000),
            max_error_share=number(environ, "HEADRACE_MAX_ERROR_SHARE", usual.max_error_share, 0, 1),
            max_latency_factor=number(environ, "HEADRACE_MAX_LATENCY_FACTOR", usual.max_latency_factor, 1, 1000),
            latency_floor_ms=number(environ, "HEADRACE_LATENCY_FLOOR_MS", usual.latency_floor_ms, 0, 600_000),
        )
        return cls(
            store=settings.text(environ, "HEADRACE_STORE", "the store's URL, e.g. s3://headrace"),
            kubeconfig=environ.get("KUBECONFIG") or None,
            port=settings.port(environ),
            host=settings.host(environ),
            limits=limits,
            max_regression=number(environ, "HEADRACE_MAX_REGRESSION", 0.0, 0, 1000),
            hold_s=number(environ, "HEADRACE_HOLD_S", 240.0, 1, 600),
            poll_s=number(environ, "HEADRACE_CANARY_POLL_S", 1.0, 0.01, 60),
            grpc=settings.switch(environ, "HEADRACE_GRPC", default=False),
            predictor_patch=_patch(environ),
        )


def _patch(environ: Mapping[str, str]) -> tuple[Operation, ...]:
    seen = environ.get("HEADRACE_PREDICTOR_PATCH", "")
    try:
        patch = json_patch.parse(seen)
        deployment.fits(patch)
    except json_patch.BadPatch as e:
        expected = f"a JSON patch (RFC 6902) that fits functions/manifests/predictor.yaml and predictor-grpc.yaml: {e}"
        raise Misconfigured("HEADRACE_PREDICTOR_PATCH", seen, expected) from e
    return patch


class Promoter:
    """Takes `model.trained`, of several models or of one, from several threads at once."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def handle(self, event: CloudEvent) -> CloudEvent:
        """The verdict on one trained model.

        Raises Rejected for an event that breaks the contract; RetryLater when the store or the cluster is away, another
        canary of the model goes on, or the watch outlasts the hold.
        """
        trained = ModelTrained.from_event(event)
        with tempfile.TemporaryDirectory(prefix="promoter-") as folder:
            verdict, at = Promotion(self._means, trained, event.get_id(), Path(folder)).verdict()
        log.info("%s %s: %s", trained.model, trained.version, verdict.reason)
        return promotion.reply(verdict, at, event, SOURCE)


def main(environ: Mapping[str, str]) -> None:
    """Serves until SIGTERM. Raises Misconfigured."""
    chosen = Settings.from_environment(environ)
    stop = threading.Event()
    cluster = client.Cluster.connect(chosen.kubeconfig)
    means = Means(
        cluster=cluster,
        store=Store.open(chosen.store),
        limits=chosen.limits,
        max_regression=chosen.max_regression,
        hold_s=chosen.hold_s,
        poll_s=chosen.poll_s,
        # A canary's times are kept in its Service, and the next promoter may run where the clock says another hour.
        clock=cluster.now,
        stop=stop,
        grpc=chosen.grpc,
        predictor_patch=chosen.predictor_patch,
    )
    app = receiver.create_app(Promoter(means).handle, "promoter")
    receiver.serve(
        app,
        chosen.port,
        chosen.host,
        blocking_threads=BLOCKING_THREADS,
        # What is held is answered before the server waits for it: a watch may take longer than the grace period.
        on_stopping=stop.set,
    )
