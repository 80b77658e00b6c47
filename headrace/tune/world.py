"""What settings are tried in: the cluster's defaults, how pods behave, how requests reach them. And a setting itself.

Read by `headrace.tune.simulation`; made by `headrace.commands.tune` from its options, and by whoever predicts what a
platform will do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eventing.errors import Misconfigured
from knative import autoscaler
from knative.autoscaler import Config, Spec

KNATIVE, LAPTOP = "knative", "laptop"

COLD_START_S = 2.0  # where nothing was measured: a Python server with a model answers from zero after 1.7 to 2.8 s
STOP_S = {KNATIVE: 30.0, LAPTOP: 2.0}
TIMEOUT_S = 300.0  # Knative's default for timeoutSeconds


@dataclass(frozen=True, slots=True)
class Setting:
    """What an operator may set of one revision. annotations: `autoscaling.knative.dev/…`; container_concurrency: 0 for
    no limit.
    """

    annotations: tuple[tuple[str, str], ...] = ()
    container_concurrency: int = 0

    @classmethod
    def of(cls, annotations: Mapping[str, str], container_concurrency: int = 0) -> Setting:
        """The setting of these annotations, in the order of their keys: equal settings are equal values."""
        return cls(tuple(sorted(annotations.items())), container_concurrency)

    def spec(self, config: Config) -> Spec:
        """What Knative makes of it, a route pointing at the revision."""
        return autoscaler.resolve(dict(self.annotations), config, self.container_concurrency)


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Where a setting is tried. Raises Misconfigured for numbers that cannot be."""

    config: Config = field(default_factory=Config)
    """The cluster's `config-autoscaler`."""
    cold_starts_s: ArrayLike = (COLD_START_S,)
    """Seconds from the wish for a pod to its first request; each start draws one of them."""
    pod_capacity: int = 100
    """Requests that a pod serves at once without slowing; the others that it holds wait inside it."""
    stop_s: float | None = None
    """Seconds that a pod goes on, and costs, after it was told to end; None: 30 s in Knative, whose queue-proxy waits
    so long for routes to change, 2 s on a laptop."""
    timeout_s: float = TIMEOUT_S
    """The revision's timeoutSeconds: who has no answer by then gets 504."""
    path: str = KNATIVE
    """`knative`: activator, queue-proxy and an ingress that takes the less loaded of two random pods. `laptop`: the
    gateway of `headrace up`, one line before all pods."""

    def __post_init__(self) -> None:
        colds = np.ascontiguousarray(self.cold_starts_s, np.float64).ravel()
        object.__setattr__(self, "cold_starts_s", colds)
        if self.stop_s is None:
            object.__setattr__(self, "stop_s", STOP_S.get(self.path, 0.0))
        for what, seen, fits, expected in (
            ("path", self.path, self.path in STOP_S, "knative or laptop"),
            ("cold starts", list(colds[:5]), colds.size and bool(np.isfinite(colds).all() and (colds >= 0).all()),
             "at least one, each of 0 s or more"),
            ("pod capacity", self.pod_capacity, self.pod_capacity >= 1, "1 or more"),
            ("stop", self.stop_s, 0 <= self.seconds_to_stop < math.inf, "0 s or more"),
            ("timeout", self.timeout_s, 0 < self.timeout_s < math.inf, "more than 0 s"),
        ):  # fmt: skip
            if not fits:
                raise Misconfigured(what, seen, expected)

    @property
    def colds(self) -> NDArray[np.float64]:
        """The cold starts as an array."""
        return np.asarray(self.cold_starts_s, np.float64)

    @property
    def seconds_to_stop(self) -> float:
        """`stop_s`, with its default in place."""
        return 0.0 if self.stop_s is None else self.stop_s
