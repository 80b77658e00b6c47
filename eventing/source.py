"""The source: a file dropped as `<dataset>/<file>` into a folder or a bucket becomes `dataset.arrived`.

Runs as a Knative ContainerSource, `python -m eventing.source`. How a place is looked at, and what is told once, is in
`eventing.drop`; how a file lands in the store, in `eventing.landing`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from eventing import files, landing, sender, settings
from eventing.drop import folder, kinds, place
from eventing.drop.watcher import Rules, Watcher, watch
from eventing.errors import Misconfigured

log = logging.getLogger(__name__)

arrived_event = landing.arrived_event
land = landing.land


@dataclass(frozen=True)
class Settings:
    """What the source is told by its environment."""

    drop: str
    """HEADRACE_DROP: where files are dropped, a folder's path or an fsspec URL such as s3://bucket/drop; in it, each
    sub-folder is a dataset. Default: `drop` in the store."""
    store: str
    """HEADRACE_STORE: fsspec URL of the store."""
    sink: str
    """K_SINK: URL that takes the events, the Broker's."""
    trainer: str = landing.DEFAULT_TRAINER
    """HEADRACE_TRAINER: the trainer that learns what is dropped here."""
    max_bytes: int = landing.MAX_BYTES
    """HEADRACE_MAX_DATASET_BYTES: the largest file that is taken."""
    poll_s: float | None = None
    """HEADRACE_POLL_S: seconds between two looks; None: what suits the place."""
    settle_s: float = 2.0
    """HEADRACE_SETTLE_S: seconds that a file must not have changed for, where it can be seen before it is whole."""
    extensions: tuple[tuple[str, str], ...] = ()
    """K_CE_OVERRIDES: extensions that the ContainerSource's `ceOverrides` adds to every event, as JSON."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises Misconfigured naming the key."""
        store = settings.text(environ, "HEADRACE_STORE", "the store's fsspec URL, such as file:///var/headrace")
        poll_s = (
            settings.number(environ, "HEADRACE_POLL_S", 0.0, 0.05, 3600) if environ.get("HEADRACE_POLL_S") else None
        )
        return cls(
            drop=settings.text(environ, place.SETTING, "a folder or an fsspec URL", files.uri(store, "drop")),
            store=store,
            sink=settings.text(environ, "K_SINK", "the URL that takes the events"),
            trainer=settings.text(environ, "HEADRACE_TRAINER", "a trainer's name", landing.DEFAULT_TRAINER),
            max_bytes=landing.max_bytes(environ),
            poll_s=poll_s,
            settle_s=settings.number(environ, "HEADRACE_SETTLE_S", 2.0, 0.0, 3600),
            extensions=_overrides(environ.get("K_CE_OVERRIDES", "")),
        )

    @property
    def rules(self) -> Rules:
        return Rules(self.trainer, self.max_bytes, self.settle_s, self.extensions)


def main(environ: Mapping[str, str]) -> None:
    """The process. Ends with SIGTERM, between two files."""
    its = Settings.from_environment(environ)
    dropped = kinds.open_place(its.drop)
    if isinstance(dropped, folder.Folder):
        dropped.make()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log.info("watching %s for %s", dropped.name, its.sink)
    watcher = Watcher(dropped, its.store, sender.Sender(its.sink), its.rules, stop)
    watch(watcher, dropped, its.poll_s or dropped.pause_s, stop)


def _overrides(text: str) -> tuple[tuple[str, str], ...]:
    """The extensions in K_CE_OVERRIDES. Source: knative/specs, sources: `{"extensions": {name: value}}`."""
    try:
        extensions = json.loads(text or "{}").get("extensions") or {}
        return tuple((str(k), str(v)) for k, v in extensions.items())
    except (ValueError, AttributeError) as e:
        raise Misconfigured("K_CE_OVERRIDES", text, 'JSON such as {"extensions": {"team": "data"}}') from e


if __name__ == "__main__":
    settings.run(main, os.environ)
