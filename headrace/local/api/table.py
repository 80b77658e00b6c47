"""`kubectl get`: the columns and cells of each kind, as the real server's printers and Knative's CRDs have them.

Pure: an object and the time in, a row out. Sources: kubernetes pkg/printers/internalversion/printers.go; the
`additionalPrinterColumns` of Knative's CRDs (serving config/core/300-resources, eventing config/core/resources).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

JsonValue = dict[str, Any]
Cell = Callable[[Mapping[str, Any], datetime], Any]

NONE = "<none>"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. wide: shown with `-o wide` only."""

    name: str
    cell: Cell
    wide: bool = False
    type: str = "string"


def table(kind: str, items: Sequence[Mapping[str, Any]], meta: JsonValue, now: datetime, include: str) -> JsonValue:
    """A meta.k8s.io/v1 Table of the objects.

    meta: the list's metadata. include: what each row carries of its object: "Object", "Metadata" or "None".
    """
    columns = COLUMNS.get(kind, DEFAULT)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": [
            {
                "name": column.name,
                "type": column.type,
                "format": "name" if column.name == "Name" else "",
                "description": column.name,
                "priority": int(column.wide),
            }
            for column in columns
        ],
        "rows": [{"cells": [column.cell(item, now) for column in columns], **_object(item, include)} for item in items],
    }


def duration(span: timedelta) -> str:
    """A length of time as kubectl shows it: 45s, 3m12s, 5h3m, 2d4h. Source: apimachinery util/duration."""
    seconds = int(span.total_seconds())
    if seconds < 0:
        return "0s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    years = days // 365
    if years < 8:
        return f"{years}y{days % 365}d" if days % 365 else f"{years}y"
    return f"{years}y"


def _object(item: Mapping[str, Any], include: str) -> JsonValue:
    if include == "None":
        return {}
    if include == "Object":
        return {"object": item}
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}
    return {"object": partial}


def _at(*path: str) -> Cell:
    """The value at a path; an empty cell where there is none."""

    def cell(item: Mapping[str, Any], now: datetime) -> Any:
        value: Any = item
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return "" if value is None else value

    return cell


def _conditions(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return (item.get("status") or {}).get("conditions") or []


def _condition(type: str, field: str) -> Cell:
    def cell(item: Mapping[str, Any], now: datetime) -> Any:
        return next((condition.get(field, "") for condition in _conditions(item) if condition.get("type") == type), "")

    return cell


def _age(item: Mapping[str, Any], now: datetime) -> str:
    return duration(now - _time(item["metadata"]["creationTimestamp"]))


def _count(field: str) -> Cell:
    return lambda item, now: len(item.get(field) or ())


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _job_status(item: Mapping[str, Any], now: datetime) -> str:
    true = {condition.get("type") for condition in _conditions(item) if condition.get("status") == "True"}
    if item["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for type in ("Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if type in true:
            return type
    return "Running"


def _job_completions(item: Mapping[str, Any], now: datetime) -> str:
    spec, succeeded = item.get("spec", {}), (item.get("status") or {}).get("succeeded", 0)
    if spec.get("completions") is not None:
        return f"{succeeded}/{spec['completions']}"
    parallelism = spec.get("parallelism", 1)
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _job_selector(item: Mapping[str, Any], now: datetime) -> str:
    labels = (item["spec"].get("selector") or {}).get("matchLabels") or {}
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items())) or NONE


def _job_duration(item: Mapping[str, Any], now: datetime) -> str:
    status = item.get("status") or {}
    if "startTime" not in status:
        return ""
    end = _time(status["completionTime"]) if "completionTime" in status else now
    return duration(end - _time(status["startTime"]))


def _pod_containers(field: str) -> Cell:
    def cell(item: Mapping[str, Any], now: datetime) -> str:
        template = item["spec"].get("template", item)
        containers = (template.get("spec") or {}).get("containers") or ()
        return ",".join(str(container.get(field, "")) for container in containers) or NONE

    return cell


def _pod_ready(item: Mapping[str, Any], now: datetime) -> str:
    statuses = (item.get("status") or {}).get("containerStatuses", [])
    ready = sum(1 for status in statuses if status.get("ready"))
    return f"{ready}/{len(item['spec'].get('containers') or ())}"


def _pod_status(item: Mapping[str, Any], now: datetime) -> str:
    status = item.get("status") or {}
    shown = str(status.get("reason") or status.get("phase") or "Pending")
    for container in status.get("containerStatuses", []):
        state = container.get("state", {})
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if waiting and waiting.get("reason"):
            shown = waiting["reason"]
        elif terminated:
            shown = terminated.get("reason") or f"ExitCode:{terminated.get('exitCode')}"
    return "Terminating" if item["metadata"].get("deletionTimestamp") else shown


def _pod_restarts(item: Mapping[str, Any], now: datetime) -> str:
    return str(sum(s.get("restartCount", 0) for s in (item.get("status") or {}).get("containerStatuses", [])))


def _selector(*path: str) -> Cell:
    """The selector at a path as text. Source: apimachinery pkg/apis/meta/v1/helpers.go, FormatLabelSelector."""

    def cell(item: Mapping[str, Any], now: datetime) -> str:
        selector = _at(*path)(item, now) or {}
        parts = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
        for wanted in selector.get("matchExpressions") or ():
            key, values = wanted["key"], ",".join(sorted(wanted.get("values") or ()))
            said = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
            parts.append((key, said.get(wanted["operator"], f"!{key}")))
        return ",".join(text for _, text in sorted(parts)) or NONE

    return cell


def _event_object(item: Mapping[str, Any], now: datetime) -> str:
    involved = item.get("involvedObject") or {}
    return f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"


NAME = Column("Name", _at("metadata", "name"))
AGE = Column("Age", _age)
READY = Column("Ready", _condition("Ready", "status"))
REASON = Column("Reason", _condition("Ready", "reason"))
DEFAULT = (NAME, AGE)

COLUMNS: Mapping[str, Sequence[Column]] = {
    "Namespace": (NAME, Column("Status", _at("status", "phase")), AGE),
    "ConfigMap": (NAME, Column("Data", _count("data"), type="integer"), AGE),
    "Secret": (NAME, Column("Type", _at("type")), Column("Data", _count("data"), type="integer"), AGE),
    "ServiceAccount": (NAME, Column("Secrets", _count("secrets"), type="integer"), AGE),
    "Pod": (
        NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        Column("Restarts", _pod_restarts),
        AGE,
        Column("IP", lambda item, now: _at("status", "podIP")(item, now) or NONE, wide=True),
        Column("Node", lambda item, now: _at("spec", "nodeName")(item, now) or NONE, wide=True),
    ),
    "Event": (
        Column("Last Seen", lambda item, now: duration(now - _time(item.get("lastTimestamp") or _created(item)))),
        Column("Type", _at("type")),
        Column("Reason", _at("reason")),
        Column("Object", _event_object),
        Column("Message", _at("message")),
    ),
    "Job": (
        NAME,
        Column("Status", _job_status),
        Column("Completions", _job_completions),
        Column("Duration", _job_duration),
        AGE,
        Column("Containers", _pod_containers("name"), wide=True),
        Column("Images", _pod_containers("image"), wide=True),
        Column("Selector", _job_selector, wide=True),
    ),
    "Role": (NAME, Column("Created At", _at("metadata", "creationTimestamp"))),
    "RoleBinding": (
        NAME,
        Column("Role", lambda item, now: f"{item['roleRef'].get('kind')}/{item['roleRef'].get('name')}"),
        AGE,
    ),
    "NetworkPolicy": (NAME, Column("Pod-Selector", _selector("spec", "podSelector")), AGE),
    "PodDisruptionBudget": (
        NAME,
        Column("Min Available", lambda item, now: str((item.get("spec") or {}).get("minAvailable", "N/A"))),
        Column("Max Unavailable", lambda item, now: str((item.get("spec") or {}).get("maxUnavailable", "N/A"))),
        Column(
            "Allowed Disruptions",
            lambda item, now: (item.get("status") or {}).get("disruptionsAllowed", 0),
            type="integer",
        ),
        AGE,
    ),
    "Service": (
        NAME,
        Column("URL", _at("status", "url")),
        Column("LatestCreated", _at("status", "latestCreatedRevisionName")),
        Column("LatestReady", _at("status", "latestReadyRevisionName")),
        READY,
        REASON,
    ),
    "Configuration": (
        NAME,
        Column("LatestCreated", _at("status", "latestCreatedRevisionName")),
        Column("LatestReady", _at("status", "latestReadyRevisionName")),
        READY,
        REASON,
    ),
    "Revision": (
        NAME,
        Column("Config Name", _at("metadata", "labels", "serving.knative.dev/configuration")),
        Column("Generation", _at("metadata", "labels", "serving.knative.dev/configurationGeneration")),
        READY,
        REASON,
        Column("Actual Replicas", _at("status", "actualReplicas"), type="integer"),
        Column("Desired Replicas", _at("status", "desiredReplicas"), type="integer"),
    ),
    "Route": (NAME, Column("URL", _at("status", "url")), READY, REASON),
    "PodAutoscaler": (
        NAME,
        Column("DesiredScale", _at("status", "desiredScale"), type="integer"),
        Column("ActualScale", _at("status", "actualScale"), type="integer"),
        READY,
        REASON,
    ),
    "Broker": (NAME, Column("URL", _at("status", "address", "url")), AGE, READY, REASON),
    "Trigger": (
        NAME,
        Column("Broker", _at("spec", "broker")),
        Column("Subscriber_URI", _at("status", "subscriberUri")),
        AGE,
        READY,
        REASON,
    ),
    "JobSink": (NAME, Column("URL", _at("status", "address", "url")), AGE, READY, REASON),
    "ContainerSource": (NAME, Column("Sink", _at("status", "sinkUri")), AGE, READY, REASON),
}


def _created(item: Mapping[str, Any]) -> str:
    return str(item["metadata"]["creationTimestamp"])
