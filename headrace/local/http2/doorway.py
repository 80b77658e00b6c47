"""Which HTTP a new connection speaks, by its first bytes: one port for both.

Called by `headrace.local.platform` for each connection to its port. HTTP/2 without TLS begins with a preface that no
request of HTTP/1.1 can begin with: "prior knowledge", as gRPC's clients have it. Source: RFC 9113 section 3.3 and 3.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.local.http2.connection import PREFACE

Protocol = Callable[[], asyncio.Protocol]


class Doorway(asyncio.Protocol):
    """A connection until it is known what it speaks; then it is that protocol's. http1, http2: who speaks it."""

    def __init__(self, http1: Protocol, http2: Protocol) -> None:
        self._http1 = http1
        self._http2 = http2
        self._transport: asyncio.Transport | None = None
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if self._seen.startswith(PREFACE):
            self._hand_over(self._http2)
        elif not PREFACE.startswith(self._seen):
            self._hand_over(self._http1)

    def _hand_over(self, protocol: Protocol) -> None:
        assert self._transport is not None
        speaker = protocol()
        self._transport.set_protocol(speaker)
        speaker.connection_made(self._transport)
        speaker.data_received(self._seen)
