"""`headrace deploy`: judge everything by a dry run, apply it, wait until it is Ready, say what is wrong.

Nothing is applied while one object would be refused: the whole is judged first, and every fault is named at once. Each
step may be repeated: an apply that was done already changes nothing. Called by the command; decisions are in `.plan`,
`.difference` and `.causes`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from eventing.errors import HeadraceError
from headrace import config, pods, status
from headrace.deploy import causes, difference, notes, ownership, plan
from headrace.deploy.causes import Cause
from headrace.deploy.difference import Change, Difference
from knative import rollout
from knative.client import Cluster, ClusterError, Conflict, NotFound, Refused, Unreachable
from knative.pods import SOURCE_LABEL

Object = dict[str, Any]

POLL_S = 1.0
RESTART_S = 60.0  # an API server, or a webhook's pod, that restarts is back within this

T = TypeVar("T")


Tell = Callable[[str, int, int], None]
"""Progress: a sentence, how many of how many are done."""


@dataclass(frozen=True, slots=True)
class Options:
    """How it is done."""

    dry_run: bool = False
    force_conflicts: bool = False
    timeout_s: float = 300.0
    """For all parts together to become Ready, from the first apply on."""
    final_s: float = 15.0
    """What nobody but a person can heal ends the waiting after so long: a condition may be of the state before."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was, or would be, done."""

    differences: tuple[Difference, ...]
    ready: Mapping[str, bool]
    """Of what has a Ready condition, by kind and name; empty for a dry run."""
    causes: tuple[Cause, ...]
    """What is wrong; empty when all is well."""
    notes: tuple[str, ...] = ()
    """What is worth knowing besides."""
    unjudged: bool = False
    """The namespace is not there yet, so that the server could not judge what would be in it."""
    applied: tuple[str, ...] = ()
    """What was written, by kind and name: nothing in a dry run, or while something is refused."""


def deploy(cluster: Cluster, objects: Sequence[Object], options: Options, tell: Tell) -> Report:
    """Apply `objects`, in their order, to the namespace of `cluster`, as far as `options` say.

    Raises Unreachable where the API server does not answer at the start.
    """
    missing = [kind for kind in dict.fromkeys(obj["kind"] for obj in objects) if not cluster.serves(kind)]
    if missing:
        return Report((), {}, tuple(causes.of_missing(missing)))
    ends = time.monotonic() + options.timeout_s
    there = namespace(cluster)
    if there is not None and _is_going(there):
        there = _when_gone(cluster, "Namespace", cluster.namespace, 0.0 if options.dry_run else ends, _at(tell, 0, 1))
        if there is not None:
            return Report((), {}, (causes.of_going(there),))
    new = there is None
    if there is not None and not ownership.ours(there):
        # It is somebody's: `undeploy` must not take it for ours, so that it is not even labelled.
        objects = [obj for obj in objects if obj["kind"] != "Namespace"]
    first = [obj for obj in objects if new and obj["kind"] == "Namespace"]
    judged, faults = _judge(cluster, first or objects, options, ends, tell)
    if faults or options.dry_run:
        others = [o for o in objects if o not in first] if first else []
        unjudged = tuple(difference.difference(None, obj) for obj in others)
        return Report((*judged, *unjudged), {}, tuple(faults), unjudged=bool(unjudged))
    applied: list[str] = []
    if first:
        # Only now can the server judge what is to be in it.
        faults = _apply(cluster, first, options, ends, tell, applied)
        more, wrong = _judge(cluster, [o for o in objects if o not in first], options, ends, tell)
        judged, faults = [*judged, *more], [*faults, *wrong]
    if not faults:
        faults = _apply(cluster, [o for o in objects if o not in first], options, ends, tell, applied)
    if faults:
        return Report(tuple(judged), {}, tuple(faults), applied=tuple(applied))
    ready, wrong = _wait(cluster, objects, options, ends, tell)
    try:
        wrong = wrong or _overridden(cluster, objects)
        told = tuple(_notes(cluster, objects, ready))
    except Unreachable:  # all is done, and these are by the way
        told = ()
    return Report(tuple(judged), ready, tuple(wrong), told, applied=tuple(applied))


def deployed_store(cluster: Cluster) -> dict[str, str]:
    """What an earlier deploy has set of the store and where it is, by keys of the ConfigMap; empty: there was none."""
    found = cluster.get("ConfigMap", config.CONFIG_MAP)
    data = found.get("data") if found is not None and ownership.ours(found) else None
    return {key: data[key] for key in plan.OF_THE_STORE if key in data} if data else {}


def remove(cluster: Cluster, kind: str, name: str, dry_run: bool) -> list[Difference]:
    """Take away an object of ours that is no longer wanted; none where it is not there, or somebody else's."""
    found = cluster.get(kind, name)
    if found is None or not ownership.ours(found):
        return []
    if not dry_run:
        cluster.delete(kind, name)
    return [Difference(kind, name, Change.removed)]


def namespace(cluster: Cluster) -> Object | None:
    """The namespace; one without a label where it may not be read, which who has rights in it alone may not."""
    try:
        return cluster.get("Namespace", cluster.namespace)
    except Refused:
        return {"kind": "Namespace", "metadata": {"name": cluster.namespace}}


def _judge(
    cluster: Cluster, objects: Sequence[Object], options: Options, ends: float, tell: Tell
) -> tuple[list[Difference], list[Cause]]:
    """What the server would make of each object, and why it would refuse which."""
    found: list[Difference] = []
    faults: list[Cause] = []
    for done, obj in enumerate(objects):
        step = _at(tell, done, len(objects))
        step(f"judging {causes.label(obj)}")
        until = min(ends, time.monotonic() + RESTART_S) if not faults else 0.0
        try:
            before = _patiently(functools.partial(cluster.get, obj["kind"], obj["metadata"]["name"]), until, step)
            if before is not None and _is_going(before):
                before = _when_gone(cluster, obj["kind"], obj["metadata"]["name"], until, step)
                if before is not None:
                    faults.append(causes.of_going(before))
                    continue
            if before is not None and not ownership.labelled(before) and not options.force_conflicts:
                faults.append(causes.of_stranger(before))
                continue
            after = _patiently(_applying(cluster, obj, options, dry_run=True), until, step)
        except ClusterError as e:
            faults.append(causes.of_error(obj, e))
        else:
            found.append(difference.difference(before, after))
    return found, faults


def _apply(
    cluster: Cluster, objects: Sequence[Object], options: Options, ends: float, tell: Tell, applied: list[str]
) -> list[Cause]:
    """Apply each, and note it in `applied`; what follows a refused one is left alone."""
    for done, obj in enumerate(objects):
        step = _at(tell, done, len(objects))
        step(f"applying {causes.label(obj)}")
        try:
            _patiently(_applying(cluster, obj, options), ends, step)
        except ClusterError as e:
            return [causes.of_error(obj, e)]
        applied.append(causes.label(obj))
    return []


def _applying(cluster: Cluster, obj: Object, options: Options, dry_run: bool = False) -> Callable[[], Object]:
    return functools.partial(
        cluster.apply, obj, ownership.FIELD_MANAGER, force=options.force_conflicts, dry_run=dry_run
    )


def _at(tell: Tell, done: int, total: int) -> Callable[[str], None]:
    return lambda what: tell(what, done, total)


def _patiently(call: Callable[[], T], ends: float, tell: Callable[[str], None]) -> T:
    """What `call` gives. A server or webhook that is away, or somebody who was quicker, is met by asking again until
    `ends`, a time of the monotonic clock: every call here may be repeated.
    """
    while True:
        try:
            return call()
        except (Unreachable, Conflict) as e:
            if time.monotonic() > ends or (isinstance(e, Conflict) and e.fields):
                raise
            tell(f"asking again: {e}")
            time.sleep(POLL_S)


def _is_going(obj: Object) -> bool:
    """Whether it has been deleted and is on its way out: what is applied to it goes with it."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def _when_gone(cluster: Cluster, kind: str, name: str, ends: float, tell: Callable[[str], None]) -> Object | None:
    """None once an object that is going has gone, or another of its name has come; the object where it still is there
    at `ends`, a time of the monotonic clock.
    """
    while True:
        found = _patiently(functools.partial(cluster.get, kind, name), ends, tell)
        if found is None or not _is_going(found):
            return None
        if time.monotonic() >= ends:
            return found
        tell(f"waiting for {kind} {name} to go, which is being removed")
        time.sleep(POLL_S)


def is_ready(obj: Object) -> bool:
    """Whether the object's controller says Ready of the object as it is now, not of an earlier one."""
    seen = (obj.get("status") or {}).get("observedGeneration", 0)
    current = seen >= obj["metadata"].get("generation", 0)
    return bool(current and status.condition(obj, "Ready").get("status") == "True")


def is_hopeless(found: Sequence[Cause]) -> bool:
    """Whether waiting changes nothing: all is final but what comes of it."""
    roots = [cause for cause in found if not cause.follows]
    return bool(roots) and all(cause.final for cause in roots)


def _wait(
    cluster: Cluster, objects: Sequence[Object], options: Options, ends: float, tell: Tell
) -> tuple[dict[str, bool], list[Cause]]:
    """Until all parts are Ready, the time is over, or what is missing will not come by waiting."""
    wanted = [causes.label(obj) for obj in objects if obj["kind"] in status.CONDITIONED]
    hopeless_since: float | None = None
    while True:
        now = time.monotonic()
        try:
            live = _live(cluster, set(wanted))
            ready = {name: name in live and is_ready(live[name]) for name in wanted}
            if all(ready.values()):
                return ready, []
            told = _told(cluster, live)
            wrong = [_cause(name, live.get(name), told) for name in wanted if not ready[name]]
        except Unreachable as e:
            ready, wrong = dict.fromkeys(wanted, False), [Cause("cluster", str(e))]
        hopeless_since = (hopeless_since or now) if is_hopeless(wrong) else None
        if now > ends or (hopeless_since is not None and now - hopeless_since > options.final_s):
            return ready, wrong
        tell(f"waiting for {wrong[0]}", sum(ready.values()), len(wanted))
        time.sleep(POLL_S)


def _live(cluster: Cluster, wanted: set[str]) -> dict[str, Object]:
    found = (obj for kind in status.CONDITIONED for obj in cluster.list(kind))
    return {causes.label(obj): obj for obj in found if causes.label(obj) in wanted}


def _cause(name: str, live: Object | None, told: Mapping[str, Sequence[str]]) -> Cause:
    if live is None:
        return Cause(name, "it has been removed by somebody", "deploy again", final=True)
    generation = live["metadata"].get("generation", 0)
    if (live.get("status") or {}).get("observedGeneration", generation) < generation:
        return Cause(name, "its controller has not looked yet at what was applied")
    return causes.of_part(live, told.get(name, ()))


def _told(cluster: Cluster, live: Mapping[str, Object]) -> dict[str, list[str]]:
    """What revisions and pods say, by the object that they are made for; only of what is made for it as it is now.

    live: the objects, as they are. Pods of a Service carry its name as a label; of a ContainerSource its own.
    """
    found: dict[str, list[str]] = {}
    newest = {name: rollout.newest_revision(obj) for name, obj in live.items() if obj["kind"] == "Service"}
    for revision in _shown(cluster, "Revision"):
        made_for = f"Service {(revision['metadata'].get('labels') or {}).get(rollout.SERVICE_LABEL)}"
        if newest.get(made_for) != revision["metadata"]["name"]:
            continue  # one of an earlier deployment, whose fault may just have been mended
        for condition in (revision.get("status") or {}).get("conditions") or ():
            if condition.get("status") == "False":
                text = ": ".join(str(t) for t in (condition.get("reason"), condition.get("message")) if t)
                found.setdefault(made_for, []).insert(0, text)
    for pod in _shown(cluster, "Pod"):
        labels = pod["metadata"].get("labels") or {}
        service, source = labels.get(rollout.SERVICE_LABEL), labels.get(SOURCE_LABEL)
        name = f"Service {service}" if service else f"ContainerSource {source}" if source else None
        if name and (not service or newest.get(name) == labels.get(rollout.REVISION_LABEL)):
            found.setdefault(name, []).extend(pods.said_by(pod))
    return found


def _shown(cluster: Cluster, kind: str) -> list[Object]:
    """All of a kind; none where they may not be looked at, for they only explain."""
    try:
        return cluster.list(kind)
    except (Refused, NotFound):
        return []


def _overridden(cluster: Cluster, objects: Sequence[Object]) -> list[Cause]:
    """Whether somebody else has deployed in the meantime: of two at once each has applied some objects last."""
    (wanted,) = (o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"] == config.CONFIG_MAP)
    found = (cluster.get("ConfigMap", config.CONFIG_MAP) or {}).get("data") or {}
    other = sorted(key for key, value in wanted["data"].items() if found.get(key) != value)
    if not other:
        return []
    what = f"somebody else has deployed meanwhile, with another {', '.join(other)}"
    return [Cause(causes.label(wanted), what, "deploy again, one after the other", final=True)]


def _notes(cluster: Cluster, objects: Sequence[Object], ready: Mapping[str, bool]) -> Iterator[str]:
    broker = cluster.get("Broker", config.BROKER) if ready.get(f"Broker {config.BROKER}") else None
    return notes.of(objects, broker, cluster.get("Service", "promoter"))


class NotDeployed(HeadraceError):
    """Something is wrong; each cause on a line."""

    def __init__(self, found: Sequence[Cause]) -> None:
        super().__init__("\n".join(map(str, found)))
