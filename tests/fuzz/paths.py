"""Methods, paths and headers that nobody should send, and bytes that are no HTTP."""

from __future__ import annotations

import re

from hypothesis import strategies as st

from tests.functions import packages
from tests.fuzz.bodies import Draw, damaged
from tests.fuzz.events import VALUES
from tests.fuzz.wire import Request

METHODS = ("GET", "GET", "GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "FOO", "PROPFIND")
PARTS = (
    "v1", "v2", "models", "flights", "grid", "datatypes", "nobody", "versions", packages.VERSION, "9", "labels",
    "stable", "metadata", "infer", "ready", "stats", "config", "docs", "dataplane.json", "openapi.json", "health",
    "live", "repository", "index", "load", "unload", "metrics", "", ".", "..", "%2e%2e", "%2f", "%00", "%ff", "%",
    "%zz", "%C3%A9", "flights:predict", "flights:guess", ":predict", "a" * 300, "swagger-ui.css", "~", "*", "\\",
    "{x}", "'", "index.html",
)  # fmt: skip
KNOWN = (
    "/v1/models/flights", "/v1/models/flights/metadata", "/v2/models/flights/stats", "/v2/models/flights/config",
    "/v2/models/datatypes/docs/dataplane.json", "/v2/docs", "/docs/swagger-ui.css", "/openapi.json", "/metrics",
    "/v2/repository/index", "/v2/repository/models/flights/load", "/v2/repository/models/flights/unload",
    "/v2/health/ready", "/", "/v1/models/flights:predict", "/v2/models/flights/infer",
)  # fmt: skip
QUERIES = ("", "", "", "?", "?a=b", "?%ff=%00", "?a&&=", "?" + "q" * 2000)
HEADERS = (
    "Accept", "Accept-Encoding", "Content-Type", "Expect", "Range", "If-None-Match", "Cookie", "X-Forwarded-Prefix",
    "X-Forwarded-Host", "Origin", "Upgrade", "Connection", "Inference-Header-Content-Length", "Content-Encoding",
    "Transfer-Encoding", "Content-Length", "Host", "ce-specversion", "Authorization", "X_Under_Score", "Te",
)  # fmt: skip


@st.composite
def anywhere(draw: Draw) -> Request:
    """Any method on any path, with headers that may be no HTTP together."""
    parts = [draw(st.sampled_from(PARTS)) for _ in range(draw(st.integers(0, 7)))]
    path = "/" + "/".join(parts) + draw(st.sampled_from(QUERIES))
    names = [draw(st.sampled_from(HEADERS)) for _ in range(draw(st.integers(0, 3)))]
    headers = tuple((name, draw(st.sampled_from(VALUES))) for name in names)
    # What frames a message, or is refused by HTTP's own rules, the parser may refuse by itself.
    framing = {"Transfer-Encoding", "Content-Length", "Host", "Upgrade", "Connection", "Expect"} & set(names)
    odd = bool(framing) or _odd(path)
    body = draw(st.binary(max_size=30)) if draw(st.booleans()) else b""
    return Request(draw(st.sampled_from(METHODS)), path, headers, body, malformed=odd)


@st.composite
def described(draw: Draw) -> Request:
    """A path of the protocols with something done to it."""
    known = st.sampled_from(KNOWN)
    path = draw(damaged(draw(known).encode(), 2))
    text = "/" + "".join(chr(byte) if 33 <= byte < 127 else f"%{byte:02x}" for byte in path.lstrip(b"/"))
    body = b"{}" if draw(st.booleans()) else b""
    return Request(draw(st.sampled_from(METHODS)), text, (), body, malformed=_odd(text))


def _odd(path: str) -> bool:
    """Whether RFC 3986 has no such path, and the parser may refuse it."""
    return re.fullmatch(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*", path) is None
