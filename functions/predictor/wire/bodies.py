"""Bodies of requests and answers on their way: limits, and the encodings that a client may use.

Source: RFC 9110 (Content-Encoding, Accept-Encoding), RFC 1950 and 1952.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from functions.predictor.answers import BAD_REQUEST, TOO_LARGE, UNSUPPORTED_MEDIA, Answer, Environ, Refusal

MIN_ENCODED_BYTES = 1024  # a smaller answer fits into one packet either way
LEVEL = 1  # of deflate: numbers in text shrink to about half at any level, and the first costs a third of the default
MAX_ENCODINGS = 3  # of one request: each is another pass over as many bytes as the limit allows
MAX_MEMBERS = 16  # of one gzip stream; clients make one

ACCEPT_ENCODING: Final = "HTTP_ACCEPT_ENCODING"

_GZIP = 16 + 15  # zlib's windowBits for a gzip stream with the largest window
_WINDOW_BITS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": 15}
_RAW_DEFLATE = -15


@dataclass(frozen=True, slots=True)
class Bodies:
    """max_bytes: the longest request body, as sent and once it is decoded; a longer one is refused with 413."""

    max_bytes: int

    def read(self, environ: Environ) -> bytes:
        """The request's body, decoded. Raises Refusal: 413 for one too long, 415 for an unknown encoding, 400 for a
        broken one.
        """
        limit = self.max_bytes
        length = environ.get("CONTENT_LENGTH")
        # Refused before it is read where the length is told, else as soon as it is over the limit.
        if length and (not length.isdecimal() or int(length) > limit):
            raise Refusal(TOO_LARGE, f"the body has {length:.20} bytes; at most {limit} are taken at once")
        body: bytes = environ["wsgi.input"].read(limit + 1)
        if len(body) > limit:
            raise Refusal(TOO_LARGE, f"the body has more than {limit} bytes, which is the most taken at once")
        if length and len(body) < int(length):
            # The web server gives what came until the client was gone: the rest of it may be what mattered.
            raise Refusal(BAD_REQUEST, f"the body ended after {len(body)} of {length} bytes: it was cut on its way")
        encodings = environ.get("HTTP_CONTENT_ENCODING")
        return body if encodings is None else _decoded(body, encodings, limit)

    def encode(self, answer: Answer, environ: Environ) -> Answer:
        """The answer as the client accepts it."""
        accepted = environ.get(ACCEPT_ENCODING)
        if accepted is None or len(answer.body) < MIN_ENCODED_BYTES:
            return answer
        headers = (*answer.headers, ("Vary", "Accept-Encoding"))
        encoding = _preferred(accepted)
        if encoding is None:
            return replace(answer, headers=headers)
        import zlib  # only for whom it is needed

        # Clients read deflate as RFC 9110 says it: with zlib's frame.
        packer = zlib.compressobj(LEVEL, wbits=_WINDOW_BITS[encoding])
        body = packer.compress(answer.body) + packer.flush()
        return replace(answer, body=body, headers=(*headers, ("Content-Encoding", encoding)))


def _decoded(body: bytes, encodings: str, limit: int) -> bytes:
    """`body` without its encodings, the last one first. Raises Refusal."""
    names = [name for name in (part.strip().lower() for part in encodings.split(",")) if name not in ("", "identity")]
    if unknown := [name for name in names if name not in _WINDOW_BITS]:
        raise Refusal(UNSUPPORTED_MEDIA, f"Content-Encoding is {unknown[0]!r:.40}; expected gzip, deflate or none")
    if len(names) > MAX_ENCODINGS:
        raise Refusal(UNSUPPORTED_MEDIA, f"Content-Encoding names {len(names)} encodings; at most {MAX_ENCODINGS}")
    for name in reversed(names):
        body = _inflated(body, name, limit)
    return body


def _inflated(body: bytes, encoding: str, limit: int) -> bytes:
    """`body` without one encoding; no more than `limit` bytes are ever made of it. Raises Refusal."""
    import zlib  # only for whom it is needed

    window_bits = _WINDOW_BITS[encoding]
    if encoding == "deflate" and not _has_zlib_frame(body):
        window_bits = _RAW_DEFLATE
    out = b""
    for _ in range(MAX_MEMBERS):
        stream = zlib.decompressobj(window_bits)
        try:
            out += stream.decompress(body, limit + 1 - len(out))
        except zlib.error as e:
            raise Refusal(BAD_REQUEST, f"the body is no {encoding} stream: {e}") from e
        if len(out) > limit:
            raise Refusal(TOO_LARGE, f"the body, decoded, has more than {limit} bytes, which is the most taken at once")
        if not stream.eof:
            raise Refusal(BAD_REQUEST, f"the body's {encoding} stream ends before its end: it was cut on its way")
        body = stream.unused_data
        if not body:
            return out
        if window_bits != _GZIP:
            raise Refusal(BAD_REQUEST, f"{len(body)} bytes follow the end of the body's {encoding} stream")
    raise Refusal(BAD_REQUEST, f"the body's {encoding} stream has more than {MAX_MEMBERS} members")


def _has_zlib_frame(body: bytes) -> bool:
    """Some clients send deflate bare, without the frame that it should have. Source: RFC 1950, section 2.2."""
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _preferred(accepted: str) -> str | None:
    """The encoding to answer in, of those that Accept-Encoding allows; None for none. Source: RFC 9110, 12.5.3."""
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, _, parameters = part.partition(";")
        key, _, value = parameters.partition("=")
        try:
            weights[name.strip()] = float(value) if key.strip() == "q" else 1.0
        except ValueError:
            weights[name.strip()] = 0.0  # not understood, hence not asked for
    rest = weights.get("*", 0.0)
    gzip, deflate = weights.get("gzip", weights.get("x-gzip", rest)), weights.get("deflate", rest)
    best = max(gzip, deflate)
    # What is not named is acceptable as it is; named, it is weighed like the others.
    if best <= 0 or best < weights.get("identity", 0.0):
        return None
    return "gzip" if gzip >= deflate else "deflate"
