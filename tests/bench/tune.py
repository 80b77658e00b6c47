"""How long `headrace tune` simulates: a day for one setting, then a search among 200.

    python -m tests.bench.tune [--peak-rps 100] [--settings 200]

The day is the shape `diurnal`, 100 requests a second at its peak: 4.5 million requests. Processor time is this
process's, all threads together; the first run on a machine compiles, which is told apart.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

from headrace.tune import aims, compiled, search, shapes, simulation, space
from headrace.tune.search import Simulator
from headrace.tune.simulation import simulate
from headrace.tune.traffic import Traffic
from headrace.tune.world import KNATIVE, LAPTOP, Setting, World

GROUP = "autoscaling.knative.dev"
DAY_S = 86_400.0
COLDS_S = (1.7, 2.0, 2.8)
REPEATS = 3
ONE_S, ALL_S = 1.0, 60.0  # what is promised

CASES = (
    ("the defaults, no limit", Setting.of({}), 100, KNATIVE),
    ("one place, one line", Setting.of({f"{GROUP}/target": "1"}, 1), 1, KNATIVE),
    ("two random choices", Setting.of({f"{GROUP}/target-burst-capacity": "0"}, 2), 2, KNATIVE),
    ("ten places", Setting.of({f"{GROUP}/target": "5", f"{GROUP}/scale-down-delay": "5m"}, 10), 10, KNATIVE),
    ("weighted, an hour's window", Setting.of(
        {f"{GROUP}/metric-aggregation-algorithm": "weighted-exponential", f"{GROUP}/window": "1h"}, 4), 4, KNATIVE),
    ("headrace up's gateway", Setting.of({}, 3), 3, LAPTOP),
    ("one pod, overloaded", Setting.of({f"{GROUP}/max-scale": "1"}, 3), 3, KNATIVE),
)  # fmt: skip


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    began, worked = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - worked


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--peak-rps", type=float, default=100.0)
    options.add_argument("--settings", type=int, default=200)
    given = options.parse_args()
    cached = compiled.has_cache()
    loaded, _ = timed(lambda: simulate(shapes.shape("steady", 10, 1, 0.1), Setting(), World()))
    print(f"machine code {'loaded' if cached else 'compiled, once on a machine'}: {loaded:.1f} s")
    day = shapes.shape("diurnal", DAY_S, given.peak_rps, 0.1)
    print(f"a day: {day.count:,} requests, {given.peak_rps:g} a second at the peak")
    average = one_setting(day)
    whole = many_settings(day, given.settings)
    print(f"\none setting {average:.2f} s of one core on average; {given.settings} settings {whole:.1f} s")
    return 0 if average <= ONE_S and whole <= ALL_S else 1


def one_setting(day: Traffic) -> float:
    """Prints each case; the mean of their processor times."""
    print(f"\n{'one setting, one core':28} {'s':>6} {'ns/request':>11} {'of it quantiles':>16}")
    times = []
    for name, setting, capacity, path in CASES:
        world = World(cold_starts_s=COLDS_S, pod_capacity=capacity, path=path)
        worked = statistics.median(timed(lambda s=setting, w=world: simulate(day, s, w))[1] for _ in range(REPEATS))
        times.append(worked)
        print(f"{name:28} {worked:6.2f} {worked / day.count * 1e9:11.0f} {quantiles(day):15.2f}s")
    return statistics.mean(times)


def quantiles(day: Traffic) -> float:
    """Seconds that a simulation spends on the quantiles of as many latencies."""
    latencies = day.service_s.astype("float32")
    return timed(lambda: simulation.latencies(latencies, latencies.size, keep=False))[1]


def many_settings(day: Traffic, settings: int) -> float:
    """Prints the search; the longest of its times by the clock."""
    print(f"\n{'a search, all cores':28} {'s':>6} {'core s':>7} {'tried':>6} {'whole':>6} {'ms each':>8}")
    world = World(cold_starts_s=COLDS_S, pod_capacity=8)
    present = Setting.of({f"{GROUP}/target": "10", f"{GROUP}/window": "30s"}, 8)
    longest = 0.0
    for name, aim in (("the knee", aims.Aim()), ("p95 below 210 ms", aims.Aim(p95_s=0.21))):
        simulator = Simulator(day, world)
        tried = space.around(present, world, day, (), ())
        found: list[search.Found] = []
        # No early end: what is promised is the time of so many.
        clock, worked = timed(
            lambda s=simulator, t=tried, a=aim, f=found: f.append(
                search.search(s, t, a, settings=settings, dull_rounds=sys.maxsize)
            )
        )
        simulator.close()
        tried, whole = found[0].tried, len(found[0].candidates)
        print(f"{name:28} {clock:6.1f} {worked:7.1f} {tried:6} {whole:6} {worked / tried * 1000:8.0f}")
        longest = max(longest, clock)
    return longest


if __name__ == "__main__":
    sys.exit(main())
