"""One training: a file becomes a package folder, or a verdict. No events, no store: `trainers.job` brings those.

Read, fit, export, parity, package: each step is reported, and each trainer goes the same way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eventing.errors import Rejected
from functions import model as functions_model
from trainers import baseline, export, gate, table, trainer
from trainers import dataset as datasets
from trainers.dataset import Dataset
from trainers.preprocessing import Preprocessing

SAMPLES = 5
TARGET_KEY = "__target__"  # beside the inputs in the held-out file: class index, int64
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


@dataclass(frozen=True, slots=True)
class Trained:
    """A package that passed the gate. package, heldout: what was written."""

    package: Path
    heldout: Path
    manifest: functions_model.Manifest
    rejected: table.BrokenDataset | None
    """Rows that were left out, where the parameters allowed it."""


def train(plan: Plan, files: Sequence[Path], into: Path, now: datetime, report: Report) -> Trained:
    """Train, prove and write the package to `into`/package and the held-out rows to `into`/heldout.npz.

    Raises BrokenDataset for rows that break the contract, Rejected for parameters or parity.
    """
    started = time.monotonic()
    kind = trainer.find(plan.trainer)
    common, own = trainer.parameters(kind.Parameters, plan.parameters)
    data, left_out = read(files, plan.target, common.max_broken_share)
    report("read", 0.1, f"{data.rows:,} rows, {len(data.columns)} columns, classes {_listed(data.classes)}")
    for note in data.notes:
        report("read", 0.1, note)
    learned, held = split(data, common.test_share, common.seed)
    preprocessing = Preprocessing.fit(learned.columns, common.top_categories, kind.SCALED)
    fitted = kind.fit(
        preprocessing.transform(learned.columns),
        learned.labels,
        len(data.classes),
        own,
        common.seed,
        lambda done, what: report("fit", 0.1 + 0.6 * done, what),
    )
    graph = export.graph(preprocessing, data.columns, fitted, data.classes)
    signature = export.signature(preprocessing, learned)
    report("export", 0.8, f"ONNX graph of {len(graph) / 1e6:.1f} MB, {len(signature.inputs)} inputs")
    labels, probabilities = fitted.predict(preprocessing.transform(held.columns))
    served = functions_model.Model.from_onnx(graph, signature)
    onnx_labels, onnx_probabilities = answers(served, held)
    compared = gate.compare(labels, probabilities, onnx_labels, onnx_probabilities, data.classes, common.tolerance)
    parity = gate.judge(compared, common.tolerance, common.max_label_flips, held.lines)
    flips, gap = compared.label_flips, compared.largest_difference
    report("parity", 0.9, f"{held.rows:,} held-out rows: {flips} labels differ, largest difference {gap:.1e}")
    manifest = functions_model.Manifest(
        name=plan.model,
        version=plan.version,
        trainer=plan.trainer,
        signature=signature,
        opset=export.OPSET,
        producer="headrace",
        libraries=export.libraries(),
        dataset={"uri": plan.uri, "sha256": plan.sha256, "rows": data.rows},
        parameters={
            **asdict(common),
            **asdict(fitted.parameters),
            "target": data.target,
            "given": dict(plan.parameters),
            "datasets": list(plan.datasets),
            "notes": [*left_out, *data.notes],
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
    heldout = into / "heldout.npz"
    np.savez_compressed(heldout, **_plain(held))  # type: ignore[arg-type]
    told = ", ".join(f"{name} {value:.4f}" for name, value in manifest.scores.items())
    report("package", 1.0, f"{plan.model} {plan.version}: {told}")
    return Trained(package, heldout, manifest, data.rejected)


def read(files: Sequence[Path], target: str | None, max_broken_share: float) -> tuple[Dataset, list[str]]:
    """The rows of all files together, and a note for each file left out.

    One file is taken or refused; of several, those that cannot be learned from are left out, for they were refused when
    they came. Raises BrokenDataset when none can be learned from.
    """
    if len(files) == 1:
        return datasets.understand(table.read(files[0]), target, max_broken_share), []
    whole: list[table.Table] = []
    notes: list[str] = []
    last: table.BrokenDataset | None = None
    for file in reversed(files):
        try:
            found = table.read(file)
            datasets.understand(found, target)
        except table.BrokenDataset as e:
            notes.append(f"{file.name} was left out: {e.reasons[0].what}")
            last = e
            continue
        # The newest file says which columns there are.
        if whole and set(found.columns) != set(whole[0].columns):
            notes.append(f"{file.name} was left out: it has other columns than the newest file")
            continue
        whole.append(found)
    if not whole:
        raise last or Rejected("there is no file to learn from")
    return datasets.understand(datasets.merge(whole[::-1]), target, max_broken_share), notes


def split(data: Dataset, test_share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Rows to learn from and rows held out, every class in both."""
    from sklearn.model_selection import train_test_split

    classes = len(data.classes)
    held = min(max(round(test_share * data.rows), classes), data.rows - classes)
    learn, test = train_test_split(np.arange(data.rows), test_size=held, stratify=data.labels, random_state=seed)
    return data.take(np.sort(learn)), data.take(np.sort(test))


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


def _plain(held: Dataset) -> dict[str, npt.NDArray[Any]]:
    """Arrays that numpy can write and read without objects: float32 and fixed-width text, each (n, 1)."""
    inputs = {name: tensor.astype(str) if tensor.dtype == object else tensor for name, tensor in held.inputs().items()}
    return {**inputs, TARGET_KEY: held.labels}


def _listed(classes: Sequence[str | int]) -> str:
    shown = ", ".join(str(c) for c in classes[:5])
    return shown if len(classes) <= 5 else f"{shown} and {len(classes) - 5} more"
