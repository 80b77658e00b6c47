"""A predictor's process, whatever it listens to: what is served, its start beside the open port, its end.

Used by the HTTP predictor (`functions.predictor.__main__`) and by the gRPC one. The port opens first; the models are
fetched, loaded and proved beside it, one after the other.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from functions.predictor.admission import Admission
from functions.predictor.catalog import Catalog
from functions.predictor.phases import Start
from functions.predictor.repository import Repository
from functions.predictor.settings import Settings
from functions.predictor.statistics import PREDICTIONS
from functions.store import Store

if TYPE_CHECKING:
    from functions.predictor.outbox.failures import Failures
    from functions.predictor.outbox.sampler import Sampler

SPARE_THREADS = 8  # beside those of the requests that are taken: for probes, metrics and refusals
FLUSH_S = 5.0  # what waits to be told to the sink may take this long after the last answer

log = logging.getLogger(__name__)


class Process:
    """One predictor, from its start to its last answer. Raises Misconfigured for a setting that cannot work."""

    def __init__(self, settings: Settings, phases: Start) -> None:
        self.catalog = Catalog([(m.name, m.version or "") for m in settings.models], settings.labels)
        self.admission = Admission(settings.concurrency, settings.waiting, settings.wait_s)
        PREDICTIONS.names = settings.metrics_names
        self._settings = settings
        self._phases = phases
        self._stopping = threading.Event()
        store = Store.open(settings.store)
        self.repository = Repository(settings, store, self.catalog, self._stopping, self.admission.inferences)
        self._sampler: Sampler | None = None
        self._failures: Failures | None = None

    @property
    def threads(self) -> int:
        """How many the server needs, so that none of the requests that are taken waits for one."""
        return self.admission.requests.count + SPARE_THREADS

    def listening(self, port: int) -> None:
        """The port is open: make the models ready, beside it."""
        threading.Thread(target=self._start, name="start", daemon=True).start()

    def leave(self) -> None:
        """It was asked to end: not ready from now on."""
        self.catalog.draining = True
        self._stopping.set()

    def flush(self) -> None:
        """The last answer is out: tell what waits to be told."""
        for told in (self._failures, self._sampler):
            if told is not None:
                told.close(FLUSH_S)

    def _start(self) -> None:
        try:
            with _uncollected():
                import functions.model  # noqa: F401 - numpy and onnxruntime: most of a cold start, hence not before
                from functions.predictor.outbox import failures, sampler

            self._phases.imported()
            self._sampler = self.repository.teller = sampler.of(self._settings)
            self._failures = self.repository.failures = failures.of(self._settings, self._stopping)
            self.repository.start(self._phases)
        except Exception as e:
            log.exception("the predictor cannot start")
            for wanted in self._settings.models:
                self.catalog.fails(wanted.name, wanted.version or "", f"the start failed: {type(e).__name__}: {e}")


@contextmanager
def _uncollected() -> Iterator[None]:
    """Imports within: what they make is for good, and to look for garbage in it takes 4 % of a cold start, and then a
    millisecond of somebody's request each time again.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
