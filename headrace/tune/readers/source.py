"""The bytes of a recording: unpacked where they are gzip, refused with a reason where they cannot be read."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from headrace import gzipped
from headrace.tune.traffic import BadTraffic

PARQUET = b"PAR1"
HEAD_BYTES = 1 << 20  # enough to see the format by: a published header names 5,093 functions
BLOCK_BYTES = 16 << 20  # of lines at once: large enough for vectorised parsing, small beside the arrays that come of it
DOCUMENT_BYTES = 512 << 20  # a day of a thousand series with a step of 15 s has 150 MB
# What people have and cannot be read as it is: how the file begins, what that is, what to do.
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive; unpack it and give the file inside"),
    (b"\xfd7zXZ\x00", "packed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd; unpack it first"),
    (b"BZh", "packed with bzip2; unpack it first"),
    (b"SQLite format 3\0", "an SQLite database; export its table of requests as CSV"),
    (b"Rar!", "a rar archive; unpack it and give the file inside"),
    (b"\xff\xfe", "text in UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16; save it as UTF-8"),
)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, gzip unpacked. Raises BadTraffic for what is absent, broken or ends early, also while read."""
    try:
        with gzipped.opened(path) as file:
            yield file
    except EOFError as e:
        raise BadTraffic(f"{path} is gzip that ends early: it was cut off; copy it again") from e
    except (gzip.BadGzipFile, zlib.error) as e:
        raise BadTraffic(f"{path} is broken gzip ({e}); copy it again") from e
    except FileNotFoundError as e:
        raise BadTraffic(f"there is no file {path}") from e
    except OSError as e:
        raise BadTraffic(f"{path} cannot be read: {e.strerror or e}") from e


def head(path: Path) -> bytes:
    """The first `HEAD_BYTES`, unpacked. Raises BadTraffic for an empty file and for one of a foreign kind."""
    with opened(path) as file:
        first = file.read(HEAD_BYTES)
    if not first.strip():
        raise BadTraffic(f"{path} is empty; expected a recording of requests")
    for magic, remedy in _FOREIGN:
        if first.startswith(magic):
            raise BadTraffic(f"{path} is {remedy}")
    return first


def lines(path: Path) -> Iterator[list[bytes]]:
    """The file's lines that are not empty, without their ends, some `BLOCK_BYTES` at a time."""
    rest = b""
    with opened(path) as file:
        while block := file.read(BLOCK_BYTES):
            whole, newline, rest_of_block = block.rpartition(b"\n")
            if not newline:
                rest += block
                continue
            yield [line for line in (rest + whole).splitlines() if line]
            rest = rest_of_block
    if rest.strip():
        yield [line for line in rest.splitlines() if line]


def whole(path: Path) -> bytes:
    """All bytes of a document that cannot be read in parts. Raises BadTraffic for one too large for that."""
    with opened(path) as file:
        document = file.read(DOCUMENT_BYTES + 1)
    if len(document) > DOCUMENT_BYTES:
        raise BadTraffic(
            f"{path} is larger than {DOCUMENT_BYTES >> 20:,} MiB and is one document; expected fewer series or a "
            "longer step"
        )
    return document


def text(path: Path) -> str:
    """The same as text."""
    return whole(path).decode(errors="replace")
