"""Who looks at a drop place again and again, and tells the sink what is new in it, once per content.

A file counts once it is whole (see `settled`); it is never moved, changed or deleted. Content is read only where its
stamp is new. What was told is kept in the store, so a restart tells nothing twice; after a kill between landing and
telling, the same event, by its id, is told again. A large place in which nothing happens is looked at less often, so
that looking takes no more than 1/SCAN_SHARE of a core, nor more than a request of a bucket's service per pause.
Called by `eventing.source`.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from cloudevents.core.v1.event import CloudEvent

from eventing import contract, files, landing, sender
from eventing.drop.memory import Memory
from eventing.drop.place import DropPlace, Found, Stamp
from eventing.errors import Rejected, Verdict
from monitoring import metrics

SCAN_SHARE = 250  # an idle scan may take 1/250 of a core: 0.4 %
LONGEST_POLL_S = 60.0  # even so; 3,000 files take 28 ms, so an idle folder of them is looked at every 7 s
SAVE_S = 10.0  # a first look at thousands of files takes minutes: what was told by then is not lost with the process
SEND_ATTEMPTS = 5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0  # after a store or sink that was away, doubled each time
UNNAMED = "unnamed"  # the dataset of a file that lies in none

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rules:
    """How what is dropped is taken."""

    trainer: str = landing.DEFAULT_TRAINER
    max_bytes: int = landing.MAX_BYTES
    settle_s: float = 2.0
    """Of a place that lists what is not whole: seconds that a file must not have changed for."""
    extensions: tuple[tuple[str, str], ...] = ()
    """Added to every event."""


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


def pause(poll_s: float, requests: int, worked_s: float) -> float:
    """Seconds until the next look after one that found nothing new. Pure.

    poll_s: at least. requests: that the look took; worked_s: of a processor.
    """
    return max(poll_s, min(LONGEST_POLL_S, max(poll_s * requests, worked_s * SCAN_SHARE)))


class Watcher:
    """Looks at one place. store_url: an fsspec URL, where what was dropped lands."""

    def __init__(
        self,
        place: DropPlace,
        store_url: str,
        sender: sender.Sender,
        rules: Rules,
        stop: threading.Event | None = None,
        save_s: float = SAVE_S,
    ) -> None:
        self._drop = place
        self._store_url = store_url
        self._sender = sender
        self._rules = rules
        self._stop = stop or threading.Event()
        self._save_s = save_s
        self._looks: dict[str, Look] = {}
        self.idle = False
        """Whether the last look found nothing that it had not dealt with before."""
        self._store = files.open_files(store_url)
        self._kept = f"sources/{hashlib.sha256(place.name.encode()).hexdigest()[:16]}.json"
        self._memory: Memory | None = None

    def look(self, now_s: float) -> int:
        """One look; how many files were dealt with. Raises RetryLater when the place, the store or the sink is away.

        now_s: of a monotonic clock. Ends early, between two files, once `stop` is set.
        """
        if self._memory is None:
            self._memory = Memory.from_json(files.read_json(self._store, self._kept) or {})
        memory = self._memory
        found = self._drop.listing()
        unknown = {path for path, each in found.items() if not memory.knows(landing.spelled(path), each.stamp)}
        self.idle = not unknown
        if not self._drop.whole:
            stamps = {path: each.stamp for path, each in found.items()}
            self._looks, whole = settled(self._looks, stamps, now_s, self._rules.settle_s)
            unknown.intersection_update(whole)
        done, unsaved, saved_s = 0, False, time.monotonic()
        try:
            for path in sorted(unknown):
                if self._stop.is_set():
                    break
                try:
                    self._tell(path, found[path], memory)
                    done, unsaved = done + 1, True
                except landing.Unfinished as e:
                    log.info("%s", e)  # the next look sees it changed, and waits for it; the others need not
                if unsaved and time.monotonic() - saved_s > self._save_s:
                    files.write_json(self._store, self._kept, memory.to_json())
                    unsaved, saved_s = False, time.monotonic()
        finally:
            # What was told before the sink went away must not be told again.
            if unsaved:
                files.write_json(self._store, self._kept, memory.to_json())
        return done

    def _tell(self, path: str, found: Found, memory: Memory) -> None:
        """The file at `path` as an event, and into the memory."""
        name = landing.spelled(path)
        dataset = name.partition("/")[0] if "/" in name else ""
        try:
            arrived = self._land(path, dataset, found)
        except FileNotFoundError:
            return  # taken away again before it could be read
        except Rejected as e:
            if self._drop.is_gone(path):
                return
            log.warning("%s", e)
            self._send(self._rejected(path, found.stamp, dataset or UNNAMED, str(e)))
            memory.files[name] = (found.stamp, metrics.REJECTED)
            metrics.FILES.labels(metrics.REJECTED).inc()
            return
        content = f"{dataset}/{arrived.sha256}"
        if content in memory.contents:
            log.info("%s holds what was dropped before (%s); nothing to tell", name, arrived.sha256[:12])
        else:
            event = landing.arrived_event(arrived, datetime.now(UTC))
            self._send(event)
            log.info("%s arrived as %s, event %s", name, arrived.uri, event.get_id())
        memory.contents.add(content)
        memory.files[name] = (found.stamp, arrived.sha256)
        metrics.FILES.labels(metrics.DONE).inc()

    def _land(self, path: str, dataset: str, found: Found) -> contract.DatasetArrived:
        """The file in the store. Raises what `landing.land` does, and FileNotFoundError."""
        if not dataset:
            raise Rejected(
                f"{landing.spelled(path)} lies in no dataset; put it into a sub-folder named after the dataset"
            )
        if found.folder:
            raise Rejected(
                f"{landing.spelled(path)} is a folder inside a dataset; put its files directly into {dataset}/"
            )
        # Before it is fetched: it may be much larger than what is allowed.
        landing.check(PurePosixPath(path).name, dataset, found.bytes, self._rules.max_bytes)
        with self._drop.fetch(path) as file:
            return landing.land(file, dataset, self._store_url, self._rules.trainer, max_bytes=self._rules.max_bytes)

    def _rejected(self, path: str, stamp: Stamp, dataset: str, reason: str) -> CloudEvent:
        uri = self._drop.uri(path)
        data = contract.DatasetRejected(dataset=dataset, uri=uri, reasons=(contract.Reason(what=reason),))
        id = contract.derived_id("refused", self._drop.name, landing.spelled(path), *map(str, stamp))
        return data.to_event(source=landing.SOURCE, id=id, time=datetime.now(UTC))

    def _send(self, event: CloudEvent) -> None:
        event.get_attributes().update(self._rules.extensions)
        self._sender.send(event, attempts=SEND_ATTEMPTS)


def watch(watcher: Watcher, place: DropPlace, poll_s: float, stop: threading.Event) -> None:
    """Looks again and again until `stop`; waits longer where the place, the store or the sink is away.

    So where the sink refuses an event for good: that says more of the sink's address than of a file.
    """
    away_s = 0.0
    while not stop.is_set():
        # Of a processor, and no wall clock: on a busy machine a scan waits, which is no work.
        began_s = time.process_time()
        try:
            watcher.look(time.monotonic())
            away_s = 0.0
        except Verdict as e:
            away_s = min(max(away_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            log.warning("%s; looking again in %.0f s", e, away_s)
        worked_s = time.process_time() - began_s
        stop.wait(max(pause(poll_s, place.requests(), worked_s) if watcher.idle else poll_s, away_s))
