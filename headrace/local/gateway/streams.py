"""Services that speak HTTP/2 alone, such as gRPC's, through the gateway: each stream to a pod of the right revision.

Called by the platform's door with the connections that begin as HTTP/2's do. Routes, shares, tags, queues, the way up
from zero and the figures are the gateway's own, by request as for HTTP/1.1: two calls on one connection may go to two
revisions. A stream's parts go on as they come, in both directions, trailers included.

Asking another pod: only where a pod takes no connection. A pod that refuses a stream tells the client so, and gRPC
clients then ask again by themselves.
Source: github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md and doc/http-grpc-status-mapping.md; RFC 9113 section 8.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from h2.errors import ErrorCodes
from multidict import CIMultiDict

from headrace.local.gateway import routing
from headrace.local.gateway.answered import Answered
from headrace.local.gateway.gateway import DRAIN_S, MAX_TRIES, REFUSED_S, Gateway
from headrace.local.gateway.proxy import HOP_BY_HOP
from headrace.local.gateway.revision_queue import Unavailable
from headrace.local.gateway.revisions import Counted, Refusal, Revision
from headrace.local.http1 import CLIENT_GONE
from headrace.local.http2.client import Pool
from headrace.local.http2.connection import Connection, Fields, Part, Stream, StreamLost

if TYPE_CHECKING:
    from headrace.local.pods.process import Endpoint

log = logging.getLogger(__name__)

GRPC = "application/grpc"
# What gRPC says where a proxy on the way says this; everything else is UNKNOWN, 2.
GRPC_STATUSES = {404: 12, 502: 14, 503: 14, 504: 14}
MESSAGE = "".join(chr(c) for c in range(0x20, 0x7F) if c != ord("%"))  # what grpc-message holds as it is


class Streams:
    """The gateway's HTTP/2 side. clock: monotonic seconds, the gateway's."""

    def __init__(self, gateway: Gateway, clock: Callable[[], float] = time.monotonic) -> None:
        self._gateway = gateway
        self._clock = clock
        self._pods = Pool()
        self._clients: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Nothing is needed before the first connection."""

    async def stop(self) -> None:
        """Let what is in flight end within `DRAIN_S`, then break it off."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=DRAIN_S)
        for connection in list(self._clients):
            connection.close()
        self._pods.close()

    def protocol(self) -> Connection:
        """For a client's new connection."""
        connection = Connection(self._begin, self._clients.discard)
        self._clients.add(connection)
        return connection

    def _begin(self, stream: Stream) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(stream), name=f"gateway: stream {stream.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        stream.on_lost = task.cancel  # wherever it waits just then: nobody does any more

    async def _serve(self, front: Stream) -> None:
        """One stream, from its head to its end."""
        try:
            head = await front.take()
            fields = CIMultiDict(head.fields or ())
            try:
                await self._answer(front, head, fields)
            except Refusal as e:
                await _refuse(front, fields, e)
        except StreamLost as e:
            log.debug("a stream ended early: %s", e)
            front.close(e.code)
        except Exception:
            log.exception("a stream failed")
            front.close(ErrorCodes.INTERNAL_ERROR)
        finally:
            # The whole answer is out: what the client has still to say is not wanted, and that is no error.
            front.close(ErrorCodes.NO_ERROR)

    async def _answer(self, front: Stream, head: Part, fields: CIMultiDict[str]) -> None:
        """A pod's answer, counted. Raises Refusal before anything of it went out, StreamLost afterwards."""
        host, path = fields.get(":authority", ""), fields.get(":path", "")
        named = not host.partition(":")[0].replace(".", "").isdigit()  # 127.0.0.1 is no NAME.NAMESPACE
        address = routing.by_path(path) or (routing.by_host(host, path) if named else None)
        if address is None:
            raise Refusal(404, f"no Service is called by the authority {host!r}; expected NAME.NAMESPACE.localhost")
        revision = self._gateway.choose(address, fields)
        if not revision.h2c:
            raise Refusal(502, f"Service {address.label!r} takes HTTP/1.1: its port is not h2c")
        with self._gateway.counted(revision) as counted:
            try:
                async with asyncio.timeout(revision.limits.start_s) as deadline:
                    await self._try_pods(front, _onward(head, address.path), revision, deadline, counted)
                return
            except Unavailable as e:
                refusal = Refusal(503, f"revision {revision.name!r}: {e}", after_s=e.after_s)
            except OSError as e:
                # asyncio.timeout's TimeoutError is an OSError too.
                if isinstance(e, TimeoutError) and deadline.expired():
                    limits = revision.limits
                    refusal = Refusal(
                        504, f"revision {revision.name!r}: {limits.start_s:g} s ({limits.start_field}) over"
                    )
                else:
                    refusal = Refusal(502, f"revision {revision.name!r}: its pod takes no connection ({e.strerror})")
            has_begun, counted.code = counted.code != CLIENT_GONE, refusal.status
            if has_begun:
                raise StreamLost(str(refusal)) from refusal
            raise refusal

    async def _try_pods(
        self, front: Stream, head: Part, revision: Revision, deadline: asyncio.Timeout, counted: Counted
    ) -> None:
        queue = revision.queue
        ends_at = asyncio.get_running_loop().time() + revision.limits.whole_s
        refused: set[Endpoint] = set()
        for attempt in range(1, MAX_TRIES + 1):
            arrived, cold = self._clock(), not queue.pods
            endpoint = await self._gateway.place(revision, counted, refused)
            answered = Answered(deadline, ends_at, queue.activation if cold else None, arrived, self._clock)
            try:
                back = await self._pods.stream(endpoint.port, head)
                return await _exchange(front, back, head, answered, counted)
            except OSError as e:
                if attempt == MAX_TRIES or isinstance(e, TimeoutError):
                    raise
                log.info("revision %s: pod %s takes no connection: %s", revision.name, endpoint.pod, e)
            finally:
                queue.release(endpoint)
            refused.add(endpoint)
            self._gateway.endpoints_changed(revision.namespace, revision.name)
            if refused.issuperset(queue.pods):
                await asyncio.sleep(REFUSED_S * attempt)
                counted.queued_s += REFUSED_S * attempt
                refused.clear()
        raise AssertionError("the last attempt returns or raises")


async def _exchange(front: Stream, back: Stream, head: Part, answered: Answered, counted: Counted) -> None:
    """The client's stream and the pod's, part by part, until the answer is whole. Raises StreamLost."""

    async def ask() -> None:
        part = head
        while not part.ends:
            part = await front.take()
            await back.send(part)

    asking = asyncio.create_task(ask())
    asking.add_done_callback(_heard)
    try:
        part = await back.take()  # raises whatever stops `asking` too: a lost client cancels this task
        counted.code = int(dict(part.fields or ()).get(":status", "0"))
        more = [(name.lower(), value) for name, value in answered().items()]
        part = Part([*(part.fields or ()), *more], ends=part.ends)
        await front.send(part)
        while not part.ends:
            part = await back.take()
            await front.send(part)
    finally:
        asking.cancel()
        back.close()


def _heard(task: asyncio.Task[Any]) -> None:
    """What ends this task ends the answer too, which tells of it."""
    if not task.cancelled():
        task.exception()


def _onward(head: Part, path: str) -> Part:
    """What the pod gets: the client's fields without those of one connection alone, and the path that is left."""
    fields = [(n, path if n == ":path" else v) for n, v in head.fields or () if n == "te" or n not in HOP_BY_HOP]
    return Part(fields, ends=head.ends)


async def _refuse(front: Stream, fields: CIMultiDict[str], refusal: Refusal) -> None:
    """The gateway's own answer: to gRPC a status in its one block of fields, to all others HTTP's with JSON."""
    after = [] if refusal.after_s is None else [("retry-after", f"{refusal.after_s:.0f}")]
    if fields.get("content-type", "").startswith(GRPC):
        status = [("grpc-status", str(GRPC_STATUSES.get(refusal.status, 2)))]
        said: Fields = [*status, ("grpc-message", quote(str(refusal), safe=MESSAGE)), *after]
        await front.send(Part([(":status", "200"), ("content-type", GRPC), *said], ends=True))
        return
    body = json.dumps({"error": str(refusal)}).encode()
    await front.send(Part([(":status", str(refusal.status)), ("content-type", "application/json"), *after]))
    await front.send(Part(data=body, ends=True))
