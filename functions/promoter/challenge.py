"""The gate that a challenger passes before any traffic reaches it: both packages fetched, proven and compared.

Used by the promoter. What is wrong with a package becomes a verdict with its reason; the store away is RetryLater.
"""

from __future__ import annotations

from pathlib import Path

from eventing.contract import ModelTrained
from eventing.errors import Rejected
from functions import package
from functions.model import Model
from functions.promoter import comparison, held_out
from functions.promoter.comparison import Gate
from functions.promoter.held_out import Rows
from functions.store import Store


def challenge(store: Store, trained: ModelTrained, champion: str | None, max_regression: float, work: Path) -> Gate:
    """Whether the package that `trained` names may serve in place of version `champion`; None: nothing serves.

    work: a folder for what has to be downloaded. Raises RetryLater while the store is away.
    """
    model, version = trained.model, trained.version
    try:
        folder = store.fetch(model, version, work)
        challenger = Model.load(folder)
        faults = _package_faults(folder, challenger, trained)
    except Rejected as e:
        return Gate(False, f"its package cannot serve: {e}")
    if faults:
        return Gate(False, "; ".join(faults))
    assert challenger.manifest is not None  # else it had a fault
    proof = {"parity": dict(challenger.manifest.parity)}
    if champion is None:
        return Gate(True, f"the first version of {model} to serve", proof)
    advice = f"`headrace promote {model} {version}` puts it in place all the same"
    try:
        reigning = Model.load(store.fetch(model, champion, work))
        if reigning.manifest is None:
            raise Rejected(f"its package has no {package.MANIFEST_FILE}")
        changes = comparison.signature_changes(reigning.signature, challenger.signature)
        if not challenger.signature.classes:
            changes.append("its signature names no classes, so there is no score to compare")
        if changes:
            return Gate(False, f"the champion cannot answer its rows: {'; '.join(changes)}; {advice}", proof)
        rows, left_out = held_out.comparable(store, reigning.manifest, challenger.manifest, work)
        if missing := _missing(challenger, rows):
            raise Rejected(f"its held-out rows lack {', '.join(map(repr, missing))}")
    except Rejected as e:
        return Gate(False, f"it cannot be compared with {champion}: {e}; {advice}", proof)
    verdict = comparison.judge(comparison.compare(reigning, challenger, rows), max_regression)
    reasons = [verdict.reason, left_out, None if verdict.passed else advice]
    reason = "; ".join(filter(None, reasons))
    return Gate(verdict.passed, reason, {**proof, **verdict.evidence})


def _package_faults(folder: Path, challenger: Model, trained: ModelTrained) -> list[str]:
    """What speaks against the package itself, each a sentence. Raises Rejected when its self-test fails."""
    found = package.sha256_of(folder / package.SUMS_FILE)
    manifest = challenger.manifest
    if found != trained.sha256:
        return [f"its package has digest {found}; the event says {trained.sha256}"]
    if manifest is None:
        return [f"its package has no {package.MANIFEST_FILE}, so nothing proves it equal to what was trained"]
    faults = comparison.parity_faults(manifest)
    if (manifest.name, manifest.version) != (trained.model, trained.version):
        faults.append(f"its package calls itself {manifest.name} {manifest.version}")
    challenger.self_test()
    return faults


def _missing(challenger: Model, rows: Rows) -> list[str]:
    wanted = [spec.name for spec in challenger.signature.inputs] + [held_out.TARGET]
    return [name for name in wanted if name not in rows or not len(rows[name])]
