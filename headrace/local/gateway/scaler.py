"""The laptop's autoscaler: reads each revision's traffic every second, decides every two, and says how many pods there
are to be.

The decisions are `knative.autoscaler`'s, which are Knative's, and `Meter` says what they rest on; here are the clock
and, in place of a ServerlessService, whether the activator is in a revision's path. Between a revision at zero and its
next request nothing runs: the first request wakes the loop.

Source: knative/serving pkg/autoscaler/scaling/multiscaler.go (ticks and the poke),
pkg/reconciler/autoscaling/kpa/kpa.go (when the activator is in the path), networking's
serverlessservice_lifecycle.go (ProxyFor).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from eventing.errors import Misconfigured
from headrace.local import tasks
from headrace.local.api.admission import CONFIG_NAME, CONFIG_NAMESPACE
from headrace.local.gateway import pod_autoscaler
from headrace.local.gateway.meter import Meter
from headrace.local.gateway.pod_autoscaler import KIND, Wanted
from headrace.local.gateway.revision_queue import Traffic
from headrace.local.objects.objects import ADDED, DELETED, Change, Object, Objects
from knative import autoscaler
from knative.autoscaler import Config, Decision, Life, Observation, Plan, Scrape, Spec, State
from knative.literals import SECOND, nanoseconds

if TYPE_CHECKING:
    from headrace.local.pods.process import Endpoint

log = logging.getLogger(__name__)

TICK_S = autoscaler.SCRAPE_INTERVAL_S
# A look at the traffic belongs to the middle of a second of the clock, so that each bucket of a window gets one and no
# jitter gives it two.
PHASE_S = 0.5

Key = tuple[str, str]


class Gateway(Protocol):
    """What the autoscaler asks of the gateway."""

    def on_demand(self, callback: Callable[[str, str], None]) -> None: ...
    def observe(self, namespace: str, revision: str) -> Traffic: ...
    def in_flight(self, namespace: str, revision: str) -> int: ...


@dataclass(slots=True)
class _Scaled:
    """One revision's autoscaler.

    wish: the last valid decision's pods, before bounds; set_to: the pods last asked for; ready: those last seen. None
    before the first. proxied_since_s: since when the activator is in the path, None while it is not. slot: of the last
    regular decision, in decision intervals. excess: the last valid decision's excess burst capacity.
    """

    key: Key
    wanted: Wanted
    state: State
    life: Life
    proxied_since_s: float | None
    meter: Meter = field(default_factory=Meter)
    wish: int | None = None
    set_to: int | None = None
    ready: int | None = None
    excess: float | None = None
    decision: Decision | None = None
    plan: Plan | None = None
    decided_s: float = -math.inf
    slot: int = -1

    @property
    def spec(self) -> Spec:
        return self.state.spec

    @property
    def proxied(self) -> bool:
        return self.proxied_since_s is not None


class Scaler:
    """The autoscaler of one platform.

    endpoints: a revision's ready pods. scale: called with namespace, revision and the pods there are to be. clock:
    seconds since the epoch, `steady_clock` unless given. overrides: keys of `config-autoscaler` that hold where the
    ConfigMap is silent; Knative's own defaults otherwise.
    """

    def __init__(
        self,
        objects: Objects,
        gateway: Gateway,
        endpoints: Callable[[str, str], tuple[Endpoint, ...]],
        scale: Callable[[str, str, int], None],
        *,
        clock: Callable[[], float] | None = None,
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        self._objects = objects
        self._gateway = gateway
        self._endpoints = endpoints
        self._scale = scale
        self._clock = clock or steady_clock()
        self._overrides = dict(overrides or {})
        self._config = Config.from_map(self._overrides)
        self._scaled: dict[Key, _Scaled] = {}
        self._demanded: set[Key] = set()
        self._unsettled: set[Key] = set()
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
        await tasks.end(self._task)

    def report(self, namespace: str, revision: str) -> Object | None:
        """The last decision about a revision and what was done about it, for people; None where it is not known."""
        scaled = self._scaled.get((namespace, revision))
        if scaled is None:
            return None
        ready = len(self._endpoints(*scaled.key))
        return pod_autoscaler.report(scaled.spec, scaled.decision, scaled.plan, ready, scaled.proxied, scaled.decided_s)

    # ------------------------------------------------------------------ the clock

    async def _run(self) -> None:
        while True:
            if not any(self._is_busy(scaled) for scaled in self._scaled.values()):
                await self._wake.wait()
                # The clock goes on where it would have been: who woke it up is told of at once, the rest of the burst
                # when its second is over.
                self._due_s = math.floor(self._clock() + TICK_S - PHASE_S) + PHASE_S
            self._wake.clear()
            self.tick()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._due_s - self._clock())):
                    await self._wake.wait()

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
        """One look at every revision that is not at rest, and at those that were asked for or set otherwise.

        Traffic is read once in a second, decisions are made every second one; what is done about them may change at any
        time.
        """
        demanded, self._demanded = self._demanded, set()
        unsettled, self._unsettled = self._unsettled, set()
        now = self._clock()
        due = now >= self._due_s
        if due:
            self._due_s = math.floor(now) + TICK_S + PHASE_S
        for scaled in list(self._scaled.values()):
            try:
                poked = scaled.key in demanded and self._poke(scaled, now)
                if not (poked or scaled.key in unsettled or self._is_busy(scaled)):
                    continue
                slot = int(now // autoscaler.DECISION_INTERVAL_S)
                if due:
                    self._observe(scaled, now)
                if poked or (due and slot != scaled.slot):
                    self._decide(scaled, now)
                if due:
                    scaled.slot = slot
                self._reconcile(scaled, now)
            except Exception:
                # One revision's trouble must not leave the others without an autoscaler; the next second tries again.
                log.exception("the autoscaler missed a tick of %s/%s", *scaled.key)

    def _poke(self, scaled: _Scaled, now: float) -> bool:
        """Take the activator's word of a silent revision's first request; whether it calls for a decision at once.

        Knative pokes an autoscaler that wants no pods, at each report of the activator; so does this for one that has
        yet to decide, rather than have the request wait for its next turn.
        """
        scrape = scaled.meter.first_request(now)
        if scrape is not None:
            scaled.state = autoscaler.record(scaled.state, scrape)
        return not scaled.wish

    def _observe(self, scaled: _Scaled, now: float) -> None:
        traffic, ready = self._gateway.observe(*scaled.key), len(self._endpoints(*scaled.key))
        scraped = scaled.spec.target_burst_capacity != -1
        scrape = scaled.meter.report(traffic, now, ready=ready, proxied=scaled.proxied, scraped=scraped)
        if scrape is None and not scraped and scaled.state.stable.is_empty(math.floor(now)):
            # Where no pod is ever scraped, silence is no lack of data: nobody asks.
            scrape = Scrape(now, 0.0)
        if scrape is not None:
            scaled.state = autoscaler.record(scaled.state, scrape)

    def _decide(self, scaled: _Scaled, now: float) -> None:
        ready = len(self._endpoints(*scaled.key))
        scaled.state, decision = autoscaler.decide(scaled.state, Observation(ready), now)
        scaled.decision, scaled.decided_s = decision, now
        if decision.valid:
            if decision.desired != scaled.wish:
                log.info("%s/%s: %s pods; %s", *scaled.key, decision.desired, decision.reason)
            scaled.wish, scaled.excess = decision.desired, decision.excess_burst_capacity

    def _reconcile(self, scaled: _Scaled, now: float) -> None:
        ready = len(self._endpoints(*scaled.key))
        proxied_for_s = 0.0 if scaled.proxied_since_s is None else now - scaled.proxied_since_s
        scaled.life, plan = autoscaler.reconcile(
            scaled.spec, scaled.life, scaled.wish, ready, now, proxied_for_s=proxied_for_s
        )
        scaled.plan, scaled.ready = plan, ready
        # Without a ready pod all requests go through it, whatever the capacity.
        if ready == 0 or plan.want <= 0 or not _excess_burst_capacity(scaled) > -1:
            scaled.proxied_since_s = now if scaled.proxied_since_s is None else scaled.proxied_since_s
        else:
            scaled.proxied_since_s = None
        if plan.pods is not None and plan.pods != scaled.set_to:
            scaled.set_to = plan.pods
            self._scale(*scaled.key, plan.pods)
        obj = self._objects.get(KIND, *scaled.key)
        if obj is not None:
            reason = pod_autoscaler.why(scaled.decision, plan)
            told = pod_autoscaler.told(obj, scaled.life, plan, ready, reason, now)
            if told is not None:
                self._objects.update(told, subresource="status")

    # ------------------------------------------------------------------ what the objects tell

    def _on_demand(self, namespace: str, revision: str) -> None:
        scaled = self._scaled.get((namespace, revision))
        # Otherwise pods are wanted already, or pods report for themselves, and each second looks anyway.
        if scaled is not None and not scaled.wish and scaled.proxied:
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
        wanted, life = Wanted.of(obj), pod_autoscaler.life_of(obj, now)
        spec = self._spec(wanted)
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        desired = (obj.get("status") or {}).get("desiredScale")
        # The activator is in the path of what is inactive, and of what has no pod yet.
        proxied_since_s = life.since_ns / SECOND if life.active == "False" else now
        state = autoscaler.start(spec, len(self._endpoints(*key)), now)
        self._scaled[key] = scaled = _Scaled(key, wanted, state, life, proxied_since_s)
        if not isinstance(desired, int) or desired < 0:
            pods = autoscaler.first_pods(spec)
        elif desired > 0 and not wanted.reachable:
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
        wanted = Wanted.of(obj)
        if wanted != scaled.wanted:  # else it is our own status, mostly
            scaled.wanted = wanted
            self._respecify(scaled)

    def _respecify(self, scaled: _Scaled) -> None:
        """The settings have changed; what they mean for the pods that are wanted now is seen to at once, also of a
        revision at rest.
        """
        scaled.state = autoscaler.respecified(scaled.state, self._spec(scaled.wanted), self._clock())
        self._unsettled.add(scaled.key)
        self._wake.set()

    def _spec(self, wanted: Wanted) -> Spec:
        return autoscaler.resolve(wanted.annotations, self._config, wanted.container_concurrency, wanted.reachable)


def steady_clock() -> Callable[[], float]:
    """Seconds since the epoch that never jump: a window's seconds must not come twice, or never, because a laptop woke
    up and set its clock.
    """
    began = time.time() - time.monotonic()
    return lambda: began + time.monotonic()


def _excess_burst_capacity(scaled: _Scaled) -> float:
    """Of the last valid decision; before one, what the initial scale will have. Source: multiscaler.go."""
    if scaled.excess is not None:
        return scaled.excess
    spec = scaled.spec
    if spec.target_burst_capacity in (-1, 0):
        return spec.target_burst_capacity
    return spec.initial_scale * spec.total_value - spec.target_burst_capacity
