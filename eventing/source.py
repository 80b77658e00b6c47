"""The folder source: a file copied into `<folder>/<dataset>/` becomes `dataset.arrived`, once per content.

Runs as a Knative ContainerSource, `python -m eventing.source`. A file counts once it is whole: the same size, time and
inode in two looks, the settle time apart. It is never moved, changed or deleted. What was told is kept in the store, so
a restart tells nothing twice; after a kill between landing and telling, the same event, by its id, is told again.

Scanning costs a stat per file; content is read only where that changed, and a large folder in which nothing happens is
looked at less often, so that looking takes no more than 1/SCAN_SHARE of a core.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloudevents.core.v1.event import CloudEvent

from eventing import contract, files, landing, sender, settings
from eventing.errors import Misconfigured, Rejected, RetryLater
from monitoring import metrics

SCAN_SHARE = 250  # an idle scan may take 1/250 of a core: 0.4 %
LONGEST_POLL_S = 60.0  # even so; 3,000 files take 28 ms, so an idle folder of them is looked at every 7 s
SEND_ATTEMPTS = 5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0  # after a store or sink that was away, doubled each time
UNNAMED = "unnamed"  # the dataset of a file that lies in none
UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".swp", ".swx", ".filepart", "~")

log = logging.getLogger(__name__)

arrived_event = landing.arrived_event
land = landing.land

Stamp = tuple[int, int, int]
"""Size in bytes, time of the last change in ns, inode: what changes when a file is written or replaced."""


@dataclass(frozen=True)
class Settings:
    """What the folder source is told by its environment."""

    drop_folder: Path
    """HEADRACE_DROP_FOLDER: the folder to watch; each sub-folder is a dataset. Made when absent."""
    store: str
    """HEADRACE_STORE: fsspec URL of the store."""
    sink: str
    """K_SINK: URL that takes the events, the Broker's."""
    trainer: str = landing.DEFAULT_TRAINER
    """HEADRACE_TRAINER: the trainer that learns what is dropped here."""
    max_bytes: int = landing.MAX_BYTES
    """HEADRACE_MAX_DATASET_BYTES: the largest file that is taken."""
    poll_s: float = 1.0
    """HEADRACE_POLL_S: seconds between two looks at the folder."""
    settle_s: float = 2.0
    """HEADRACE_SETTLE_S: seconds that a file must not have changed for."""
    extensions: tuple[tuple[str, str], ...] = ()
    """K_CE_OVERRIDES: extensions that the ContainerSource's `ceOverrides` adds to every event, as JSON."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises Misconfigured naming the key."""
        return cls(
            drop_folder=Path(settings.text(environ, "HEADRACE_DROP_FOLDER", "the folder to watch")),
            store=settings.text(environ, "HEADRACE_STORE", "the store's fsspec URL, such as file:///var/headrace"),
            sink=settings.text(environ, "K_SINK", "the URL that takes the events"),
            trainer=settings.text(environ, "HEADRACE_TRAINER", "a trainer's name", landing.DEFAULT_TRAINER),
            max_bytes=settings.whole_number(environ, "HEADRACE_MAX_DATASET_BYTES", landing.MAX_BYTES, 1, 2**40),
            poll_s=settings.number(environ, "HEADRACE_POLL_S", 1.0, 0.05, 3600),
            settle_s=settings.number(environ, "HEADRACE_SETTLE_S", 2.0, 0.0, 3600),
            extensions=_overrides(environ.get("K_CE_OVERRIDES", "")),
        )


@dataclass(frozen=True)
class Look:
    """When a file was first seen as it is."""

    stamp: Stamp
    since_s: float


def settled(
    looks: Mapping[str, Look], listing: Mapping[str, Stamp], now_s: float, settle_s: float
) -> tuple[dict[str, Look], list[str]]:
    """The new looks, and the paths of the files that are whole: seen twice, `settle_s` apart, without a change.

    now_s: of a monotonic clock. A modification time in the past proves nothing, for copying tools may set it.
    """
    seen: dict[str, Look] = {}
    whole: list[str] = []
    for path, stamp in listing.items():
        before = looks.get(path)
        if before is None or before.stamp != stamp:
            seen[path] = Look(stamp, now_s)
            continue
        seen[path] = before
        if now_s - before.since_s >= settle_s:
            whole.append(path)
    return seen, whole


def counts(name: str) -> bool:
    """Whether a file of this name is meant to be a dataset: neither hidden nor some program's unfinished work."""
    return not name.startswith((".", "~$", "#")) and not name.lower().endswith(UNFINISHED)


def listing(folder: Path) -> Iterator[tuple[str, Stamp]]:
    """Each candidate directly in `folder` and in its sub-folders: path relative to it, and stamp."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not counts(entry.name):
                continue
            try:
                if entry.is_dir():
                    with os.scandir(entry.path) as inside:
                        for file in inside:
                            # A folder inside a dataset holds none of its files; it is told like a file that cannot be.
                            if counts(file.name) and (file.is_file() or file.is_dir()):
                                yield f"{entry.name}/{file.name}", _stamp(file)
                elif entry.is_file():
                    yield entry.name, _stamp(entry)
            except (FileNotFoundError, PermissionError):
                continue  # gone, or shut, between the listing and the look; the next look tells


@dataclass
class Memory:
    """What was told already, kept as one JSON file beside the datasets it speaks of."""

    files: dict[str, tuple[Stamp, str]]
    """Path in the folder to its stamp then, and what became of it: a SHA-256, or `rejected`."""
    contents: set[str]
    """`<dataset>/<sha256>` of everything that was told."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Memory:
        files = {path: ((s[0], s[1], s[2]), became) for path, (s, became) in value.get("files", {}).items()}
        return cls(files, set(value.get("contents", ())))

    def to_json(self) -> dict[str, Any]:
        return {"files": self.files, "contents": sorted(self.contents)}


class Watcher:
    """Looks at the folder, and tells the sink what is new in it."""

    def __init__(self, settings: Settings, sender: sender.Sender, stop: threading.Event | None = None) -> None:
        self._settings = settings
        self._sender = sender
        self._stop = stop or threading.Event()
        self._looks: dict[str, Look] = {}
        self.idle = False
        """Whether the last look found nothing that it had not dealt with before."""
        self._store = files.open_files(settings.store)
        self._place = f"sources/{_digest(str(settings.drop_folder))[:16]}.json"
        self._memory: Memory | None = None

    def look(self, now_s: float) -> int:
        """One look; how many files were dealt with. Raises RetryLater when the store or the sink is away.

        now_s: of a monotonic clock. Ends early, between two files, once `stop` is set.
        """
        if self._memory is None:
            self._memory = Memory.from_json(files.read_json(self._store, self._place) or {})
        memory = self._memory
        found = dict(listing(self._settings.drop_folder))
        self._looks, whole = settled(self._looks, found, now_s, self._settings.settle_s)
        unknown = {path for path, stamp in found.items() if memory.files.get(path, (None,))[0] != stamp}
        self.idle = not unknown
        new = sorted(unknown.intersection(whole))
        done = 0
        try:
            for path in new:
                if self._stop.is_set():
                    break
                try:
                    self._tell(path, found[path], memory)
                    done += 1
                except landing.Unfinished as e:
                    log.info("%s", e)  # the next look sees it changed, and waits for it; the others need not
        finally:
            # What was told before the sink went away must not be told again.
            if done:
                files.write_json(self._store, self._place, memory.to_json())
        return done

    def _tell(self, path: str, stamp: Stamp, memory: Memory) -> None:
        """The file at `path` as an event, and into the memory."""
        file = self._settings.drop_folder / path
        dataset = path.partition("/")[0] if "/" in path else ""
        try:
            if not dataset:
                raise Rejected(f"{path} lies in no dataset; put it into a sub-folder named after the dataset")
            if file.is_dir():
                raise Rejected(f"{path} is a folder inside a dataset; put its files directly into {dataset}/")
            arrived = landing.land(
                file, dataset, self._settings.store, self._settings.trainer, max_bytes=self._settings.max_bytes
            )
        except Rejected as e:
            if not file.exists():
                return  # taken away again before it could be read
            log.warning("%s", e)
            self._send(self._rejected(path, stamp, dataset or UNNAMED, str(e)))
            memory.files[path] = (stamp, metrics.REJECTED)
            metrics.FILES.labels(metrics.REJECTED).inc()
            return
        content = f"{dataset}/{arrived.sha256}"
        if content in memory.contents:
            log.info("%s holds what was dropped before (%s); nothing to tell", path, arrived.sha256[:12])
        else:
            event = landing.arrived_event(arrived, datetime.now(UTC))
            self._send(event)
            log.info("%s arrived as %s, event %s", path, arrived.uri, event.get_id())
        memory.contents.add(content)
        memory.files[path] = (stamp, arrived.sha256)
        metrics.FILES.labels(metrics.DONE).inc()

    def _rejected(self, path: str, stamp: Stamp, dataset: str, reason: str) -> CloudEvent:
        uri = (self._settings.drop_folder.absolute() / path).as_uri()
        data = contract.DatasetRejected(dataset=dataset, uri=uri, reasons=(contract.Reason(what=reason),))
        id = contract.derived_id("refused", str(self._settings.drop_folder), path, *map(str, stamp))
        return data.to_event(source=landing.SOURCE, id=id, time=datetime.now(UTC))

    def _send(self, event: CloudEvent) -> None:
        event.get_attributes().update(self._settings.extensions)
        self._sender.send(event, attempts=SEND_ATTEMPTS)


def watch(watcher: Watcher, settings: Settings, stop: threading.Event) -> None:
    """Looks again and again until `stop`; waits longer where the store or the sink is away."""
    pause_s = 0.0
    while not stop.is_set():
        # Of this thread alone, and no wall clock: on a busy machine a scan waits, which is no work.
        began_s = time.thread_time()
        try:
            watcher.look(time.monotonic())
            pause_s = 0.0
        except RetryLater as e:
            pause_s = min(max(pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            log.warning("%s; looking again in %.0f s", e, pause_s)
        worked_s = time.thread_time() - began_s if watcher.idle else 0.0
        stop.wait(max(settings.poll_s, pause_s, min(worked_s * SCAN_SHARE, LONGEST_POLL_S)))


def main(environ: Mapping[str, str]) -> None:
    """The process. Ends with SIGTERM, between two files."""
    its = Settings.from_environment(environ)
    its.drop_folder.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log.info("watching %s for %s", its.drop_folder, its.sink)
    watch(Watcher(its, sender.Sender(its.sink), stop), its, stop)


def _stamp(entry: os.DirEntry[str]) -> Stamp:
    stat = entry.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _overrides(text: str) -> tuple[tuple[str, str], ...]:
    """The extensions in K_CE_OVERRIDES. Source: knative/specs, sources: `{"extensions": {name: value}}`."""
    try:
        extensions = json.loads(text or "{}").get("extensions") or {}
        return tuple((str(k), str(v)) for k, v in extensions.items())
    except (ValueError, AttributeError) as e:
        raise Misconfigured("K_CE_OVERRIDES", text, 'JSON such as {"extensions": {"team": "data"}}') from e


if __name__ == "__main__":
    settings.run(main, os.environ)
