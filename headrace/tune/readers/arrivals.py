"""From how many came in each step to when each came: for recordings that hold counts or rates, not requests.

A rate is the mean of a Poisson process within its step; a count is exact, and its requests come at random moments of
its step, which is the same process given its count. Both smooth what happened within a step, and the traffic says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from headrace.tune import shapes
from headrace.tune.readers import given
from headrace.tune.readers.distribution import Distribution
from headrace.tune.readers.options import Options
from headrace.tune.traffic import BadTraffic, Traffic

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Steps:
    """What a recording has instead of requests. Raises BadTraffic for what no traffic can be drawn from."""

    begins_s: Floats
    """(k,) seconds from the recording's beginning, ascending, where each step begins."""
    step_s: float
    """The length of each."""
    requests: Floats
    """(k,) how many came in each step, or, unless `exact`, how many are to be expected."""
    exact: bool
    began: datetime | None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        broken = ~(np.isfinite(self.requests) & (self.requests >= 0))
        if broken.any():
            at = int(np.argmax(broken))
            raise BadTraffic(
                f"the step at second {self.begins_s[at]:,.0f} has {self.requests[at]:g} requests; expected 0 or more: "
                "only rates and counts of requests can be read"
            )
        if self.requests.sum() > shapes.MAX_REQUESTS:
            raise BadTraffic(
                f"the steps hold {self.requests.sum():,.0f} requests; expected at most {shapes.MAX_REQUESTS:,}: are "
                "these counts of requests? If so, take a shorter time"
            )


def traffic(steps: Steps, durations: Distribution | None, source: str, options: Options) -> Traffic:
    """Requests drawn from the steps. Second 0 is the recording's beginning, also where nothing came then.

    durations: measured beside the steps; what the options say of service times goes before it. Raises BadTraffic where
    neither is there, and where no request comes.
    """
    rng = np.random.default_rng(options.seed)
    counts = steps.requests.astype(np.int64) if steps.exact else rng.poisson(steps.requests)
    total = int(counts.sum())
    if not total:
        raise BadTraffic(
            f"{source} holds no request: its {steps.requests.size:,} steps sum to {steps.requests.sum():g}"
        )
    starts_s = np.repeat(steps.begins_s, counts) + rng.random(total) * steps.step_s
    service_s, told = given.service_times(total, durations, options, source, rng)
    how = (
        f"{total:,} requests were counted in steps of {steps.step_s:g} s: each comes at a random moment of its step, "
        "so bursts shorter than a step are lost"
        if steps.exact
        else f"{total:,} arrivals are drawn from rates, a Poisson process within each step of {steps.step_s:g} s: "
        "bursts shorter than a step are lost"
    )
    return Traffic(
        starts_s=np.sort(starts_s),
        service_s=service_s,
        began=steps.began,
        source=source,
        cold_start_s=np.empty(0),
        repairs=(*steps.notes, how, *told),
    )
