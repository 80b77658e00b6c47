"""Versions on their way: from the store into the catalog, and out again, while the process answers.

Used by the process at its start, and by the protocols for whoever asks for a version to be loaded or unloaded. What is
wrong with a version is told on its `ready` path, in the log and as an event; the versions beside it go on answering.

Source: the policies are those of Triton's explicit model control, github.com/triton-inference-server/server,
docs/user_guide/model_management.md, its version policy `latest` included.
"""

from __future__ import annotations

import functools
import gc
import logging
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventing.errors import Rejected, RetryLater
from eventing.storage import AWAY_S
from functions.predictor.admission import Admission, Turns
from functions.predictor.answers import NOT_FOUND, UNSUPPORTED, Refusal
from functions.predictor.catalog import UNLOADED, Catalog, age
from functions.predictor.phases import Phases, Start
from functions.predictor.served import Served
from functions.predictor.settings import CONTROL, Settings, Wanted
from functions.predictor.statistics import PREDICTIONS, Statistics
from functions.store import Store
from monitoring import predictions

if TYPE_CHECKING:
    from functions.model import Model
    from functions.predictor.batcher import Batcher
    from functions.predictor.outbox.failures import Failures
    from functions.predictor.outbox.sampler import Sampler

QUICK_S = 0.001  # an inference that takes less needs no place
LOOK_S = 0.005  # between two looks whether the last request of a version is answered
# After its last answer a version is held by what tells of it, such as a sample that waits for a slow sink. Longer than
# this nobody waits for its memory, which comes back by itself once it is let go.
LET_GO_S = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A version that takes no request any more. Holds nothing of it, or it would never be gone."""

    name: str
    version: str
    statistics: Statistics
    model: weakref.ref[Model]


class Repository:
    """What loads and unloads, one at a time; any thread may ask.

    teller: told of predictions; failures: told of versions that cannot serve; None: nobody is. stopping: set when the
    process ends.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        catalog: Catalog,
        stopping: threading.Event,
        inferences: Turns | None = None,
    ) -> None:
        self.catalog = catalog
        self.teller: Sampler | None = None
        self.failures: Failures | None = None
        self._settings = settings
        self._store = store
        self._stopping = stopping
        self._inferences = inferences or Admission().inferences
        # Asked for by name, and hence not unloaded because a newer one came.
        self._named = {(wanted.name, wanted.version) for wanted in settings.models if wanted.version is not None}
        self._named |= {(name, version) for name, labels in settings.labels.items() for version in labels.values()}
        self._changing = threading.Lock()

    # ------------------------------------------------------------------ at the start

    def start(self, start: Start) -> None:
        """Make every model of the settings answer, in their order, or leave the reason why one never will.

        What the store does not have yet is tried again, and holds up none of the others. Returns when each answers or
        can never serve, or when the process ends before.
        """
        due = dict.fromkeys(self._settings.models, 0.0)  # when each is tried next, by time.monotonic()
        while due and not self._stopping.is_set():
            for wanted in [wanted for wanted, at in due.items() if at <= time.monotonic()]:
                if self._stopping.is_set():
                    return
                del due[wanted]
                try:
                    again = self._begin(wanted, start)
                except Exception as e:
                    log.exception("%s cannot start", wanted.name)
                    self._failed(wanted.name, wanted.version or "", f"the start failed: {type(e).__name__}: {e}")
                else:
                    due |= again
            if due:
                self._stopping.wait(max(0.0, min(due.values()) - time.monotonic()))

    def _begin(self, wanted: Wanted, start: Start) -> dict[Wanted, float]:
        """Make one model of the settings answer; what is to be tried again, and when."""
        name, version = wanted.name, wanted.version or ""
        with self._changing:
            try:
                if not version and self.catalog.expects(name, version):
                    version = self._serving(name)
                    self.catalog.resolved(name, version)
                if self.catalog.expects(name, version):  # it may have been loaded or unloaded by somebody meanwhile
                    self._proved(name, version, start)
            except RetryLater as e:
                log.warning("%s is not ready: %s; again in %.0f s", _called(name, version), e, e.after_s)
                self.catalog.waits(name, version, str(e))
                self._tell(name, version, str(e), retryable=True)
                return {Wanted(name, version or None): time.monotonic() + e.after_s}
            except Rejected as e:
                self._failed(name, version, str(e))
        return {}

    def _serving(self, name: str) -> str:
        """The version that the store says is serving, else, where that may be, its newest. Raises RetryLater: none."""
        if (serving := self._store.serving(name)) is not None:
            return serving.version
        if not self._settings.unpromoted:
            raise RetryLater(f"no version of {name} was promoted in the store {self._store.url} yet", AWAY_S)
        if versions := self._store.versions(name):
            return max(versions, key=age)
        raise RetryLater(f"{name} is not in the store {self._store.url} yet", AWAY_S)

    # ------------------------------------------------------------------ when it is asked for

    def load(self, model: str, version: str | None = None) -> str:
        """Make a version answer, and say which; nothing where it does already.

        version: beside those that answer; None: the store's newest, after which the versions that nobody asked for by
        name take no new request and are unloaded, each after its last one. Raises Refusal (404) for what the store has
        not, Rejected for what can never serve, RetryLater while the store is away; what answers goes on answering.
        """
        self._check_control()
        with self._changing:
            here = self._store.versions(model)
            if not here or (version is not None and version not in here):
                has = ", ".join(here[-10:]) or "no version of it"
                raise Refusal(NOT_FOUND, f"{_called(model, version or '')} is not in the store, which has {has}")
            wanted = max(here, key=age) if version is None else version
            if not self.catalog.answers(model, wanted):
                self._load(model, wanted)
            if version is not None:
                self._named.add((model, version))
                return wanted
            self.catalog.resolved(model, wanted)
            others = [e.version for e in self.catalog.entries(model) if e.version != wanted and e.reason != UNLOADED]
            leaving = [self._leave(model, other) for other in others if (model, other) not in self._named]
        for left in filter(None, leaving):
            # Whoever asked waits for the new version, not for the last answer of the old one.
            threading.Thread(target=self._let_go, args=(left,), name="unload", daemon=True).start()
        return wanted

    def unload(self, model: str, version: str | None = None) -> None:
        """Take a version out, None: every one of the model. From now on they are 404; the server stays ready.

        Returns when the requests in flight are answered and the memory is given back. Raises Refusal (404) for what is
        not served here.
        """
        self._check_control()
        with self._changing:
            # Names alone: an entry that is kept here would keep its model.
            if version is None:
                versions = [entry.version for entry in self.catalog.entries(model)]
            else:
                versions = [self.catalog.entry(model, version).version]
            leaving = [self._leave(model, each) for each in versions]
            self._named -= {(model, each) for each in versions}
        for left in filter(None, leaving):
            self._let_go(left)

    def _check_control(self) -> None:
        """Raises Refusal (501) where nobody at the port is to change what is served."""
        if not self._settings.model_control:
            raise Refusal(
                UNSUPPORTED, f"models are neither loaded nor unloaded by request here; {CONTROL}=on allows it"
            )

    def available(self) -> Mapping[str, tuple[str, ...]]:
        """By model, the versions that the store has, loaded or not, oldest first. Raises RetryLater."""
        return {name: tuple(sorted(versions, key=age)) for name, versions in self._store.packages().items()}

    def _load(self, name: str, version: str) -> None:
        self.catalog.loads(name, version)
        try:
            self._proved(name, version)
        except RetryLater as e:
            # Who asked may ask again; unless the start wants it too, nobody here does.
            self.catalog.fails(name, version, str(e))
            self._tell(name, version, str(e), retryable=True)
            raise
        except Rejected as e:
            self._failed(name, version, str(e))
            raise
        except Exception as e:
            self._failed(name, version, f"loading failed: {type(e).__name__}: {e}")
            raise

    # ------------------------------------------------------------------ in

    def _proved(self, name: str, version: str, start: Start | None = None) -> None:
        """Fetch, load, self-test; then it answers. start: the process's, where it is part of that.

        Raises RetryLater while the store is away, Rejected for what can never serve.
        """
        from functions.model import Model  # numpy and onnxruntime: most of a cold start

        phases = Phases()
        with phases.measure("fetch"):
            package = self._store.fetch(name, version, self._settings.cache)
        with phases.measure("load"):
            model = Model.load(package, self._settings.threads, self._settings.providers, self._settings.cache)
        manifest = model.manifest
        if manifest is not None and (manifest.name, manifest.version) != (name, version):
            raise Rejected(f"the package at {name} {version} says that it is {manifest.name} {manifest.version}")
        with phases.measure("self_test"):
            model.self_test()
        revision = self._settings.revision
        tell = self.teller.offer if self.teller else None
        # Quick ones end before another could begin, and to hold and pass on a place would cost them more than that.
        quick = len(model.samples) > 0 and phases.seconds["self_test"] < QUICK_S * len(model.samples)
        inferences = None if quick else self._inferences
        served = Served(name, version, model, revision, tell, inferences, self._batcher(name, version, model))
        served.reply_as = self._settings.reply_as
        if start is not None:
            served.answered_once = start.answered
        seconds = sum(phases.seconds.values()) if start is None else start.ready(phases)
        self.catalog.put(served)
        predictions.MODEL_LOAD_SECONDS.labels(name, version).set(seconds)
        predictions.MODEL_INFO.labels(name, version, revision or "").set(1)
        log.info("%s %s is ready; seconds by phase: %s", name, version, phases)

    def _batcher(self, name: str, version: str, model: Model) -> Batcher | None:
        """What joins requests that come together, where that pays."""
        if self._settings.batching == "off":
            return None
        from functions.predictor import batching

        decision = batching.decide(model, self._settings.batching)
        log.info("%s %s: batching %s: %s", name, version, "on" if decision.on else "off", decision.reason)
        predictions.BATCHING.labels(name, version).set(decision.on)
        if not decision.on:
            return None
        from functions.predictor.batcher import Batcher

        return Batcher(model.infer, max_rows=self._settings.batch_rows)

    def _failed(self, name: str, version: str, reason: str) -> None:
        log.error("%s can never serve: %s", _called(name, version), reason)
        self.catalog.fails(name, version, reason)
        self._tell(name, version, reason, retryable=False)

    def _tell(self, name: str, version: str, reason: str, *, retryable: bool) -> None:
        if self.failures is not None:
            self.failures.offer(name, version, reason, retryable=retryable)

    # ------------------------------------------------------------------ out

    def _leave(self, name: str, version: str) -> _Leaving | None:
        """Take no new request for it; None where it takes none anyway."""
        served = self.catalog.unload(name, version)
        if served is None:
            return None
        predictions.MODEL_INFO.remove(name, version, self._settings.revision or "")
        predictions.MODEL_LOAD_SECONDS.remove(name, version)
        predictions.BATCHING.remove(name, version)
        return _Leaving(name, version, served.statistics, weakref.ref(served.model))

    def _let_go(self, leaving: _Leaving) -> None:
        """Wait for its last answer, then for its memory.

        A request that found the version before it left, and is not counted yet, holds it: the session goes with the
        last who holds it, never under one.
        """
        from functions.model import give_back

        while leaving.statistics.in_flight:
            time.sleep(LOOK_S)
        until = functools.partial(_until_gone, leaving.model)
        if not until(LET_GO_S / 10):
            gc.collect()  # the traceback of an inference that failed holds its frames, and they the model
            if not until(LET_GO_S):
                log.warning("%s %s is held by something yet", leaving.name, leaving.version)
        give_back()
        PREDICTIONS.retire(leaving.statistics)
        self.catalog.gone(leaving.name, leaving.version)
        log.info("%s %s is unloaded", leaving.name, leaving.version)


def _until_gone(model: weakref.ref[Model], at_most_s: float) -> bool:
    end = time.monotonic() + at_most_s
    while model() is not None and time.monotonic() < end:
        time.sleep(LOOK_S)
    return model() is None


def _called(name: str, version: str) -> str:
    return f"{name} {version}".rstrip()
