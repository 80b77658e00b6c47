"""One run of `headrace tune`, whole: from traffic and the present setting to advice. Called by
`headrace.commands.tune`; what it returns is shown by `headrace.tune.summary` and `headrace.tune.report`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.tune import advice, assumptions, search, shapes, space
from headrace.tune.advice import Advice
from headrace.tune.aims import Aim, Candidate
from headrace.tune.assumptions import Assumption
from headrace.tune.present import Present, capacity_of
from headrace.tune.search import Found, Simulator
from headrace.tune.simulation import simulate
from headrace.tune.traffic import BadTraffic, Traffic
from headrace.tune.world import COLD_START_S, KNATIVE, World
from knative.autoscaler import Config

Step = Callable[[str, int | None, int | None], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. cold_starts_s: given ones; empty: those measured beside the traffic, else an assumed one.
    pod_capacity: None for what the present setting tells. fixed, free: names of settings, see `space.around`.
    """

    present: Present
    config: Config = field(default_factory=Config)
    aim: Aim = field(default_factory=Aim)
    cold_starts_s: tuple[float, ...] = ()
    pod_capacity: int | None = None
    stop_s: float | None = None
    path: str = KNATIVE
    fixed: tuple[str, ...] = ()
    free: tuple[str, ...] = ()
    settings: int = search.SETTINGS
    seed: int = 0
    cores: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """What came of it. present: with what happened over time, as the recommended one. seconds: it took."""

    wish: Wish
    traffic: Traffic
    world: World
    present: Candidate
    found: Found
    advice: Advice
    assumptions: tuple[Assumption, ...]
    seconds: float


def tune(traffic: Traffic, wish: Wish, step: Step = lambda *_: None) -> Tuned:
    """Search, prune, explain. step: called with what is being done, and how much of how much is done.

    Raises BadTraffic for traffic without a request.
    """
    if not traffic.count:
        raise BadTraffic(f"{traffic.source} holds no request; there is nothing to try settings on")
    world, cold_starts = world_of(traffic, wish)
    tried = space.around(wish.present.setting, world, traffic, wish.fixed, wish.free)
    step("compiling, once on this machine" if not _is_compiled() else "loading", None, None)
    simulate(shapes.shape("steady", 10, 1, 0.1), wish.present.setting, world)
    simulator = Simulator(traffic, world, wish.seed, wish.cores)
    began = time.monotonic()
    try:
        found = search.search(
            simulator, tried, wish.aim, settings=wish.settings, progress=lambda n, of: step("trying settings", n, of)
        )
        step("taking annotations away", None, None)
        advised = advice.advise(simulator, tried, wish.aim, found)
        present = simulate(traffic, wish.present.setting, world, seed=wish.seed, series=True)
    finally:
        simulator.close()
    return Tuned(
        wish=wish,
        traffic=traffic,
        world=world,
        present=Candidate(wish.present.setting, present),
        found=found,
        advice=advised,
        assumptions=assumptions.of(traffic, world, cold_starts),
        seconds=time.monotonic() - began,
    )


def world_of(traffic: Traffic, wish: Wish) -> tuple[World, str]:
    """The world that is simulated, and where its cold starts come from, in words."""
    if wish.cold_starts_s:
        colds, whence = wish.cold_starts_s, "given"
    elif traffic.cold_start_s.size:
        colds, whence = tuple(traffic.cold_start_s), f"{traffic.cold_start_s.size:,} measured"
    else:
        colds, whence = (COLD_START_S,), "assumed: measure one and give --cold-start"
    capacity = wish.pod_capacity or capacity_of(wish.present.setting, wish.config)
    world = World(
        config=wish.config,
        cold_starts_s=colds,
        pod_capacity=capacity,
        stop_s=wish.stop_s,
        timeout_s=wish.present.timeout_s,
        path=wish.path,
    )
    return world, whence


def _is_compiled() -> bool:
    from headrace.tune import compiled

    return compiled.has_cache()
