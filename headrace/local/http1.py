"""The laptop's HTTP/1.1 server: what every stand-in behind the one port has of it.

Called by `headrace.local.platform`. aiohttp leaves to its own application framework, which is not used here, what a
client expects before it sends its body, and takes headers of 8 KiB, which a token or a long query has.
Source: RFC 9110 section 10.1.1 (Expect).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import hdrs, web

HEADER_BYTES = 64 * 1024  # of a request line and of each field: about what Envoy takes, for tokens, cookies and queries

CLIENT_GONE = 499  # nginx's code for a client that left; nobody is there to read it

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def server(answer: Handler) -> web.Server:
    """A server that has each request answered by `answer`."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        expectation = request.headers.get(hdrs.EXPECT)
        # From a client of HTTP/1.0 it means nothing.
        if expectation is not None and request.version >= aiohttp.HttpVersion11:
            if expectation.lower() != "100-continue":
                said = f"Expect is {expectation!r:.100}; nothing but 100-continue is met"
                return web.json_response({"error": said}, status=417)
            # It waits before it sends its body: curl for a second, others for as long as they live.
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # nothing of the answer itself is out
        try:
            return await answer(request)
        except ConnectionResetError:
            # It has gone, within its body for example: no fault of ours, which aiohttp would log as one.
            return web.Response(status=CLIENT_GONE)

    return web.Server(handle, max_line_size=HEADER_BYTES, max_field_size=HEADER_BYTES)
