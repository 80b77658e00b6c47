"""Decide by hand which version serves: what `headrace promote` and `headrace rollback` do.

The promoter's own patches are used, so that both ways end in the same state: the newest Revision answers everything,
the one before stays reachable under the tag `previous`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from eventing import contract, sender
from eventing.errors import HeadraceError
from functions.store import Serving
from headrace import screen
from headrace.place import Place
from knative import follow, rollout
from knative.client import Conflict, Object

READY_S = 120.0  # a process, its imports, a package from the store, a self-test
LOOK_S = 0.3
TRIES = 20
SOURCE = "/headrace/headrace/cli"


def promote(place: Place, model: str, version: str | None) -> str:
    """Let `version` (None: the newest) serve; the sentence to print. Raises HeadraceError when there is no such one,
    or when it never becomes ready: then the version before goes on serving.
    """
    version = version or _newest(place, model)
    _existing(place, model, version)
    service = _of_model(place, model)
    before = _serving(place, model, service)
    known = place.store.serving(model)
    told = known is not None and known.version == version
    if before == version and told and rollout.canary_of(service) is None:
        return f"{model} {version} serves already"
    _patch(place, model, lambda service: rollout.promotion_patch(service, version))
    revision = _until_ready(place, model, version)
    before = None if before == version else before
    place.store.set_serving(model, Serving(version, before, _now(), "promoted by hand"))
    _tell(place, contract.ModelPromoted(model, version, "promoted by hand", before, revision=revision))
    return f"{model} {version} serves through {revision}; before: {before or 'none'}"


def rollback(place: Place, model: str, version: str | None) -> str:
    """Let `version` serve again, at once when its Revision is still there. None: the one before, which is the champion
    while a canary runs. Raises HeadraceError when there is none to go back to.
    """
    service = _of_model(place, model)
    now_serving = _serving(place, model, service)
    known, running = place.store.serving(model), rollout.canary_of(service)
    version = version or (running.champion if running else known.previous if known else None)
    if version is None:
        raise HeadraceError(
            f"{model} has served no version before {now_serving}; name one: headrace rollback {model} V"
        )
    _existing(place, model, version)
    told = known is not None and known.version == version
    # Else it is one that was cut off between its first step and its last, and is brought to its end here.
    if version == now_serving and told and running is None and not rollout.is_held(service):
        return f"{model} {version} serves already"
    revisions = place.cluster.list("Revision", {rollout.SERVICE_LABEL: model})
    carriers = [r for r in revisions if rollout.version_of(r) == version and rollout.readiness(r).status == "True"]
    carrier = max((r["metadata"]["name"] for r in carriers), default=None)
    _patch(place, model, lambda service: rollout.rollback_patch(service, version, carrier))
    revision = _until_ready(place, model, version)
    if carrier is not None:
        _patch(place, model, lambda service: rollout.settle_patch(_as_meant(service, version)))
        revision = _until_ready(place, model, version)
    taken = now_serving
    if version == now_serving:
        taken = running.version if running else known.version if known else None
    if not told:
        place.store.set_serving(model, Serving(version, taken, _now(), "rolled back by hand"))
    if taken in (None, version):
        return f"{model} {version} serves through {revision}"
    _tell(place, contract.ModelRolledBack(model, str(taken), "rolled back by hand", version, revision=revision))
    return f"{model} {version} serves through {revision}; taken back: {taken}"


def _of_model(place: Place, model: str) -> Object:
    """The model's Service. Raises HeadraceError where there is none, or one of that name which is somebody else's."""
    service = place.service(model)
    if rollout.model_of(service) != model:
        raise HeadraceError(f"there is a Service {model} which does not serve this model, and is left as it is")
    return service


def _patch(place: Place, model: str, make: Callable[[Object], Object]) -> None:
    """Patch the Service as it is now, and bring its gRPC Service, where there is one, after it. The patch is for the
    object that was read; a controller that wrote its status in between makes it Conflict, and then it is made anew.
    """
    patched: Object | None = None
    for _ in range(TRIES):
        try:
            if patched is None:
                patched = place.cluster.patch("Service", model, make(place.service(model)))
            follow.follow(place.cluster, patched)
            return
        except Conflict:
            time.sleep(LOOK_S)
    raise HeadraceError(f"Service {model} was changed by others {TRIES} times while we tried; try again")


def _newest(place: Place, model: str) -> str:
    versions = place.store.versions(model)
    if not versions:
        raise HeadraceError(f"the store has no model {model!r}; there are: {', '.join(place.store.models()) or 'none'}")
    return versions[-1]


def _existing(place: Place, model: str, version: str) -> None:
    versions = place.store.versions(model)
    if version not in versions:
        raise HeadraceError(f"the store has no {model} {version}; there are: {', '.join(versions) or 'none'}")


def _serving(place: Place, model: str, service: Object) -> str | None:
    """The version that answers most requests, read from its Revision: the Service is the truth."""
    name = rollout.serving_revision(service)
    revision = place.cluster.get("Revision", name) if name else None
    if revision is not None:
        return rollout.version_of(revision)
    known = place.store.serving(model)
    return known.version if known else None


def _until_ready(place: Place, model: str, version: str) -> str:
    """Wait until `version` answers; the name of its Revision. Raises HeadraceError where it does not, or where somebody
    decides otherwise meanwhile.
    """
    deadline = time.monotonic() + READY_S
    with screen.progress() as bar:
        bar.add_task(f"{model} {version} becomes ready", total=None)
        while time.monotonic() < deadline:
            service = _as_meant(place.service(model), version)
            state = rollout.readiness(service)
            revision = rollout.serving_revision(service)
            if state.status == "False" and not _waits(place, service):
                raise HeadraceError(f"{model} {version} does not become ready: {state.reason}; what served goes on")
            if state.status == "True" and revision is not None:
                return revision
            time.sleep(LOOK_S)
    raise HeadraceError(f"{model} {version} was not ready within {READY_S:.0f} s; see `headrace status`")


def _as_meant(service: Object, version: str) -> Object:
    """The Service, where it is still to serve `version`. Raises HeadraceError where somebody has decided otherwise
    since: that stands, and what we would do next would undo it.
    """
    model, wanted = service["metadata"]["name"], rollout.version_of(service["spec"]["template"])
    if (running := rollout.canary_of(service)) is not None:
        raise HeadraceError(
            f"{model} {version} was put in place, but a canary of {running.version} has begun meanwhile"
        )
    if wanted != version:
        raise HeadraceError(f"{model} {version} was put in place, but meanwhile somebody else decided for {wanted}")
    return service


def _waits(place: Place, service: Object) -> bool:
    """Whether the newest Revision may yet be ready: of one that waits for a node the Service says that it failed."""
    name = rollout.newest_revision(service)
    revision = place.cluster.get("Revision", name) if name else None
    return revision is not None and rollout.readiness(revision).status != "False"


def _tell(place: Place, fact: contract.Data) -> None:
    event = sender.stamp(fact, SOURCE, id=f"by-hand-{uuid.uuid4().hex[:12]}")
    place.broker.send(event, attempts=8)  # 25 s: the Service has moved, and the fact must be told


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
