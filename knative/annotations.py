"""Verdicts on autoscaling annotations, as Knative's admission webhook gives them: the path, what was seen, what is
allowed.

`faults` judges one set of annotations; `manifest_faults` and `admit` a whole Service, Configuration or Revision. Called
by the local Kubernetes API at admission and by whatever checks manifests offline.

Source: knative/serving pkg/apis/autoscaling/annotation_validation.go; wording knative/pkg apis/field_error.go.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knative import settings
from knative.literals import (
    INT32_MAX,
    INT64_MAX,
    SECOND,
    OutOfRange,
    format_duration,
    parse_duration,
    parse_float,
    parse_int,
)
from knative.settings import Config, Keys

MAX_CONTAINER_CONCURRENCY = 1000  # container-concurrency-max-limit of ConfigMap config-defaults
ROLLOUT_DURATION = ("serving.knative.dev/rollout-duration", "serving.knative.dev/rolloutDuration")
PROGRESS_DEADLINE = (settings.PROGRESS_DEADLINE,)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that the webhook refuses. paths: the annotation keys to blame, or a manifest's field paths."""

    message: str
    paths: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.message}: {', '.join(self.paths)}"

    def under(self, prefix: str) -> Fault:
        """The same fault seen from further out, e.g. `spec.template.metadata.annotations`."""
        return Fault(self.message, tuple(f"{prefix}.{path}" if path else prefix for path in self.paths))


def faults(annotations: Mapping[str, str], config: Config | None = None) -> tuple[Fault, ...]:
    """Every fault of these annotations, in the webhook's order; empty when they are admitted.

    config: the cluster's `config-autoscaler`, the defaults when None. Keys that Knative does not know are passed over,
    as it does.
    """
    config = config or Config()
    return tuple(fault for check in _CHECKS for fault in check(annotations, config))


def mentioned(found: Iterable[Fault]) -> frozenset[str]:
    """The annotation names, without their group, that the text of these faults mentions: how recorded verdicts blame.

    A name counts as mentioned within a longer one: blaming `target-burst-capacity` also mentions `target`.
    """
    paths = [path for fault in found for path in fault.paths]
    names = (name for keys in settings.ALL_KEYS for name in keys.names)
    return frozenset(n.removeprefix(f"{settings.GROUP}/") for n in names if any(n in path for path in paths))


def admit(manifest: Mapping[str, Any], config: Config | None = None) -> list[str]:
    """Every fault that `manifest_faults` finds, as sentences with field paths."""
    return [str(fault) for fault in manifest_faults(manifest, config)]


def manifest_faults(manifest: Mapping[str, Any], config: Config | None = None) -> tuple[Fault, ...]:
    """Every fault of a serving.knative.dev Service, Configuration, Revision or Route, or of a PodAutoscaler.

    Judged are the annotations that Knative reads and containerConcurrency; other kinds and fields are not this
    module's. Paths are those of the manifest: `spec.template.metadata.annotations.autoscaling.knative.dev/window`.

    Source: pkg/apis/serving/metadata_validation.go and pkg/apis/serving/v1/{service,revision}_validation.go.
    """
    return tuple(_manifest_faults(manifest, config))


def _manifest_faults(manifest: Mapping[str, Any], config: Config | None) -> Iterator[Fault]:
    kind, own = manifest.get("kind"), "metadata.annotations"
    if kind in ("Service", "Configuration", "Route"):
        texts = yield from _texts(manifest, own)
        if kind != "Route":
            # Nothing would read them there, so the webhook does not take them for the template's.
            yield from (fault.under(own) for fault in _misplaced(texts))
        if kind != "Configuration":
            yield from (fault.under(own) for fault in _whole_seconds(texts, ROLLOUT_DURATION))
        if kind == "Route":
            return
    elif kind not in ("Revision", "PodAutoscaler"):
        return
    place = "" if kind in ("Revision", "PodAutoscaler") else "spec.template."
    holder = _mapping(_mapping(manifest.get("spec")).get("template")) if place else manifest
    texts = yield from _texts(holder, f"{place}{own}")
    for fault in (*faults(texts, config), *(_whole_seconds(texts, PROGRESS_DEADLINE) if place else ())):
        yield fault.under(f"{place}{own}")
    yield from _container_concurrency(_mapping(holder.get("spec")), f"{place}spec.containerConcurrency")


def _texts(holder: Mapping[str, Any], path: str) -> Generator[Fault, None, dict[str, str]]:
    """The annotations that are texts, and a fault for each that is none."""
    annotations = _mapping(_mapping(holder.get("metadata")).get("annotations"))
    for key, value in annotations.items():
        if not isinstance(value, str):
            message = f"invalid value: {value!r}, annotations are strings: write {str(value)!r} in quotes"
            yield Fault(message, (f"{path}.{key}",))
    return {key: value for key, value in annotations.items() if isinstance(value, str)}


def _misplaced(annotations: Mapping[str, str]) -> Iterator[Fault]:
    for key in annotations:
        if key.startswith(settings.GROUP):
            yield Fault(
                'autoscaling annotations must be put under "spec.template.metadata.annotations" to work', (key,)
            )


def _whole_seconds(annotations: Mapping[str, str], keys: Sequence[str]) -> Iterator[Fault]:
    key = next((key for key in keys if key in annotations), None)
    if key is None or annotations[key] == "":
        return
    text = annotations[key]
    try:
        length_ns = parse_duration(text)
    except ValueError:
        yield _invalid(text, key)
        return
    if length_ns % SECOND:
        yield Fault(f"{keys[0].rpartition('/')[2]}={text} is not at second precision", (key,))
    elif length_ns < 0:
        yield Fault(f"{keys[0].rpartition('/')[2]}={text} must be positive", (key,))


def _container_concurrency(spec: Mapping[str, Any], path: str) -> Iterator[Fault]:
    concurrency = spec.get("containerConcurrency")
    if concurrency is None:
        return
    if not isinstance(concurrency, int) or isinstance(concurrency, bool):
        yield Fault(f"invalid value: {concurrency!r}, expected a whole number", (path,))
    elif not 0 <= concurrency <= MAX_CONTAINER_CONCURRENCY:
        yield _out_of_bounds(concurrency, 0, MAX_CONTAINER_CONCURRENCY, path)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _invalid(value: str, path: str) -> Fault:
    return Fault(f"invalid value: {value}", (path,))


def _out_of_bounds(value: object, low: object, high: object, path: str) -> Fault:
    return Fault(f"expected {low} <= {value} <= {high}", (path,))


def _class(annotations: Mapping[str, str], config: Config) -> Iterator[Fault]:
    found = settings.CLASS.find(annotations)
    # Another domain's class is another autoscaler's business.
    if found and found[1].endswith(".knative.dev") and found[1] not in (settings.KPA, settings.HPA):
        yield _invalid(found[1], found[0])


def _scales(annotations: Mapping[str, str], config: Config) -> Iterator[Fault]:
    low, low_faults = _count(annotations, settings.MIN_SCALE)
    high, high_faults = _count(annotations, settings.MAX_SCALE)
    yield from (*low_faults, *high_faults)
    if high != 0 and high < low:
        message = f"max-scale={high} is less than min-scale={low}"
        yield Fault(message, (settings.MAX_SCALE.name, settings.MIN_SCALE.name))
    found = settings.MAX_SCALE.find(annotations)
    if found and config.max_scale_limit:
        if high > config.max_scale_limit:
            yield _out_of_bounds(high, 1, config.max_scale_limit, found[0])
        if high == 0:
            yield Fault(f"max-scale=0 (unlimited), must be less than {config.max_scale_limit}", (found[0],))
    activation = settings.ACTIVATION_SCALE.find(annotations)
    if not activation:
        return
    key, text = activation
    try:
        pods = parse_int(text)
    except ValueError:
        yield _invalid(text, key)
        return
    if low > pods:
        yield Fault(f"min-scale={low} is greater than activation-scale={pods}", (key,))
    elif 0 != high < pods:
        yield Fault(f"max-scale={high} is less than activation-scale={pods}", (key,))
    elif pods < 2:
        yield Fault(f"activation-scale={pods} must be greater than 1", (key,))


def _count(annotations: Mapping[str, str], keys: Keys) -> tuple[int, tuple[Fault, ...]]:
    """A number of pods, 0 where it is absent or refused, and the fault that refused it."""
    found = keys.find(annotations)
    if found is None:
        return 0, ()
    key, text = found
    try:
        pods = parse_int(text)
    except OutOfRange:
        return 0, (_out_of_bounds(text, 0, INT32_MAX, key),)
    except ValueError:
        return 0, (_invalid(text, key),)
    return (pods, ()) if pods >= 0 else (0, (_out_of_bounds(text, 0, INT32_MAX, key),))


def _numbers(annotations: Mapping[str, str], config: Config) -> Iterator[Fault]:
    for keys, verdict in _NUMBERS:
        found = keys.find(annotations)
        if found is None:
            continue
        key, text = found
        try:
            fault = verdict(parse_float(text), text, key)
        except ValueError:
            fault = _invalid(text, key)
        if fault:
            yield fault


def _between(low: float, high: float) -> Callable[[float, str, str], Fault | None]:
    # Two comparisons, not `low <= value <= high`: NaN passes them, as it passes the webhook's.
    return lambda value, text, key: (
        _out_of_bounds(text, f"{low:g}", f"{high:g}", key) if value < low or value > high else None
    )


def _target(value: float, text: str, key: str) -> Fault | None:
    if value < settings.TARGET_MIN:
        return Fault(f"target {text} should be at least {settings.TARGET_MIN:g}", (key,))
    return None


def _burst(value: float, text: str, key: str) -> Fault | None:
    return _invalid(text, key) if value < 0 and value != -1 else None


def _window(annotations: Mapping[str, str], config: Config) -> Iterator[Fault]:
    yield from _duration(annotations, settings.WINDOW, settings.WINDOW_MIN_NS, whole_seconds=True)


def _retention(annotations: Mapping[str, str], config: Config) -> Iterator[Fault]:
    yield from _duration(annotations, settings.POD_RETENTION, 0, whole_seconds=False)


def _delay(annotations: Mapping[str, str], config: Config) -> Iterator[Fault]:
    yield from _duration(annotations, settings.SCALE_DOWN_DELAY, 0, whole_seconds=True)


def _duration(annotations: Mapping[str, str], keys: Keys, low_ns: int, *, whole_seconds: bool) -> Iterator[Fault]:
    found = keys.find(annotations)
    if found is None:
        return
    key, text = found
    try:
        length_ns = parse_duration(text)
    except ValueError:
        yield _invalid(text, key)
        return
    if not low_ns <= length_ns <= settings.WINDOW_MAX_NS:
        yield _out_of_bounds(text, format_duration(low_ns), format_duration(settings.WINDOW_MAX_NS), key)
    elif whole_seconds and length_ns % SECOND:
        yield Fault("must be specified with at most second precision", (key,))


def _metric(annotations: Mapping[str, str], config: Config) -> Iterator[Fault]:
    found = settings.METRIC.find(annotations)
    if found is None:
        return
    owner = settings.CLASS.find(annotations)
    autoscaler = owner[1] if owner else config.pod_autoscaler_class
    key, metric = found
    refused = {
        settings.KPA: metric not in (settings.CONCURRENCY, settings.RPS),
        settings.HPA: metric == "",
    }
    if refused.get(autoscaler, False):
        yield _invalid(metric, key)


def _algorithm(annotations: Mapping[str, str], config: Config) -> Iterator[Fault]:
    # Only where the class is spelled out: the ConfigMap's default does not count here, in the webhook neither.
    owner = settings.CLASS.find(annotations)
    found = settings.AGGREGATION.find(annotations)
    if owner and owner[1] == settings.KPA and found and found[1] not in ("", settings.LINEAR, *settings.WEIGHTED):
        yield _invalid(found[1], found[0])


def _initial(annotations: Mapping[str, str], config: Config) -> Iterator[Fault]:
    found = settings.INITIAL_SCALE.find(annotations)
    if found is None:
        return
    key, text = found
    try:
        pods = parse_int(text, INT64_MAX)
    except ValueError:
        yield _invalid(text, key)
        return
    if pods < 0:
        yield Fault(f"invalid value: {text}, must be greater than 0", (key,))
    elif pods == 0 and not config.allow_zero_initial_scale:
        yield Fault(f"invalid value: {text}, 0 is not allowed by the cluster", (key,))


_NUMBERS: tuple[tuple[Keys, Callable[[float, str, str], Fault | None]], ...] = (
    (settings.PANIC_WINDOW, _between(*settings.PANIC_WINDOW_PERCENTAGE)),
    (settings.PANIC_THRESHOLD, _between(*settings.PANIC_THRESHOLD_PERCENTAGE)),
    (settings.TARGET, _target),
    (settings.TARGET_UTILIZATION_PERCENTAGE, _between(1.0, 100.0)),
    (settings.TARGET_BURST_CAPACITY, _burst),
)
_CHECKS: tuple[Callable[[Mapping[str, str], Config], Iterator[Fault]], ...] = (
    _class, _scales, _numbers, _window, _retention, _delay, _metric, _algorithm, _initial,
)  # fmt: skip
