"""One CloudEvent out of an HTTP request, or the reason why not: the door of the Broker and of the JobSink.

Refusals are JSON, `{"error": …, "faults": […]}`, for the person who posts by hand; Knative answers the same statuses
with an empty body.
"""

from __future__ import annotations

from aiohttp import web
from cloudevents.core.v1.event import CloudEvent

from eventing import binding
from eventing.errors import HeadraceError, Rejected

# What Knative can keep: JobSink's Secret and etcd's largest object end near here.
MAX_EVENT_BYTES = 1024 * 1024


class Refused(HeadraceError):
    """The request is answered with `status`, and nothing was kept."""

    def __init__(self, status: int, reason: str, faults: tuple[str, ...] = (), **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.faults = faults
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def response(self) -> web.Response:
        body: dict[str, object] = {"error": self.reason}
        if self.faults:
            body["faults"] = list(self.faults)
        return web.json_response(body, status=self.status, headers=self.headers)


async def read_event(request: web.BaseRequest) -> CloudEvent:
    """The one event that the request carries, its data unread. Raises Refused.

    A batch is refused with 400, as Knative's Broker and JobSink do: what a laptop takes, a cluster must take too.
    """
    body = await _read_body(request)
    headers = dict(request.headers)
    if binding.mode(headers) == binding.BATCHED:
        raise Refused(400, "batches are not taken here, nor by Knative; post the events one by one")
    try:
        return binding.receive(headers, body, parse_data=False)[0]
    except Rejected as e:
        raise Refused(400, str(e), e.faults) from e
    except UnicodeError as e:
        raise Refused(400, f"a header is not UTF-8: {e}") from e


async def _read_body(request: web.BaseRequest) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > MAX_EVENT_BYTES:
            reason = f"the event is over {MAX_EVENT_BYTES} bytes; put the data into the store and send a reference"
            raise Refused(413, reason)
        chunks.append(chunk)
    return b"".join(chunks)
