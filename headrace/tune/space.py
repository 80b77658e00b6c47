"""Which settings are worth trying: for each annotation some values, none that Knative's webhook would refuse.

Values grow by steps of about a half, from what changes something here to what changes nothing more. Called by
`headrace.tune.search`. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from random import Random

import numpy as np

from eventing.errors import Misconfigured
from headrace.tune.traffic import Traffic
from headrace.tune.world import Setting, World
from knative import annotations as verdicts
from knative import settings
from knative.settings import Keys

CONTAINER_CONCURRENCY = "container-concurrency"
_STEPS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)

SHORT_NAMES = {keys.name.removeprefix(f"{settings.GROUP}/"): keys for keys in settings.ALL_KEYS}


@dataclass(frozen=True, slots=True)
class Knob:
    """One thing to turn. keys: the annotation, None for containerConcurrency. values: in ascending order, None: not
    set.
    """

    name: str
    keys: Keys | None
    values: tuple[str | None, ...]

    def read(self, setting: Setting) -> str | None:
        """The setting's value, None where it has none."""
        if self.keys is None:
            return str(setting.container_concurrency)
        found = self.keys.find(dict(setting.annotations))
        return None if found is None else found[1]

    def turned(self, setting: Setting, value: str | None) -> Setting:
        """The setting with this value, under the preferred spelling, or without one."""
        annotations = dict(setting.annotations)
        if self.keys is None:
            return Setting.of(annotations, int(value or 0))
        for name in self.keys.names:
            annotations.pop(name, None)
        if value is not None:
            annotations[self.keys.name] = value
        return Setting.of(annotations, setting.container_concurrency)

    def beside(self, setting: Setting) -> list[str | None]:
        """The values one step below and above the setting's; the ends where it stands outside."""
        here = self.read(setting)
        if here in self.values:
            at = self.values.index(here)
            return [self.values[i] for i in (at - 1, at + 1) if 0 <= i < len(self.values)]
        return [self.values[0], self.values[-1]]


@dataclass(frozen=True, slots=True)
class Space:
    """All knobs, around the present setting."""

    present: Setting
    world: World
    knobs: tuple[Knob, ...]

    def admits(self, setting: Setting) -> bool:
        """Whether Knative's webhook would take it, and no bound of it contradicts another.

        The webhook compares annotations alone: a min-scale above the cluster's max-scale passes it, and wins.
        """
        spec = setting.spec(self.world.config)
        if 0 < spec.max_scale < max(spec.min_scale, spec.activation_scale, spec.initial_scale):
            return False
        return not verdicts.faults(dict(setting.annotations), self.world.config)

    def drawn(self, source: Random) -> Setting:
        """Some turned knobs, the others as they are: few settings that differ everywhere are worth trying."""
        setting = self.present
        turned = source.sample(self.knobs, source.randint(1, min(5, len(self.knobs))))
        for knob in turned:
            setting = knob.turned(setting, source.choice(knob.values))
        return setting

    def neighbours(self, setting: Setting) -> Iterator[Setting]:
        """All settings with one knob turned by one step."""
        for knob in self.knobs:
            for value in knob.beside(setting):
                yield knob.turned(setting, value)

    def mixed(self, one: Setting, other: Setting, source: Random) -> Setting:
        """Each knob as one of the two has it."""
        setting = one
        for knob in self.knobs:
            if source.random() < 0.5:
                setting = knob.turned(setting, knob.read(other))
        return setting


def around(present: Setting, world: World, traffic: Traffic, fixed: Collection[str], free: Collection[str]) -> Space:
    """The space for this traffic. fixed: names that stay as they are; free: container-concurrency, where it may change.

    Raises Misconfigured for a name that is no knob.
    """
    found = tuple(_knobs(present, world, traffic))
    names = {knob.name for knob in found}
    for name in (*fixed, *free):
        if name not in names and name not in SHORT_NAMES:
            raise Misconfigured("a setting's name", name, f"one of {', '.join(sorted(names))}")
    kept = (k for k in found if k.name not in fixed and (k.keys is not None or k.name in free))
    return Space(present, world, tuple(k for k in kept if len(k.values) > 1))


def _knobs(present: Setting, world: World, traffic: Traffic) -> Iterator[Knob]:
    spec = present.spec(world.config)
    capacity = world.pod_capacity
    most = pods_at_most(traffic, capacity)
    yield _knob("target", settings.TARGET, _targets(spec.metric, capacity, traffic))
    yield _knob("target-utilization-percentage", settings.TARGET_UTILIZATION_PERCENTAGE, ["50", "60", "70", "80", "90"])
    yield _knob("window", settings.WINDOW, ["10s", "20s", "30s", "1m", "2m", "5m"])
    yield _knob("panic-window-percentage", settings.PANIC_WINDOW, ["5", "10", "20", "50"])
    yield _knob("panic-threshold-percentage", settings.PANIC_THRESHOLD, ["110", "150", "200", "400", "1000"])
    yield _knob("scale-down-delay", settings.SCALE_DOWN_DELAY, ["0s", "15s", "30s", "1m", "2m", "5m", "15m"])
    yield _knob("min-scale", settings.MIN_SCALE, ["0", *_whole(1, most)])
    yield _knob("initial-scale", settings.INITIAL_SCALE, _whole(1, most))
    yield _knob("activation-scale", settings.ACTIVATION_SCALE, _whole(2, most))
    bursts = sorted({0, capacity, 2 * capacity, 211, 5 * capacity})
    yield _knob("target-burst-capacity", settings.TARGET_BURST_CAPACITY, [*map(str, bursts), "-1"])
    yield _knob(
        "scale-to-zero-pod-retention-period", settings.POD_RETENTION, ["0s", "1m", "2m", "5m", "10m", "20m", "1h"]
    )
    limits = [str(c) for c in _STEPS if c <= min(capacity, verdicts.MAX_CONTAINER_CONCURRENCY)]
    # No limit is tried only where there is none: how a server bears more than it can serve is not known here.
    unlimited = [] if present.container_concurrency else ["0"]
    yield Knob(CONTAINER_CONCURRENCY, None, (*limits, *unlimited))


def _knob(name: str, keys: Keys, values: list[str]) -> Knob:
    return Knob(name, keys, (None, *values))


def _whole(low: int, most: int) -> list[str]:
    return [str(pods) for pods in _STEPS if low <= pods <= most]


def _targets(metric: str, capacity: int, traffic: Traffic) -> list[str]:
    """Up to what a pod is able to bear: beyond it, requests wait in pods and no pod is added."""
    if metric == settings.RPS:
        mean_s = float(traffic.service_s.mean()) if traffic.count else 1.0
        bearable = capacity / max(mean_s, 1e-3)
        rates = (bearable * share / 10 for share in range(2, 11))
        return list(dict.fromkeys(f"{rate:.3g}" for rate in rates if 0.01 <= rate < 1e6))
    return [str(n) for n in sorted({*(s for s in _STEPS if s <= capacity), capacity})]


def pods_at_most(traffic: Traffic, capacity: int) -> int:
    """Pods that the busiest ten seconds would keep busy, and one half more."""
    if not traffic.count:
        return 1
    begins = np.flatnonzero(np.diff(traffic.starts_s // 10, prepend=-1.0))
    work_s = float(np.add.reduceat(traffic.service_s, begins).max())
    return max(1, math.ceil(1.5 * work_s / 10 / capacity))
