"""Connections to pods that speak HTTP/2, one for each, kept while they are used; and the question a gRPC probe asks.

Called by `headrace.local.gateway.streams` and `headrace.local.pods.probe`.
Source: github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md and doc/health-checking.md.
"""

from __future__ import annotations

import asyncio

from headrace.local.http2.connection import Connection, Part, Stream, StreamLost

SERVING = b"\x08\x01"  # HealthCheckResponse with status SERVING, field 1
HEALTH = "/grpc.health.v1.Health/Check"


class Pool:
    """A connection to each port of 127.0.0.1 that was asked for; closed ones are forgotten."""

    def __init__(self) -> None:
        self._open: dict[int, Connection] = {}
        self._all: set[Connection] = set()

    async def stream(self, port: int, head: Part) -> Stream:
        """A new stream to whoever listens at `port`, its head sent. Raises OSError where nobody does, StreamLost."""
        connection = self._open.get(port)
        if connection is None or connection.leaving:
            connection = await connect(port)
            self._open[port] = connection
            self._all = {c for c in self._all if not c.closed} | {connection}
        return connection.open(head)

    def close(self) -> None:
        for connection in self._all:
            connection.close()
        self._open.clear()
        self._all.clear()


async def connect(port: int) -> Connection:
    """A connection to `port` of 127.0.0.1. Raises OSError."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


async def health(port: int, service: str) -> str | None:
    """What gRPC's health service says of `service`: None when it serves, else what was seen. Raises OSError."""
    connection = await connect(port)
    try:
        stream = connection.open(Part(_head(port)))
        name = service.encode()
        message = b"\x0a" + _varint(len(name)) + name if name else b""  # HealthCheckRequest, field 1
        await stream.send(Part(data=b"\x00" + len(message).to_bytes(4, "big") + message, ends=True))
        return await _verdict(stream)
    except StreamLost as e:
        return f"the answer is not gRPC's: {e}"
    finally:
        connection.close()


async def _verdict(stream: Stream) -> str | None:
    answer, fields = b"", dict[str, str]()
    while True:
        part = await stream.take()
        answer += part.data
        fields |= dict(part.fields or ())
        if part.ends:
            break
    if fields.get("grpc-status") != "0":
        said = fields.get("grpc-message") or f"HTTP {fields.get(':status')}"
        return f"gRPC probe failed with status {fields.get('grpc-status', 'unknown')}: {said}"
    return None if answer[5:] == SERVING else "gRPC probe failed: not SERVING"


def _varint(number: int) -> bytes:
    """A whole number as protobuf writes it: seven bits a byte, the lowest first."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _head(port: int) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", HEALTH),
        (":authority", f"127.0.0.1:{port}"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "kube-probe/headrace"),
    ]
