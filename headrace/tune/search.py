"""Finds the setting that an aim asks for: many are tried on parts of the traffic, the better ones on all of it.

Rounds of successive halving around what is best so far: settings near the front, mixtures of its members and some at
random; a screen of a twelfth of a long traffic decides which half is simulated whole. Nothing is reported, ranked or
recommended that was not simulated on the whole traffic. The same seed finds the same settings on any number of cores.

Source: Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization (2016).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random

import numpy as np

from headrace.tune import aims
from headrace.tune.aims import Aim, Candidate
from headrace.tune.simulation import Outcome, simulate
from headrace.tune.space import Space
from headrace.tune.traffic import Traffic
from headrace.tune.world import Setting, World

SETTINGS = 200
ROUND = 25  # settings simulated whole in a round
SCREENED = 2  # so many are screened for each of them
SCREEN_ABOVE = 300_000  # requests: below, the whole traffic is simulated as quickly
SLICES, SLICE_SHARE = 6, 1 / 72
DULL_ROUNDS = 3  # without a better setting: the search ends

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search has found. candidates: in the order they were tried, the present one first. screened: settings
    that a part of the traffic has ruled out.
    """

    present: Candidate
    candidates: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    best: Candidate
    screened: int

    @property
    def tried(self) -> int:
        """Settings that were simulated, on a part or on all of the traffic."""
        return len(self.candidates) + self.screened


class Simulator:
    """One traffic in one world, on all cores: the compiled loop holds no lock, so that threads share the traffic.

    part: the traffic's screen, itself where it is not long.
    """

    def __init__(self, traffic: Traffic, world: World, seed: int = 0, cores: int | None = None) -> None:
        self.traffic, self.world, self.seed = traffic, world, seed
        self.part = screen_of(traffic) if traffic.count > SCREEN_ABOVE else traffic
        self._pool = ThreadPoolExecutor(cores or _cores(), "simulation")

    def run(self, settings: Iterable[Setting], tick: Callable[[], None] = lambda: None) -> list[Outcome]:
        """Each setting's outcome, in their order."""
        return self._run(self.traffic, settings, tick)

    def screen(self, settings: Iterable[Setting]) -> list[Outcome]:
        """The same on the screen."""
        return self._run(self.part, settings, lambda: None)

    def again(self, setting: Setting, draws: int) -> list[Outcome]:
        """One setting under other seeds: cold starts and chosen pods drawn anew."""
        seeds = range(self.seed + 1, self.seed + 1 + draws)
        return list(self._pool.map(lambda seed: simulate(self.traffic, setting, self.world, seed=seed), seeds))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _run(self, traffic: Traffic, settings: Iterable[Setting], tick: Callable[[], None]) -> list[Outcome]:
        def one(setting: Setting) -> Outcome:
            outcome = simulate(traffic, setting, self.world, seed=self.seed)
            tick()
            return outcome

        return list(self._pool.map(one, settings))


def _cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def search(
    simulator: Simulator,
    space: Space,
    aim: Aim,
    *,
    settings: int = SETTINGS,
    dull_rounds: int = DULL_ROUNDS,
    progress: Progress = lambda _, __: None,
) -> Found:
    """The best of `settings` settings; it ends early after `dull_rounds` rounds without a better one.

    Of long traffic, those that a screen leaves are simulated whole, of other traffic all. progress: called with how
    many were tried and the limit.
    """
    source = Random(simulator.seed)
    screens = simulator.part is not simulator.traffic
    seen: set[tuple[object, int]] = set()
    done: list[Candidate] = []
    screened, dull = 0, 0

    def fresh(setting: Setting) -> bool:
        spec = (setting.spec(space.world.config), setting.container_concurrency)
        if spec in seen or not space.admits(setting):
            return False
        seen.add(spec)
        return True

    def tick() -> None:
        progress(len(done) + screened, settings)

    def whole(chosen: Sequence[Setting]) -> None:
        done.extend(map(Candidate, chosen, simulator.run(chosen, tick)))
        progress(len(done) + screened, settings)

    fresh(space.present)
    whole([space.present])
    while len(done) + screened < settings and dull < dull_rounds and space.knobs:
        want = min(ROUND * SCREENED if screens else ROUND, settings - len(done) - screened)
        room = -(-want // SCREENED) if screens else want
        proposed = [s for s in _proposals(space, done, aim, source, want * 4) if fresh(s)][:want]
        if not proposed:
            break
        if screens and len(proposed) > room:
            outcomes = simulator.screen(proposed)
            ranked = _ranked(list(map(Candidate, proposed, outcomes)), aim)
            screened += len(ranked) - room
            proposed = [c.setting for c in ranked[:room]]
        before = aims.best(done, aim)
        whole(proposed)
        dull = dull + 1 if aims.best(done, aim) is before else 0
    return Found(done[0], tuple(done), tuple(aims.front(done, aim)), aims.best(done, aim), screened)


def _proposals(space: Space, done: list[Candidate], aim: Aim, source: Random, count: int) -> list[Setting]:
    """Settings to try next, the most promising first; repeated ones are sorted out by the caller."""
    if len(done) == 1:
        drawn = [space.drawn(source) for _ in range(count)]
        return [*space.neighbours(space.present), _bare(space), *drawn]
    leading, ordered = aims.best(done, aim), aims.front(done, aim)
    near = list(space.neighbours(leading.setting))
    source.shuffle(near)
    others = [n for c in source.sample(ordered, min(4, len(ordered))) for n in space.neighbours(c.setting)]
    source.shuffle(others)
    mixed = [space.mixed(source.choice(ordered).setting, source.choice(ordered).setting, source) for _ in range(count)]
    drawn = [space.drawn(source) for _ in range(count)]
    further = [_turned_twice(space, leading.setting, source) for _ in range(count)]
    # In turn, so that none of these ways starves the others.
    lists = [near, others, mixed, further, drawn]
    longest = max(map(len, lists))
    return [found[i] for i in range(longest) for found in lists if i < len(found)]


def _bare(space: Space) -> Setting:
    """Every knob at the cluster's default."""
    setting = space.present
    for knob in space.knobs:
        if knob.keys is not None:
            setting = knob.turned(setting, None)
    return setting


def _turned_twice(space: Space, setting: Setting, source: Random) -> Setting:
    for knob in source.sample(space.knobs, min(2, len(space.knobs))):
        setting = knob.turned(setting, source.choice(knob.values))
    return setting


def _ranked(candidates: list[Candidate], aim: Aim) -> list[Candidate]:
    """Front by front, each in the aim's order: a screen is to keep what is good in any way."""
    left, ranked = list(candidates), []
    while left:
        layer = aims.front(left, aim)
        ranked += sorted(layer, key=lambda c: aim.key(c.outcome))
        members = set(map(id, layer))
        left = [c for c in left if id(c) not in members]
    return ranked


def screen_of(traffic: Traffic) -> Traffic:
    """A twelfth of the traffic: slices from its busiest to a quiet one, in their order, set side by side.

    At a seam the load may jump as it never did. That favours settings that bear jumps, in the screen alone.
    """
    width = traffic.span_s * SLICE_SHARE
    edges = np.arange(int(1 / SLICE_SHARE) + 1) * width
    marks = np.searchsorted(traffic.starts_s, edges)
    by_load = np.argsort(np.diff(marks), kind="stable")
    picked = sorted({int(by_load[round(q * (by_load.size - 1))]) for q in np.linspace(0.1, 1.0, SLICES)})
    starts = [traffic.starts_s[marks[at] : marks[at + 1]] - edges[at] + n * width for n, at in enumerate(picked)]
    services = [traffic.service_s[marks[at] : marks[at + 1]] for at in picked]
    return Traffic(
        starts_s=np.concatenate(starts),
        service_s=np.concatenate(services),
        began=None,
        source="slices of the traffic",
        cold_start_s=traffic.cold_start_s,
        repairs=(),
    )
