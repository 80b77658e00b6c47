"""One HTTP/2 connection on asyncio, of a server or of a client: streams whose parts come in order and go out in order.

Called by `headrace.local.gateway.streams`, which carries streams between two connections, and by
`headrace.local.http2.client`. Framing, header compression and the rules of the protocol are h2's; here are the socket,
waiting for a window, and who reads which stream. What a stream's reader has not taken is not acknowledged, so a slow
side slows the other one and nothing piles up between them.

Source: RFC 9113; h2 4.4, h2/connection.py (`_receive_goaway_frame`, which is replaced here).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import h2.events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame

from eventing.errors import HeadraceError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # what a client's first bytes are, RFC 9113 section 3.4
WINDOW_BYTES = 1024 * 1024  # of a stream that is not read, and of a connection
MAX_STREAMS = 1000  # at once on a connection; how many a pod may have is its revision's queue to say

Fields = Sequence[tuple[str, str]]

log = logging.getLogger(__name__)


class StreamLost(HeadraceError):
    """The stream ended before its end. code: HTTP/2's, to be told on."""

    def __init__(self, reason: str, code: int = ErrorCodes.CANCEL) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Part:
    """What a stream is made of, in the order in which it came: header fields, data, and after data the trailers.

    fields: None for data. ends: whether nothing follows. credit: bytes to give back to the sender's window.
    """

    fields: Fields | None = None
    data: bytes = b""
    ends: bool = False
    credit: int = 0


class Stream:
    """One request with its answer, seen from one side."""

    def __init__(self, connection: Connection, id: int) -> None:
        self.id = id
        self._connection = connection
        self._parts: asyncio.Queue[Part | StreamLost] = asyncio.Queue()
        self.lost: StreamLost | None = None
        self.on_lost: Callable[[], object] | None = None
        """Called when it is lost: for who does not read it just then."""
        self.owed = 0
        """Bytes that came and were not taken yet."""
        self.came_whole = self.sent_whole = False

    async def take(self) -> Part:
        """The next part. Raises StreamLost."""
        part = await self._parts.get()
        if isinstance(part, StreamLost):
            raise part
        self._connection.taken(self, part)
        return part

    async def send(self, part: Part) -> None:
        """Send a part on, once the other side has room for it. Raises StreamLost."""
        if part.fields is not None:
            self._connection.send_fields(self, part.fields, part.ends)
        else:
            await self._connection.send_data(self, part.data, part.ends)

    def close(self, code: int = ErrorCodes.CANCEL) -> None:
        """Nobody reads or writes it from now on; where it has not ended, the other side is told `code`."""
        self._connection.forget(self, code)

    def give(self, part: Part | StreamLost) -> None:
        """For the connection: what has come."""
        if isinstance(part, StreamLost):
            self.lost = part
            if self.on_lost is not None:
                self.on_lost()
        else:
            self.owed += part.credit
            self.came_whole = part.ends
        self._parts.put_nowait(part)


class _Wire(H2Connection):
    """h2's connection, which takes GOAWAY for what it is: the streams that are open go on to their end.

    h2's own closes the whole connection at it, and with it every answer that a server which drains has still to give.
    """

    def __init__(self, client_side: bool) -> None:
        super().__init__(H2Configuration(client_side=client_side, header_encoding="utf-8"))
        values = {
            SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
            SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            SettingCodes.ENABLE_PUSH: 0,
        }
        self.local_settings = Settings(client=client_side, initial_values=values)
        self._frame_dispatch_table[GoAwayFrame] = self._leave

    def _leave(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = h2.events.ConnectionTerminated()
        event.last_stream_id = frame.last_stream_id
        return [], [event]


class Connection(asyncio.Protocol):
    """One connection.

    on_stream: of a server: called for each request, its head already given to the stream. None: of a client.
    on_end: called when the connection takes no new stream any more, at the latest when it is closed.
    """

    def __init__(
        self,
        on_stream: Callable[[Stream], object] | None = None,
        on_end: Callable[[Connection], object] | None = None,
    ) -> None:
        self._on_stream = on_stream
        self._on_end = on_end
        self._wire = _Wire(client_side=on_stream is None)
        self._streams: dict[int, Stream] = {}
        self._transport: asyncio.Transport | None = None
        self._room = asyncio.Event()  # set whenever a window or the socket may have got room
        self._paused = False
        self.leaving = False

    @property
    def closed(self) -> bool:
        return self._transport is None

    # ------------------------------------------------------------------ what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._wire.initiate_connection()
        self._wire.increment_flow_control_window(WINDOW_BYTES)
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            for event in self._wire.receive_data(data):
                self._take(event)
        except H2Error as e:
            log.info("a connection broke the rules of HTTP/2: %s", e)
            self._flush()
            self.close()
            return
        self._flush()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for stream in list(self._streams.values()):
            self._lose(stream, "the connection was closed", ErrorCodes.CANCEL)
        self._end()
        self._wake()

    # ------------------------------------------------------------------ what streams ask

    def open(self, head: Part) -> Stream:
        """A new stream of a client, its head sent: the number of a stream is its own only from then on.

        Raises StreamLost where the server takes none, or not these fields.
        """
        if self.leaving or self._transport is None:
            raise StreamLost("the server takes no new stream", ErrorCodes.REFUSED_STREAM)
        id = self._wire.get_next_available_stream_id()
        stream = self._streams[id] = Stream(self, id)
        try:
            self.send_fields(stream, head.fields or (), head.ends)
        except StreamLost:
            self._streams.pop(id, None)
            raise
        return stream

    def taken(self, stream: Stream, part: Part) -> None:
        if part.credit and self._streams.get(stream.id) is stream:
            stream.owed -= part.credit
            self._acknowledge(stream.id, part.credit)
            self._flush()

    def send_fields(self, stream: Stream, fields: Fields, ends: bool) -> None:
        self._check(stream)
        try:
            self._wire.send_headers(stream.id, list(fields), end_stream=ends)
        except H2Error as e:
            raise StreamLost(f"the fields cannot be sent: {e}", ErrorCodes.INTERNAL_ERROR) from e
        stream.sent_whole = ends
        self._flush()

    async def send_data(self, stream: Stream, data: bytes, ends: bool) -> None:
        rest = memoryview(data)
        while True:
            self._check(stream)
            room = min(self._wire.local_flow_control_window(stream.id), self._wire.max_outbound_frame_size)
            if self._paused or (rest and room <= 0):
                self._room.clear()
                await self._room.wait()
                continue
            chunk, rest = rest[:room], rest[room:]
            self._wire.send_data(stream.id, bytes(chunk), end_stream=ends and not rest)
            self._flush()
            if not rest:
                stream.sent_whole = ends
                return

    def forget(self, stream: Stream, code: int) -> None:
        if self._streams.pop(stream.id, None) is None or self._transport is None:
            return
        # What lies unread took of the connection's window, which is the other streams' too.
        self._acknowledge(stream.id, stream.owed)
        if not (stream.came_whole and stream.sent_whole):
            with suppress(H2Error):  # it never began
                self._wire.reset_stream(stream.id, code)
        self._flush()

    def close(self) -> None:
        """Say good-bye, and break off what is in flight."""
        if self._transport is not None:
            self._wire.close_connection()
            self._flush()
            self._transport.close()

    # ------------------------------------------------------------------ events

    def _take(self, event: Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            assert event.stream_id is not None and self._on_stream is not None
            stream = self._streams[event.stream_id] = Stream(self, event.stream_id)
            self._give(event.stream_id, Part(_fields(event.headers), ends=event.stream_ended is not None))
            self._on_stream(stream)
        elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            self._give(event.stream_id, Part(_fields(event.headers), ends=event.stream_ended is not None))
        elif isinstance(event, h2.events.DataReceived):
            assert event.data is not None and event.flow_controlled_length is not None
            part = Part(data=event.data, ends=event.stream_ended is not None, credit=event.flow_controlled_length)
            if not self._give(event.stream_id, part):
                self._acknowledge(event.stream_id or 0, part.credit)
        elif isinstance(event, h2.events.StreamReset):
            if (lost := self._streams.get(event.stream_id or 0)) is not None:
                code = int(event.error_code or 0)
                self._lose(lost, f"the other side ended the stream with code {code}", code)
                self._wake()
        elif isinstance(event, h2.events.WindowUpdated | h2.events.RemoteSettingsChanged):
            self._wake()
        elif isinstance(event, h2.events.ConnectionTerminated):
            for id, stream in list(self._streams.items()):
                if self._on_stream is None and id > (event.last_stream_id or 0):
                    self._lose(stream, "the server has not seen the request", ErrorCodes.REFUSED_STREAM)
            self._end()

    def _give(self, id: int | None, part: Part) -> bool:
        stream = self._streams.get(id or 0)
        if stream is not None:
            stream.give(part)
        return stream is not None

    def _lose(self, stream: Stream, reason: str, code: int) -> None:
        del self._streams[stream.id]
        self._acknowledge(stream.id, stream.owed)
        stream.give(StreamLost(reason, code))

    def _acknowledge(self, id: int, bytes: int) -> None:
        if bytes and self._transport is not None:
            self._wire.acknowledge_received_data(bytes, id)

    def _check(self, stream: Stream) -> None:
        if stream.lost is not None:
            raise stream.lost
        if self._transport is None or self._streams.get(stream.id) is not stream:
            raise StreamLost("the stream has ended")

    def _end(self) -> None:
        self.leaving = True
        if self._on_end is not None:
            ended, self._on_end = self._on_end, None
            ended(self)

    def _wake(self) -> None:
        self._room.set()

    def _flush(self) -> None:
        data = self._wire.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)


def _fields(headers: object) -> Fields:
    assert isinstance(headers, list)  # as header_encoding says: pairs of str
    return headers
