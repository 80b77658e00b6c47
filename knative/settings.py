"""What an operator may set for one revision's autoscaling, from three places to one typed `Spec`.

The places: the revision's annotations, the ConfigMap `config-autoscaler`, and `containerConcurrency`; a fourth fact is
whether a route points at the revision. Called by `knative.autoscaler`'s callers and by `knative.annotations`.

Source: knative/serving pkg/apis/autoscaling/register.go (keys), pkg/autoscaler/config/config.go (defaults),
pkg/reconciler/autoscaling/resources/target.go, metric.go and kpa/resources/decider.go (who overrides whom).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from eventing.errors import Misconfigured
from knative.literals import INT64_MAX, SECOND, parse_bool, parse_duration, parse_float, parse_int

GROUP = "autoscaling.knative.dev"
KPA = "kpa.autoscaling.knative.dev"
HPA = "hpa.autoscaling.knative.dev"
CONCURRENCY = "concurrency"
RPS = "rps"
_DEFAULT_METRICS = {KPA: CONCURRENCY, HPA: "cpu"}
LINEAR = "linear"
WEIGHTED = ("weighted-exponential", "weightedExponential")

TARGET_MIN = 0.01  # with small containerConcurrency and utilisation a target may well be below 1, but never 0
WINDOW_MIN_NS = 6 * SECOND  # three decisions; anything shorter would miss scrapes altogether
WINDOW_MAX_NS = 3600 * SECOND
PANIC_WINDOW_PERCENTAGE = (1.0, 100.0)
PANIC_THRESHOLD_PERCENTAGE = (110.0, 1000.0)  # at 100 it would panic for ever and never scale down
TARGET_UTILIZATION = 0.7  # of every metric but concurrency; Knative has no key for it

PROGRESS_DEADLINE = "serving.knative.dev/progress-deadline"
PROGRESS_DEADLINE_NS = 600 * SECOND  # the default of ConfigMap config-deployment

_T = TypeVar("_T")


class Keys:
    """An annotation's accepted spellings, the first one preferred; kmap.KeyPriority in Knative."""

    def __init__(self, name: str, *older: str) -> None:
        self.names = tuple(f"{GROUP}/{n}" for n in (name, *older))
        self.name = self.names[0]

    def find(self, annotations: Mapping[str, str]) -> tuple[str, str] | None:
        """The spelling used and its value, or None where it is not set."""
        return next(((n, annotations[n]) for n in self.names if n in annotations), None)

    def read(self, annotations: Mapping[str, str], parse: Callable[[str], _T], default: _T) -> _T:
        """The parsed value; `default` where it is absent or does not parse (the webhook refuses the latter)."""
        found = self.find(annotations)
        if found is None:
            return default
        try:
            return parse(found[1])
        except ValueError:
            return default


CLASS = Keys("class")
METRIC = Keys("metric")
AGGREGATION = Keys("metric-aggregation-algorithm", "metricAggregationAlgorithm")
TARGET = Keys("target")
TARGET_UTILIZATION_PERCENTAGE = Keys("target-utilization-percentage", "targetUtilizationPercentage")
TARGET_BURST_CAPACITY = Keys("target-burst-capacity", "targetBurstCapacity")
MIN_SCALE = Keys("min-scale", "minScale")
MAX_SCALE = Keys("max-scale", "maxScale")
INITIAL_SCALE = Keys("initial-scale", "initialScale")
ACTIVATION_SCALE = Keys("activation-scale")
SCALE_DOWN_DELAY = Keys("scale-down-delay", "scaleDownDelay")
POD_RETENTION = Keys("scale-to-zero-pod-retention-period", "scaleToZeroPodRetentionPeriod")
WINDOW = Keys("window")
PANIC_WINDOW = Keys("panic-window-percentage", "panicWindowPercentage")
PANIC_THRESHOLD = Keys("panic-threshold-percentage", "panicThresholdPercentage")
ALL_KEYS = (
    CLASS, METRIC, AGGREGATION, TARGET, TARGET_UTILIZATION_PERCENTAGE, TARGET_BURST_CAPACITY, MIN_SCALE, MAX_SCALE,
    INITIAL_SCALE, ACTIVATION_SCALE, SCALE_DOWN_DELAY, POD_RETENTION, WINDOW, PANIC_WINDOW, PANIC_THRESHOLD,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Config:
    """ConfigMap `config-autoscaler` of namespace `knative-serving`: what holds where no annotation says otherwise.

    A field is the key in snake_case; `_ns` marks durations (nanoseconds). Keys not listed are passed over, as Knative
    does.
    """

    pod_autoscaler_class: str = KPA
    enable_scale_to_zero: bool = True
    allow_zero_initial_scale: bool = False
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    container_concurrency_target_percentage: float = 0.7
    """A fraction here; the ConfigMap may say 70 or 0.7."""
    container_concurrency_target_default: float = 100.0
    requests_per_second_target_default: float = 200.0
    target_burst_capacity: float = 211.0
    panic_window_percentage: float = 10.0
    activator_capacity: float = 100.0
    panic_threshold_percentage: float = 200.0
    initial_scale: int = 1
    min_scale: int = 0
    max_scale: int = 0
    """0 = as many as it takes."""
    max_scale_limit: int = 0
    stable_window_ns: int = 60 * SECOND
    scale_down_delay_ns: int = 0
    scale_to_zero_grace_period_ns: int = 30 * SECOND
    scale_to_zero_pod_retention_period_ns: int = 0

    @classmethod
    def from_map(cls, data: Mapping[str, str]) -> Config:
        """The settings of a ConfigMap's data. Raises Misconfigured with the key at the first value that cannot work."""
        config, faults = cls.judged(data)
        if faults:
            raise faults[0]
        return config

    @classmethod
    def judged(cls, data: Mapping[str, str]) -> tuple[Config, tuple[Misconfigured, ...]]:
        """The settings, with the default for each value that does not parse, and every fault of the data.

        Where one does not parse, nothing is said about how the others go together.
        """
        seen: dict[str, object] = {}
        faults: list[Misconfigured] = []
        for field in dataclasses.fields(cls):
            key = field.name.removesuffix("_ns").replace("_", "-")
            if key not in data:
                continue
            parse = parse_duration if field.name.endswith("_ns") else _PARSERS[type(field.default)]
            try:
                seen[field.name] = parse(data[key])
            except ValueError:
                kind = "a duration" if field.name.endswith("_ns") else _KINDS[type(field.default)]
                faults.append(Misconfigured(f"config-autoscaler {key}", data[key], kind))
        percentage = seen.get("container_concurrency_target_percentage")
        if isinstance(percentage, float) and percentage > 1.0:
            # (0, 1] has always meant a fraction, so the smallest percentage is just above 1.
            seen["container_concurrency_target_percentage"] = percentage / 100.0
        config = dataclasses.replace(cls(), **seen)  # type: ignore[arg-type]
        return config, tuple(faults or config._faults())

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """Every key that is read."""
        return tuple(field.name.removesuffix("_ns").replace("_", "-") for field in dataclasses.fields(cls))

    def _faults(self) -> Iterator[Misconfigured]:
        fraction = self.container_concurrency_target_percentage
        rules: tuple[tuple[bool, str, object, str], ...] = (
            (self.scale_to_zero_grace_period_ns > 0, "scale-to-zero-grace-period",
             self.scale_to_zero_grace_period_ns, "more than 0s"),
            (self.scale_down_delay_ns >= 0 and _in_whole_seconds(self.scale_down_delay_ns), "scale-down-delay",
             self.scale_down_delay_ns, "0s or more, in whole seconds"),
            (self.scale_to_zero_pod_retention_period_ns >= 0, "scale-to-zero-pod-retention-period",
             self.scale_to_zero_pod_retention_period_ns, "0s or more"),
            (not self.target_burst_capacity < 0 or self.target_burst_capacity == -1, "target-burst-capacity",
             self.target_burst_capacity, "0 or more, or -1 for unlimited"),
            (not (fraction <= 0 or fraction > 1), "container-concurrency-target-percentage", fraction, "in (0, 100]"),
            (not fraction * self.container_concurrency_target_default < TARGET_MIN,
             "container-concurrency-target-default", self.container_concurrency_target_default,
             f"times the target percentage at least {TARGET_MIN}"),
            (not self.requests_per_second_target_default < TARGET_MIN, "requests-per-second-target-default",
             self.requests_per_second_target_default, f"at least {TARGET_MIN}"),
            (not self.activator_capacity < 1, "activator-capacity", self.activator_capacity, "at least 1"),
            (not self.max_scale_up_rate <= 1, "max-scale-up-rate", self.max_scale_up_rate, "more than 1.0"),
            (not self.max_scale_down_rate <= 1, "max-scale-down-rate", self.max_scale_down_rate, "more than 1.0"),
            (WINDOW_MIN_NS <= self.stable_window_ns <= WINDOW_MAX_NS and _in_whole_seconds(self.stable_window_ns),
             "stable-window", self.stable_window_ns, "6s to 1h, in whole seconds"),
            (not (self.panic_window_percentage < 1 or self.panic_window_percentage > 100),
             "panic-window-percentage", self.panic_window_percentage, "1 to 100"),
            (self.initial_scale > 0 or (self.initial_scale == 0 and self.allow_zero_initial_scale),
             "initial-scale", self.initial_scale, "1 or more (0 with allow-zero-initial-scale)"),
            (self.min_scale >= 0, "min-scale", self.min_scale, "0 or more"),
            (self.max_scale_limit >= 0, "max-scale-limit", self.max_scale_limit, "0 or more"),
            (self.max_scale >= (1 if self.max_scale_limit > 0 else 0)
             and not 0 < self.max_scale_limit < self.max_scale, "max-scale", self.max_scale,
             "0 or more; 1 to max-scale-limit where that is set"),
            (not 0 < self.max_scale < self.min_scale, "min-scale", self.min_scale, "at most max-scale"),
        )  # fmt: skip
        for holds, key, seen, expected in rules:
            if not holds:
                yield Misconfigured(f"config-autoscaler {key}", seen, expected)


def _in_whole_seconds(length_ns: int) -> bool:
    # The longest duration there is rounds to itself, in Go.
    return length_ns % SECOND == 0 or length_ns == INT64_MAX


_PARSERS: dict[type, Callable[[str], object]] = {
    str: str.strip,  # texts alone: a number with a blank beside it is refused
    bool: parse_bool,
    int: parse_int,
    float: parse_float,
}


_KINDS: dict[type, str] = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


@dataclass(frozen=True, slots=True)
class Spec:
    """All that a decision about one revision depends on, besides what is observed. Counts are pods."""

    metric: str
    """`concurrency` or `rps`; of another class's, which counts as concurrency here, whatever the annotation says."""
    weighted: bool
    """Averages with exponentially falling weights instead of equal ones."""
    target_value: float
    """The metric per pod that the autoscaler aims at, utilisation included."""
    total_value: float
    """The metric that one pod is able to bear."""
    target_burst_capacity: float
    """-1 for unlimited: the activator always stays in the request path."""
    panic_threshold: float
    """A factor: 2.0 panics once twice the ready pods would be needed."""
    stable_window_ns: int
    panic_window_ns: int
    scale_down_delay_ns: int
    max_scale_up_rate: float
    max_scale_down_rate: float
    min_scale: int
    """0 for a revision that no route points at."""
    max_scale: int
    """0 = as many as it takes."""
    initial_scale: int
    activation_scale: int
    """0 = not set; otherwise the fewest pods above zero."""
    reachable: bool
    scale_to_zero: bool
    grace_period_ns: int
    pod_retention_ns: int
    progress_deadline_ns: int


def resolve(
    annotations: Mapping[str, str], config: Config, container_concurrency: int = 0, reachable: bool = True
) -> Spec:
    """The spec that these settings make: an annotation over the ConfigMap, containerConcurrency a cap on a concurrency
    target.

    container_concurrency: `spec.containerConcurrency`, 0 for no limit. An annotation that does not parse counts as
    absent: refusing it was the webhook's part.
    """
    metric = METRIC.read(annotations, str, _DEFAULT_METRICS.get(CLASS.read(annotations, str, KPA), ""))
    if metric == RPS:
        total, utilization = config.requests_per_second_target_default, TARGET_UTILIZATION
    else:
        total = float(container_concurrency) or config.container_concurrency_target_default
        utilization = config.container_concurrency_target_percentage
    target = TARGET.read(annotations, _optional(parse_float), None)
    if target is not None:
        # A pod never takes more than containerConcurrency, so aiming above it would never scale up.
        total = min(target, float(container_concurrency)) if metric == CONCURRENCY and container_concurrency else target
    percentage = TARGET_UTILIZATION_PERCENTAGE.read(annotations, _optional(parse_float), None)
    if percentage is not None:
        utilization = percentage / 100
    target_value = total * utilization
    if target_value < TARGET_MIN:  # not max(): a NaN stays NaN, as Go's math.Max has it
        target_value = TARGET_MIN

    window_ns = WINDOW.read(annotations, parse_duration, config.stable_window_ns)
    panic_share = PANIC_WINDOW.read(annotations, parse_float, config.panic_window_percentage)
    initial = INITIAL_SCALE.read(annotations, parse_int, config.initial_scale)
    if initial == 0 and not config.allow_zero_initial_scale:
        initial = config.initial_scale
    try:
        deadline_ns = parse_duration(annotations[PROGRESS_DEADLINE])
    except (KeyError, ValueError):
        deadline_ns = PROGRESS_DEADLINE_NS
    return Spec(
        metric=metric,
        weighted=AGGREGATION.read(annotations, str, LINEAR) in WEIGHTED,
        target_value=target_value,
        total_value=total,
        target_burst_capacity=TARGET_BURST_CAPACITY.read(annotations, parse_float, config.target_burst_capacity),
        panic_threshold=PANIC_THRESHOLD.read(annotations, parse_float, config.panic_threshold_percentage) / 100.0,
        stable_window_ns=window_ns,
        panic_window_ns=panic_window_ns(window_ns, panic_share),
        scale_down_delay_ns=SCALE_DOWN_DELAY.read(annotations, parse_duration, config.scale_down_delay_ns),
        max_scale_up_rate=config.max_scale_up_rate,
        max_scale_down_rate=config.max_scale_down_rate,
        min_scale=MIN_SCALE.read(annotations, parse_int, config.min_scale) if reachable else 0,
        max_scale=MAX_SCALE.read(annotations, parse_int, config.max_scale),
        initial_scale=initial,
        activation_scale=ACTIVATION_SCALE.read(annotations, parse_int, 0),
        reachable=reachable,
        scale_to_zero=config.enable_scale_to_zero,
        grace_period_ns=config.scale_to_zero_grace_period_ns,
        pod_retention_ns=POD_RETENTION.read(annotations, parse_duration, config.scale_to_zero_pod_retention_period_ns),
        progress_deadline_ns=deadline_ns,
    )


def panic_window_ns(stable_window_ns: int, percentage: float) -> int:
    """The panic window: that share of the stable one, to the nearest second (half up), at least one second.

    45 s at 10 % are 4.5 s, so 5 s. Source: pkg/reconciler/autoscaling/resources/metric.go.
    """
    share = float(stable_window_ns) * percentage / 100.0
    if not 0 <= share <= INT64_MAX:  # NaN or absurd: the webhook lets NaN through
        return SECOND
    return max(SECOND, (int(share) + SECOND // 2) // SECOND * SECOND)


def _optional(parse: Callable[[str], float]) -> Callable[[str], float | None]:
    return parse
