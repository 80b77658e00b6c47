"""The laptop's autoscaler: reads each revision's traffic every second, decides every two, and says how many pods there
are to be.

The decisions are `knative.autoscaler`'s, which are Knative's; here are the clock, the gateway's figures and the
PodAutoscaler's status. Between a revision at zero and its next request nothing runs: the first request that waits wakes
the loop.

Source: knative/serving pkg/autoscaler/scaling/multiscaler.go (ticks and the poke),
pkg/reconciler/autoscaling/kpa/kpa.go (status).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from eventing.errors import Misconfigured
from headrace.local.gateway.revision_queue import Traffic
from headrace.local.objects.objects import ADDED, DELETED, Change, Object, Objects, set_condition
from knative import autoscaler
from knative.autoscaler import Config, Decision, Life, Observation, Plan, Scrape, Spec, State
from knative.literals import nanoseconds

if TYPE_CHECKING:
    from headrace.local.pods.process import Endpoint

log = logging.getLogger(__name__)

CONFIG_NAMESPACE, CONFIG_NAME = "knative-serving", "config-autoscaler"
KIND = "PodAutoscaler"
REASON_ANNOTATION = "headrace.dev/decision"  # in status.annotations: the last change's reason, in words

Key = tuple[str, str]


class Gateway(Protocol):
    """What the autoscaler asks of the gateway."""

    def on_demand(self, callback: Callable[[str, str], None]) -> None: ...
    def observe(self, namespace: str, revision: str) -> Traffic: ...
    def in_flight(self, namespace: str, revision: str) -> int: ...


@dataclass(slots=True)
class _Scaled:
    """One revision's autoscaler.

    wish: the last valid decision's pods; set_to: the pods last asked for; ready: those last seen. None before the
    first.
    """

    key: Key
    annotations: Mapping[str, str]
    container_concurrency: int
    reachable: bool
    state: State
    life: Life
    wish: int | None = None
    set_to: int | None = None
    ready: int | None = None
    decision: Decision | None = None
    plan: Plan | None = None
    decided_s: float = -math.inf

    @property
    def spec(self) -> Spec:
        return self.state.spec


class Scaler:
    """The autoscaler of one platform.

    endpoints: a revision's ready pods. scale: called with namespace, revision and the pods there are to be. clock:
    seconds since the epoch. overrides: keys of `config-autoscaler` that hold where the ConfigMap is silent; Knative's
    own defaults otherwise.
    """

    def __init__(
        self,
        objects: Objects,
        gateway: Gateway,
        endpoints: Callable[[str, str], tuple[Endpoint, ...]],
        scale: Callable[[str, str, int], None],
        *,
        clock: Callable[[], float] = time.time,
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        self._objects = objects
        self._gateway = gateway
        self._endpoints = endpoints
        self._scale = scale
        self._clock = clock
        self._overrides = dict(overrides or {})
        self._config = Config.from_map(self._overrides)
        self._scaled: dict[Key, _Scaled] = {}
        self._demanded: set[Key] = set()
        self._due_s = -math.inf
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] | None = None

    async def start(self) -> None:
        """Take up every PodAutoscaler where the last run left it, then keep to the clock."""
        self._read_config()
        self._unsubscribe = self._objects.watch_changes(self._on_change)
        self._gateway.on_demand(self._on_demand)
        for obj in self._objects.list(KIND):
            self._take_up(obj)
        self._task = asyncio.create_task(self._run(), name="autoscaler")

    async def stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def explain(self, namespace: str, revision: str) -> tuple[Decision | None, Plan | None]:
        """The last decision about a revision and what was done about it, with their reasons; None before the first."""
        scaled = self._scaled.get((namespace, revision))
        return (scaled.decision, scaled.plan) if scaled else (None, None)

    # ------------------------------------------------------------------ the clock

    async def _run(self) -> None:
        while True:
            if not any(self._is_busy(scaled) for scaled in self._scaled.values()):
                await self._wake.wait()
            self._wake.clear()
            self.tick()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout=max(0.0, self._due_s - self._clock()))

    def _is_busy(self, scaled: _Scaled) -> bool:
        """Whether anything is there to be watched: pods, wanted pods or requests."""
        return bool(
            scaled.set_to
            or scaled.wish
            or scaled.ready
            or scaled.life.active != "False"
            or self._gateway.in_flight(*scaled.key)
            or self._endpoints(*scaled.key)
        )

    def tick(self) -> None:
        """One look at every revision that is not at rest, and at those for which a request waits in vain.

        Traffic is read once in a second, decisions are made every second one; what is done about them may change at any
        time.
        """
        demanded, self._demanded = self._demanded, set()
        now = self._clock()
        due = now >= self._due_s
        if due:
            # In the middle of the clock's seconds, so that each bucket of a window gets one scrape and no jitter gives
            # it two.
            self._due_s = math.floor(now) + 1.5
        for scaled in list(self._scaled.values()):
            poked = scaled.key in demanded
            if not (poked or self._is_busy(scaled)):
                continue
            try:
                if due or poked:
                    self._observe(scaled, now, poked=poked)
                if poked or (due and now - scaled.decided_s >= autoscaler.DECISION_INTERVAL_S - 0.25):
                    self._decide(scaled, now)
                self._reconcile(scaled, now)
            except Exception:
                # One revision's trouble must not leave the others without an autoscaler; the next second tries again.
                log.exception("the autoscaler missed a tick of %s/%s", *scaled.key)

    def _observe(self, scaled: _Scaled, now: float, *, poked: bool) -> None:
        traffic = self._gateway.observe(*scaled.key)
        # Poked: as in the activator's first report, the request that waits counts whole, however short its time has
        # been.
        least = float(max(1, traffic.in_flight)) if poked else 0.0
        # Nothing is `proxied`: activator and queue-proxy are one here, and each request was counted once.
        scrape = Scrape(now, max(traffic.concurrency, least), max(traffic.requests_per_s, least))
        scaled.state = autoscaler.record(scaled.state, scrape)

    def _decide(self, scaled: _Scaled, now: float) -> None:
        ready = len(self._endpoints(*scaled.key))
        scaled.state, decision = autoscaler.decide(scaled.state, Observation(ready), now)
        scaled.decision, scaled.decided_s = decision, now
        if decision.valid:
            if decision.desired != scaled.wish:
                log.info("%s/%s: %s pods; %s", *scaled.key, decision.desired, decision.reason)
            scaled.wish = decision.desired

    def _reconcile(self, scaled: _Scaled, now: float) -> None:
        ready = len(self._endpoints(*scaled.key))
        scaled.life, plan = autoscaler.reconcile(scaled.spec, scaled.life, scaled.wish, ready, now)
        scaled.plan, scaled.ready = plan, ready
        if plan.pods is not None and plan.pods != scaled.set_to:
            scaled.set_to = plan.pods
            self._scale(*scaled.key, plan.pods)
        self._write_status(scaled, plan, ready, now)

    # ------------------------------------------------------------------ what the objects tell

    def _on_demand(self, namespace: str, revision: str) -> None:
        scaled = self._scaled.get((namespace, revision))
        if scaled is not None and not scaled.set_to:  # otherwise pods are on their way, and each second looks anyway
            self._demanded.add(scaled.key)
            self._wake.set()

    def _on_change(self, change: Change) -> None:
        key = (change.namespace, change.name)
        if change.kind == "ConfigMap" and key == (CONFIG_NAMESPACE, CONFIG_NAME):
            self._read_config()
            for scaled in self._scaled.values():
                self._respecify(scaled)
        elif change.kind == KIND and change.type == DELETED:
            self._scaled.pop(key, None)
        elif change.kind == KIND:
            known = self._scaled.get(key)
            if known is None:
                self._take_up(change.object())
                self._wake.set()
            elif change.type != ADDED:
                self._update(known, change.object())
        elif change.kind == "Pod":
            self._wake.set()

    def _read_config(self) -> None:
        """The ConfigMap over the overrides over Knative's defaults; what cannot work leaves the last one in force."""
        obj = self._objects.get("ConfigMap", CONFIG_NAMESPACE, CONFIG_NAME) or {}
        try:
            self._config = Config.from_map({**self._overrides, **(obj.get("data") or {})})
        except Misconfigured as e:
            log.error("%s; the autoscaler keeps its last settings", e)

    def _take_up(self, obj: Object) -> None:
        """A revision new to this run. At zero it stays at zero; else it gets the pods it had, or its initial scale."""
        now = self._clock()
        annotations, concurrency, reachable = _settings(obj)
        spec = autoscaler.resolve(annotations, self._config, concurrency, reachable)
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        status = obj.get("status") or {}
        desired, life = status.get("desiredScale"), _life(status, now)
        ready = len(self._endpoints(*key))
        scaled = _Scaled(key, annotations, concurrency, reachable, autoscaler.start(spec, ready, now), life)
        self._scaled[key] = scaled
        if not isinstance(desired, int) or desired < 0:
            pods = autoscaler.first_pods(spec)
        elif desired > 0 and not reachable:
            # No route leads to it any more: a new run does not start what the last one was about to stop.
            pods, scaled.wish, scaled.life = 0, 0, Life("False", nanoseconds(now), True, *autoscaler.NO_TRAFFIC)
        else:
            pods = scaled.wish = desired
        if pods > 1:
            # Its pods are about to come: what holds for pods that are there holds for them, no scaling down for lack of
            # history.
            scaled.state = autoscaler.start(spec, pods, now)
        scaled.set_to = pods
        self._scale(*key, pods)

    def _update(self, scaled: _Scaled, obj: Object) -> None:
        annotations, concurrency, reachable = _settings(obj)
        seen = (scaled.annotations, scaled.container_concurrency, scaled.reachable)
        if seen == (annotations, concurrency, reachable):
            return  # our own status, mostly
        scaled.annotations, scaled.container_concurrency, scaled.reachable = annotations, concurrency, reachable
        self._respecify(scaled)

    def _respecify(self, scaled: _Scaled) -> None:
        spec = autoscaler.resolve(scaled.annotations, self._config, scaled.container_concurrency, scaled.reachable)
        scaled.state = autoscaler.respecified(scaled.state, spec, self._clock())
        if spec.min_scale > (scaled.set_to or 0):
            # At rest it would hear of its new minimum with the next request only.
            scaled.wish = max(scaled.wish or 0, spec.min_scale)
            self._wake.set()

    def _write_status(self, scaled: _Scaled, plan: Plan, ready: int, now: float) -> None:
        """The PodAutoscaler's status, where anything but the figures within a reason has changed."""
        obj = self._objects.get(KIND, *scaled.key)
        if obj is None:
            return
        status: dict[str, Any] = obj.setdefault("status", {})
        life = scaled.life
        desired = status.get("desiredScale")
        wanted = plan.want if plan.want >= 0 else (desired if desired is not None else -1)
        initialized = "True" if life.initialized else "Unknown"
        overall = "Unknown" if life.active == "True" and not life.initialized else life.active
        before = (desired, status.get("actualScale"), status.get("observedGeneration"), *_conditions(status))
        generation = obj["metadata"].get("generation")
        if before == (wanted, ready, generation, life.active, overall, initialized):
            return
        status |= {"desiredScale": wanted, "actualScale": ready, "observedGeneration": generation}
        at, reason = datetime.fromtimestamp(now, UTC), _why(scaled, plan)
        set_condition(status, "Active", life.active, life.reason, life.message or reason, now=at)
        set_condition(status, "Ready", overall, life.reason, life.message, now=at)
        set_condition(status, "ScaleTargetInitialized", initialized, now=at)
        if reason:
            status.setdefault("annotations", {})[REASON_ANNOTATION] = reason
        self._objects.update(obj, subresource="status")


def _why(scaled: _Scaled, plan: Plan) -> str:
    """The reasons of the decision and of what was made of it, in one line."""
    parts = [scaled.decision.reason if scaled.decision else "", plan.reason]
    return "; ".join(part for part in parts if part)


def _settings(obj: Object) -> tuple[Mapping[str, str], int, bool]:
    """Annotations, containerConcurrency and reachability of a PodAutoscaler."""
    spec = obj.get("spec") or {}
    return (
        obj["metadata"].get("annotations") or {},
        int(spec.get("containerConcurrency") or 0),
        spec.get("reachability") != "Unreachable",
    )


def _conditions(status: Mapping[str, Any]) -> tuple[str | None, ...]:
    values = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    return values.get("Active"), values.get("Ready"), values.get("ScaleTargetInitialized")


def _life(status: Mapping[str, Any], now: float) -> Life:
    """The life that a status tells; a new one where it tells none."""
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    active = conditions.get("Active")
    if active is None or active["status"] not in ("True", "False", "Unknown"):
        return Life(since_ns=nanoseconds(now))
    try:
        since = datetime.fromisoformat(active["lastTransitionTime"]).timestamp()
    except (KeyError, ValueError):
        since = now
    initialized = conditions.get("ScaleTargetInitialized", {}).get("status") == "True"
    return Life(active["status"], nanoseconds(since), initialized, active.get("reason", ""), active.get("message", ""))
