"""A body that comes line by line, as watches, logs and journals do.

Read by `knative.client` and by who asks through it.
"""

from __future__ import annotations

from collections.abc import Iterator

import urllib3

from knative.answers import Unreachable


def lines(response: urllib3.BaseHTTPResponse) -> Iterator[str]:
    """A body's lines as they come. Raises Unreachable where the connection breaks."""
    rest = b""
    try:
        # read1 gives what has arrived; read(n) would wait for n bytes while a line is there already.
        while chunk := response.read1(65536):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace").rstrip("\r") for line in whole)
    except urllib3.exceptions.HTTPError as e:
        raise Unreachable(f"the stream broke off: {e}") from e
    if rest:
        yield rest.decode(errors="replace")
