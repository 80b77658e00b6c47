"""From an event to what is to be trained: which files, which trainer, which target, under which key.

Called by `trainers.job`. The key is the same whenever the same rows would be learned from in the same way: it is what
makes a redelivered event, or the same file dropped twice, train once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from eventing import landing
from eventing.contract import DatasetArrived, DriftDetected, Reason
from eventing.errors import Rejected
from functions import model as functions_model
from functions import store as functions_store
from functions.store import DatasetRecord
from trainers import trainer
from trainers.dataset import DEFAULT_TARGET, Form
from trainers.table import BrokenDataset

DEFAULT_TRAINER = "random_forest"
MAX_DATASET_BYTES = 64 * 1024 * 1024  # what a trainer with 2 GiB of memory reads and fits without trouble


@dataclass(frozen=True, slots=True)
class File:
    """One file to learn from."""

    uri: str
    sha256: str
    name: str
    """What a person calls it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One training that an event asks for."""

    model: str
    trainer: str
    target: str | None
    """None: nobody named one, and the column `target` is tried."""
    files: tuple[File, ...]
    """Oldest first."""
    parent: str | None
    """The version that serves."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    form: Form = field(default_factory=Form)
    notes: tuple[str, ...] = ()
    """What was left out, for people."""
    known: str | None = None
    """Why there is nothing new to learn, where that is so: only a training asked for earlier is told of again."""

    @property
    def uri(self) -> str:
        """Of the file; of several files, the folder they lie in."""
        return self.files[0].uri if len(self.files) == 1 else self.files[-1].uri.rpartition("/")[0]

    @property
    def sha256(self) -> str:
        """Of the file; of several files, of their digests."""
        if len(self.files) == 1:
            return self.files[0].sha256
        return hashlib.sha256("\n".join(sorted(file.sha256 for file in self.files)).encode()).hexdigest()

    def key(self) -> str:
        """The name of this training in the ledger. Raises Rejected for an unknown trainer or impossible parameters."""
        common, own = trainer.parameters(trainer.find(self.trainer).Parameters, self.parameters)
        # Defaults spelled out: a default that was named anyway is no other training.
        facts = [
            self.model,
            sorted(file.sha256 for file in self.files),
            self.trainer,
            {**asdict(common), **asdict(own)},
            self.target or DEFAULT_TARGET,
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def of_arrival(arrived: DatasetArrived, store: functions_store.Store, max_bytes: int) -> Wish:
    """The training that a dropped file asks for.

    Raises BrokenDataset for a file over `max_bytes`, Rejected for a name that no model can have.
    """
    landing.check_name(arrived.dataset)
    if arrived.bytes > max_bytes:
        raise too_large(arrived.bytes, max_bytes)
    champion = _champion(arrived.dataset, store)
    target = arrived.target or (champion.parameters.get("target") if champion is not None else None)
    name = arrived.name or arrived.uri.rpartition("/")[2]
    return Wish(
        model=arrived.dataset,
        trainer=arrived.trainer or DEFAULT_TRAINER,
        target=target,
        files=(File(arrived.uri, arrived.sha256, name),),
        parent=None if champion is None else champion.version,
        parameters=arrived.parameters or {},
        form=_form(champion, target),
    )


def too_large(size_bytes: int, max_bytes: int) -> BrokenDataset:
    """The refusal of a file of `size_bytes`."""
    what = f"the file has {size_bytes:,} bytes; at most {max_bytes:,} are taken"
    advice = "take a sample of its rows, or raise HEADRACE_MAX_DATASET_BYTES"
    return BrokenDataset([Reason(f"{what}: {advice}")], {"file too large": 1}, 0)


def of_drift(
    drifted: DriftDetected, told_at: datetime | None, store: functions_store.Store, max_bytes: int = MAX_DATASET_BYTES
) -> Wish:
    """The training that a drift asks for: the champion's way, with the files dropped until it was told, the newest.

    max_bytes: of all of them together, for they are learned from at once; a year of daily files would fit into no
    trainer's memory, and what is old says least of today. told_at: the event's time; a file that came later is its own
    event's to learn from. A second try, hours after the first, then means the same training. None: until now. Raises
    Rejected when nothing serves, or for a name that no model can have.
    """
    landing.check_name(drifted.model)
    champion = _champion(drifted.model, store)
    if champion is None:
        raise Rejected(f"no version of {drifted.model} serves, so there is nothing to train anew")
    dropped = [r for r in store.datasets(drifted.model) if told_at is None or datetime.fromisoformat(r.at) <= told_at]
    # Else each training would wait for what somebody has removed, and fail.
    removed = store.removed(drifted.model)
    dropped = [record for record in dropped if record.sha256 not in removed]
    taken = _newest(dropped, max_bytes)
    files = tuple(File(record.uri, record.sha256, _name(store, drifted.model, record)) for record in taken)
    notes: tuple[str, ...] = ()
    if older := len(dropped) - len(taken):
        notes = (f"{older:,} older files were left out: all together have more than {max_bytes:,} bytes",)
    learned = set(champion.parameters.get("datasets") or [champion.dataset["sha256"]])
    known = None
    if not {file.sha256 for file in files} - learned:
        known = (
            f"nothing new to learn from: {champion.version}, which serves, knows all {len(files)} files dropped for "
            f"{drifted.model}; drop newer rows with their outcome"
        )
    target = str(champion.parameters.get("target") or DEFAULT_TARGET)
    return Wish(
        model=drifted.model,
        trainer=drifted.trainer or champion.trainer,
        target=target,
        files=files,
        parent=champion.version,
        parameters=champion.parameters.get("given") or {},
        form=_form(champion, target),
        notes=notes,
        known=known,
    )


def _newest(dropped: Sequence[DatasetRecord], max_bytes: int) -> Sequence[DatasetRecord]:
    """The last of the files, as many as stay within `max_bytes`, but one at least. dropped: oldest first."""
    total = 0
    for place in range(len(dropped) - 1, -1, -1):
        total += dropped[place].bytes
        if total > max_bytes:
            return dropped[min(place + 1, len(dropped) - 1) :]
    return dropped


def _champion(model: str, store: functions_store.Store) -> functions_model.Manifest | None:
    """What model.json of the serving version says; None before the first promotion."""
    serving = store.serving(model)
    return None if serving is None else store.manifest(model, serving.version)


def _form(champion: functions_model.Manifest | None, target: str | None) -> Form:
    """The columns that callers send already; of a model with another target they say nothing."""
    if champion is None or champion.parameters.get("target") != (target or DEFAULT_TARGET):
        return Form()
    inputs = champion.signature.inputs
    return Form(
        numbers=frozenset(spec.name for spec in inputs if spec.datatype != "BYTES"),
        texts=frozenset(spec.name for spec in inputs if spec.datatype == "BYTES"),
        left_out=frozenset(map(str, champion.parameters.get("left_out") or ())),
    )


def _name(store: functions_store.Store, dataset: str, record: DatasetRecord) -> str:
    sidecar = store.read_json(f"datasets/{dataset}/{record.sha256}.json") or {}
    return str(sidecar.get("name") or record.uri.rpartition("/")[2])
