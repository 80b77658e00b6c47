"""Knative Route: which Revisions get which share of the requests, and under which addresses.

Traffic moves only to Revisions that are ready; until then, and where a target is missing, the last good split stays.
Source: knative/serving pkg/reconciler/route (traffic/traffic.go, errors.go) and pkg/reconciler/labeler.
"""

from __future__ import annotations

from dataclasses import dataclass

from headrace.local.controllers.controller import Context, condition, controller_of
from headrace.local.controllers.services import ACTIVE, PENDING, RESERVE, ROUTING_MODIFIED, ROUTING_STATE, SERVICE
from headrace.local.objects.objects import Object, set_condition, timestamp

MISSING = "RevisionMissing"  # Knative's reason for each fault of a target


@dataclass(frozen=True, slots=True)
class Fault:
    """A target that cannot get traffic. status: False where waiting does not help, else Unknown."""

    status: str
    reason: str
    message: str


ALONE = Fault("False", "NoService", "On a laptop requests go to Services: make this Route and its Configuration one.")


class Routes:
    """Resolves each Route's traffic and labels the Revisions with whether it is routed to them."""

    def __init__(self, context: Context) -> None:
        self._objects = context.objects
        self._addresses = context.addresses
        self._clock = context.clock

    def reconcile(self, namespace: str, name: str) -> float | None:
        route = self._objects.get("Route", namespace, name)
        if route is None or "deletionTimestamp" in route["metadata"]:
            return None
        targets: list[Object] = route["spec"].get("traffic") or []
        traffic, fault = self._resolve(namespace, targets) if controller_of(route) else ([], ALONE)
        status: Object = route.get("status") or {}
        now = self._clock()
        status["url"] = self._addresses.service_host(namespace, name)
        status["address"] = {"url": self._addresses.service(namespace, name)}
        if fault is None:
            for target in traffic:
                if tag := target.get("tag"):
                    target["url"] = self._addresses.tag_host(namespace, name, tag)
            status["traffic"] = traffic
        value = "True" if fault is None else fault.status
        reason, message = ("", "") if fault is None else (fault.reason, fault.message)
        set_condition(status, "AllTrafficAssigned", value, reason, message, now=now)
        set_condition(status, "CertificateProvisioned", "True", "TLSNotEnabled", "autoTLS is not enabled", now=now)
        set_condition(status, "IngressReady", "True" if status.get("traffic") else "Unknown", now=now)
        set_condition(status, "Ready", value, reason, message, now=now)
        status["observedGeneration"] = route["metadata"]["generation"]
        self._objects.update({**route, "status": status}, subresource="status")
        self._label(namespace, name, targets, status.get("traffic") or [])
        return None

    def _resolve(self, namespace: str, targets: list[Object]) -> tuple[list[Object], Fault | None]:
        """status.traffic after spec.traffic; or the worst fault of a target."""
        traffic: list[Object] = []
        faults: list[Fault] = []
        for target in targets:
            revision_name, fault = self._revision_of(namespace, target)
            if fault is not None:
                faults.append(fault)
                continue
            resolved: Object = {"latestRevision": not target.get("revisionName"), "percent": target.get("percent", 0)}
            resolved["revisionName"] = revision_name
            if target.get("tag"):
                resolved["tag"] = target["tag"]
            traffic.append(resolved)
        faults.sort(key=lambda fault: fault.status != "False")
        return traffic, faults[0] if faults else None

    def _revision_of(self, namespace: str, target: Object) -> tuple[str, Fault | None]:
        name = target.get("revisionName")
        if not name:
            return self._latest_of(namespace, target["configurationName"])
        revision = self._objects.get("Revision", namespace, name)
        if revision is None:
            return name, Fault("False", MISSING, f'Revision "{name}" referenced in traffic not found.')
        ready = condition(revision, "Ready")["status"]
        if ready == "False":
            return name, Fault("False", MISSING, f'Revision "{name}" failed to become ready.')
        if ready != "True":
            return name, Fault("Unknown", MISSING, f'Revision "{name}" is not yet ready.')
        return name, None

    def _latest_of(self, namespace: str, name: str) -> tuple[str, Fault | None]:
        configuration = self._objects.get("Configuration", namespace, name)
        if configuration is None:
            return "", Fault(
                "False", "ConfigurationMissing", f'Configuration "{name}" referenced in traffic not found.'
            )
        latest = (configuration.get("status") or {}).get("latestReadyRevisionName")
        if latest:
            return latest, None
        if condition(configuration, "Ready")["status"] == "False":
            return "", Fault("False", MISSING, f'Configuration "{name}" does not have any ready Revision.')
        return "", Fault("Unknown", MISSING, f'Configuration "{name}" is waiting for a Revision to become ready.')

    def _label(self, namespace: str, name: str, targets: list[Object], traffic: list[Object]) -> None:
        """Tell each Revision whether it is routed to; its autoscaler keeps min-scale Pods only while it is."""
        active = {target["revisionName"] for target in traffic}
        active |= {target["revisionName"] for target in targets if target.get("revisionName")}
        configuration = self._objects.get("Configuration", namespace, name)
        latest = ((configuration or {}).get("status") or {}).get("latestCreatedRevisionName")
        if any(not target.get("revisionName") for target in targets):
            active.add(latest)  # it gets the traffic once it is ready; its min-scale is wanted before
        for revision in self._objects.list("Revision", namespace, {SERVICE: name}):
            meta = revision["metadata"]
            if meta["name"] in active:
                state = ACTIVE
            else:
                waits = meta["labels"].get(ROUTING_STATE) == PENDING and meta["name"] == latest
                state = PENDING if waits else RESERVE
            if meta["labels"].get(ROUTING_STATE) != state:
                meta["labels"][ROUTING_STATE] = state
                meta.setdefault("annotations", {})[ROUTING_MODIFIED] = timestamp(self._clock())
                self._objects.update(revision)
