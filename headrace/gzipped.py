"""Files that may be gzip, by what is in them: a name may say anything."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

GZIP = b"\x1f\x8b"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked. Raises OSError; while read also EOFError and zlib.error, for gzip that is broken."""
    with path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP
        file.seek(0)
        if not packed:
            yield file
        else:
            with gzip.open(file) as plain:
                yield cast(BinaryIO, plain)
