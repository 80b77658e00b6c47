"""Counts and times of one served version, as V2's statistics extension tells them.

Source: Triton's statistics extension, github.com/triton-inference-server/server, docs/protocol/extension_statistics.md.
"""

from __future__ import annotations

import threading
import time
from typing import Any


class Statistics:
    """Since the version became ready. Any thread may count; times are seconds in, nanoseconds out."""

    __slots__ = (
        "_compute_s",
        "_decode_s",
        "_executions",
        "_fail",
        "_fail_s",
        "_in_flight",
        "_last_ms",
        "_lock",
        "_queue_s",
        "_rows",
        "_success",
        "_success_s",
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows = self._executions = self._success = self._fail = self._in_flight = self._last_ms = 0
        self._success_s = self._fail_s = self._queue_s = self._decode_s = self._compute_s = 0.0

    @property
    def in_flight(self) -> int:
        """Requests that were taken and are not answered yet."""
        return self._in_flight

    def begins(self) -> None:
        with self._lock:
            self._in_flight += 1

    def executed(self, rows: int, decode_s: float, compute_s: float, queue_s: float = 0.0) -> None:
        """The model answered one request of `rows` rows."""
        with self._lock:
            self._rows += rows
            self._executions += 1
            self._decode_s += decode_s
            self._compute_s += compute_s
            self._queue_s += queue_s

    def ends(self, seconds: float, success: bool) -> None:
        with self._lock:
            self._in_flight -= 1
            if success:
                self._success += 1
                self._success_s += seconds
                self._last_ms = int(time.time() * 1000)
            else:
                self._fail += 1
                self._fail_s += seconds

    def to_json(self) -> dict[str, Any]:
        """`last_inference`, `inference_count`, `execution_count` and `inference_stats` of one version."""
        with self._lock:
            times = {
                "success": (self._success, self._success_s),
                "fail": (self._fail, self._fail_s),
                "queue": (self._executions, self._queue_s),
                "compute_input": (self._executions, self._decode_s),
                "compute_infer": (self._executions, self._compute_s),
                "compute_output": (
                    self._success,
                    max(0.0, self._success_s - self._queue_s - self._decode_s - self._compute_s),
                ),
                "cache_hit": (0, 0.0),
                "cache_miss": (0, 0.0),
            }
            return {
                "last_inference": self._last_ms,
                "inference_count": self._rows,
                "execution_count": self._executions,
                "inference_stats": {
                    name: {"count": count, "ns": int(seconds * 1e9)} for name, (count, seconds) in times.items()
                },
                "batch_stats": [],
            }
