"""An event goes out: one HTTP POST in the binary mode, and the sink's answer as a verdict.

Used by every process that tells the Broker something. Standard library alone, so that the folder source stays small.

Source: the statuses that deserve another try are Knative's, knative/eventing pkg/kncloudevents/retries.go.
"""

from __future__ import annotations

import http.client
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cloudevents.core.v1.event import CloudEvent

from eventing import binding, contract
from eventing.errors import Misconfigured, Rejected, RetryLater
from monitoring import metrics

RETRIED = frozenset({404, 408, 409, 429})  # and all from 500 up; every other status from 300 up is final
FIRST_BACKOFF_S = 0.2  # doubled with each attempt
LONGEST_BACKOFF_S = 30.0
MAX_REPLY_BYTES = 1024 * 1024  # what a Broker keeps at most
MAX_IDLE_CONNECTIONS = 8  # kept open for the next event; more at once are opened and closed again
EXCERPT = 300  # characters of a refusal's body that go into the reason

log = logging.getLogger(__name__)

Carry = Callable[[binding.HTTPMessage], tuple[int, Mapping[str, str], bytes]]
"""Takes a message to the sink by another way than its URL: status, headers and body of the answer, or RetryLater."""


class Asked(RetryLater):
    """The sink itself said after how many seconds it may be asked again (Retry-After)."""


def stamp(
    data: contract.Data,
    source: str,
    id: str | None = None,
    cause: CloudEvent | None = None,
    extensions: Mapping[str, str] | None = None,
) -> CloudEvent:
    """The event that says `data` now.

    source: `/headrace/<room>/<instance>`. id: None for a fact that is told once and by nobody else; else see
    `contract.derived_id`. cause: the event that led to this one.
    """
    return data.to_event(
        source=source, id=id or str(uuid.uuid4()), time=datetime.now(UTC), cause=cause, extensions=extensions
    )


def backoff_s(attempt: int, chance: float, asked_s: float) -> float:
    """Seconds to wait after failed `attempt` (1, 2, …): doubled each time, spread by `chance`, or as the sink asked.

    chance: 0 to 1. From half to the whole of the step: many senders that failed together do not come back together.
    asked_s: the sink's Retry-After, 0 without one; it is honoured up to LONGEST_BACKOFF_S, never shortened by chance.
    """
    step = min(FIRST_BACKOFF_S * 2.0 ** (attempt - 1), LONGEST_BACKOFF_S)
    return min(max(step * (0.5 + chance / 2), asked_s), LONGEST_BACKOFF_S)


def verdict(status: int, retry_after: str | None, excerpt: str) -> Rejected | RetryLater | None:
    """What the sink's status says of the event; None: it was taken."""
    if status < 300:
        return None
    said = f"the sink answered {status}" + (f": {excerpt}" if excerpt else "")
    if status >= 500 or status in RETRIED:
        # The header's other form, a date, would need a clock; who knows seconds says seconds.
        if retry_after and retry_after.strip().isdecimal():
            return Asked(said, after_s=max(float(retry_after), 1.0))
        return RetryLater(said)
    return Rejected(said)


class Sender:
    """Sends events to one sink; any thread may. Connections are kept open and used again.

    sink: an http or https URL, as in K_SINK. timeout_s: for connecting. answer_s: for each silence while waiting for
    the answer; None: timeout_s. A Broker on an in-memory channel answers only when every subscriber has, held or tried
    again as it may be. carry: where the sink's URL does not lead there from here; then the times are its own. Raises
    Misconfigured for a sink that is no such URL.
    """

    def __init__(
        self,
        sink: str,
        timeout_s: float = 30.0,
        sleep: Callable[[float], object] = time.sleep,
        answer_s: float | None = None,
        carry: Carry | None = None,
    ) -> None:
        url = urlsplit(sink)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise Misconfigured("K_SINK", sink, "an http or https URL")
        self.sink = sink
        self._timeout_s = timeout_s
        self._answer_s = timeout_s if answer_s is None else answer_s
        self._sleep = sleep
        self._carry = carry
        self._connect = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self._address = (url.hostname, url.port)
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def send(self, event: CloudEvent, attempts: int = 1) -> CloudEvent | None:
        """Delivers the event, in at most `attempts` tries; the event that the sink replied with, if any.

        Raises RetryLater when the sink is away or asks for patience, Rejected when it refuses the event for good.
        """
        label = metrics.type_label(event.get_type())
        message = binding.to_binary(event)
        for attempt in range(1, attempts + 1):
            try:
                reply = self._post(message)
            except Rejected:
                metrics.EVENTS_SENT.labels(label, metrics.REJECTED).inc()
                raise
            except RetryLater as e:
                if attempt == attempts:
                    metrics.EVENTS_SENT.labels(label, metrics.RETRY_LATER).inc()
                    raise
                wait_s = backoff_s(attempt, random.random(), e.after_s if isinstance(e, Asked) else 0.0)
                log.warning(
                    "event %s, attempt %d of %d: %s; again in %.1f s", event.get_id(), attempt, attempts, e, wait_s
                )
                self._sleep(wait_s)
            else:
                metrics.EVENTS_SENT.labels(label, metrics.DONE).inc()
                return reply
        raise ValueError(f"attempts is {attempts}; expected at least 1")

    def close(self) -> None:
        """Closes the idle connections; sending again opens new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _post(self, message: binding.HTTPMessage) -> CloudEvent | None:
        if self._carry is not None:
            return _judged(*self._carry(message))
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                return self._exchange(connection, message)
            except TimeoutError as e:
                connection.close()
                raise RetryLater(f"the sink {self.sink} gave no answer within {self._answer_s:g} s") from e
            except (OSError, http.client.HTTPException):
                # The sink closed what was kept open: no verdict on the event, which may go again, having an id.
                connection.close()
        connection = self._connect(*self._address, timeout=self._timeout_s)
        try:
            connection.connect()
            connection.sock.settimeout(self._answer_s)
            return self._exchange(connection, message)
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            raise RetryLater(f"the sink {self.sink} gave no answer: {e or type(e).__name__}") from e

    def _exchange(self, connection: http.client.HTTPConnection, message: binding.HTTPMessage) -> CloudEvent | None:
        connection.request("POST", self._target, message.body, {**message.headers, "prefer": "reply"})
        with closing(connection.getresponse()) as response:
            body = response.read(MAX_REPLY_BYTES + 1)
            headers, whole = dict(response.headers.items()), response.isclosed()
        self._keep(connection, whole)
        return _judged(response.status, headers, body)

    def _keep(self, connection: http.client.HTTPConnection, whole: bool) -> None:
        """Puts a connection back, unless its answer was not read to the end or the sink closes it."""
        with self._lock:
            if whole and connection.sock is not None and len(self._idle) < MAX_IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()


def _judged(status: int, headers: Mapping[str, str], body: bytes) -> CloudEvent | None:
    """The event that the sink replied with, if any. Raises what its status says of the event."""
    refused = verdict(status, headers.get("Retry-After"), body[:EXCERPT].decode(errors="replace").strip())
    if refused is not None:
        raise refused
    return _reply(status, headers, body)


def _reply(status: int, headers: Mapping[str, str], body: bytes) -> CloudEvent | None:
    """The event in a sink's answer, if any: a 202 has none, whatever its body says, nor has a body of another kind."""
    if status == 202 or not (body or "ce-specversion" in {name.lower() for name in headers}):
        return None
    try:
        return binding.receive(headers, body)[0]
    except binding.NotAnEvent:
        return None
    except (Rejected, IndexError) as e:
        # Knative's broker counts this as a failed delivery, 502, and tries again.
        raise RetryLater(f"the sink's reply is broken: {e}") from e
