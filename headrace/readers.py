"""Who reads the values of the ConfigMap `headrace`, asked beforehand what they would say of them.

Called by `headrace up` and `headrace deploy` for what `--set` gives: a value that a part cannot take ends that part at
its start, and of a trainer or a predictor that is long after anybody looks.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import cast

from eventing.errors import Misconfigured
from headrace.rooms import ROOMS

Reader = Callable[[Mapping[str, str]], object]

# What each process is told, as module and class.
READERS = (
    "eventing.source:Settings",
    "functions.dead_letters:Settings",
    "functions.drift_watch:Settings",
    "functions.job_watch:Settings",
    "functions.journal.function:Settings",
    "functions.predictor.settings:Settings",
    "functions.predictor.grpc_server.settings:DoorSettings",
    "functions.promoter.function:Settings",
    "functions.promoter.plain:Settings",
    "functions.trainings.function:Settings",
    "trainers.job:Settings",
)
# What each of them has from its manifest, from the promoter or from a JobSink, and cannot be without.
GIVEN = {
    "HEADRACE_EVENT": "{}",
    "HEADRACE_MODEL": "model",
    "HEADRACE_MODEL_VERSION": "v20260101-000000-000000",
    "HEADRACE_STORE": "s3://store",
    "K_SINK": "http://broker",
}


def faults(values: Mapping[str, str]) -> tuple[Misconfigured, ...]:
    """What the parts would refuse at their start, one for each key.

    A part whose libraries are not installed here is not asked: a laptop that deploys needs no trainer.
    """
    told: dict[str, Misconfigured] = {}
    for reader in filter(None, map(_reader, READERS)):
        left = dict(values)
        while (fault := _fault(reader, {**GIVEN, **left})) and fault.key in left:
            told.setdefault(fault.key, fault)
            del left[fault.key]  # of the others it speaks only once this one is out of its way
    return tuple(told.values())


def _reader(name: str) -> Reader | None:
    module, _, settings = name.partition(":")
    try:
        return cast(Reader, getattr(importlib.import_module(module), settings).from_environment)
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] in ROOMS:
            raise
        return None


def _fault(reader: Reader, environ: Mapping[str, str]) -> Misconfigured | None:
    try:
        reader(environ)
    except Misconfigured as e:
        return e
    return None
