"""A signal to one thread of a process, as the system may give it to any."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

TGKILL = {"x86_64": 234, "aarch64": 131}.get(platform.machine(), 234)  # older C libraries name it not


def to_another_thread(pid: int, number: int) -> None:
    """Signal a thread of `pid` that is not its main one."""
    other = next(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir() if int(task.name) != pid)
    assert ctypes.CDLL(None, use_errno=True).syscall(TGKILL, pid, other, number) == 0
