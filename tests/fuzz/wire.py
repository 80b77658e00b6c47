"""HTTP/1.1 as bytes: requests that no client library would send, over connections that are kept."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from http.client import HTTPException, HTTPResponse

# Of one answer. Far above what any should take, so that a busy machine is no finding; a hang is one at last.
HANG_S = 30.0
IDLE_S = 5.0  # after which a connection is not used again
CHUNK = 700  # bytes; bodies come in several

Headers = tuple[tuple[str, bytes], ...]


class Broken(AssertionError):
    """No answer, or one that is no HTTP."""


@dataclass(frozen=True)
class Request:
    """One request. chunked: whether its body comes in chunks, its length untold.

    malformed: whether it is no HTTP, so that the parser may refuse it before the predictor sees it.
    """

    method: str
    path: str
    headers: Headers = ()
    body: bytes = b""
    chunked: bool = False
    malformed: bool = False

    def with_headers(self, headers: Iterable[tuple[str, bytes]]) -> Request:
        return replace(self, headers=(*self.headers, *headers))

    def encoded(self) -> bytes:
        """As it goes over the wire."""
        lines = [f"{self.method} {self.path} HTTP/1.1".encode("latin-1"), b"Host: fuzz"]
        lines += [name.encode("latin-1") + b": " + value for name, value in self.headers]
        if self.chunked:
            lines.append(b"Transfer-Encoding: chunked")
            parts = [self.body[at : at + CHUNK] for at in range(0, len(self.body), CHUNK)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            body = self.body
            if body or self.method in ("POST", "PUT", "PATCH"):
                lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Answer:
    """What came back. headers: by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float


class Connection:
    """One connection, kept as long as the server keeps it."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None
        self._answered = 0.0

    def ask(self, request: Request) -> Answer:
        """The answer. Raises Broken where none comes in time, none at all, or more than one."""
        began = time.perf_counter()
        if self._socket is not None and began - self._answered > IDLE_S:
            self.close()  # before the server does, to whom a connection that idles is worth no more than that
        if self._socket is None:
            self._socket = socket.create_connection(self._address, HANG_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            # A refusal may come before all of a body is taken, and close the connection behind it.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._socket.sendall(request.encoded())
            response = HTTPResponse(self._socket, method=request.method)
            response.begin()
            body = response.read()
        except TimeoutError as e:
            self.close()
            raise Broken(f"no answer within {HANG_S:g} s") from e
        except (OSError, HTTPException) as e:
            self.close()
            raise Broken(f"{type(e).__name__}: {e}") from e
        self._answered = time.perf_counter()
        headers = {name.lower(): value for name, value in response.getheaders()}
        if response.will_close:
            self.close()
        elif select.select([self._socket], [], [], 0)[0]:
            # Either the end of the connection, of which the answer did not tell, or an answer to nothing.
            left = self._socket.recv(100)
            self.close()
            raise Broken(f"after the answer {response.status} came {left!r}" if left else "closed without a word")
        return Answer(response.status, headers, body, time.perf_counter() - began)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
