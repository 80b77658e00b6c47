"""Faults of the disk under a home: what the machine's owner must mend, and no defect of ours or of a file."""

from __future__ import annotations

import errno
import sqlite3

ERRNO = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})
SQLITE = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})


def is_at_fault(e: BaseException) -> bool:
    """Whether the disk is full, only read, broken, or somebody else's."""
    if isinstance(e, sqlite3.Error):
        return getattr(e, "sqlite_errorcode", 0) & 0xFF in SQLITE  # the rest of the code says where it happened
    return isinstance(e, OSError) and e.errno in ERRNO
