"""`headrace undeploy`: what Headrace made goes, data and what is other people's stays.

What is ours `.ownership` says. Claims, secrets and stores are never asked for. Called by the command.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace import manifests
from headrace.deploy import causes, deployment, ownership
from headrace.deploy.causes import Cause
from headrace.deploy.deployment import POLL_S, Tell
from knative.client import Cluster, ClusterError, NotFound

Object = dict[str, Any]

# What Kubernetes and meshes put into every namespace, and what tells of the past.
FURNITURE = frozenset(
    {("ConfigMap", "kube-root-ca.crt"), ("ConfigMap", "istio-ca-root-cert"), ("ServiceAccount", "default")}
)
KINDS = tuple(kind for kind in reversed(manifests.ORDER) if kind not in ("Secret", "Namespace"))
"""What is removed, in this order: nothing is sent to what has gone."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was, or would be, done; names with their kinds."""

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    """With the reason."""
    causes: tuple[Cause, ...]


def undeploy(cluster: Cluster, dry_run: bool, timeout_s: float, tell: Tell) -> Report:
    """Remove from the namespace of `cluster` what is ours, and the namespace itself if then nothing is left in it."""
    namespace = deployment.namespace(cluster)
    there = [obj for kind in KINDS for obj in _listed(cluster, kind)] if namespace else []
    # A platform that nobody deployed, a laptop's, has a promoter too.
    deployed = any(map(ownership.ours, there)) or (namespace is not None and ownership.ours(namespace))
    found = [obj for obj in there if ownership.ours(obj) or (deployed and ownership.made_for_a_model(obj))]
    kept = [
        f"{causes.label(obj)}: {', '.join(ownership.others(obj))} applies it too"
        for obj in found
        if ownership.others(obj)
    ]
    going = [obj for obj in found if not ownership.others(obj)]
    going = _with_jobs(cluster, going, there, deployed)
    faults: list[Cause] = []
    removed: list[str] = []
    for done, obj in enumerate(going):
        tell(f"removing {causes.label(obj)}", done, len(going))
        try:
            if not dry_run:
                cluster.delete(obj["kind"], obj["metadata"]["name"])
            removed.append(causes.label(obj))
        except NotFound:
            pass  # somebody was quicker
        except ClusterError as e:
            faults.append(causes.of_error(obj, e))
    if namespace and ownership.ours(namespace) and not faults:
        reason = _why_kept(cluster, namespace, going if dry_run else None, timeout_s, tell)
        if reason:
            kept.append(f"{causes.label(namespace)}: {reason}")
        else:
            try:
                if not dry_run:
                    cluster.delete("Namespace", cluster.namespace)
                removed.append(causes.label(namespace))
            except ClusterError as e:
                faults.append(causes.of_error(namespace, e))
    return Report(tuple(removed), tuple(kept), tuple(faults))


def _with_jobs(cluster: Cluster, going: list[Object], there: Sequence[Object], deployed: bool) -> list[Object]:
    """What goes, and behind the JobSinks, which make them, their Jobs.

    A cluster leaves them behind: Knative names their owner by a kind that Kubernetes does not know. Those of a JobSink
    of ours that is no longer there are left of an undeploy that was interrupted.
    """
    sinks = {obj["metadata"]["name"] for obj in going if obj["kind"] == "JobSink"}
    if deployed:
        left = {obj["metadata"]["name"] for obj in there if obj["kind"] == "JobSink"}
        sinks |= {obj["metadata"]["name"] for obj in manifests.read() if obj["kind"] == "JobSink"} - left
    jobs = [job for job in (_listed(cluster, "Job") if sinks else []) if ownership.made_of_an_event(job, sinks)]
    behind = KINDS.index("JobSink")
    return sorted([*going, *jobs], key=lambda obj: behind if obj["kind"] == "Job" else KINDS.index(obj["kind"]))


def _listed(cluster: Cluster, kind: str) -> list[Object]:
    try:
        return cluster.list(kind)
    except NotFound:  # a cluster without that part of Knative
        return []


def _why_kept(cluster: Cluster, namespace: Object, going: Sequence[Object] | None, timeout_s: float, tell: Tell) -> str:
    """Why the namespace stays; "" when it may go.

    going: what a dry run would have removed; None: it was removed, and with what it owns is waited for to be gone.
    """
    if ownership.others(namespace):
        return f"{', '.join(ownership.others(namespace))} applies it too"
    ends = time.monotonic() + (timeout_s if going is None else 0)
    gone = {causes.label(obj) for obj in going or ()}
    while True:
        try:
            there = [obj for obj in cluster.contents() if not _is_furniture(obj)]
        except ClusterError as e:
            return f"what else is in it could not be looked at ({e})"
        if going is not None:  # what has an owner goes with it
            there = [o for o in there if causes.label(o) not in gone and not o["metadata"].get("ownerReferences")]
        left = sorted(set(map(causes.label, there)))
        if not left:
            return ""
        if time.monotonic() >= ends:
            return f"in it are {_some(left)}"
        tell(f"waiting for {left[0]} to go", 0, 1)
        time.sleep(POLL_S)


def _is_furniture(obj: Object) -> bool:
    return obj["kind"] == "Event" or (obj["kind"], obj["metadata"]["name"]) in FURNITURE


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
