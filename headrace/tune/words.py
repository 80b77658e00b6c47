"""Outcomes in words: figures as people read them; what an annotation does here, in a sentence with numbers. Pure."""

from __future__ import annotations

import math

from headrace.tune.simulation import Outcome
from headrace.tune.space import CONTAINER_CONCURRENCY, SHORT_NAMES
from headrace.tune.world import Setting
from knative.literals import format_duration
from knative.settings import Config

KEYS = SHORT_NAMES
NOTICEABLE = 0.01  # a smaller share of change is none

_DOES = {
    "metric": "what is counted per pod is {}",
    "metric-aggregation-algorithm": "averages are {}",
    "target": "one pod for every {} of the metric, before utilisation",
    "target-utilization-percentage": "{} % of the target is aimed at, the rest is headroom",
    "target-burst-capacity": "requests go past the activator only while the pods could take {} more at once",
    "min-scale": "at least {}, always",
    "max-scale": "at most {}: a bound on the bill",
    "initial-scale": "a new revision begins with {}, before it gets its first request",
    "activation-scale": "from zero it goes to {} at once",
    "scale-down-delay": "pods go only when they were not needed for {}",
    "scale-to-zero-pod-retention-period": "the last pod stays {} after the last request counts",
    "window": "decisions rest on the average of {}",
    "panic-window-percentage": "a surge is judged by the last {} % of the window",
    "panic-threshold-percentage": "panic begins when {} % of the ready pods would be needed",
    CONTAINER_CONCURRENCY: "a pod gets at most {} requests at once",
}


_AT_ZERO = {"min-scale": "pods may go to zero", CONTAINER_CONCURRENCY: "a pod gets any number of requests at once"}
_COUNTS_PODS = frozenset({"min-scale", "max-scale", "initial-scale", "activation-scale"})


def milliseconds(seconds: float) -> str:
    """`238 ms`, `1.34 s`; a dash for none."""
    if math.isnan(seconds) or math.isinf(seconds):
        return "–"
    if seconds < 0.0995:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.2f} s"


def pod_time(seconds: float) -> str:
    """Pod-seconds as people add them up: `940 s`, `12,340 s`, above ten hours `31.2 h`."""
    return f"{seconds:,.0f} s" if seconds < 36_000 else f"{seconds / 3600:,.1f} h"


def share(part: float) -> str:
    """`0 %`, `0.012 %`, `3.4 %`: two figures."""
    return "0 %" if part == 0 else f"{part * 100:.2g} %" if part < 0.995 else f"{part * 100:.3g} %"


def does(name: str, value: str | None, setting: Setting, config: Config, most_pods: int) -> str:
    """What an annotation with this value does. value: None where it is not set, and the default holds."""
    shown = value or _default(name, setting, config) or "its default"
    text = _DOES.get(name, "{}").format(_plural(name, shown))
    if shown == "0" and name in _AT_ZERO:
        text = _AT_ZERO[name]
    if name == "max-scale" and value is not None:
        text += f"; {most_pods} {'was' if most_pods == 1 else 'were'} wanted at most"
    return f"{text[0].upper()}{text[1:]}."


def otherwise(
    name: str,
    value: str | None,
    instead: str | None,
    with_it: Outcome,
    without: Outcome,
    setting: Setting,
    config: Config,
) -> str:
    """What would happen with `instead`, None for not set: a sentence with what was measured."""
    default = _default(name, setting, config)
    if instead is not None:
        head = f"With {instead}, as now,"
    elif value is None:
        head = "With it, as now,"
    else:
        head = f"Without it ({default})" if default else "Without it"
    changes = differences(with_it, without)
    return f"{head} {'; '.join(changes)}." if changes else f"{head} nothing here would change."


def _plural(name: str, shown: str) -> str:
    """`1 pod`, `3 pods`, where the phrase counts them."""
    return f"{shown} {'pod' if shown == '1' else 'pods'}" if name in _COUNTS_PODS else shown


def differences(with_it: Outcome, without: Outcome) -> list[str]:
    """What is noticeably another, as phrases, the weightiest first."""
    phrases = []
    for what, have, would in (
        ("p95", with_it.p95_s, without.p95_s),
        ("p99", with_it.p99_s, without.p99_s),
        ("p50", with_it.p50_s, without.p50_s),
    ):
        if _differs(have, would):
            phrases.append(f"{what} would be {milliseconds(would)} instead of {milliseconds(have)}")
    if _differs(with_it.failed_share, without.failed_share, floor=1e-5):
        phrases.append(f"{share(without.failed_share)} would end with 5xx instead of {share(with_it.failed_share)}")
    if _differs(with_it.cold_share, without.cold_share, floor=1e-5):
        phrases.append(f"{share(without.cold_share)} would meet a cold start instead of {share(with_it.cold_share)}")
    if _differs(with_it.pod_seconds, without.pod_seconds):
        more = without.pod_seconds / with_it.pod_seconds - 1 if with_it.pod_seconds else math.inf
        amount = f"{more * 100:+.0f} %" if abs(more) >= 0.095 else f"{more * 100:+.1f} %"
        phrases.append(f"pods would cost {pod_time(without.pod_seconds)} ({amount})")
    return phrases


def _differs(one: float, other: float, floor: float = 0.0) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) != math.isnan(other)
    return abs(one - other) > max(floor, NOTICEABLE * max(abs(one), abs(other)))


def _default(name: str, setting: Setting, config: Config) -> str:
    """What holds where the annotation is not set, as an operator would write it; empty where nothing does."""
    return {
        "metric": "concurrency",
        "metric-aggregation-algorithm": "linear",
        "target": f"{setting.container_concurrency or config.container_concurrency_target_default:g}",
        "target-utilization-percentage": f"{config.container_concurrency_target_percentage * 100:g}",
        "target-burst-capacity": f"{config.target_burst_capacity:g}",
        "min-scale": str(config.min_scale),
        "max-scale": "no bound" if config.max_scale == 0 else str(config.max_scale),
        "initial-scale": str(config.initial_scale),
        "activation-scale": "1",
        "scale-down-delay": format_duration(config.scale_down_delay_ns),
        "scale-to-zero-pod-retention-period": format_duration(config.scale_to_zero_pod_retention_period_ns),
        "window": format_duration(config.stable_window_ns),
        "panic-window-percentage": f"{config.panic_window_percentage:g}",
        "panic-threshold-percentage": f"{config.panic_threshold_percentage:g}",
    }.get(name, "")
