"""The simulation once more, in plain Python with `knative.autoscaler` itself: slow, simple, and written apart.

The laptop's path with one cold start, which is all that random draws are not in: one line before all pods.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

from headrace.tune.traffic import Traffic
from headrace.tune.world import Setting, World
from knative import autoscaler
from knative.autoscaler import Life, Observation, Scrape


@dataclass(eq=False)  # two pods with the same figures are two
class Pod:
    created: float
    ready_at: float
    held: int = 0
    busy: int = 0
    line: deque[int] = field(default_factory=deque)
    ready: bool = False
    told: float | None = None
    ended: float | None = None


class Plain:
    """One run; afterwards `latencies` (inf: no answer) by request, `pod_seconds`, `cold`, `wishes`."""

    def __init__(self, traffic: Traffic, setting: Setting, world: World, end_s: float) -> None:
        self.traffic, self.world, self.end_s = traffic, world, end_s
        self.spec = setting.spec(world.config)
        self.limit = setting.container_concurrency
        self.places = min(world.pod_capacity, self.limit) if self.limit else world.pod_capacity
        first = autoscaler.first_pods(self.spec)
        self.pods = [Pod(0.0, 0.0, ready=True) for _ in range(first)]
        self.gone: list[Pod] = []
        self.state = autoscaler.start(self.spec, first, 0.0)
        self.life = Life()
        self.wish: int | None = None
        self.set_to = first
        self.line: deque[int] = deque()
        self.waiting: set[int] = set()
        self.latencies = [math.nan] * traffic.count
        self.departures: list[tuple[float, int, Pod]] = []
        self.in_flight = self.arrived = self.cold = self.turn = 0
        self.area = self.changed = self.looked = self.first = 0.0
        self.due, self.slot = 0.5, -1
        self.heard, self.ahead = False, 0.0
        self.proxied_since: float | None = 0.0
        burst = self.spec.target_burst_capacity
        self.excess = burst if burst in (-1, 0) else self.spec.initial_scale * self.spec.total_value - burst
        self.wishes: list[int] = []
        self._reconcile(0.0)
        self._run()
        everyone = [*self.pods, *self.gone]
        self.pod_seconds = sum(
            max(0.0, min(end_s, math.inf if p.ended is None else p.ended) - p.created) for p in everyone
        )

    def _run(self) -> None:
        starts = self.traffic.starts_s
        request = 0
        while True:
            arrival = float(starts[request]) if request < len(starts) else math.inf
            departure = self.departures[0][0] if self.departures else math.inf
            pod_at = min((p.ready_at for p in self.pods if not p.ready), default=math.inf)
            deadline = min((float(starts[r]) for r in self.waiting), default=math.inf) + self.world.timeout_s
            rare = min(self.due, pod_at, deadline)
            if departure <= arrival and departure < rare:
                _, _, pod = heapq.heappop(self.departures)
                self._depart(pod, departure)
            elif arrival < rare:
                alone = not self.in_flight
                self._arrive(request, arrival)
                if not self.wish and self.proxied_since is not None and (alone or not self._ready()):
                    self._poke(arrival)
                request += 1
            elif arrival == math.inf and self.in_flight == 0 and rare > self.end_s:
                return
            elif rare == deadline:
                self._give_up(min(self.waiting), rare)
            elif rare == pod_at:
                for pod in self.pods:
                    pod.ready = pod.ready or pod.ready_at <= rare
                self._flush(rare)
                self._reconcile(rare)
            else:
                self._tick(rare)

    def _ready(self) -> list[Pod]:
        return [p for p in self.pods if p.ready]

    def _count(self, now: float, by: int) -> None:
        self.area += self.in_flight * (now - self.changed)
        self.changed = now
        self.in_flight += by

    def _arrive(self, request: int, now: float) -> None:
        self._count(now, 1)
        if self.arrived == 0 and self.in_flight == 1 and self.area == 0:
            self.first = now
        self.arrived += 1
        ready = self._ready()
        self.cold += not ready
        if ready and not self.waiting_in_line() and self._has_free(ready):
            self._hand(request, self._choose(ready), now)
        elif self.waiting_in_line() >= max(100 if self.limit else 10_000, 10 * self.limit * max(1, len(ready))):
            self._count(now, -1)
            self.latencies[request] = math.inf
        else:
            self.line.append(request)
            self.waiting.add(request)

    def waiting_in_line(self) -> int:
        return sum(1 for r in self.line if r in self.waiting)

    def _has_free(self, ready: list[Pod]) -> bool:
        return any(not self.limit or p.held < self.limit for p in ready)

    def _choose(self, ready: list[Pod]) -> Pod:
        if len(ready) == 1:
            return ready[0]
        self.turn = (self.turn + 1) % len(ready)
        turned = ready[self.turn :] + ready[: self.turn]
        return min((p for p in turned if not self.limit or p.held < self.limit), key=lambda p: p.held)

    def _hand(self, request: int, pod: Pod, now: float) -> None:
        pod.held += 1
        if pod.busy < self.places:
            self._serve(request, pod, now)
        else:
            pod.line.append(request)
            self.waiting.add(request)

    def _serve(self, request: int, pod: Pod, now: float) -> None:
        begun, service = float(self.traffic.starts_s[request]), float(self.traffic.service_s[request])
        end = now + service
        self.latencies[request] = end - begun
        if end > begun + self.world.timeout_s:
            end = max(now, begun + self.world.timeout_s)
            self.latencies[request] = math.inf
        pod.busy += 1
        heapq.heappush(self.departures, (end, id(pod), pod))

    def _depart(self, pod: Pod, now: float) -> None:
        self._count(now, -1)
        pod.busy -= 1
        pod.held -= 1
        while pod.line:
            request = pod.line.popleft()
            if request in self.waiting:
                self.waiting.discard(request)
                self._serve(request, pod, now)
                break
        self._flush(now)
        self._end_if_empty(pod, now)

    def _flush(self, now: float) -> None:
        while self.waiting_in_line() and self._ready() and self._has_free(self._ready()):
            request = self.line.popleft()
            if request in self.waiting:
                self.waiting.discard(request)
                self._hand(request, self._choose(self._ready()), now)

    def _give_up(self, request: int, now: float) -> None:
        self.waiting.discard(request)
        self.latencies[request] = math.inf
        self._count(now, -1)
        for pod in [*self.pods, *self.gone]:
            if request in pod.line:
                pod.line.remove(request)
                pod.held -= 1
                self._end_if_empty(pod, now)
                self._flush(now)

    def _end_if_empty(self, pod: Pod, now: float) -> None:
        if pod.told is not None and pod.held == 0 and pod.ended is None:
            pod.ended = max(now, pod.told + self.world.seconds_to_stop)

    def _poke(self, now: float) -> None:
        if self.due == math.inf:
            self.due = math.floor(now + 0.5) + 0.5
        if not self.heard:
            self.heard, self.ahead = True, 1.0
            self.state = autoscaler.record(self.state, Scrape(now, 1.0, 1.0))
        self._decide(now)
        self._reconcile(now)

    def _tick(self, now: float) -> None:
        self._count(now, 0)
        scrape = self._report(now)
        if scrape is not None:
            self.state = autoscaler.record(self.state, scrape)
        self.area, self.arrived, self.looked = 0.0, 0, now
        if int(now // 2) != self.slot:
            self.slot = int(now // 2)
            self._decide(now)
        self._reconcile(now)
        self.due = math.floor(now) + 1.5
        idle = self.set_to == 0 and not self.wish and not self._ready() and self.in_flight == 0
        if idle and self.life.active == "False":
            self.due = math.inf

    def _report(self, now: float) -> Scrape | None:
        since, since_first = now - self.looked, now - max(self.looked, self.first)
        scraped = self.spec.target_burst_capacity != -1
        pods_report = scraped and bool(self._ready())
        scrape = None
        if self.proxied_since is None:
            self.heard, self.ahead = False, 0.0
            if pods_report:
                scrape = Scrape(now, self.area / since, self.arrived / since)
        else:
            average = self.area / since_first if since_first > 0 else float(self.in_flight)
            if average > 0 and not self.heard:
                scrape = Scrape(now, max(1.0, average), self.arrived)
            elif self.heard or pods_report:
                scrape = Scrape(now, max(0.0, average - self.ahead), self.arrived - self.ahead)
            self.heard, self.ahead = average > 0, 0.0
        if scrape is None and not scraped and self.state.stable.is_empty(math.floor(now)):
            scrape = Scrape(now, 0.0)
        return scrape

    def _decide(self, now: float) -> None:
        self.state, decision = autoscaler.decide(self.state, Observation(len(self._ready())), now)
        if decision.valid:
            self.wish, self.excess = decision.desired, decision.excess_burst_capacity
            self.wishes.append(decision.desired)

    def _reconcile(self, now: float) -> None:
        proxied_for = 0.0 if self.proxied_since is None else now - self.proxied_since
        ready = len(self._ready())
        self.life, plan = autoscaler.reconcile(self.spec, self.life, self.wish, ready, now, proxied_for)
        if ready == 0 or plan.want <= 0 or not self.excess > -1:
            self.proxied_since = now if self.proxied_since is None else self.proxied_since
        else:
            self.proxied_since = None
        if plan.pods is None or plan.pods == self.set_to:
            return
        self.set_to = plan.pods
        (cold,) = self.world.colds
        while len(self.pods) < plan.pods:
            self.pods.append(Pod(now, now + float(cold)))
        while len(self.pods) > plan.pods:
            starting = [p for p in self.pods if not p.ready]
            leaving = (starting or self.pods)[-1]
            self.pods.remove(leaving)
            self.gone.append(leaving)
            leaving.told = now
            self._end_if_empty(leaving, now)
