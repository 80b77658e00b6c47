"""Versions on their way: from the store into the catalog, and out again, while the process answers.

Used by the process at its start, and by whoever asks for a version to be loaded or unloaded. What is wrong with a
version is told on its `ready` path and in the log; the versions beside it go on answering.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from eventing.errors import Rejected, RetryLater
from functions.predictor.catalog import Catalog, Served
from functions.predictor.phases import Phases
from functions.predictor.settings import Settings
from functions.store import Store
from monitoring import metrics

if TYPE_CHECKING:
    from functions.predictor.sampler import Sampler

log = logging.getLogger(__name__)


class Repository:
    """What loads and unloads. teller: told of predictions; None: nobody is. stopping: set when the process ends."""

    def __init__(self, settings: Settings, store: Store, catalog: Catalog, stopping: threading.Event) -> None:
        self.catalog = catalog
        self.teller: Sampler | None = None
        self._settings = settings
        self._store = store
        self._stopping = stopping

    def start(self, name: str, version: str, phases: Phases) -> None:
        """Make `version` answer, or leave the reason why it never will; waits while the store is away.

        Returns when it answers, when it can never serve, or when the process ends before.
        """
        while not self._stopping.is_set():
            try:
                served = self._proved(name, version, phases)
            except RetryLater as e:
                log.warning("%s %s is not ready: %s; again in %.0f s", name, version, e, e.after_s)
                self.catalog.waits(name, version, str(e))
                self._stopping.wait(e.after_s)
            except Rejected as e:
                log.error("%s %s can never serve: %s", name, version, e)
                self.catalog.fails(name, version, str(e))
                return
            else:
                served.answered_once = lambda: phases.reached("first_answer")
                seconds = phases.reached("ready")
                self.catalog.put(served)
                metrics.MODEL_LOAD_SECONDS.labels(name, version).set(seconds)
                metrics.MODEL_INFO.labels(name, version, self._settings.revision or "").set(1)
                log.info("%s %s is ready; seconds by phase: %s", name, version, phases)
                return

    def _proved(self, name: str, version: str, phases: Phases) -> Served:
        """The model, self-tested. Raises RetryLater while the store is away, Rejected for what can never serve."""
        from functions.model import Model  # numpy and onnxruntime: most of a cold start

        with phases.measure("fetch"):
            package = self._store.fetch(name, version, self._settings.cache)
        with phases.measure("load"):
            model = Model.load(package, self._settings.threads)
        manifest = model.manifest
        if manifest is not None and (manifest.name, manifest.version) != (name, version):
            raise Rejected(f"the package at {name} {version} says that it is {manifest.name} {manifest.version}")
        with phases.measure("self_test"):
            model.self_test()
        return Served(name, version, model, self._settings.revision, self.teller.offer if self.teller else None)
