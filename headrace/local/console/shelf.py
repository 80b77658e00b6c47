"""What the store says of models, for the page: read off the loop, seldom, and never blinded by one broken file."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ParamSpec, TypeVar

from eventing import settings
from eventing.errors import HeadraceError
from functions.package import Manifest
from functions.store import Store

log = logging.getLogger(__name__)

STORE_FRESH_S = 5.0  # packages change with a training, the page asks every few seconds
STORE_WAIT_S = 1.0  # a slow store's answer is shown when it comes; the page does not wait for it
VERSIONS_SHOWN = 20
SCORES = ("roc_auc", "accuracy", "log_loss")

Row = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")


class Shelf:
    """What the store says of models, read off the loop, and at most every few seconds. A package never changes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._read_at = -math.inf
        self._reading: asyncio.Task[None] | None = None
        self._models: dict[str, Row] = {}
        self._fault = ""
        self._manifests: dict[tuple[str, str], Manifest] = {}

    async def models(self, limits: Mapping[str, str]) -> tuple[dict[str, Row], str]:
        """By name, and why they are not of now, where they are not. limits: values of the ConfigMap `headrace`."""
        if self._reading is None and time.monotonic() - self._read_at >= STORE_FRESH_S:
            self._reading = asyncio.create_task(self._refresh(limits))
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=STORE_WAIT_S)
        return self._models, self._fault

    def forget(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    async def _refresh(self, limits: Mapping[str, str]) -> None:
        try:
            self._models = await asyncio.to_thread(self._look, limits)
            self._fault = ""
        except Exception as e:  # whatever it is, the page says so instead of looking empty
            log.warning("the console cannot read the store", exc_info=True)
            self._fault = f"The store cannot be read; what stands here of models is from before. {e}"
        finally:
            self._read_at, self._reading = time.monotonic(), None

    def _look(self, limits: Mapping[str, str]) -> dict[str, Row]:
        store = Store.open(self._url)
        models = {}
        for name in store.models():
            faults: list[str] = []
            serving = _or_fault(faults, store.serving, name)
            rows = [self._version(store, name, v) for v in store.versions(name)[-VERSIONS_SHOWN:]]
            models[name] = {
                "serving": asdict(serving) if serving else None,
                "versions": [row | {"serves": bool(serving and serving.version == row["version"])} for row in rows],
                "drift": _or_fault(faults, self._drift, store, name, limits),
                "faults": faults,
            }
        return models

    def _manifest(self, store: Store, model: str, version: str) -> Manifest:
        if (model, version) not in self._manifests:
            self._manifests[model, version] = store.manifest(model, version)
        return self._manifests[model, version]

    def _version(self, store: Store, model: str, version: str) -> Row:
        try:
            manifest = self._manifest(store, model, version)
        except HeadraceError as e:
            return {"version": version, "fault": str(e)}  # one broken package must not blind the page to the others
        return {
            "version": version,
            "trainer": manifest.trainer,
            "rows": manifest.dataset.get("rows"),
            "created": manifest.created,
            "scores": {s: manifest.scores[s] for s in SCORES if s in manifest.scores},
            "parity": {k: manifest.parity.get(k) for k in ("rows", "label_flips", "largest_difference")},
        }

    def _drift(self, store: Store, model: str, limits: Mapping[str, str]) -> Row | None:
        """The drift watch's window, measured as it does; None before the first prediction it counted."""
        kept = store.read_json(f"drift/{model}.json")
        if kept is None or not kept.get("rows"):
            return None
        # Here, not above: numpy is a third of the platform's memory, and most platforms are never looked at.
        from monitoring import drift

        usual = drift.Limits()
        threshold = settings.number(limits, "HEADRACE_DRIFT_THRESHOLD", usual.threshold, 0.001, 100)
        needed = settings.whole_number(limits, "HEADRACE_DRIFT_MIN_ROWS", usual.min_rows, 1, 100_000)
        baseline = drift.Baseline.from_json(self._manifest(store, model, str(kept.get("version"))).baseline)
        rows = [tuple(map(int, row)) for row in kept["rows"]]
        window = drift.Window.empty(baseline, len(rows)).add(rows)
        measures = drift.measure(window, baseline, threshold) if len(rows) >= needed else ()
        shown = [{**asdict(m), "over": m.excess > 1} for m in measures]
        return {"rows": len(rows), "needed": needed, "drifting": bool(kept.get("drifting")), "measures": shown}


def _or_fault(faults: list[str], read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """What `read` gives; None, and why among the faults, where a file of the store is broken."""
    try:
        return read(*args, **kwargs)
    except (HeadraceError, ArithmeticError, LookupError, TypeError, ValueError) as e:
        faults.append(str(e))
        return None
