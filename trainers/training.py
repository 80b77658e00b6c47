"""One training: a file becomes a package folder, or a verdict. No events, no store: `trainers.job` brings those.

Read, fit, export, parity, package: each step is reported, and each trainer goes the same way.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eventing.errors import Rejected
from functions import model as functions_model
from trainers import baseline, data_file, export, gate, heldout, trainer
from trainers import dataset as datasets
from trainers import split as splits
from trainers.dataset import Dataset, Form
from trainers.preprocessing import Preprocessing
from trainers.table import BrokenDataset

SAMPLES = 5
TOLD_SCORES = ("accuracy", "log_loss", "roc_auc")  # of the package's sentence; model.json has all of them
_STAMP = "v%Y%m%d-%H%M%S"  # begins a version
# Of the rows learned from. Beside it lie the file, the forest in the making, or Keras' copy: 4 GiB hold them all. Who
# is killed for memory tells nobody why, and is started again to no avail.
MAX_FEATURE_BYTES = 3 << 29
CHUNK_ROWS = 8192  # per inference while comparing: text is one Python object per cell

Report = Callable[[str, float, str], None]
"""Called with the step (read, fit, export, parity, package), the share of the training done, and a sentence."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train, decided before anything is read."""

    model: str
    version: str
    trainer: str
    target: str | None
    """None: the column `target`."""
    parameters: Mapping[str, Any]
    """Those that differ from the defaults."""
    parent: str | None
    uri: str
    sha256: str
    """Of the file; of several files, of their digests."""
    datasets: tuple[str, ...]
    """The digest of each file."""
    names: tuple[str, ...] = ()
    """What a person calls each file; empty: as it is called where it lies."""
    form: Form = field(default_factory=Form)
    """The columns that callers of the serving model send."""
    notes: tuple[str, ...] = ()
    """What was left out before anything was read, for people."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A package that passed the gate. package, heldout: what was written."""

    package: Path
    heldout: Path
    manifest: functions_model.Manifest
    rejected: BrokenDataset | None
    """Rows that were left out, where the parameters allowed it."""


def new_version(now: datetime, known: Iterable[str] = ()) -> str:
    """A version that no other training has, in the order of time. now: in UTC. known: versions of the model so far.

    After all that are known, whatever the clock says: of one that is an hour behind, a model would count as older than
    the one that serves, and after one that was an hour ahead, all others would.
    """
    last = max((told for version in known if (told := _told(version)) is not None), default=None)
    seconds = now.replace(microsecond=0, tzinfo=None)
    if last is not None and seconds <= last:
        seconds = last + timedelta(seconds=1)
    return f"{seconds:{_STAMP}}-{secrets.token_hex(3)}"


def _told(version: str) -> datetime | None:
    """The time in a version; None where it has another form, as a person may give it."""
    try:
        return datetime.strptime(version.rpartition("-")[0], _STAMP)
    except ValueError:
        return None


def train(plan: Plan, files: Sequence[Path], into: Path, now: datetime, report: Report) -> Trained:
    """Train, prove and write the package to `into`/package and the held-out rows to `into`/heldout.npz.

    Raises BrokenDataset for rows that break the contract, Rejected for parameters or parity.
    """
    started = time.monotonic()
    kind = trainer.find(plan.trainer)
    common, own = trainer.parameters(kind.Parameters, plan.parameters)
    data, noted = read(files, plan.target, common.max_broken_share, plan.names, plan.form)
    notes = [*plan.notes, *noted]
    of_files = f" of {len(data.files)} files" if len(data.files) > 1 else ""
    size = f"{data.rows:,} rows{of_files}, {len(data.columns)} columns"
    report("read", 0.1, f"{size}, classes {_listed(data.classes)}")
    learned, held = split(data, common.test_share, common.seed)
    if disputed := data.rows - learned.rows - held.rows:
        notes.append(f"{disputed:,} rows were left out: two files have them, and one of them alone holds them out")
    for note in notes:
        report("read", 0.1, note)
    preprocessing = Preprocessing.fit(learned.columns, common.top_categories, kind.SCALED)
    _check_features(learned.rows, preprocessing)
    fitted = kind.fit(
        preprocessing.transform(learned.columns),
        learned.labels,
        len(data.classes),
        own,
        common.seed,
        lambda done, what: report("fit", 0.1 + 0.6 * done, what),
    )
    graph, opset = export.graph(preprocessing, data.columns, fitted, data.classes)
    signature = export.signature(preprocessing, learned)
    report("export", 0.8, f"ONNX graph of {len(graph) / 1e6:.1f} MB, {len(signature.inputs)} inputs")
    labels, probabilities = fitted.predict(preprocessing.transform(held.columns))
    served = functions_model.Model.from_onnx(graph, signature)
    onnx_labels, onnx_probabilities = answers(served, held)
    compared = gate.compare(labels, probabilities, onnx_labels, onnx_probabilities, data.classes, common.tolerance)
    parity = gate.judge(compared, common.tolerance, common.max_label_flips, held.place)
    flips, gap = compared.label_flips, compared.largest_difference
    report("parity", 0.9, f"{held.rows:,} held-out rows: {flips} labels differ, largest difference {gap:.1e}")
    manifest = functions_model.Manifest(
        name=plan.model,
        version=plan.version,
        trainer=plan.trainer,
        signature=signature,
        opset=opset,
        producer="headrace",
        libraries=export.libraries(),
        dataset={"uri": plan.uri, "sha256": plan.sha256, "rows": data.rows},
        parameters={
            **asdict(common),
            **asdict(fitted.parameters),
            "split": splits.RULE,
            "target": data.target,
            "given": dict(plan.parameters),
            "datasets": list(plan.datasets),
            "left_out": list(data.left_out),
            "notes": notes,
            "seconds": round(time.monotonic() - started, 3),
        },
        seed=common.seed,
        scores=gate.scores(held.labels, labels, probabilities),
        parity=parity,  # type: ignore[arg-type]
        baseline=baseline.of(data, onnx_labels, onnx_probabilities[:, -1]),
        parent=plan.parent,
        created=now.isoformat(),
    )
    package = _write(into / "package", graph, manifest, samples(served, held))
    # What will be served, loaded as it will be.
    functions_model.Model.load(package).self_test()
    told = ", ".join(f"{name} {manifest.scores[name]:.4f}" for name in TOLD_SCORES if name in manifest.scores)
    report("package", 1.0, f"{plan.model} {plan.version}: {told}")
    return Trained(package, heldout.write(held, into / "heldout.npz"), manifest, data.rejected)


def read(
    files: Sequence[Path],
    target: str | None,
    max_broken_share: float,
    names: Sequence[str] = (),
    form: Form | None = None,
) -> tuple[Dataset, list[str]]:
    """The rows of all files together, and notes for people: what was left out, and why.

    files: oldest first. names: what a person calls them. One file is taken or refused; of several, those that cannot be
    learned from are left out, for they were refused when they came, and those with other columns than the newest one.
    Raises BrokenDataset when none can be learned from.
    """
    form = form or Form()
    names = names or [file.name for file in files]
    if len(files) == 1:
        data = datasets.understand(data_file.read(files[0], names[0]), target, max_broken_share, form)
        return data, list(data.notes)
    parts: list[datasets.Rows] = []
    notes: list[str] = []
    last: BrokenDataset | None = None
    for file, name in zip(reversed(files), reversed(names), strict=True):
        try:
            rows = datasets.rows_of(data_file.read(file, name), target, max_broken_share, form)
            datasets.weigh(rows, form)
        except BrokenDataset as e:
            notes.append(f"{name} was left out: {e.reasons[0].what}")
            last = e
            continue
        why = datasets.disagreement(rows, parts[0]) if parts else None
        if why is None:
            parts.append(rows)
        else:
            notes.append(f"{name} was left out: {why}")
    if not parts:
        raise last or Rejected("there is no file to learn from")
    data = datasets.weigh(datasets.join(parts[::-1]), form)
    return data, [*notes[::-1], *data.notes]


def split(data: Dataset, test_share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Rows to learn from and rows held out; each file is split as it would be alone (see `trainers.split`).

    Every class is in both parts. A row that one file holds out and another one learns from is in neither.
    """
    held = np.zeros(data.rows, dtype=bool)
    for origin in range(len(data.files)):
        rows = np.flatnonzero(data.origins == origin)
        held[rows] = splits.held_out(data.ids[rows], data.labels[rows], test_share, seed)
    disputed = splits.disputed(data.ids, held)
    return data.take(~held & ~disputed), data.take(held & ~disputed)


def answers(model: functions_model.Model, rows: Dataset) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """What the graph answers: labels (n,) and probabilities (n, n_classes)."""
    parts = []
    for start in range(0, rows.rows, CHUNK_ROWS):
        chunk = rows.take(np.arange(start, min(start + CHUNK_ROWS, rows.rows)))
        parts.append(model.infer(chunk.inputs(), ["label", "probabilities"]))
    return np.concatenate([p["label"] for p in parts]), np.concatenate([p["probabilities"] for p in parts])


def samples(model: functions_model.Model, held: Dataset) -> list[dict[str, Any]]:
    """Held-out requests with their answers; one has gaps, where any row has some."""
    gaps = np.flatnonzero(np.any([column.missing() for column in held.columns], axis=0))
    chosen = np.linspace(0, held.rows - 1, min(SAMPLES, held.rows)).astype(np.int64)
    if len(gaps) and not np.isin(chosen, gaps).any():
        chosen[-1] = gaps[0]
    requests = []
    for at in chosen:
        row = held.take(np.array([at]))
        answer = model.infer(row.inputs(), ["label", "probabilities"])
        requests.append(
            {
                "inputs": {name: _json(tensor[0, 0]) for name, tensor in row.inputs().items()},
                "outputs": {
                    name: value[0].tolist() if value.ndim > 1 else _json(value[0]) for name, value in answer.items()
                },
            }
        )
    return requests


def _check_features(rows: int, preprocessing: Preprocessing) -> None:
    needed = rows * preprocessing.width * 4
    if needed > MAX_FEATURE_BYTES:
        raise Rejected(
            f"{rows:,} rows of {preprocessing.width:,} features take {needed / 1e9:.1f} GB, at most "
            f"{MAX_FEATURE_BYTES / 1e9:.1f} GB are learned from at once; set top_categories lower (each category of "
            f"{len(preprocessing.texts)} text columns is a feature), or drop fewer columns or rows"
        )


def _write(folder: Path, graph: bytes, manifest: functions_model.Manifest, requests: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph)
    for name, value in (("model.json", manifest.to_json()), ("sample.json", {"requests": requests})):
        text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    functions_model.write_sums(folder)
    return folder


def _json(value: Any) -> Any:
    """A cell as JSON spells it; a missing one is null."""
    if isinstance(value, str):
        return value or None
    plain = value.item()
    return None if plain != plain else plain


def _listed(classes: Sequence[str | int]) -> str:
    shown = ", ".join(str(c) for c in classes[:5])
    return shown if len(classes) <= 5 else f"{shown} and {len(classes) - 5} more"
