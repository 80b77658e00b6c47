"""Requests to a model, so many at a time: each over a connection of its own, as from strangers, so that new pods get
their share.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

ANSWERED_WITHIN_S = 60.0


@dataclass
class Tally:
    """What became of the requests; any thread may count."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, failure: str | None) -> None:
        with self._lock:
            if failure is None:
                self.answered += 1
            else:
                self.failed.append(failure)


@contextmanager
def asking(url: str, body: bytes, clients: int, pause_s: float = 0.0) -> Iterator[Tally]:
    """`clients` that post `body` to `url`, each again `pause_s` after its answer, until the block ends."""
    tally, over = Tally(), threading.Event()

    def ask() -> None:
        while not over.is_set():
            tally.count(_failure(url, body))
            over.wait(pause_s)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _failure(url: str, body: bytes) -> str | None:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=ANSWERED_WITHIN_S) as answer:
            answer.read()
            return None
    except urllib.error.HTTPError as e:
        return f"{e.code}: {e.read()[:200]!r}"
    except OSError as e:
        return repr(e)
