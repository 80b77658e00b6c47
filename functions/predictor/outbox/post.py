"""What is told beside the answers goes out by one thread: nobody who offers something waits for the sink.

Used by `failures` and `sampler`, which say what is offered and what becomes of what was not told. The thread begins
with the first thing to tell, and imports what sends events: a predictor with nothing to tell never pays for it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Post(Generic[T]):
    """A bounded line to one sink.

    name: the thread's. length: how many may wait while the sink is slow. open_teller: gives who tells, which raises
    where that fails; called by the thread, again for the next one where it fails itself. untold: told of each that was
    taken and not told, and of what was raised; must not raise.
    """

    def __init__(
        self,
        name: str,
        length: int,
        open_teller: Callable[[], Callable[[T], object]],
        untold: Callable[[T, Exception], object],
    ) -> None:
        self._name = name
        self._open_teller = open_teller
        self._untold = untold
        self._waiting: queue.Queue[tuple[T] | None] = queue.Queue(length)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def offer(self, item: T) -> bool:
        """Whether it was taken; False where too many wait. Returns at once, whatever the sink does."""
        try:
            self._waiting.put_nowait((item,))
        except queue.Full:
            return False
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._send_all, name=self._name, daemon=True)
                    self._thread.start()
        return True

    def close(self, timeout_s: float) -> None:
        """Send what waits, for at most `timeout_s` in all; what is left then is lost. Nothing is offered afterwards."""
        if self._thread is None:
            return
        ends = time.monotonic() + timeout_s
        try:
            self._waiting.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(max(0.0, ends - time.monotonic()))

    def _send_all(self) -> None:
        tell: Callable[[T], object] | None = None
        while (taken := self._waiting.get()) is not None:
            try:
                tell = tell or self._open_teller()
                tell(taken[0])
            except Exception as e:  # noqa: BLE001 - whatever it is, it is told on, and the next one has its turn
                self._untold(taken[0], e)
