"""Bodies of requests and answers on their way: limits, and the encodings that a client may use.

Source: RFC 9110 (Content-Encoding, Accept-Encoding), RFC 1950 and 1952.
"""

from __future__ import annotations

from dataclasses import dataclass

from functions.predictor.answers import TOO_LARGE, UNSUPPORTED_MEDIA, Answer, Environ, Refusal


@dataclass(frozen=True, slots=True)
class Bodies:
    """max_bytes: the longest request body, as sent and once it is decoded; a longer one is refused with 413."""

    max_bytes: int

    def read(self, environ: Environ) -> bytes:
        """The request's body, decoded. Raises Refusal when it is too long or of an encoding that is not known."""
        limit = self.max_bytes
        if (encoding := environ.get("HTTP_CONTENT_ENCODING", "identity")) != "identity":
            raise Refusal(UNSUPPORTED_MEDIA, f"Content-Encoding is {encoding!r:.40}; expected none")
        length = environ.get("CONTENT_LENGTH") or environ.get("HTTP_CONTENT_LENGTH") or "0"
        # Refused before it is read where the length is told, else as soon as it is over the limit.
        if not length.isdecimal() or int(length) > limit:
            raise Refusal(TOO_LARGE, f"the body has {length:.20} bytes; at most {limit} are taken at once")
        body: bytes = environ["wsgi.input"].read(limit + 1)
        if len(body) > limit:
            raise Refusal(TOO_LARGE, f"the body has more than {limit} bytes, which is the most taken at once")
        return body

    def encode(self, answer: Answer, environ: Environ) -> Answer:
        """The answer as the client accepts it."""
        return answer
