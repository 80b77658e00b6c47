"""A service whose every time is known: `GET /?s=0.25` is answered after a quarter of a second that costs no processor.

    PORT=8080 python sleeper.py --start-s 1.5

It listens only after `--start-s`, as a server that has to load something would. No framework: as many of them as a
load asks for start on a small machine at once, and must not take each other's time. Run by path, as a pod of
`tests.bench.replay`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class Sleeper:
    """The server. It ends when it is told to and nothing is in flight any more."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_flight = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection, one after the other; without bodies."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self._in_flight += 1
                self._idle.clear()
                try:
                    _, _, seconds = head.split(b" ", 2)[1].partition(b"s=")
                    await asyncio.sleep(float(seconds or 0))
                    writer.write(ANSWER)
                    await writer.drain()
                finally:
                    self._in_flight -= 1
                    if not self._in_flight:
                        self._idle.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run(self, port: int) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stopping.set)
        server = await asyncio.start_server(self.serve, "127.0.0.1", port, backlog=1024)
        await self.stopping.wait()
        server.close()
        await self._idle.wait()


if __name__ == "__main__":
    if "--start-s" in sys.argv:
        time.sleep(float(sys.argv[sys.argv.index("--start-s") + 1]))
    asyncio.run(Sleeper().run(int(os.environ["PORT"])))
