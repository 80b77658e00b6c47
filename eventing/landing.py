"""A dropped file lands: checked, copied into the store whole, and told as `dataset.arrived`.

Called by `headrace drop` and by the source's watcher. What can be seen without knowing the dataset's columns is refused
here, in words for the person who dropped the file; rows and columns are the trainer's to judge. Landing the same
content twice gives the same file, the same digest and the same event id.

    <store>/datasets/<dataset>/<sha256>.<csv|parquet>    the rows
    <store>/datasets/<dataset>/<sha256>.json             the sidecar, written last: the rows are whole
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from cloudevents.core.v1.event import CloudEvent

from eventing import contract, files, settings
from eventing.errors import Rejected, RetryLater

SOURCE = "/headrace/eventing/source"  # constant: JobSink knows an event by source and id
DEFAULT_TRAINER = "random_forest"
SUFFIXES = (".csv", ".parquet")
MAX_BYTES = 64 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
MAX_NAME = 40  # a Knative Service's; tags, revisions and Triggers add up to 20 characters, and a DNS label holds 63
# A model's Service cannot be called so.
RESERVED = frozenset({"promoter", "drift-watch", "job-watch", "dead-letters", "journal", "default", "headrace"})

_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_TRAINER = re.compile(r"[a-z][a-z0-9_]{0,39}")
_PARQUET = b"PAR1"
_LINE_END = re.compile(rb"[\r\n]")
# What a file begins with when it is something else, and what its owner can do about it.
_KINDS = (
    (_PARQUET, "a Parquet file", "name it .parquet"),
    (b"\x1f\x8b", "gzip-compressed", "unpack it first"),
    (b"PK\x03\x04", "an Excel workbook or a zip archive", "save the sheet as CSV (UTF-8), or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV (UTF-8)"),
    (b"\xff\xfe", "UTF-16 text", "save it as CSV (UTF-8)"),
    (b"\xfe\xff", "UTF-16 text", "save it as CSV (UTF-8)"),
)


class Unfinished(RetryLater):
    """The file changed while it was being read, or its disk did not give all of it; it may be whole soon."""


def max_bytes(environ: Mapping[str, str]) -> int:
    """HEADRACE_MAX_DATASET_BYTES: the largest file that is learned from. Raises Misconfigured."""
    return settings.whole_number(environ, "HEADRACE_MAX_DATASET_BYTES", MAX_BYTES, 1, 2**40)


def check_name(dataset: str) -> None:
    """Raises Rejected unless `dataset` can name a model's Knative Service and stays clear of Headrace's own."""
    if dataset in RESERVED:
        raise Rejected(f"{dataset!r} is the name of a part of Headrace; choose another name for the dataset")
    if len(dataset) > MAX_NAME or not _NAME.fullmatch(dataset):
        raise Rejected(
            f"{dataset!r:.80} cannot name a dataset; expected 1 to {MAX_NAME} lower-case letters, digits and hyphens, "
            "a letter first, such as flights-2013"
        )


def check(name: str, dataset: str, bytes: int, max_bytes: int) -> str:
    """The suffix of a file that can be landed, by what a listing tells of it. Raises Rejected with what to do."""
    check_name(dataset)
    if spelled(name) != name:
        raise Rejected(f"{spelled(name)} has a name that is not UTF-8, which no event can carry; give it another one")
    suffix = _suffix(name)
    if bytes == 0:
        raise Rejected(f"{name} is empty; expected a header and rows")
    if bytes > max_bytes:
        raise Rejected(
            f"{name} holds {bytes:,} bytes; at most {max_bytes:,} are allowed: "
            "drop a sample of its rows, or raise HEADRACE_MAX_DATASET_BYTES"
        )
    return suffix


def spelled(name: str) -> str:
    """A file's name as text that can be told; of a byte that is no UTF-8, its number, as in `j\\udce4nner.csv`."""
    return name.encode("utf-8", "backslashreplace").decode()


def land(
    file: Path,
    dataset: str,
    store_url: str,
    trainer: str | None = None,
    target: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    max_bytes: int = MAX_BYTES,
) -> contract.DatasetArrived:
    """Copies `file` into the store and tells what arrived. The file itself is left as it is.

    store_url: an fsspec URL. Raises Rejected with what to do about it when the file can never be learned from,
    RetryLater while it is still being written or the store is away, Misconfigured for a URL that is none.
    """
    check_name(dataset)  # before the file: a name that cannot be is so whatever it holds
    if trainer is not None and not _TRAINER.fullmatch(trainer):
        raise Rejected(f"{trainer!r:.80} cannot name a trainer; expected lower-case letters, digits and underscores")
    store = files.open_files(store_url)
    folder = f"datasets/{dataset}"
    with _reading(file) as source:
        size = os.fstat(source.fileno()).st_size
        suffix = check(file.name, dataset, size, max_bytes)
        with store.stage(folder) as staged:
            sha256 = _copy(source, staged, file.name, suffix)
            if os.fstat(source.fileno()).st_size != size or staged.stat().st_size != size:
                raise Unfinished(f"{file.name} is still being written")
            path = f"{folder}/{sha256}{suffix}"
            store.adopt(staged, path)
    uri = files.uri(store_url, path)
    # The first time it came is when it came: a second drop of the same content changes nothing.
    sidecar = f"{folder}/{sha256}.json"
    record = files.read_json(store, sidecar)
    if record is None:
        record = {"uri": uri, "name": file.name, "bytes": size, "at": datetime.now(UTC).isoformat()}
        files.write_json(store, sidecar, record)
    return contract.DatasetArrived(
        dataset=dataset,
        uri=uri,
        sha256=sha256,
        bytes=size,
        name=str(record["name"]),
        trainer=trainer or DEFAULT_TRAINER,
        target=target,
        parameters=dict(parameters) if parameters else None,
    )


def arrived_event(arrived: contract.DatasetArrived, now: datetime, id: str | None = None) -> CloudEvent:
    """The event that says so. id: None for the one that this content, dropped with these wishes, has each time."""
    trainer = arrived.trainer or DEFAULT_TRAINER
    wishes = [arrived.target or "", json.dumps(arrived.parameters or {}, sort_keys=True)]
    parts = [arrived.dataset, arrived.sha256, trainer, *(wishes if arrived.target or arrived.parameters else [])]
    id = id or contract.derived_id("dataset", *parts)
    return arrived.to_event(source=SOURCE, id=id, time=now, extensions={"trainer": trainer})


def once_more(id: str) -> str:
    """The id of the event that says the same as the one called `id`, of which nothing has come."""
    return contract.derived_id("dataset", id, "once more")


def _suffix(name: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in SUFFIXES:
        return suffix
    advice = {
        ".gz": "unpack it first",
        ".zip": "unpack it first",
        ".xlsx": "save the sheet as CSV (UTF-8)",
        ".xls": "save the sheet as CSV (UTF-8)",
        ".tsv": "save it with commas, as .csv",
        ".txt": "if it holds comma-separated values, name it .csv",
    }.get(suffix, "export the table in one of these")
    raise Rejected(f"{name} is neither {' nor '.join(SUFFIXES)}; {advice}")


def _copy(source: BinaryIO, into: Path, name: str, suffix: str) -> str:
    """Copies to `into` and checks on the way; the SHA-256 in hexadecimal. Raises Rejected."""
    digest = hashlib.sha256()
    text = _Text(name) if suffix == ".csv" else None
    with into.open("wb") as copy:
        first, last = b"", b""
        while chunk := _chunk(source, name):
            first, last = first or chunk[:8], (last + chunk)[-4:]
            if text:
                text.add(chunk)
            digest.update(chunk)
            copy.write(chunk)
    if text:
        text.end()
    elif first[:4] != _PARQUET or last != _PARQUET:
        seen = "is cut off" if first[:4] == _PARQUET else f"begins with {first[:4]!r}"
        raise Rejected(f"{name} is no whole Parquet file: it {seen}; export or copy it again")
    return digest.hexdigest()


def _chunk(source: BinaryIO, name: str) -> bytes:
    try:
        return source.read(CHUNK_BYTES)
    except OSError as e:  # told here, or it would count as the store's
        raise Unfinished(f"{name} cannot be read to its end: {e.strerror}") from e


class _Text:
    """Whether a file, seen chunk by chunk, is text with a header and at least one row."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._lines = 0
        self._began = self._header = self._header_ended = self._row = False

    def add(self, chunk: bytes) -> None:
        if not self._began:
            self._began = True
            for magic, kind, advice in _KINDS:
                if chunk.startswith(magic):
                    raise Rejected(f"{self._name} is {kind}, not CSV; {advice}")
        if b"\0" in chunk:
            line = self._lines + chunk[: chunk.index(b"\0")].count(b"\n") + 1
            raise Rejected(f"{self._name} is binary, not CSV: line {line} holds a NUL byte; export the table again")
        try:
            self._decoder.decode(chunk)
        except UnicodeDecodeError as e:
            # A character may have begun in the chunk before: then the fault lies at this one's start.
            line = self._lines + chunk[: e.start].count(b"\n") + 1
            raise Rejected(f"{self._name} is not UTF-8 in line {line} ({e.reason}); save it as CSV (UTF-8)") from e
        self._lines += chunk.count(b"\n")
        self._look_for_row(chunk)

    def end(self) -> None:
        """Raises Rejected when the whole was no table."""
        try:
            self._decoder.decode(b"", final=True)
        except UnicodeDecodeError as e:
            raise Rejected(f"{self._name} ends within a character; copy or export it again") from e
        if not self._header:
            raise Rejected(f"{self._name} holds blanks alone; expected a header and rows")
        if not self._row:
            raise Rejected(f"{self._name} holds one line, a header perhaps; expected rows below it")

    def _look_for_row(self, chunk: bytes) -> None:
        if not self._header:
            chunk = chunk.lstrip()
            self._header = bool(chunk)
        if self._header and not self._header_ended and (end := _LINE_END.search(chunk)):
            self._header_ended = True
            chunk = chunk[end.start() :]
        if self._header_ended and not self._row:
            self._row = bool(chunk.strip())


@contextmanager
def _reading(file: Path) -> Iterator[BinaryIO]:
    try:
        source = file.open("rb")
    except FileNotFoundError as e:
        raise Rejected(f"{spelled(str(file))} is not there") from e
    except (PermissionError, IsADirectoryError) as e:
        raise Rejected(f"{file} cannot be read: {e.strerror}") from e
    except OSError as e:
        raise Unfinished(f"{file} cannot be read now: {e.strerror}") from e
    with source:
        yield source
