"""The gateway's journal: each request that a revision had, and each pod's start, for `headrace tune --from-local`.

    requests-*.jsonl  at_s namespace revision duration_s queued_s cold status
    pods-*.jsonl      at_s namespace revision pod cold_start_s pod_s

Times are seconds; `at_s` since the epoch: when the request arrived, when the pod was asked for. duration_s: to the end
of the answer, as the client saw it. queued_s: of that, until a pod had a place for it. cold: no pod was ready when it
came. status: HTTP's, 499 for a client that left, 101 for a WebSocket. cold_start_s: from asked for to ready, null where
it never was. A pod has a line when it is ready, with pod_s null, and one when it is gone, with all its time in pod_s.

The gateway pays one append to a list for a request; the rest happens once in `FLUSH_S`, off the event loop. What came
after the last time is lost with a kill -9.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from headrace.local import tasks
from headrace.local.gateway.request_files import FOLDER, PODS, REQUESTS
from headrace.local.gateway.rotating_lines import RotatingLines
from headrace.local.objects.objects import ADDED, DELETED, Change, Objects
from headrace.local.pods import pod_status

log = logging.getLogger(__name__)

FLUSH_S = 1.0
WAITING = 200_000  # records that a disk may lag behind by: 20 MB; more are dropped, and it is said how many
PODS_SHARE = 16  # a pod's line for so many requests' bytes; there are far fewer
REVISION_LABEL = "serving.knative.dev/revision"

# at_s, namespace, revision, duration_s, queued_s, cold, status
Request = tuple[float, str, str, float, float, bool, int]
# at_s, namespace, revision, pod, cold_start_s, pod_s
Pod = tuple[float, str, str, str, float | None, float | None]


class RequestJournal:
    """The journal of one home's platform. limit_bytes: of all its files. clock: seconds since the epoch."""

    def __init__(self, objects: Objects, home: Path, limit_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._objects = objects
        self._clock = clock
        self._files = {
            REQUESTS: RotatingLines(home / FOLDER, REQUESTS, limit_bytes - limit_bytes // PODS_SHARE),
            PODS: RotatingLines(home / FOLDER, PODS, limit_bytes // PODS_SHARE),
        }
        self._requests: list[Request] = []
        self._pods: list[Pod] = []
        self._living: dict[tuple[str, str], Pod] = {}
        self._lost = 0
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] | None = None

    async def start(self) -> None:
        """Go on where the last run stopped. Raises OSError where the folder cannot be had."""
        for file in self._files.values():
            file.open()
        self._unsubscribe = self._objects.watch_changes(self._on_change)
        self._task = asyncio.create_task(self._run(), name="request journal")

    async def stop(self) -> None:
        """Write what is left. Pods that still run end with the platform."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        await tasks.end(self._task)
        for key in list(self._living):
            self._gone(key)
        await self._flush()
        for file in self._files.values():
            file.close()

    def add(self, request: Request) -> None:
        """One request was answered, or given up."""
        if len(self._requests) < WAITING:
            self._requests.append(request)
        else:
            self._lost += 1

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            # Shielded: a stop in between must not leave half of the lines.
            await asyncio.shield(self._flush())

    async def _flush(self) -> None:
        async with self._writing:
            requests, self._requests = self._requests, []
            pods, self._pods = self._pods, []
            if self._lost:
                log.error("the journal of requests left out %d of them: the disk does not keep up", self._lost)
                self._lost = 0
            if not (requests or pods):
                return
            try:
                await asyncio.to_thread(self._write, requests, pods)
            except OSError as e:
                # The requests themselves went well; only what is told of them is lost.
                log.error("the journal of requests left out up to %d of them: %s", len(requests), e)

    def _write(self, requests: list[Request], pods: list[Pod]) -> None:
        self._files[REQUESTS].append(_request_line(request) for request in requests)
        self._files[PODS].append(_pod_line(pod) for pod in pods)

    def _on_change(self, change: Change) -> None:
        if change.kind != "Pod":
            return
        obj = change.object()
        revision = (obj["metadata"].get("labels") or {}).get(REVISION_LABEL)
        if revision is None:
            return
        key, now = (change.namespace, change.name), self._clock()
        if change.type == ADDED:
            self._living[key] = (now, change.namespace, revision, change.name, None, None)
        elif key not in self._living:
            return  # a pod of the run before: when it was asked for is known to the second only
        elif change.type == DELETED:
            self._gone(key)
        elif self._living[key][4] is None and pod_status.is_ready(obj):
            at_s = self._living[key][0]
            self._living[key] = ready = (at_s, change.namespace, revision, change.name, now - at_s, None)
            self._pods.append(ready)

    def _gone(self, key: tuple[str, str]) -> None:
        at_s, namespace, revision, name, cold_start_s, _ = self._living.pop(key)
        self._pods.append((at_s, namespace, revision, name, cold_start_s, self._clock() - at_s))


def _request_line(request: Request) -> bytes:
    at_s, namespace, revision, duration_s, queued_s, cold, status = request
    line = {
        "at_s": round(at_s, 6),
        "namespace": namespace,
        "revision": revision,
        "duration_s": round(duration_s, 6),
        "queued_s": round(queued_s, 6),
        "cold": cold,
        "status": status,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _pod_line(pod: Pod) -> bytes:
    at_s, namespace, revision, name, cold_start_s, pod_s = pod
    line = {
        "at_s": round(at_s, 6),
        "namespace": namespace,
        "revision": revision,
        "pod": name,
        "cold_start_s": None if cold_start_s is None else round(cold_start_s, 6),
        "pod_s": None if pod_s is None else round(pod_s, 6),
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
