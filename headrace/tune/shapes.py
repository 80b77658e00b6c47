"""Traffic of a known shape, drawn and not recorded: to try settings without a recording, and to prove predictions on.

Arrivals are an inhomogeneous Poisson process by thinning: candidates at the peak rate, each kept with the share of the
peak that the shape has at its time. The same arguments give the same traffic.

Source: Lewis and Shedler, Simulation of nonhomogeneous Poisson processes by thinning (1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from headrace.tune.traffic import BadTraffic, Traffic

Floats = NDArray[np.float64]
Share = Callable[[Floats, float, np.random.Generator], Floats]

# Of the logarithm of service times: the slowest of a hundred takes 3.2 times the median. Served models and web
# handlers lie between 0.3 and 1.
SIGMA = 0.5
MAX_REQUESTS = 200_000_000  # 3.2 GB of arrays; a day at 2,300 requests/s

DAY_S = 86_400.0
NIGHT_SHARE = 0.05  # of a day's peak, at its quietest
REST_SHARE = 0.1  # of a burst's peak, between bursts
BURST_SHARE = 0.05  # of the whole time, each of BURSTS
BURSTS = (0.2, 0.5, 0.8)  # where in the whole time they begin
VISIT_S = 5.0  # sparse: how long requests come, when they come
# Sparse: the shortest silence between visits and what comes on top on average. Longer than Knative's way to zero with
# its defaults (stable window 60 s, grace period 30 s), so that most visits meet no pod.
SILENCE_S, MORE_SILENCE_S = 120.0, 120.0


def shape(name: str, seconds: float, peak_rps: float, service_s: float, seed: int = 0) -> Traffic:
    """`seconds` of traffic in the shape `name` of `SHAPES`, at most `peak_rps` requests a second on average.

    service_s: the mean of the service times, which are lognormal. Raises BadTraffic for a shape that is not there and
    for numbers that give no traffic.
    """
    if name not in SHAPES:
        raise BadTraffic(f"there is no shape {name!r}; there are: {', '.join(SHAPES)}")
    for what, number in (("seconds", seconds), ("peak_rps", peak_rps), ("service_s", service_s)):
        if not (math.isfinite(number) and number > 0):
            raise BadTraffic(f"{what} is {number:g}; expected a number above 0")
    if seconds * peak_rps > MAX_REQUESTS:
        raise BadTraffic(
            f"{seconds:g} s at {peak_rps:g} requests/s are up to {seconds * peak_rps:,.0f} requests; "
            f"expected at most {MAX_REQUESTS:,}: give a shorter time or a lower peak"
        )
    rng = np.random.default_rng(seed)
    candidates = np.sort(rng.random(rng.poisson(seconds * peak_rps))) * seconds
    share = SHAPES[name](candidates, seconds, rng)
    starts_s = candidates[rng.random(candidates.size) < share]
    return Traffic(
        starts_s=starts_s,
        service_s=service_times(starts_s.size, service_s, rng),
        began=None,
        source=f"shape {name}: {seconds:g} s, peak {peak_rps:g}/s, service {service_s * 1000:g} ms, seed {seed}",
        cold_start_s=np.empty(0),
        repairs=(f"arrivals and service times are drawn: a Poisson process, lognormal times with sigma {SIGMA}",),
    )


def service_times(count: int, mean_s: float | Floats, rng: np.random.Generator) -> Floats:
    """(count,) lognormal seconds of the given mean, one for all or (count,) one for each."""
    return rng.lognormal(-(SIGMA**2) / 2, SIGMA, count) * mean_s


def _steady(at_s: Floats, seconds: float, rng: np.random.Generator) -> Floats:
    return np.ones_like(at_s)


def _ramp(at_s: Floats, seconds: float, rng: np.random.Generator) -> Floats:
    """From nothing to the peak, evenly."""
    return at_s / seconds


def _burst(at_s: Floats, seconds: float, rng: np.random.Generator) -> Floats:
    """A quiet stream that jumps to the peak at once, and back."""
    begun = at_s[:, None] / seconds - np.array(BURSTS)
    return np.where(((begun >= 0) & (begun < BURST_SHARE)).any(axis=1), 1.0, REST_SHARE)


def _diurnal(at_s: Floats, seconds: float, rng: np.random.Generator) -> Floats:
    """Days, each from its quietest moment by its peak and back; a shorter time holds one whole day, compressed."""
    day_s = min(DAY_S, seconds)
    return NIGHT_SHARE + (1 - NIGHT_SHARE) * np.sin(np.pi * at_s / day_s) ** 2


def _sparse(at_s: Floats, seconds: float, rng: np.random.Generator) -> Floats:
    """Short visits with silences between them; the first at once."""
    visits = math.ceil(seconds / (SILENCE_S + VISIT_S)) + 1
    begins = np.cumsum(VISIT_S + SILENCE_S + rng.exponential(MORE_SILENCE_S, visits))
    begins = np.concatenate(([0.0], begins))
    since = at_s - begins[np.searchsorted(begins, at_s, side="right") - 1]
    return (since < VISIT_S).astype(np.float64)


SHAPES: dict[str, Share] = {
    "steady": _steady,
    "ramp": _ramp,
    "burst": _burst,
    "diurnal": _diurnal,
    "sparse": _sparse,
}
