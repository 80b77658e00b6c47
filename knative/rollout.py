"""The model's Knative Service, read and changed: who serves, what is ready, every patch of a rollout, all of it pure.

Used by the promoter, which watches a canary, and by `headrace promote` and `rollback`, where a person has decided. A
patch holds what is ours alone, and the resourceVersion it was made from: of two writers one is told Conflict, and reads
again.

Source: knative/serving pkg/apis/serving/v1 (TrafficTarget, ServiceStatus), docs "Traffic management".
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from knative.canary import Canary, Readiness

Object = dict[str, Any]

CANARY_ANNOTATION = "headrace.dev/canary"
MODEL_VARIABLE = "HEADRACE_MODEL"
VERSION_VARIABLE = "HEADRACE_MODEL_VERSION"
UNSCHEDULABLE = "Unschedulable"  # the reason of a Revision that is not Ready because the scheduler found no node
SERVICE_LABEL = "serving.knative.dev/service"
REVISION_LABEL = "serving.knative.dev/revision"
CANARY, CHAMPION, PREVIOUS = "canary", "champion", "previous"
TAGS = frozenset({CANARY, CHAMPION, PREVIOUS})


# Reading a Service


def canary_of(service: Object) -> Canary | None:
    """The rollout that runs on `service`; None: none does."""
    text = (service["metadata"].get("annotations") or {}).get(CANARY_ANNOTATION)
    return None if text is None else Canary.from_annotation(text)


def version_of(revision_or_template: Object) -> str | None:
    """The model version that a Revision, or a Service's `spec.template`, serves; None: it is no predictor of ours."""
    return _value(revision_or_template, VERSION_VARIABLE)


def model_of(service: Object) -> str | None:
    """The model that a Service serves; None: it is no predictor of ours."""
    return _value(service["spec"]["template"], MODEL_VARIABLE)


def readiness(obj: Object) -> Readiness:
    """The `Ready` condition of a Service or Revision; Unknown while the status speaks of an older spec, and while no
    node has room for its pod: a cluster that grows brings one within minutes.
    """
    status = obj.get("status") or {}
    generation = obj["metadata"].get("generation")
    if generation is not None and status.get("observedGeneration", generation) != generation:
        return Readiness("Unknown", "Knative has not seen the newest spec yet")
    condition: Object = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), {})
    words = ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
    said = None if condition.get("reason") == UNSCHEDULABLE else condition.get("status")
    return Readiness(said if said in ("True", "False") else "Unknown", words or "no word from Knative yet")


def serving_revision(service: Object) -> str | None:
    """The revision that answers everything but tagged requests; None: none does yet, or several share the traffic."""
    status = service.get("status") or {}
    shares: dict[str, int] = {}
    for target in status.get("traffic") or ():
        if name := target.get("revisionName"):
            shares[name] = shares.get(name, 0) + (target.get("percent") or 0)
    return next((name for name, percent in shares.items() if percent == 100), None)


def newest_revision(service: Object) -> str | None:
    """The revision made of the Service's newest template; None until Knative has made it."""
    status = service.get("status") or {}
    if status.get("observedGeneration", 0) != service["metadata"].get("generation", 0):
        return None
    name: str | None = status.get("latestCreatedRevisionName")
    return name


def tagged_revision(service: Object, tag: str) -> str | None:
    """The revision that a tag leads to; None until the route is there."""
    targets = (service.get("status") or {}).get("traffic") or ()
    return next((t.get("revisionName") for t in targets if t.get("tag") == tag), None)


def is_split(service: Object) -> bool:
    """Whether several targets are to share the traffic, which outside of a rollout a person has arranged."""
    return sum(1 for target in service["spec"].get("traffic") or () if target.get("percent")) > 1


def is_held(service: Object) -> bool:
    """Whether one revision answers everything by its name, so that no later change of the template takes effect."""
    targets = service["spec"].get("traffic") or ()
    return any(target.get("revisionName") and target.get("percent") == 100 for target in targets)


def is_moving(service: Object) -> bool:
    """Whether Knative is still on its way to what the spec says, so that who serves is about to change."""
    serving = serving_revision(service)
    if serving is None:
        return bool((service.get("status") or {}).get("traffic"))
    if any(t.get("revisionName") == serving and t.get("percent") == 100 for t in service["spec"].get("traffic") or ()):
        return False
    return readiness(service).status == "Unknown" and newest_revision(service) != serving


def tag_url(service: Object, tag: str) -> str | None:
    """Where the revision under `tag` answers a client inside the platform; None until the route is there.

    `status.address.url` is reachable from inside in both places, by Host in a cluster and by path on a laptop; the
    public URLs of `status.traffic` may be known outside alone. A tag answers at the same address under the name
    TAG-NAME: Knative makes a Kubernetes Service of that name for it. Source: knative/serving
    pkg/reconciler/route/domains, and `tag-template` in config-network, whose default this is.
    """
    address = ((service.get("status") or {}).get("address") or {}).get("url")
    if not address or tagged_revision(service, tag) is None:
        return None
    name, parts = service["metadata"]["name"], urlsplit(address)
    host, _, domain = parts.netloc.partition(".")
    path = parts.path.rstrip("/")
    if host == name:
        parts = parts._replace(netloc=f"{tag}-{name}.{domain}")
    elif path.endswith(f"/{name}"):
        parts = parts._replace(path=f"{path.removesuffix(name)}{tag}-{name}")
    else:
        return None
    return str(urlunsplit(parts))


# Changing a Service: JSON merge patches, which hold only what is ours


def first_service(template: Object, model: str, state: Canary) -> Object:
    """The Service `model`, as the manifest `template` says, serving `state.version`; nothing served before."""
    service = deepcopy(template)
    metadata = service["metadata"]
    metadata["name"] = model
    metadata["annotations"] = {**(metadata.get("annotations") or {}), CANARY_ANNOTATION: state.to_annotation()}
    container = service["spec"]["template"]["spec"]["containers"][0]
    container["env"] = with_variables(container, {MODEL_VARIABLE: model, VERSION_VARIABLE: state.version})
    return service


def start_patch(service: Object, state: Canary) -> Object:
    """The challenger's revision is made, reachable under its tag alone, while the champion goes on answering."""
    if state.champion_revision is None:
        targets = [_latest(100)]
    else:
        targets = [_pinned(state.champion_revision, 100, CHAMPION), _latest(0, CANARY)]
    return _patch(service, state, version_template(service, state.version), targets)


def shift_patch(service: Object, state: Canary, percent: int) -> Object:
    """The challenger's revision answers `percent` of the traffic, the champion's the rest; `state` names both."""
    assert state.champion_revision is not None and state.revision is not None
    targets = [_pinned(state.champion_revision, 100 - percent, CHAMPION), _pinned(state.revision, percent, CANARY)]
    return _patch(service, state, None, targets)


def promote_patch(service: Object, state: Canary) -> Object:
    """The challenger answers everything; the champion's revision stays reachable as `previous`."""
    return _patch(service, state, None, _settled(state.champion_revision))


def revert_patch(service: Object, state: Canary) -> Object:
    """The champion answers everything at once, by name, and the template is its version's again."""
    if state.champion is None or state.champion_revision is None:
        return _patch(service, state, None, None)
    return _patch(
        service, state, version_template(service, state.champion), [_pinned(state.champion_revision, 100, CHAMPION)]
    )


def finish_patch(service: Object, settled: bool) -> Object:
    """The rollout is over.

    settled: the newest revision is the one to serve, so that later changes of ops take effect.
    """
    previous = next(
        (t.get("revisionName") for t in service["spec"].get("traffic") or () if t.get("tag") == PREVIOUS), None
    )
    return _patch(service, None, None, _settled(previous) if settled else None)


def promotion_patch(service: Object, version: str) -> Object:
    """`version` is made and takes over as soon as it is ready: a person has decided, so a running canary ends here.

    Until then Knative leaves the traffic where it is, so nothing is unserved. For `headrace promote`; the Service is
    ready (`readiness`) once `version` answers.
    """
    return _patch(service, None, version_template(service, version), _settled(serving_revision(service)))


def rollback_patch(service: Object, version: str, revision: str | None = None) -> Object:
    """`version` serves again: through `revision`, which still carries it, at once; else as soon as a new one is ready.

    For `headrace rollback`. With `revision` the traffic is held by name, until the Service is ready and `settle_patch`
    gives it back to the newest revision.
    """
    targets = _settled(None) if revision is None else [_pinned(revision, 100)]
    return _patch(service, None, version_template(service, version), targets)


def settle_patch(service: Object) -> Object:
    """The newest revision answers everything: after a rollback by name, once the Service is ready."""
    return _patch(service, None, None, _settled(None))


def _latest(percent: int, tag: str | None = None) -> Object:
    return {"latestRevision": True, "percent": percent} | ({"tag": tag} if tag else {})


def _pinned(revision: str, percent: int, tag: str | None = None) -> Object:
    return {"revisionName": revision, "latestRevision": False, "percent": percent} | ({"tag": tag} if tag else {})


def _settled(previous: str | None) -> list[Object]:
    return [_latest(100), *([_pinned(previous, 0, PREVIOUS)] if previous else [])]


def version_template(service: Object, version: str) -> Object:
    """The merge patch of `spec.template` that changes the version and nothing else."""
    template = service["spec"]["template"]
    containers = deepcopy(template["spec"]["containers"])
    # A merge patch replaces lists whole, so the list is the live one with our one value in it.
    ours = next((c for c in containers if _variables(c).keys() & {MODEL_VARIABLE, VERSION_VARIABLE}), containers[0])
    ours["env"] = with_variables(ours, {VERSION_VARIABLE: version})
    patch: Object = {"spec": {"containers": containers}}
    if (template.get("metadata") or {}).get("name"):
        # A revision named by hand is that one revision: Knative would refuse another content under its name.
        patch["metadata"] = {"name": None}
    return patch


def with_variables(container: Mapping[str, Any], values: Mapping[str, str]) -> list[Object]:
    """The container's environment with `values` in it; what is there keeps its place, what is new comes last."""
    env = [
        {"name": v["name"], "value": values[v["name"]]} if v["name"] in values else v
        for v in container.get("env") or ()
    ]
    return env + [{"name": n, "value": v} for n, v in values.items() if n not in _variables(container)]


def _value(template: Object, name: str) -> str | None:
    containers = template["spec"].get("containers") or ()
    found = (_variables(container).get(name) for container in containers)
    return next((str(value) for value in found if value), None)


def _variables(container: Mapping[str, Any]) -> dict[str, Any]:
    return {v["name"]: v.get("value") for v in container.get("env") or ()}


def _patch(service: Object, state: Canary | None, template: Object | None, targets: list[Object] | None) -> Object:
    """A merge patch that takes only if `service` is still the newest; tags that ops made stay."""
    annotation = None if state is None else state.to_annotation()
    metadata = {
        "resourceVersion": service["metadata"]["resourceVersion"],
        "annotations": {CANARY_ANNOTATION: annotation},
    }
    spec: Object = {}
    if template is not None:
        spec["template"] = template
    if targets is not None:
        now = service["spec"].get("traffic") or ()
        foreign = [t for t in now if t.get("tag") and t["tag"] not in TAGS and not t.get("percent")]
        spec["traffic"] = [*targets, *foreign]
    return {"metadata": metadata} | ({"spec": spec} if spec else {})
