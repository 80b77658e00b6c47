"""The two streams of the laptop's Kubernetes API: watches of objects, and the logs of pods.

A watch sleeps until something is written, then takes what is new from the store's history: no queue grows behind a slow
reader, who is told 410 Gone instead, as by a real server. Only `kubectl logs -f` polls, while it runs.
Source: kubernetes.io/docs/reference/using-api/api-concepts (watch, bookmarks), kubernetes/apiserver
pkg/endpoints/handlers/watch.go; kubelet's logs.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from headrace.local.api import table
from headrace.local.api.api_request import BadRequest, Selector, Target
from headrace.local.objects import objects
from headrace.local.objects.object_errors import Expired, Invalid, ObjectError

Object = dict[str, Any]
Send = Callable[[str, Object], Any]

BOOKMARK_S = 60.0  # as often as a real server; also how soon a watcher that hung up is noticed
WATCH_S = 1800.0  # a real server's least: min-request-timeout
FOLLOW_S = 0.25  # how often a followed log is looked at
BLOCK_BYTES = 64 * 1024


async def watch(
    request: web.BaseRequest,
    store: objects.Objects,
    target: Target,
    selector: Selector,
    stopping: asyncio.Event,
    present: Callable[[Object], Object],
) -> web.StreamResponse:
    """Answer with one JSON line per change, until the client, its timeout or the platform ends it.

    present: an object as the client asked for it (itself, or a one-row Table).
    """
    query = request.query
    since = query.get("resourceVersion", "")
    if since and not since.isdecimal():
        raise BadRequest(f"invalid resource version {since!r}: expected a number")
    seen = int(since) if since not in ("", "0") else store.resource_version
    initial = since in ("", "0") or query.get("sendInitialEvents") == "true"
    if not initial:
        store.changes_since(seen)  # too old a start is an answer of its own, not an event of a stream
    elif since not in ("", "0"):
        seen = store.resource_version
    kind = target.kind.kind
    first = [obj for obj in store.list(kind, target.namespace) if _selects(target, selector, obj)] if initial else []
    changed = asyncio.Event()
    unsubscribe = store.watch_changes(lambda change: changed.set())
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-cache"})
    try:
        await response.prepare(request)

        async def send(type: str, obj: Object) -> None:
            await response.write(orjson.dumps({"type": type, "object": obj}) + b"\n")

        for obj in first:
            await send(objects.ADDED, present(obj))
        if query.get("sendInitialEvents") == "true":
            await send("BOOKMARK", _bookmark(target, seen, {"k8s.io/initial-events-end": "true"}))
        bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        ends = time.monotonic() + _seconds(query.get("timeoutSeconds"))
        while (left := ends - time.monotonic()) > 0 and not stopping.is_set():
            changed.clear()
            for change in store.changes_since(seen):
                seen = change.resource_version
                if change.kind == kind:
                    for type, obj in _seen_through(target, selector, change):
                        await send(type, present(obj))
            if changed.is_set():
                continue
            if not await _either(changed, stopping, min(left, BOOKMARK_S)):
                if request.transport is None or request.transport.is_closing():
                    break
                if bookmarks:
                    await send("BOOKMARK", _bookmark(target, seen, {}))
    except Expired as e:
        if not response.prepared:
            raise
        await response.write(orjson.dumps({"type": "ERROR", "object": status_of(e)}) + b"\n")
    except ConnectionResetError:
        pass  # the reader went away: nothing is left to be told to anyone
    finally:
        unsubscribe()
    return response


async def follow_log(
    request: web.BaseRequest, store: objects.Objects, target: Target, log: Path | None, stopping: asyncio.Event
) -> web.StreamResponse:
    """Answer with a pod's log: its end (`tailLines`, `limitBytes`), and what is added while it runs (`follow`).

    The lines are as the process wrote them, without a time each: `timestamps` is refused, and `sinceSeconds` gives all
    or, when nothing was written since, nothing. One file holds what all of a pod's containers and restarts said.
    """
    query = request.query
    if query.get("timestamps") == "true":
        raise BadRequest("timestamps are not kept in the logs of this platform; let the process write them")
    follow = query.get("follow") == "true"
    namespace, name = target.namespace or "", target.name or ""
    pod = store.get("Pod", namespace, name)
    if not follow and (log is None or not log.exists()) and _phase(pod) == "Pending":
        container = ((pod or {}).get("spec", {}).get("containers") or [{}])[0].get("name", "")
        raise BadRequest(f'container "{container}" in pod "{name}" is waiting to start: ContainerCreating')
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    place = 0 if log is None else _start(log, query)
    limit = int(query["limitBytes"]) if query.get("limitBytes", "").isdecimal() else None
    try:
        while True:
            # Looked at before the read: what was written before the end is then surely in it.
            over = not follow or stopping.is_set() or _phase(store.get("Pod", namespace, name)) in _ENDED
            while log is not None and (block := _read(log, place)):
                place += len(block)
                await response.write(block if limit is None else block[:limit])
                if limit is not None:
                    limit -= min(limit, len(block))
                    over = over or limit == 0
            if over or request.transport is None or request.transport.is_closing():
                break
            await asyncio.sleep(FOLLOW_S)
            if log is not None and log.exists() and log.stat().st_size < place:
                place = log.stat().st_size  # it was cut short: go on at its new end
    except ConnectionResetError:
        pass  # the reader went away
    return response


def status_of(error: ObjectError, target: Target | None = None) -> Object:
    """The Status object of a refusal."""
    details: Object = {}
    # Without details kubectl prints the message of what is invalid, with them the causes alone.
    if target is not None and (error.causes or not isinstance(error, Invalid)):
        # Of a refused object kubectl names the kind, of a missing one the resource.
        name, kind = target.name, target.kind.plural
        if isinstance(error, Invalid):
            name, kind = error.name, target.kind.kind
        about = {"name": name, "group": target.kind.group, "kind": kind}
        details = {key: value for key, value in about.items() if value}
    if error.causes:
        details["causes"] = list(error.causes)
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": error.message,
        "reason": error.reason,
        **({"details": details} if details else {}),
        "code": error.status_code,
    }


def as_rows(kind: str, include: str, clock: Callable[[], datetime]) -> Callable[[Object], Object]:
    """Each object of a watch as a Table of one row, for `kubectl get -w`."""

    def present(obj: Object) -> Object:
        version = obj["metadata"].get("resourceVersion", "")
        return table.table(kind, [obj], {"resourceVersion": version}, clock(), include)

    return present


_ENDED = frozenset({"Succeeded", "Failed", "Gone"})


def _phase(pod: Object | None) -> str:
    return "Gone" if pod is None else str((pod.get("status") or {}).get("phase", "Pending"))


def _selects(target: Target, selector: Selector, obj: Object) -> bool:
    meta = obj["metadata"]
    return (
        (target.namespace is None or meta.get("namespace") == target.namespace)
        and (target.name is None or meta["name"] == target.name)
        and selector.matches(obj)
    )


def _seen_through(target: Target, selector: Selector, change: objects.Change) -> list[tuple[str, Object]]:
    """The change as it looks to who sees only what is selected: an object may come into view or leave it."""
    obj = change.object()
    now = _selects(target, selector, obj) and change.type != objects.DELETED
    before = change.previous is not None and _selects(target, selector, orjson.loads(change.previous))
    if now:
        return [(objects.MODIFIED if before else objects.ADDED, obj)]
    return [(objects.DELETED, obj)] if before else []


def _bookmark(target: Target, seen: int, annotations: Mapping[str, str]) -> Object:
    meta: Object = {"resourceVersion": str(seen), "creationTimestamp": None}
    if annotations:
        meta["annotations"] = dict(annotations)
    return {"kind": target.kind.kind, "apiVersion": target.kind.api_version, "metadata": meta}


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isdecimal() and text != "0" else WATCH_S


async def _either(one: asyncio.Event, other: asyncio.Event, timeout_s: float) -> bool:
    """Wait until one of two events is set; False after `timeout_s`."""
    waits = [asyncio.ensure_future(one.wait()), asyncio.ensure_future(other.wait())]
    try:
        done, _ = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return bool(done)


def _read(log: Path, place: int) -> bytes:
    try:
        with log.open("rb") as f:
            f.seek(place)
            return f.read(BLOCK_BYTES)
    except FileNotFoundError:
        return b""


def _start(log: Path, query: Mapping[str, str]) -> int:
    """Where in the file the answer begins."""
    try:
        size, written = log.stat().st_size, log.stat().st_mtime
    except FileNotFoundError:
        return 0
    if query.get("sinceSeconds", "").isdecimal() and time.time() - written > int(query["sinceSeconds"]):
        return size
    if not query.get("tailLines", "").isdecimal():
        return 0
    return _tail(log, size, int(query["tailLines"]))


def _tail(log: Path, size: int, lines: int) -> int:
    """Where the last `lines` lines begin, found from the end: a log may be large."""
    if lines == 0:
        return size
    with log.open("rb") as f:
        place, wanted = size, lines
        while place > 0:
            start = max(0, place - BLOCK_BYTES)
            f.seek(start, io.SEEK_SET)
            block = f.read(place - start)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                if start + at == size - 1:  # the newline that ends the file begins no line
                    continue
                wanted -= 1
                if wanted == 0:
                    return start + at + 1
            place = start
    return 0
