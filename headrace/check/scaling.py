"""Warnings about a manifest's autoscaling: annotations that nobody reads, and those that are foolish.

Called by `headrace.check.judge`; the rules themselves are `knative.vocabulary`'s and `knative.advice`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.check.findings import Finder, Finding
from knative import advice, settings, vocabulary
from knative.advice import Template
from knative.settings import Config

TEMPLATED = ("Service", "Configuration")
CONFIG_KEYS = Config.keys()
_PROBES = ("readinessProbe", "startupProbe")


def warnings(find: Finder, manifest: Mapping[str, Any], config: Config) -> Iterator[Finding]:
    """Everything foolish in a Service, Configuration, Revision or PodAutoscaler; nothing of other kinds."""
    kind = manifest.get("kind")
    if kind in TEMPLATED:
        place, holder = "spec.template.", _mapping(_mapping(manifest.get("spec")).get("template"))
        yield from _unread(find, "metadata.annotations", _annotations(manifest))
    elif kind in ("Revision", "PodAutoscaler"):
        place, holder = "", manifest
    else:
        return
    where, written = f"{place}metadata.annotations", _annotations(holder)
    yield from _unread(find, where, written)
    for each in advice.advise(_template(manifest, holder, written), config):
        yield find.warning(f"{where}.{each.key}", each.said)


def _unread(find: Finder, where: str, written: Mapping[str, str]) -> Iterator[Finding]:
    for key in written:
        path = f"{where}.{key}"
        if vocabulary.is_known(key):
            if key != vocabulary.preferred(key):
                yield find.warning(
                    path, "an older spelling, which Knative still takes", meant=vocabulary.preferred(key)
                )
            continue
        meant = vocabulary.intended(key)
        group, _, name = key.rpartition("/")
        if meant:
            yield find.warning(path, "passed over: Knative reads no such annotation", vocabulary.allowed(meant), meant)
        elif group == settings.GROUP:
            of_cluster = name in CONFIG_KEYS
            hint = f"key {name} of the ConfigMap config-autoscaler, for the whole cluster" if of_cluster else ""
            yield find.warning(path, "passed over: Knative reads no such annotation", meant=hint)


def _template(manifest: Mapping[str, Any], holder: Mapping[str, Any], written: Mapping[str, str]) -> Template:
    spec = _mapping(holder.get("spec"))
    concurrency = spec.get("containerConcurrency")
    return Template(
        annotations=written,
        container_concurrency=max(0, concurrency) if isinstance(concurrency, int) else 0,
        reachable=_reachable(manifest, holder),
        cold_start_s=_unasked_s(spec),
    )


def _reachable(manifest: Mapping[str, Any], holder: Mapping[str, Any]) -> bool:
    """Whether the Service's traffic leads to the revision of its template; everything else may be led to."""
    traffic = _mapping(manifest.get("spec")).get("traffic")
    if manifest.get("kind") != "Service" or not isinstance(traffic, list) or not traffic:
        return True
    name = _mapping(holder.get("metadata")).get("name")
    targets = [_mapping(target) for target in traffic]
    return any(not t.get("revisionName") or (name and t["revisionName"] == name) for t in targets)


def _unasked_s(spec: Mapping[str, Any]) -> float:
    """Seconds for which no probe asks a new pod whether it is ready."""
    containers = spec.get("containers")
    waits = [0.0]
    for container in containers if isinstance(containers, list) else ():
        for probe in _PROBES:
            delay = _mapping(_mapping(container).get(probe)).get("initialDelaySeconds")
            waits += [float(delay)] if isinstance(delay, int | float) else []
    return max(waits)


def _annotations(holder: Mapping[str, Any]) -> dict[str, str]:
    written = _mapping(_mapping(holder.get("metadata")).get("annotations"))
    return {key: value for key, value in written.items() if isinstance(value, str)}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
