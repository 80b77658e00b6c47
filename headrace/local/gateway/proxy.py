"""One request to one pod and its answer back, as it streams: the part of the gateway that speaks HTTP.

Called by `headrace.local.gateway.gateway`, which has chosen the pod. Neither side is held in memory: bodies of unknown
or larger size pass chunk by chunk, WebSocket messages one by one. Small bodies go in one piece, which saves system
calls.

Source: RFC 9110 section 7.6 (hop-by-hop fields), 9.2.2 (idempotent methods).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from eventing.errors import HeadraceError
from headrace.local.http1 import HEADER_BYTES

if TYPE_CHECKING:
    from headrace.local.pods.process import Endpoint

log = logging.getLogger(__name__)

WHOLE_BYTES = 64 * 1024  # bodies up to this size go in one piece; larger ones stream
CONNECT_S = 5.0  # on the loopback a connection is there at once or the pod is not
# Below the 5 s after which common servers close idle connections themselves: a request should not meet one just
# closing.
KEEP_ALIVE_S = 4.0
HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_WITHOUT_BODY = frozenset({204, 304})


class NotSent(HeadraceError):
    """The pod has not seen the request: it took no connection, or broke it where asking again does no harm."""


class Broken(HeadraceError):
    """The pod broke off before it answered; it may have acted on the request, so that nobody asks again unasked."""


def request_headers(request: web.BaseRequest, prefix: str) -> CIMultiDict[str]:
    """What the pod gets: the client's fields without hop-by-hop ones, Host as it came, and the X-Forwarded fields."""
    headers = _end_to_end(request.headers, also=("expect",))
    forwarded_for = headers.get(hdrs.X_FORWARDED_FOR)
    remote = request.remote or "127.0.0.1"
    headers[hdrs.X_FORWARDED_FOR] = f"{forwarded_for}, {remote}" if forwarded_for else remote
    headers.setdefault(hdrs.X_FORWARDED_PROTO, request.scheme)
    headers.setdefault(hdrs.X_FORWARDED_HOST, request.headers.get(hdrs.HOST, ""))
    if prefix:
        headers["X-Forwarded-Prefix"] = prefix
    return headers


def is_websocket(request: web.BaseRequest) -> bool:
    """Whether the client asks to speak WebSocket from here on."""
    return request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"


def _end_to_end(fields: Mapping[str, str], also: Iterable[str] = ()) -> CIMultiDict[str]:
    dropped = HOP_BY_HOP.union(also)
    connection = fields.get(hdrs.CONNECTION)
    if connection and connection.lower() not in ("keep-alive", "close"):
        dropped |= {name.strip().lower() for name in connection.split(",")}
    return CIMultiDict((name, value) for name, value in fields.items() if name.lower() not in dropped)


class Proxy:
    """Connections to pods, kept alive between requests."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, use_dns_cache=False),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=(hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE),
            trust_env=False,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
        )

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the proxy was not started")
        return self._session

    async def forward(
        self,
        request: web.BaseRequest,
        endpoint: Endpoint,
        path: str,
        headers: CIMultiDict[str],
        body: bytes | aiohttp.StreamReader | None,
        answered: Callable[[], Mapping[str, str]],
        idle_s: float | None = None,
    ) -> web.StreamResponse:
        """The pod's answer, sent on to the client whole, or broken off where this is cancelled.

        path: with its query, as the client wrote it. body: bytes where it is small, a stream otherwise, None without
        one. answered: called when the answer begins; gives the header fields to add to it. idle_s: how long the pod may
        pass nothing within its answer. Raises NotSent or Broken before anything of the answer went to the client.
        """
        url = URL(f"http://127.0.0.1:{endpoint.port}{path}", encoded=True)
        try:
            upstream = await self.session.request(
                request.method, url, headers=headers, data=body, allow_redirects=False
            )
        except aiohttp.ClientConnectorError as e:
            raise NotSent(f"pod {endpoint.pod} takes no connection: {e.os_error.strerror or e}") from e
        except aiohttp.ConnectionTimeoutError as e:
            raise NotSent(f"pod {endpoint.pod} took no connection within {CONNECT_S:g} s") from e
        except aiohttp.ClientError as e:
            reason = f"pod {endpoint.pod} broke off before it answered: {e or type(e).__name__}"
            if request.method in IDEMPOTENT and not isinstance(body, aiohttp.StreamReader):
                raise NotSent(reason) from e
            raise Broken(reason) from e
        try:
            return await self._answer(request, upstream, answered(), idle_s)
        finally:
            # After a whole body this does nothing; otherwise it tells the pod that nobody listens any more.
            upstream.close() if not upstream.content.at_eof() else upstream.release()

    async def _answer(
        self,
        request: web.BaseRequest,
        upstream: aiohttp.ClientResponse,
        more: Mapping[str, str],
        idle_s: float | None,
    ) -> web.StreamResponse:
        headers = _end_to_end(upstream.headers)
        for name, value in more.items():
            headers.add(name, value)
        length = upstream.content_length
        empty = request.method == "HEAD" or upstream.status in _WITHOUT_BODY
        if length is not None and length <= WHOLE_BYTES and not empty:
            try:
                whole = await upstream.read()
            except aiohttp.ClientError as e:
                raise Broken(f"the pod broke off within its answer: {e}") from e
            headers.popall(hdrs.CONTENT_LENGTH, None)
            return web.Response(status=upstream.status, reason=upstream.reason, headers=headers, body=whole)
        out = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=headers)
        await out.prepare(request)
        if empty:
            return out
        try:
            while True:
                async with asyncio.timeout(idle_s):
                    chunk = await upstream.content.readany()
                if not chunk:
                    return out
                await out.write(chunk)
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as e:
            log.info("an answer of %s ended early: %s", upstream.url, e or f"nothing came for {idle_s} s")
            _break_off(request)
        except asyncio.CancelledError:
            _break_off(request)
            raise
        return out

    async def websocket(
        self,
        request: web.BaseRequest,
        endpoint: Endpoint,
        path: str,
        headers: CIMultiDict[str],
        answered: Callable[[], Mapping[str, str]],
    ) -> web.StreamResponse:
        """Both directions of a WebSocket until one side ends it. Raises NotSent where the pod takes no connection."""
        protocols = [p.strip() for p in headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(",") if p.strip()]
        kept = CIMultiDict((k, v) for k, v in headers.items() if not k.lower().startswith("sec-websocket-"))
        url = URL(f"http://127.0.0.1:{endpoint.port}{path}", encoded=True)
        try:
            back = await self.session.ws_connect(url, headers=kept, protocols=protocols, autoping=False, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as e:
            return web.json_response({"error": f"the pod speaks no WebSocket here: {e.message}"}, status=e.status)
        except aiohttp.ClientError as e:
            raise NotSent(f"pod {endpoint.pod} takes no connection: {e}") from e
        async with back:
            front = web.WebSocketResponse(
                protocols=[back.protocol] if back.protocol else (), autoping=False, max_msg_size=0, compress=False
            )
            front.headers.extend(answered())
            await front.prepare(request)
            try:
                await _join(front, back)
            except asyncio.CancelledError:
                _break_off(request)
                raise
        return front


def _break_off(request: web.BaseRequest) -> None:
    """The status is out; only a broken connection can still tell the client that the answer is not whole."""
    if request.transport is not None:
        request.transport.abort()


_Side = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _join(front: web.WebSocketResponse, back: aiohttp.ClientWebSocketResponse) -> None:
    """Carry messages both ways until one side closes, then close the other with the same code."""
    ways = {asyncio.ensure_future(_carry(front, back)), asyncio.ensure_future(_carry(back, front))}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _carry(source: _Side, target: _Side) -> None:
    try:
        while True:
            message = await source.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await target.send_bytes(message.data)
            elif message.type is aiohttp.WSMsgType.PING:
                await target.ping(message.data)
            elif message.type is aiohttp.WSMsgType.PONG:
                await target.pong(message.data)
            else:
                # 1006 (gone without a word) may not be sent; 1011 is its nearest neighbour that may.
                code = source.close_code or aiohttp.WSCloseCode.OK
                await target.close(code=aiohttp.WSCloseCode.INTERNAL_ERROR if code == 1006 else code)
                return
    except (ConnectionError, aiohttp.ClientError) as e:
        log.debug("a WebSocket ended: %s", e)
