"""What Knative takes although it is foolish: autoscaling settings that do nothing, or not what they seem to. Pure.

Each piece of advice has the numbers of the settings that it judges. Of settings that the webhook refuses nothing is
said, since it is not known what they would mean. Called by `headrace.check`.

Source: the rules in `knative.settings`, `knative.autoscaler` and `knative.scale`, and knative/serving
pkg/reconciler/autoscaling/hpa/resources/hpa.go (what class hpa reads).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from knative import annotations as verdicts
from knative import settings
from knative.autoscaler import DECISION_INTERVAL_S, SCRAPE_INTERVAL_S
from knative.literals import SECOND, format_duration, parse_float
from knative.settings import Config, Keys, Spec

_OF_KPA_ALONE = (
    settings.AGGREGATION, settings.TARGET_UTILIZATION_PERCENTAGE, settings.ACTIVATION_SCALE, settings.SCALE_DOWN_DELAY,
    settings.POD_RETENTION, settings.PANIC_WINDOW, settings.PANIC_THRESHOLD,
)  # fmt: skip
_OF_SCALING = (
    settings.METRIC, settings.TARGET, settings.TARGET_UTILIZATION_PERCENTAGE, settings.AGGREGATION, settings.WINDOW,
    settings.PANIC_WINDOW, settings.PANIC_THRESHOLD, settings.SCALE_DOWN_DELAY, settings.ACTIVATION_SCALE,
    settings.POD_RETENTION,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Advice:
    """One foolish setting. key: the annotation as it is spelled; said: what it amounts to, with the numbers."""

    key: str
    said: str


@dataclass(frozen=True, slots=True)
class Template:
    """What a template says of its revision's scaling.

    reachable: whether a route will lead to it. cold_start_s: the seconds for which nobody asks a new pod whether it is
    ready (initialDelaySeconds of its probes).
    """

    annotations: Mapping[str, str]
    container_concurrency: int = 0
    reachable: bool = True
    cold_start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Judged:
    """A template beside what Knative makes of it."""

    template: Template
    config: Config
    spec: Spec

    def set(self, keys: Keys) -> str | None:
        """The spelling under which the template itself sets it."""
        found = keys.find(self.template.annotations)
        return found[0] if found else None

    @property
    def fixed(self) -> int:
        """The number of pods where there is only one possible, else 0."""
        spec = self.spec
        return spec.max_scale if 0 < spec.max_scale <= spec.min_scale else 0


def advise(template: Template, config: Config | None = None) -> tuple[Advice, ...]:
    """Everything foolish about the template's annotations; nothing while the webhook refuses one of them."""
    config = config or Config()
    if verdicts.faults(template.annotations, config):
        return ()
    owner = settings.CLASS.find(template.annotations)
    autoscaler = owner[1] if owner else config.pod_autoscaler_class
    spec = settings.resolve(template.annotations, config, template.container_concurrency, template.reachable)
    judged = _Judged(template, config, spec)
    rules = {settings.KPA: _RULES, settings.HPA: (_hpa,)}.get(autoscaler, ())
    found: list[Advice] = []
    for rule in (_twice, *rules):
        for advice in rule(judged):
            # One thing at a time about each annotation: the first is what makes the others pointless.
            if all(advice.key != other.key for other in found):
                found.append(advice)
    return tuple(found)


def _twice(judged: _Judged) -> Iterator[Advice]:
    for keys in settings.ALL_KEYS:
        used, *others = [name for name in keys.names if name in judged.template.annotations] or [""]
        for other in others:
            yield Advice(other, f"passed over: {_short(used)} is set as well, to {judged.template.annotations[used]!r}")


def _hpa(judged: _Judged) -> Iterator[Advice]:
    for keys in _OF_KPA_ALONE:
        if key := judged.set(keys):
            yield Advice(key, "class hpa does not read it: Kubernetes' autoscaler decides, not Knative's")
    if (key := judged.set(settings.MIN_SCALE)) and judged.spec.min_scale == 0:
        yield Advice(key, "class hpa never goes to zero: one pod stays")
    key, target = judged.set(settings.TARGET), judged.spec.total_value
    if key and math.isfinite(target) and target != int(target):
        counts = math.ceil(target) if judged.spec.metric == "cpu" else int(target)
        yield Advice(key, f"class hpa counts in whole numbers: {target:g} is taken as {counts}")


# ---------------------------------------------------------------- the rules, each about one thing


def _without_a_route(judged: _Judged) -> Iterator[Advice]:
    if judged.template.reachable:
        return
    for keys in (settings.MIN_SCALE, settings.SCALE_DOWN_DELAY, settings.POD_RETENTION, settings.INITIAL_SCALE):
        if key := judged.set(keys):
            yield Advice(key, "no effect: no traffic target leads to the revision that this template makes")


def _always_as_many(judged: _Judged) -> Iterator[Advice]:
    if not judged.fixed:
        return
    for keys in _OF_SCALING:
        if key := judged.set(keys):
            yield Advice(key, f"no effect: {_bounds(judged)}, so there are always {_pods(judged.fixed)}")


def _bounds_that_cross(judged: _Judged) -> Iterator[Advice]:
    spec, most = judged.spec, judged.spec.max_scale
    if not most:
        return
    if spec.min_scale > most:
        key = judged.set(settings.MIN_SCALE) or judged.set(settings.MAX_SCALE)
        if key:
            said = f"{_bounds(judged)}: {_pods(spec.min_scale)} while fewer are wanted, {most} while more are"
            yield Advice(key, f"{said}; each decision may start or stop {_pods(spec.min_scale - most)}")
    key = judged.set(settings.ACTIVATION_SCALE)
    if key and spec.activation_scale > most:
        yield Advice(
            key, f"activation-scale {spec.activation_scale} is above max-scale {most}, which wins: {most} pods"
        )
    key = judged.set(settings.INITIAL_SCALE)
    if key and spec.initial_scale > most and spec.initial_scale > spec.min_scale:
        yield Advice(
            key,
            f"initial-scale {spec.initial_scale} is above max-scale {most}: a new revision is Ready only once"
            f" {spec.initial_scale} pods are, and then keeps at most {most}",
        )


def _minimum_beside_others(judged: _Judged) -> Iterator[Advice]:
    spec, least = judged.spec, judged.spec.min_scale
    key = judged.set(settings.INITIAL_SCALE)
    if key and 1 < spec.initial_scale <= least:
        yield Advice(key, f"no effect: min-scale {least} asks for as many or more from the start")
    key = judged.set(settings.ACTIVATION_SCALE)
    if key and 1 < spec.activation_scale <= least:
        yield Advice(key, f"no effect: min-scale {least} asks for as many or more at any time")
    key = judged.set(settings.POD_RETENTION)
    if key and (least > 0 or not spec.scale_to_zero):
        why = f"min-scale {least}" if least else "enable-scale-to-zero is off"
        yield Advice(key, f"no effect: {why}, so the last pod never goes")
    elif key and 0 < spec.pod_retention_ns <= spec.grace_period_ns:
        retention, grace = format_duration(spec.pod_retention_ns), format_duration(spec.grace_period_ns)
        yield Advice(key, f"no effect: {retention} is no longer than the grace period of {grace}, which is kept anyway")


def _target(judged: _Judged) -> Iterator[Advice]:
    spec, limit = judged.spec, judged.template.container_concurrency
    key = judged.set(settings.TARGET)
    found = settings.TARGET.read(judged.template.annotations, parse_float, math.nan)
    if key and limit and spec.metric == settings.CONCURRENCY and found > limit:
        aim = f"{spec.target_value:g} ({spec.target_value / limit * 100:.4g} % of {limit})"
        yield Advice(
            key, f"target {found:g} is above containerConcurrency {limit}: Knative aims at {aim} per pod instead"
        )
    if key and spec.metric == settings.CONCURRENCY and spec.target_value < 1:
        pods = math.ceil(10 / spec.target_value)
        yield Advice(
            key, f"aims at {spec.target_value:.3g} requests per pod, utilisation included: 10 at once are {pods} pods"
        )
    if (key := judged.set(settings.METRIC)) and limit and spec.metric == settings.RPS:
        yield Advice(
            key,
            f"rps beside containerConcurrency {limit}: once {limit} slow requests fill a pod, the others queue, the"
            " rate falls, and pods are taken away when they are needed most; concurrency counts those in flight",
        )
    key = judged.set(settings.TARGET_UTILIZATION_PERCENTAGE)
    full = limit and spec.metric == settings.CONCURRENCY and spec.target_value >= limit
    if key and full:
        yield Advice(key, f"no room: pods are added only when all are full ({limit} of containerConcurrency {limit})")
    elif key and spec.target_value == settings.TARGET_MIN:
        yield Advice(key, f"no effect: with it the target would be below {settings.TARGET_MIN:g}, the least there is")


def _windows(judged: _Judged) -> Iterator[Advice]:
    spec = judged.spec
    stable, panic = format_duration(spec.stable_window_ns), format_duration(spec.panic_window_ns)
    key = judged.set(settings.WINDOW)
    cold_s = judged.template.cold_start_s
    if key and 0 < spec.stable_window_ns <= cold_s * SECOND:
        yield Advice(
            key,
            f"a new pod is asked for the first time after {cold_s:g} s, and the window is {stable}: the requests that"
            " called for it have left the average before it answers",
        )
    scrapes = spec.panic_window_ns / SECOND / SCRAPE_INTERVAL_S
    key = judged.set(settings.PANIC_WINDOW) or key
    if key and scrapes < 2:
        # Rounded half up: 1.5 s would do.
        enough = math.ceil(1.5 * SCRAPE_INTERVAL_S * SECOND / spec.stable_window_ns * 100)
        yield Advice(
            key,
            f"the panic window is {panic} of {stable}, one scrape: a single late or missing one decides;"
            f" panic-window-percentage {enough} or more holds two",
        )
    elif judged.set(settings.PANIC_WINDOW) and key and spec.panic_window_ns >= spec.stable_window_ns:
        yield Advice(key, f"the panic window is the whole window of {stable}: panic sees a burst no sooner")


def _delay(judged: _Judged) -> Iterator[Advice]:
    key, delay_ns = judged.set(settings.SCALE_DOWN_DELAY), judged.spec.scale_down_delay_ns
    if key and 0 < delay_ns <= DECISION_INTERVAL_S * SECOND:
        slot = f"{DECISION_INTERVAL_S:g} s"
        yield Advice(key, f"no effect: {format_duration(delay_ns)} is within one decision, and those come every {slot}")


def _burst(judged: _Judged) -> Iterator[Advice]:
    spec = judged.spec
    key = judged.set(settings.TARGET_BURST_CAPACITY)
    if key is None:
        return
    if spec.target_burst_capacity == 0 and spec.min_scale == 0 and spec.scale_to_zero:
        limit = judged.template.container_concurrency
        where = f"takes {limit} and queues the rest" if limit else "takes them all at once"
        yield Advice(
            key,
            "0 beside scaling from zero: the activator leaves the path with the first pod, and a burst that comes while"
            f" others still start goes to that one, which {where}",
        )
    reach = spec.max_scale * spec.total_value
    if spec.target_burst_capacity > reach > 0:
        yield Advice(
            key,
            f"{spec.target_burst_capacity:g} is beyond all that max-scale {spec.max_scale} can bear"
            f" ({spec.max_scale} x {spec.total_value:g} = {reach:g}): the activator stays in the path, as with -1",
        )


def _bounds(judged: _Judged) -> str:
    return f"min-scale is {judged.spec.min_scale}, max-scale {judged.spec.max_scale}"


def _pods(count: int) -> str:
    return f"{count} pod" if count == 1 else f"{count} pods"


def _short(key: str) -> str:
    return key.rpartition("/")[2]


_RULES: tuple[Callable[[_Judged], Iterator[Advice]], ...] = (
    _without_a_route, _bounds_that_cross, _always_as_many, _minimum_beside_others, _target, _windows, _delay, _burst,
)  # fmt: skip
