"""The words of Knative's autoscaling annotations: what each takes, and what a misspelt one was meant to be.

Called by whatever tells a person about a refused or unknown annotation. Pure.

Source: knative/serving pkg/apis/autoscaling/register.go; docs of Knative Serving, "Autoscaling".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from knative import settings
from knative.settings import GROUP, Keys

_SECONDS = "whole seconds such as 30s or 1m30s"
_PODS = "a whole number of pods"
_ALLOWED: Mapping[Keys, str] = {
    settings.CLASS: f"{settings.KPA}, {settings.HPA}, or a class outside knative.dev",
    settings.METRIC: "concurrency or rps (cpu, memory or a metric of yours for class hpa)",
    settings.AGGREGATION: "linear or weighted-exponential",
    settings.TARGET: "a number, 0.01 or more",
    settings.TARGET_UTILIZATION_PERCENTAGE: "a percentage from 1 to 100",
    settings.TARGET_BURST_CAPACITY: "0 or more, or -1 for unlimited",
    settings.MIN_SCALE: f"{_PODS}, 0 to 2147483647, at most max-scale",
    settings.MAX_SCALE: f"{_PODS}, 0 (no limit) to 2147483647",
    settings.INITIAL_SCALE: f"{_PODS}, 1 or more (0 where the cluster has allow-zero-initial-scale)",
    settings.ACTIVATION_SCALE: f"{_PODS}, 2 or more, from min-scale to max-scale",
    settings.SCALE_DOWN_DELAY: f"0s to 1h, in {_SECONDS}",
    settings.POD_RETENTION: "0s to 1h, such as 90s or 1m30s",
    settings.WINDOW: f"6s to 1h, in {_SECONDS}",
    settings.PANIC_WINDOW: "a percentage of the window, from 1 to 100",
    settings.PANIC_THRESHOLD: "a percentage from 110 to 1000",
}
_OTHERS: Mapping[str, str] = {
    "serving.knative.dev/progress-deadline": _SECONDS,
    "serving.knative.dev/rollout-duration": _SECONDS,
    "serving.knative.dev/rolloutDuration": _SECONDS,
}
_NAMES: Mapping[str, Keys] = {name: keys for keys in settings.ALL_KEYS for name in keys.names}

# What people write, and what they mean: the words of Kubernetes, of Knative's ConfigMap, and of its documentation.
_SYNONYMS: Mapping[str, Keys] = {
    "min": settings.MIN_SCALE, "min-replicas": settings.MIN_SCALE, "min-pods": settings.MIN_SCALE,
    "min-instances": settings.MIN_SCALE, "max": settings.MAX_SCALE, "max-replicas": settings.MAX_SCALE,
    "max-pods": settings.MAX_SCALE, "max-instances": settings.MAX_SCALE, "initial-replicas": settings.INITIAL_SCALE,
    "start-scale": settings.INITIAL_SCALE, "stable-window": settings.WINDOW, "panic-window": settings.PANIC_WINDOW,
    "panic-threshold": settings.PANIC_THRESHOLD, "target-concurrency": settings.TARGET,
    "concurrency-target": settings.TARGET, "target-rps": settings.TARGET, "target-value": settings.TARGET,
    "target-utilization": settings.TARGET_UTILIZATION_PERCENTAGE,
    "utilization": settings.TARGET_UTILIZATION_PERCENTAGE,
    "container-concurrency-target-percentage": settings.TARGET_UTILIZATION_PERCENTAGE,
    "burst-capacity": settings.TARGET_BURST_CAPACITY, "pod-retention": settings.POD_RETENTION,
    "scale-to-zero-retention": settings.POD_RETENTION, "retention-period": settings.POD_RETENTION,
    "down-delay": settings.SCALE_DOWN_DELAY, "cooldown": settings.SCALE_DOWN_DELAY,
    "pod-autoscaler-class": settings.CLASS, "autoscaler-class": settings.CLASS,
    "aggregation": settings.AGGREGATION, "aggregation-algorithm": settings.AGGREGATION,
}  # fmt: skip

_TELLING = 6  # letters of a beginning that is unmistakable, where only one name begins so


def allowed(key: str) -> str:
    """What the annotation of this name takes, in words; "" for one that Knative does not judge."""
    return _ALLOWED[_NAMES[key]] if key in _NAMES else _OTHERS.get(key, "")


def is_known(key: str) -> bool:
    """Whether Knative's autoscaler reads an annotation of this name, in whichever spelling."""
    return key in _NAMES


def preferred(key: str) -> str:
    """The documented spelling: `autoscaling.knative.dev/min-scale` for `…/minScale`."""
    return _NAMES[key].name


def intended(key: str) -> str | None:
    """The annotation that somebody meant who wrote `key`; None where it is known, or nothing of the autoscaler's.

    Found are other domains and none (`minScale`, `autoscaling.knative.com/min-scale`), other cases (`Min_Scale`), words
    of elsewhere (`max-replicas`), and slips of a letter or two.
    """
    if key in _NAMES:
        return None
    domain, slash, name = key.rpartition("/")
    near = domain == GROUP or _distance(domain.lower(), GROUP, 4) <= 4
    exact = {keys.name.rpartition("/")[2]: keys for keys in settings.ALL_KEYS}
    word = kebab(name)
    if not near:
        # With another domain, or none, only an unmistakable name counts: `target` may be anybody's.
        known = exact.get(word) if "-" in word else None
        ours = not slash or domain.endswith("knative.dev")
        return known.name if known and ours else None
    meant = exact.get(word) or _SYNONYMS.get(word)
    if meant is None:
        longer = [known for known in exact if known.startswith(word)] if len(word) >= _TELLING else []
        found = longer[0] if len(longer) == 1 else closest(word, exact)
        meant = exact[found] if found else None
    return meant.name if meant else None


def kebab(name: str) -> str:
    """`minScale`, `Min_Scale` and `MIN-SCALE` as `min-scale`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    return re.sub(r"[-_. ]+", "-", parted).strip("-").lower()


def closest(word: str, words: Iterable[str]) -> str | None:
    """The one of `words` that differs by the fewest slips; None where it is more than a third of its letters, or 3."""
    most = max(1, min(3, len(word) // 3))
    ranked = sorted((_distance(word, other, most), other) for other in words)
    return ranked[0][1] if ranked and ranked[0][0] <= most else None


def _distance(one: str, other: str, most: int) -> int:
    """Letters to put in, leave out, change or swap; more than `most` is `most` + 1."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return min(row[-1], most + 1)
