"""The laptop's JobSink: an event comes in, a Job with that event in a file comes out.

Stands for Knative's JobSink: the same URLs, statuses, names and labels, and one Job per source and id for as long as
it lives. Better in one thing: the event is whole on disk before the Job exists, and 202 is answered when both are, so a
Job without its event cannot be, whenever the platform dies. (Knative makes the Job first, and the Secret after it.)
Source: knative/eventing cmd/jobsink/main.go, pkg/apis/sinks; knative/pkg kmeta/names.go.

    POST  /jobsink/NAMESPACE/NAME                                 also /NAMESPACE/NAME, as at a cluster's job-sink
    GET   /namespaces/NAMESPACE/name/NAME/sources/SOURCE/ids/ID   the Location of the answer
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import orjson
from aiohttp import web

from headrace.local.addresses import Addresses
from headrace.local.events import conditions, ingress
from headrace.local.events.ingress import Refused
from headrace.local.events.stored_event import StoredEvent
from headrace.local.objects import objects
from knative.job_sink import ID_LABEL, NAME_LABEL, job_name

log = logging.getLogger(__name__)

EVENT_FILE = "event"
PATH_SAFE = "$&+=:@~-_."  # what Go's url.PathEscape leaves as it is


def job(job_sink: Mapping[str, Any], name: str, event_path: Path) -> dict[str, Any]:
    """The Job that a JobSink makes for an event whose file lies in the folder `event_path`.

    As Knative's, but for the owner's kind, which it writes as `jobsinks`, a kind that no API knows.
    """
    meta = job_sink["metadata"]
    made = copy.deepcopy(dict(job_sink["spec"]["job"]))
    made |= {"apiVersion": "batch/v1", "kind": "Job"}
    made.pop("status", None)
    labels = {**made.get("metadata", {}).get("labels", {}), ID_LABEL: name, NAME_LABEL: meta["name"]}
    owner = {
        "apiVersion": job_sink["apiVersion"],
        "kind": "JobSink",
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }
    made["metadata"] = {
        **made.get("metadata", {}),
        "name": name,
        "namespace": meta["namespace"],
        "labels": labels,
        "ownerReferences": [owner],
    }
    pod = made["spec"]["template"]["spec"]
    for container in [*pod.get("containers", []), *pod.get("initContainers", [])]:
        env = container.setdefault("env", [])
        if not any(variable["name"] == "K_EXECUTION_MODE" for variable in env):
            env.append({"name": "K_EXECUTION_MODE", "value": "batch"})
    for container in pod.get("containers", []):
        container["env"].append({"name": "K_EVENT_PATH", "value": str(event_path)})
    return made


def location(namespace: str, job_sink: str, source: str, id: str) -> str:
    """Where to ask what became of the event's Job."""
    namespace, job_sink, source, id = (quote(part, safe=PATH_SAFE) for part in (namespace, job_sink, source, id))
    return f"/namespaces/{namespace}/name/{job_sink}/sources/{source}/ids/{id}"


class JobSinks:
    """All JobSinks of one platform. home: the folder below which events wait for their Jobs, in `events/`."""

    def __init__(self, store: objects.Objects, home: Path, addresses: Addresses) -> None:
        self._objects = store
        self._events = home / "events"
        self._addresses = addresses
        # By namespace and name of the Job: how many requests are making it. Its folder is no leftover meanwhile.
        self._creating: Counter[tuple[str, str]] = Counter()

    async def start(self) -> None:
        """Forget events whose Job is gone, and tell every JobSink's address."""
        self._unwatch = self._objects.watch(self._changed)
        await asyncio.to_thread(self._remove_leftovers, {_key(job) for job in self._objects.list("Job")})
        for job_sink in self._objects.list("JobSink"):
            self._write_status(job_sink)

    async def stop(self) -> None:
        self._unwatch()

    async def handle(self, request: web.BaseRequest, prefix: str = "/jobsink") -> web.StreamResponse:
        """A request below `prefix`, or for a Location."""
        # The raw path: a source is one segment of it, slashes and all, as long as it is escaped.
        parts = request.raw_path.partition("?")[0].removesuffix("/").split("/")
        try:
            if request.method == "GET":
                return self._show(parts)
            if request.method != "POST":
                raise Refused(400, f"{request.method} is not for JobSinks; post an event", Allow="GET, POST")
            names = request.path.removeprefix(prefix).strip("/").split("/")
            if len(names) != 2 or not all(names):
                raise Refused(400, f"{request.path} names no JobSink; expected {prefix}/NAMESPACE/NAME")
            return await self._take(request, *names)
        except Refused as e:
            return e.response()

    async def _take(self, request: web.BaseRequest, namespace: str, name: str) -> web.Response:
        """202 with the Location once the event and its Job are on disk; also when the Job was there already."""
        event = StoredEvent.of(await ingress.read_event(request))
        job_sink = self._objects.get("JobSink", namespace, name)
        if job_sink is None:
            raise _absent(namespace, name)
        if not _runnable(job_sink):
            raise Refused(503, f'JobSink "{name}" has no spec.job to run; the event was not kept')
        made = job_name(name, event.source, event.id)
        key = (namespace, made)
        accepted = web.Response(status=202, headers={"Location": location(namespace, name, event.source, event.id)})
        if self._objects.get("Job", *key) is not None:
            return accepted
        folder = self._folder(*key)
        self._creating[key] += 1
        try:
            await asyncio.to_thread(_write_event, folder, orjson.dumps(event.json()))
            with contextlib.suppress(objects.AlreadyExists):  # the same event at the same time: one Job all the same
                self._objects.create(job(job_sink, made, folder))
        except OSError as e:
            log.error("event %s not taken: %s", event.id, e)
            raise Refused(503, f"the event was not kept: {e}; try again", Retry_After="5") from e
        except objects.ObjectError as e:
            raise Refused(500, f"the Job was not made: {e}", Reason=" ".join(str(e).split())) from e
        finally:
            self._creating[key] -= 1
            if not self._creating[key]:
                del self._creating[key]
                if self._objects.get("Job", *key) is None:
                    shutil.rmtree(folder, ignore_errors=True)
        return accepted

    def _show(self, parts: list[str]) -> web.Response:
        """What became of a Job: 202 while it runs, 200 Complete, 400 Failed; 500 for an event that has no Job."""
        if len(parts) != 9 or parts[1::2] != ["namespaces", "name", "sources", "ids"]:
            raise Refused(400, "expected /namespaces/NAMESPACE/name/JOBSINK/sources/SOURCE/ids/ID, each part escaped")
        namespace, name, source, id = (unquote(part) for part in parts[2::2])
        if self._objects.get("JobSink", namespace, name) is None:
            raise _absent(namespace, name)
        found = self._objects.get("Job", namespace, job_name(name, source, id))
        if found is None:
            raise Refused(500, f"JobSink {name} has no Job for the event {id} of {source}")
        for condition in found.get("status", {}).get("conditions", []):
            if condition["status"] == "True" and condition["type"] == "Failed":
                return web.Response(status=400, headers={"Reason": "Failed"})
            if condition["status"] == "True" and condition["type"] == "Complete":
                return web.Response(status=200, headers={"Reason": "Complete"})
        return web.Response(status=202, headers={"Location": location(namespace, name, source, id)})

    def _folder(self, namespace: str, name: str) -> Path:
        return self._events / namespace / name

    def _changed(self, change: str, obj: Mapping[str, Any]) -> None:
        if obj["kind"] == "JobSink" and change != objects.DELETED:
            asyncio.get_running_loop().call_soon(self._refresh, _key(obj))
        elif obj["kind"] == "Job" and change == objects.DELETED and _key(obj) not in self._creating:
            shutil.rmtree(self._folder(*_key(obj)), ignore_errors=True)

    def _refresh(self, key: tuple[str, str]) -> None:
        job_sink = self._objects.get("JobSink", *key)
        if job_sink is not None:
            self._write_status(job_sink)

    def _write_status(self, job_sink: dict[str, Any]) -> None:
        name = job_sink["metadata"]["name"]
        fields: dict[str, Any] = {
            "address": {"name": "http", "url": self._addresses.job_sink(*_key(job_sink))},
            "job": {"selector": f"{NAME_LABEL}={name}"},
        }
        parts = {"Addressable": conditions.TRUE, "JobRunnable": conditions.TRUE}
        if not _runnable(job_sink):
            parts["JobRunnable"] = ("False", "InvalidJob", "spec.job has no spec.template.spec.containers to run")
        status = conditions.status(job_sink, fields, parts, tuple(parts), datetime.now(UTC))
        if job_sink.get("status") != status:
            self._objects.update({**job_sink, "status": status}, subresource="status")

    def _remove_leftovers(self, living: set[tuple[str, str]]) -> None:
        """Remove the events of Jobs that went, or were never made, while the platform was down."""
        for folder in self._events.glob("*/*"):
            if (folder.parent.name, folder.name) not in living:
                shutil.rmtree(folder, ignore_errors=True)


def _absent(namespace: str, name: str) -> Refused:
    """400, as Knative answers, and final: a Trigger that is ahead of its JobSink does not send there at all."""
    return Refused(400, f'there is no JobSink "{name}" in namespace "{namespace}"')


def _key(obj: Mapping[str, Any]) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _runnable(job_sink: Mapping[str, Any]) -> bool:
    template = ((job_sink.get("spec", {}).get("job") or {}).get("spec") or {}).get("template") or {}
    return bool((template.get("spec") or {}).get("containers"))


def _write_event(folder: Path, content: bytes) -> None:
    """Write the event's file: whole or not at all, and on the disk's platter, its folder's entries too."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".event-", dir=folder)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / EVENT_FILE)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    for parent in (folder, folder.parent, folder.parent.parent):
        entries = os.open(parent, os.O_RDONLY)
        try:
            os.fsync(entries)
        finally:
            os.close(entries)
