"""From an address in the store to a model that answers: fetch, digests, load, self-test, each phase measured.

Imports numpy and onnxruntime, hence imported itself only when the port is open. While the store is away it waits and
says so; what can never succeed (a digest that differs, a self-test that fails) leaves the process alive, never ready,
with the reason on the model's `ready` path: the version before goes on serving, and an operator can ask.
"""

from __future__ import annotations

import logging
import threading

from eventing.errors import Rejected, RetryLater
from functions.model import Model
from functions.predictor.app import App
from functions.predictor.catalog import Catalog, Served
from functions.predictor.phases import Phases
from functions.predictor.sampler import Sampler, Tell
from functions.predictor.settings import Settings
from functions.store import Store
from monitoring import metrics

log = logging.getLogger(__name__)


def sampler(settings: Settings) -> Sampler | None:
    """Who tells predictions over HTTP to the sink; None where nobody is to be told."""
    sink = settings.sink
    if sink is None or settings.samples_per_s == 0:
        return None

    def open_teller() -> Tell:
        from functions.predictor import made  # the imports of events and HTTP, when the first answer is out

        return made.Teller(sink, settings.revision or settings.model)

    return Sampler(open_teller, settings.samples_per_s)


def start(
    settings: Settings,
    store: Store,
    catalog: Catalog,
    app: App,
    teller: Sampler | None,
    phases: Phases,
    stopping: threading.Event,
) -> None:
    """Make the model answer through `app`, or leave the reason in `catalog` why it never will.

    Returns when it answers, when it can never serve, or when `stopping` is set before.
    """
    while not stopping.is_set():
        try:
            served = _load(settings, store, phases, teller)
        except RetryLater as e:
            log.warning("%s %s is not ready: %s; again in %.0f s", settings.model, settings.version, e, e.after_s)
            catalog.waits(settings.model, str(e))
            stopping.wait(e.after_s)
        except Rejected as e:
            log.error("%s %s can never serve: %s", settings.model, settings.version, e)
            catalog.waits(settings.model, str(e))
            return
        else:
            served.answered_once = lambda: phases.reached("first_answer")
            seconds = phases.reached("ready")
            app.serve(served)
            name, version = settings.model, settings.version
            metrics.MODEL_LOAD_SECONDS.labels(name, version).set(seconds)
            metrics.MODEL_INFO.labels(name, version, settings.revision or "").set(1)
            log.info("%s %s is ready; seconds by phase: %s", name, version, phases)
            return


def _load(settings: Settings, store: Store, phases: Phases, teller: Sampler | None) -> Served:
    """The model, proved. Raises RetryLater while the store is away, Rejected for what can never serve."""
    with phases.measure("fetch"):
        package = store.fetch(settings.model, settings.version, settings.cache)
    with phases.measure("load"):
        model = Model.load(package, settings.threads)
    manifest = model.manifest
    if manifest is not None and (manifest.name, manifest.version) != (settings.model, settings.version):
        raise Rejected(
            f"the package at {settings.model} {settings.version} says that it is {manifest.name} {manifest.version}"
        )
    with phases.measure("self_test"):
        model.self_test()
    tell = None if teller is None else teller.offer
    return Served(settings.model, settings.version, model, settings.revision, tell)
