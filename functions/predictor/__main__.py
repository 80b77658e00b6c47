"""The predictor's process: `python -m functions.predictor`.

The port opens first and readiness says 503 with the reason; the models are fetched, loaded and proved beside it, one
after the other. On SIGTERM readiness fails at once, requests still arriving are answered for the drain time, those in
flight to their end.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from eventing import server
from eventing.settings import run
from functions.predictor import ENTERED
from functions.predictor.admission import Admission
from functions.predictor.app import App
from functions.predictor.bodies import Bodies
from functions.predictor.catalog import Catalog
from functions.predictor.phases import Start, process_birth
from functions.predictor.repository import Repository
from functions.predictor.settings import Settings
from functions.store import Store

if TYPE_CHECKING:
    from functions.predictor.failures import Failures
    from functions.predictor.sampler import Sampler

SPARE_THREADS = 8  # beside those of the requests that are taken: for probes, metrics and refusals
FLUSH_S = 5.0  # what waits to be told to the sink may take this long after the last answer

log = logging.getLogger(__name__)


class Process:
    """One predictor, from its start to its last answer. Raises Misconfigured for a setting that cannot work."""

    def __init__(self, settings: Settings, phases: Start) -> None:
        self._settings = settings
        self._phases = phases
        self._stopping = threading.Event()
        self._catalog = Catalog([(m.name, m.version or "") for m in settings.models], settings.labels)
        self._admission = Admission(settings.concurrency, settings.waiting, settings.wait_s)
        store = Store.open(settings.store)
        self._repository = Repository(settings, store, self._catalog, self._stopping, self._admission.inferences)
        self._app = App(self._catalog, Bodies(settings.max_body_bytes), self._repository, self._admission.requests)
        self._sampler: Sampler | None = None
        self._failures: Failures | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT and the drain after it. To be called from the main thread."""
        server.serve(
            self._app,
            self._settings.port,
            self._settings.host,
            blocking_threads=self._admission.requests.count + SPARE_THREADS,
            direct=self._app.direct,
            drain_s=self._settings.drain_s,
            on_listening=self._listening,
            on_stopping=self._leave,
            on_drained=self._flush,
        )

    def _listening(self, port: int) -> None:
        threading.Thread(target=self._start, name="start", daemon=True).start()

    def _leave(self) -> None:
        self._catalog.draining = True
        self._stopping.set()

    def _start(self) -> None:
        """Make the models ready, beside the open port."""
        try:
            import functions.model  # noqa: F401 - numpy and onnxruntime: most of a cold start, hence not before
            from functions.predictor import failures, sampler

            self._phases.imported()
            self._sampler = self._repository.teller = sampler.of(self._settings)
            self._failures = self._repository.failures = failures.of(self._settings, self._stopping)
            self._repository.start(self._phases)
        except Exception as e:
            log.exception("the predictor cannot start")
            for wanted in self._settings.models:
                self._catalog.fails(wanted.name, wanted.version or "", f"the start failed: {type(e).__name__}: {e}")

    def _flush(self) -> None:
        end = time.monotonic() + FLUSH_S
        for told in (self._failures, self._sampler):
            if told is not None:
                told.close(max(0.0, end - time.monotonic()))


def main(environ: Mapping[str, str]) -> None:
    settings = Settings.from_environment(environ)
    Process(settings, Start(process_birth(ENTERED), ENTERED)).run()


if __name__ == "__main__":
    run(main, os.environ)
