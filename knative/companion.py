"""A Knative Service that goes with a model's: the same versions, the same shares, under another port. All of it pure.

A Knative Service has one port, so what answers a model over gRPC is a Service of its own. It decides nothing: whoever
has moved the model's Service (a canary, a promotion, a rollback, by event or by hand) brings the companion after it,
with `knative.follow`. It belongs to the model's Service (ownerReferences): Kubernetes deletes it with that.

Its revisions have names of their own; what both have in common is the version that a revision serves. So the model's
targets are read as versions, and each becomes the companion's newest revision of that version.

Source: knative/serving pkg/apis/serving/v1 (TrafficTarget); Kubernetes, "Garbage Collection".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from knative import rollout

Object = dict[str, Any]

SUFFIX = "-grpc"
LABEL = "headrace.dev/companion-of"
GENERATION_LABEL = "serving.knative.dev/configurationGeneration"

Target = tuple[str | None, int, str | None]
"""The revision by name (None: the newest), its percentage, its tag."""


def name_of(model: str) -> str:
    return f"{model}{SUFFIX}"


def is_companion(service: Object, model: str) -> bool:
    """Whether `service` is the companion of that model's, and not somebody's of the same name."""
    return (service["metadata"].get("labels") or {}).get(LABEL) == model


def first(template: Object, leader: Object, version: str) -> Object:
    """The companion of `leader`, as the manifest `template` says, serving `version`."""
    model = leader["metadata"]["name"]
    made = deepcopy(template)
    metadata = made["metadata"]
    metadata["name"] = name_of(model)
    metadata["labels"] = {**(metadata.get("labels") or {}), LABEL: model}
    owner = {key: leader[key] for key in ("apiVersion", "kind")}
    metadata["ownerReferences"] = [{**owner, "name": model, "uid": leader["metadata"]["uid"]}]
    values = {rollout.MODEL_VARIABLE: model, rollout.VERSION_VARIABLE: version}
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["env"] = rollout.with_variables(container, values)
    return made


def serving_version(leader: Object, revisions: Iterable[Object]) -> str | None:
    """The version that most of the leader's traffic is to reach; where the companion begins."""
    versions = _versions(revisions)
    newest = rollout.version_of(leader["spec"]["template"])
    shares = {target: target[1] for target in _targets(leader)}
    most = max(shares, key=lambda target: shares[target], default=None)
    return newest if most is None or most[0] is None else versions.get(most[0], newest)


def following_patch(
    leader: Object, leader_revisions: Iterable[Object], companion: Object, revisions: Iterable[Object]
) -> Object | None:
    """The merge patch that brings the companion after its leader; None: it is there.

    leader_revisions, revisions: of the leader and of the companion, those that their targets name at least.
    """
    wanted = rollout.version_of(leader["spec"]["template"])
    targets, missing = _translated(leader, _versions(leader_revisions), _newest(revisions))
    if targets is None:
        # It never served what is to have a share now: that first, alone, and the rest at the next look.
        wanted, targets = missing, [(None, 100, None)]
    if wanted is None:
        return None
    kept = {tag for _, _, tag in targets}
    now = _targets(companion)
    # A tag that ops made on the companion stays, as on the model's own Service.
    targets += [t for t in now if t[1] == 0 and t[2] and t[2] not in kept and t[2] not in rollout.TAGS]
    spec: Object = {}
    if rollout.version_of(companion["spec"]["template"]) != wanted:
        spec["template"] = rollout.version_template(companion, wanted)
    if now != targets:
        spec["traffic"] = [_to_object(target) for target in targets]
    if not spec:
        return None
    return {"metadata": {"resourceVersion": companion["metadata"]["resourceVersion"]}, "spec": spec}


def _translated(
    leader: Object, versions: Mapping[str, str], newest: Mapping[str, str]
) -> tuple[list[Target] | None, str | None]:
    """The leader's targets with the companion's revisions; or None, and the version that has a share and no revision.

    versions: by revision of the leader. newest: the companion's newest revision by version.
    """
    last = rollout.version_of(leader["spec"]["template"])
    found: list[Target] = []
    for revision, percent, tag in _targets(leader):
        if revision is None:
            found.append((None, percent, tag))
            continue
        version = versions.get(revision, "")
        if version in newest:
            found.append((newest[version], percent, tag))
        elif percent and version == last:
            found.append((None, percent, tag))  # made by this very patch, and Knative waits until it is ready
        elif percent:
            return None, version or None
        # A tag to what the companion never had, such as the version before its time, leads nowhere: left out.
    return found, None


def _targets(service: Object) -> list[Target]:
    """What the spec says of the traffic; without a word of it everything goes to the newest revision."""
    traffic = service["spec"].get("traffic") or [{"latestRevision": True, "percent": 100}]
    return [(t.get("revisionName") or None, t.get("percent") or 0, t.get("tag") or None) for t in traffic]


def _to_object(target: Target) -> Object:
    revision, percent, tag = target
    named: Object = (
        {"latestRevision": True} if revision is None else {"revisionName": revision, "latestRevision": False}
    )
    return named | {"percent": percent} | ({"tag": tag} if tag else {})


def _versions(revisions: Iterable[Object]) -> dict[str, str]:
    """Version by name of the revision."""
    found = {revision["metadata"]["name"]: rollout.version_of(revision) for revision in revisions}
    return {name: version for name, version in found.items() if version is not None}


def _newest(revisions: Iterable[Object]) -> dict[str, str]:
    """The newest revision of each version, by version; of those that can serve, where there are any."""
    by_age = sorted(revisions, key=lambda r: (rollout.readiness(r).status == "True", _generation(r)))
    return {version: name for name, version in _versions(by_age).items()}


def _generation(revision: Object) -> int:
    text = (revision["metadata"].get("labels") or {}).get(GENERATION_LABEL, "0")
    return int(text) if text.isdecimal() else 0
