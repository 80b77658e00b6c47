"""Knative Service to Configuration and Route, and Configuration to Revisions.

Source: knative/serving pkg/reconciler/{service,configuration,gc}; the conditions' reasons and messages are theirs.
"""

from __future__ import annotations

import copy
from typing import Any

from headrace.local.controllers.controller import (
    Context,
    child_name,
    condition,
    controlled_by,
    is_controlled_by,
)
from headrace.local.objects.objects import Object, set_condition, timestamp

API_VERSION = "serving.knative.dev/v1"
PREFIX = "serving.knative.dev/"
SERVICE, CONFIGURATION = PREFIX + "service", PREFIX + "configuration"
GENERATION, REVISION = PREFIX + "configurationGeneration", PREFIX + "revision"
ROUTING_STATE, ROUTING_MODIFIED = PREFIX + "routingState", PREFIX + "routingStateModified"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"  # of the Service alone
ACTIVE, RESERVE, PENDING = "active", "reserve", "pending"
# config-gc: min-non-active-revisions. Revisions that no Route names cost nothing but a row each, and one of them is
# what a rollback goes to; Knative keeps as many whatever their age.
KEPT_REVISIONS = 20


class Services:
    """Each Service has a Configuration and a Route of its name, and says how they are."""

    def __init__(self, context: Context) -> None:
        self._objects = context.objects
        self._clock = context.clock

    def reconcile(self, namespace: str, name: str) -> float | None:
        service = self._objects.get("Service", namespace, name)
        if service is None or "deletionTimestamp" in service["metadata"]:
            return None
        spec = service["spec"]
        configuration = self._own(service, "Configuration", {"template": spec["template"]})
        route = self._own(
            service,
            "Route",
            {"traffic": [t if t.get("revisionName") else {**t, "configurationName": name} for t in spec["traffic"]]},
        )
        self._set_status(service, configuration, route)
        return None

    def _own(self, service: Object, kind: str, spec: Object) -> Object:
        """The Service's object of this kind, with this spec."""
        meta = service["metadata"]
        wanted: Object = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {
                "name": meta["name"],
                "namespace": meta["namespace"],
                "labels": {**(meta.get("labels") or {}), SERVICE: meta["name"]},
                "annotations": {k: v for k, v in (meta.get("annotations") or {}).items() if k != LAST_APPLIED},
                "ownerReferences": controlled_by(service),
            },
            "spec": spec,
        }
        found = self._objects.get(kind, meta["namespace"], meta["name"])
        if found is None:
            return self._objects.create(wanted)
        wanted["metadata"] = {**found["metadata"], **wanted["metadata"]}
        return self._objects.update({**wanted, "status": found.get("status") or {}})

    def _set_status(self, service: Object, configuration: Object, route: Object) -> None:
        status: Object = service.get("status") or {}
        now = self._clock()
        parts = {"ConfigurationsReady": configuration, "RoutesReady": route}
        conditions = {type: _observed(part) for type, part in parts.items()}
        for type, seen in conditions.items():
            set_condition(status, type, seen["status"], seen.get("reason", ""), seen.get("message", ""), now=now)
        worst = summary(list(conditions.values()))
        set_condition(status, "Ready", worst["status"], worst.get("reason", ""), worst.get("message", ""), now=now)
        for key in ("latestCreatedRevisionName", "latestReadyRevisionName"):
            if key in (configuration.get("status") or {}):
                status[key] = configuration["status"][key]
        for key in ("url", "address", "traffic"):
            if key in (route.get("status") or {}):
                status[key] = route["status"][key]
        status["observedGeneration"] = service["metadata"]["generation"]
        self._objects.update({**service, "status": status}, subresource="status")


class Configurations:
    """Each generation of a Configuration is a Revision; the newest that was ready is the one to serve."""

    def __init__(self, context: Context) -> None:
        self._objects = context.objects
        self._clock = context.clock

    def reconcile(self, namespace: str, name: str) -> float | None:
        configuration = self._objects.get("Configuration", namespace, name)
        if configuration is None or "deletionTimestamp" in configuration["metadata"]:
            return None
        revisions = [
            revision
            for revision in self._objects.list("Revision", namespace, {CONFIGURATION: name})
            if is_controlled_by(revision, configuration)
        ]
        latest, fault = self._latest(configuration, revisions)
        if latest is not None and all(r["metadata"]["uid"] != latest["metadata"]["uid"] for r in revisions):
            revisions.append(latest)
        self._set_status(configuration, latest, fault, revisions)
        self._collect(configuration, revisions)
        return None

    def _latest(self, configuration: Object, revisions: list[Object]) -> tuple[Object | None, str]:
        """The Revision of the Configuration's generation, made where it is missing; or why it cannot be made."""
        meta, template = configuration["metadata"], configuration["spec"]["template"]
        generation = str(meta["generation"])
        for revision in revisions:
            if revision["metadata"]["labels"].get(GENERATION) == generation:
                return revision, ""
        wanted = revision_of(configuration, timestamp(self._clock()))
        name = wanted["metadata"]["name"]
        taken = self._objects.get("Revision", meta["namespace"], name)
        if taken is None:
            return self._objects.create(wanted), ""
        if is_controlled_by(taken, configuration) and taken["spec"] == wanted["spec"]:
            # A name of the user's choice (or a traffic split undone): the same again is no new Revision.
            taken["metadata"]["labels"][GENERATION] = generation
            return self._objects.update(taken), ""
        asked = (template.get("metadata") or {}).get("name")
        return None, f'revisions.serving.knative.dev "{asked or name}" already exists with another spec'

    def _set_status(self, configuration: Object, latest: Object | None, fault: str, revisions: list[Object]) -> None:
        status: Object = configuration.get("status") or {}
        now = self._clock()
        self._advance_latest_ready(status, revisions)
        if latest is None:
            set_condition(status, "Ready", "False", "RevisionFailed", f"Revision creation failed: {fault}", now=now)
        else:
            name = status["latestCreatedRevisionName"] = latest["metadata"]["name"]
            of_latest = condition(latest, "Ready")
            reason = message = ""
            if of_latest["status"] == "False":
                reason = "RevisionFailed"
                message = f'Revision "{name}" failed with message: {of_latest.get("message", "")}.'
            set_condition(status, "Ready", of_latest["status"], reason, message, now=now)
        status["observedGeneration"] = configuration["metadata"]["generation"]
        self._objects.update({**configuration, "status": status}, subresource="status")

    def _advance_latest_ready(self, status: Object, revisions: list[Object]) -> None:
        """Forward only: one that was ready and now fails keeps its traffic until a newer one can take it."""
        before = [r for r in revisions if r["metadata"]["name"] == status.get("latestReadyRevisionName")]
        ready = [r for r in revisions if condition(r, "Ready")["status"] == "True"]
        if before or ready:
            status["latestReadyRevisionName"] = max(before + ready, key=generation_of)["metadata"]["name"]
        else:
            status.pop("latestReadyRevisionName", None)

    def _collect(self, configuration: Object, revisions: list[Object]) -> None:
        """Delete the oldest Revisions beyond those kept; never one that is routed to, or the latest."""
        status = configuration.get("status") or {}
        latest = {status.get("latestCreatedRevisionName"), status.get("latestReadyRevisionName")}
        spare = [
            r
            for r in revisions
            if r["metadata"]["labels"].get(ROUTING_STATE) == RESERVE and r["metadata"]["name"] not in latest
        ]
        spare.sort(key=generation_of, reverse=True)
        for revision in spare[KEPT_REVISIONS:]:
            self._objects.delete("Revision", revision["metadata"]["namespace"], revision["metadata"]["name"])


def revision_of(configuration: Object, now: str) -> Object:
    """The Revision that stands for the Configuration's present template, its one container named and probed. Pure."""
    meta, template = configuration["metadata"], configuration["spec"]["template"]
    template_meta: dict[str, Any] = template.get("metadata") or {}
    spec = copy.deepcopy(template["spec"])
    containers = spec.get("containers") or []
    for number, described in enumerate(containers):
        described.setdefault("name", "user-container" if len(containers) == 1 else f"user-container-{number}")
        if len(containers) == 1:
            described.setdefault("readinessProbe", {"successThreshold": 1, "tcpSocket": {"port": 0}})
    name = template_meta.get("name") or child_name(meta["name"], f"-{meta['generation']:05d}")
    return {
        "apiVersion": API_VERSION,
        "kind": "Revision",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": {
                **(template_meta.get("labels") or {}),
                SERVICE: (meta.get("labels") or {}).get(SERVICE, ""),
                CONFIGURATION: meta["name"],
                GENERATION: str(meta["generation"]),
                ROUTING_STATE: PENDING,
            },
            "annotations": {**(template_meta.get("annotations") or {}), ROUTING_MODIFIED: now},
            "ownerReferences": controlled_by(configuration),
        },
        "spec": spec,
    }


def generation_of(revision: Object) -> int:
    """Which generation of its Configuration a Revision is."""
    return int(revision["metadata"]["labels"].get(GENERATION, 0))


def summary(conditions: list[Object]) -> Object:
    """The condition that decides over Ready: a False one, else an Unknown one, else True."""
    for value in ("False", "Unknown"):
        for found in conditions:
            if found["status"] == value:
                return found
    return {"status": "True"}


def _observed(part: Object) -> Object:
    """The part's Ready condition, if it is about its present spec."""
    if (part.get("status") or {}).get("observedGeneration") != part["metadata"]["generation"]:
        return {"type": "Ready", "status": "Unknown"}
    return condition(part, "Ready")
