"""The setting that is there now: of a manifest, of a Service that runs, or given as annotations. What the webhook
refuses is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from eventing.errors import Misconfigured
from headrace.tune.space import SHORT_NAMES
from headrace.tune.world import TIMEOUT_S, Setting
from knative import annotations as verdicts
from knative import settings
from knative.settings import Config

KINDS = ("Service", "Configuration", "Revision")
API_GROUP = "serving.knative.dev/"


@dataclass(frozen=True, slots=True)
class Present:
    """What is set now, and of what. name: None where no manifest says it. revision_name: the template's own name, which
    a change of the template must change too.
    """

    setting: Setting
    timeout_s: float = TIMEOUT_S
    name: str | None = None
    namespace: str | None = None
    revision_name: str | None = None


def of_manifest(file: Path, service: str | None, config: Config) -> Present:
    """The setting of the one Service in a file, or of the one that is named.

    Raises Misconfigured for a file that holds none or several, or what Knative's webhook would refuse.
    """
    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise Misconfigured("--manifest", f"{file}: {e}", "a readable YAML file") from e
    found = [d for d in _flat(documents) if d.get("kind") in KINDS and str(d.get("apiVersion")).startswith(API_GROUP)]
    named = [d for d in found if service in (None, _mapping(d.get("metadata")).get("name"))]
    if len(named) != 1:
        names = ", ".join(str(_mapping(d.get("metadata")).get("name")) for d in found) or "none"
        expected = f"--service NAME, one of these: {names}" if found else "a Service of serving.knative.dev"
        raise Misconfigured(f"--manifest {file}", f"Services: {names}", expected)
    return of_object(named[0], config, f"--manifest {file}")


def of_object(manifest: Mapping[str, Any], config: Config, where: str) -> Present:
    """The setting of one Service, Configuration or Revision, as written or as a cluster holds it.

    where: what is named when it is refused. Raises Misconfigured for what Knative's webhook would refuse.
    """
    refused = verdicts.admit(manifest, config)
    if refused:
        raise Misconfigured(where, "; ".join(refused), "what Knative's webhook takes")
    meta = _mapping(manifest.get("metadata"))
    inner = _mapping(_mapping(manifest.get("spec")).get("template"))
    template = manifest if manifest["kind"] == "Revision" else inner
    template_meta, spec = _mapping(template.get("metadata")), _mapping(template.get("spec"))
    return Present(
        setting=Setting.of(
            _autoscaling(_mapping(template_meta.get("annotations"))), spec.get("containerConcurrency") or 0
        ),
        timeout_s=float(spec.get("timeoutSeconds") or TIMEOUT_S),
        name=meta.get("name"),
        namespace=meta.get("namespace"),
        revision_name=template_meta.get("name"),
    )


def given(present: Present, annotations: Mapping[str, str], concurrency: int | None, config: Config) -> Present:
    """The same with these annotations over it, under short names or full ones; an empty value takes one away.

    Raises Misconfigured for a name that Knative does not know and for what its webhook refuses.
    """
    merged = dict(present.setting.annotations)
    for name, value in annotations.items():
        keys = SHORT_NAMES.get(name) or next((k for k in settings.ALL_KEYS if name in k.names), None)
        if keys is None:
            raise Misconfigured("--annotation", name, f"one of {', '.join(sorted(SHORT_NAMES))}")
        for spelling in keys.names:
            merged.pop(spelling, None)
        if value:
            merged[keys.name] = value
    limit = present.setting.container_concurrency if concurrency is None else concurrency
    if not 0 <= limit <= verdicts.MAX_CONTAINER_CONCURRENCY:
        raise Misconfigured("--container-concurrency", limit, f"0 to {verdicts.MAX_CONTAINER_CONCURRENCY}")
    refused = verdicts.faults(merged, config)
    if refused:
        raise Misconfigured("--annotation", "; ".join(map(str, refused)), "what Knative's webhook takes")
    if settings.CLASS.read(merged, str, config.pod_autoscaler_class) != settings.KPA:
        raise Misconfigured(
            settings.CLASS.name, settings.CLASS.read(merged, str, ""), f"{settings.KPA}, whose decisions are simulated"
        )
    return Present(Setting.of(merged, limit), present.timeout_s, present.name, present.namespace, present.revision_name)


def capacity_of(setting: Setting, config: Config) -> int:
    """Requests that a pod serves at once, as far as the setting tells: its containerConcurrency, else the target that
    somebody has thought it able to bear.
    """
    if setting.container_concurrency:
        return setting.container_concurrency
    spec = setting.spec(config)
    if spec.metric == settings.CONCURRENCY and 1 <= spec.total_value < 1e6:
        return int(spec.total_value)
    return int(config.container_concurrency_target_default)


def _autoscaling(annotations: Mapping[str, Any]) -> dict[str, str]:
    names = {name for keys in settings.ALL_KEYS for name in keys.names} | {settings.PROGRESS_DEADLINE}
    return {key: str(value) for key, value in annotations.items() if key in names}


def _flat(documents: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Documents and the items of Lists among them."""
    flat: list[Mapping[str, Any]] = []
    for document in documents:
        if isinstance(document, Mapping):
            items = document.get("items")
            flat += _flat(items) if isinstance(items, list) else [document]
    return flat


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
