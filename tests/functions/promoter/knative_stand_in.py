"""Knative in miniature, for the promoter's tests: it makes Revisions, routes traffic, and answers for the revisions.

It stands at the process seam: the promoter talks to the laptop's real Kubernetes API, and over HTTP to what answers
under a tag. A revision answers as its version is told to: the sample rows rightly, wrongly, or with an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from headrace.local.objects.objects import Objects, set_condition
from knative import rollout
from tests.knative.local_api import NAMESPACE, LocalAPI

Object = dict[str, Any]


@dataclass
class Behaviour:
    """How the revisions of one version do."""

    ready: str = "True"
    answers: list[Any] = field(default_factory=list)
    """The predictions for the sample rows."""
    status: int = 200
    seconds: float = 0.004
    """What /metrics says a request takes."""
    requests: int = 0


class Knative:
    """Watches Services; `behaviours` maps a model version to how its revisions do, a missing one is ready and right."""

    def __init__(self) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.broken: set[tuple[str, str]] = set()
        """Service and version of revisions that never get ready, whatever `behaviours` says."""
        self.splits: dict[str, list[dict[str, int]]] = {}
        """Each split that was routed, by version, in order, of each Service."""

    @property
    def traffic(self) -> list[dict[str, int]]:
        """The splits of the model's own Service."""
        return self.splits.get("flights", [])

    def attach(self, api: LocalAPI) -> None:
        self._api = api
        api.call(api.objects.watch, lambda change, obj: self._changed(change, obj))

    def behave(self, version: str) -> Behaviour:
        return self.behaviours.setdefault(version, Behaviour())

    def settle(self) -> None:
        """Looks at every Service again, after a change of `behaviours`."""
        self._api.call(lambda: [self._reconcile(o["metadata"]["name"]) for o in self._objects.list("Service")])

    @property
    def _objects(self) -> Objects:
        return self._api.objects

    def _changed(self, change: str, obj: Object) -> None:
        if obj["kind"] == "Service" and change != "DELETED":
            self._api.loop.call_soon(self._reconcile, obj["metadata"]["name"])

    def _reconcile(self, name: str) -> None:
        service = self._objects.get("Service", NAMESPACE, name)
        if service is None:
            return
        revisions = [self._ready(revision) for revision in self._revisions(service)]
        latest_ready = next((r for r in reversed(revisions) if _ready(r) == "True"), None)
        status: Object = service.get("status") or {}
        status["observedGeneration"] = service["metadata"]["generation"]
        status["latestCreatedRevisionName"] = revisions[-1]["metadata"]["name"]
        status["address"] = {"url": f"{self._api.url}/svc/{NAMESPACE}/{name}"}
        if latest_ready is not None:
            status["latestReadyRevisionName"] = latest_ready["metadata"]["name"]
            targets = service["spec"].get("traffic") or [{"latestRevision": True, "percent": 100}]
            status["traffic"] = [self._routed(name, target, latest_ready) for target in targets]
            split = {rollout.version_of(r) or "": 0 for r in revisions}
            for target in status["traffic"]:
                split[self._version(target["revisionName"])] += target.get("percent", 0)
            split = {version: percent for version, percent in split.items() if percent}
            splits = self.splits.setdefault(name, [])
            if not splits or splits[-1] != split:
                splits.append(split)
        set_condition(
            status, "Ready", _ready(revisions[-1]), "Stand-in", "as the newest revision", now=datetime.now(UTC)
        )
        self._objects.update({**service, "status": status}, subresource="status")

    def _revisions(self, service: Object) -> list[Object]:
        """The Service's revisions, oldest first, one made for a template that has none yet."""
        name, template = service["metadata"]["name"], service["spec"]["template"]
        found = self._objects.list("Revision", NAMESPACE, {rollout.SERVICE_LABEL: name})
        if not found or found[-1]["spec"] != template["spec"]:
            made = {
                "apiVersion": "serving.knative.dev/v1",
                "kind": "Revision",
                "metadata": {
                    "name": f"{name}-{len(found) + 1:05d}",
                    "namespace": NAMESPACE,
                    "labels": {rollout.SERVICE_LABEL: name},
                },
                "spec": template["spec"],
            }
            found.append(self._objects.create(made))
        return found

    def _ready(self, revision: Object) -> Object:
        status: Object = revision.get("status") or {}
        status["observedGeneration"] = revision["metadata"]["generation"]
        version = rollout.version_of(revision) or ""
        broken = (revision["metadata"]["labels"][rollout.SERVICE_LABEL], version) in self.broken
        value = "False" if broken else self.behave(version).ready
        set_condition(status, "Ready", value, "Stand-in", "as the test says", now=datetime.now(UTC))
        return self._objects.update({**revision, "status": status}, subresource="status")

    def _routed(self, name: str, target: Object, latest_ready: Object) -> Object:
        routed = {**target, "revisionName": target.get("revisionName") or latest_ready["metadata"]["name"]}
        if tag := target.get("tag"):
            routed["url"] = f"http://{tag}-{name}.{NAMESPACE}.localhost:{urlsplit(self._api.url).port}"
        return routed

    def _version(self, revision: str) -> str:
        found = self._objects.get("Revision", NAMESPACE, revision)
        return (rollout.version_of(found) if found else None) or ""

    # The data plane: what answers under /svc/NAMESPACE/TAG-NAME/

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        _, _, _, tagged, *rest = request.path.split("/")
        tag, _, name = tagged.partition("-")
        service = self._objects.get("Service", NAMESPACE, name)
        revision = None if service is None else rollout.tagged_revision(service, tag)
        if revision is None:
            return web.Response(status=404, text="no such tag")
        version = self._version(revision)
        behaviour = self.behave(version)
        if rest == ["metrics"]:
            return web.Response(text=exposition(name, version, behaviour))
        behaviour.requests += 1
        body: Mapping[str, Any] = {"predictions": behaviour.answers} if behaviour.status == 200 else {"error": "no"}
        return web.Response(status=behaviour.status, text=json.dumps(body), content_type="application/json")


def exposition(model: str, version: str, behaviour: Behaviour) -> str:
    """What a revision's /metrics says: its counters, ten requests of others for each of the promoter's."""
    count = 10 * behaviour.requests
    outcome = "done" if behaviour.status == 200 else "failed"
    bounds = (0.001, 0.002, 0.005, 0.01, 0.1, 1.0, float("inf"))
    lines = [
        "process_start_time_seconds 1.0",
        f'headrace_model_info{{model="{model}",version="{version}",revision="r"}} 1.0',
        f'headrace_requests_total{{model="{model}",protocol="v1",outcome="{outcome}"}} {count}',
    ]
    lines += [
        f'headrace_request_duration_seconds_bucket{{model="{model}",protocol="v1",le="{bound}"}} '
        f"{count if bound >= behaviour.seconds else 0}"
        for bound in bounds
    ]
    return "\n".join(lines) + "\n"


def _ready(revision: Object) -> str:
    return str(rollout.readiness(revision).status)
