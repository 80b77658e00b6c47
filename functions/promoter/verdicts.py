"""What became of a version, as the store keeps it: written once, before anybody is told.

Used by both ways to promote: by canary on Knative (`.promotion`), by rolling update without it (`.plain`).

    <store>/verdicts/<model>/<version>.json     the event's type and data, and when it was decided
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from eventing.contract import ModelPromoted, ModelRejected, ModelRolledBack
from functions.store import Store
from monitoring import metrics

Verdict = ModelPromoted | ModelRejected | ModelRolledBack

# Characters: hundreds of columns that have gone are a sentence each, and nobody is told what an event cannot carry.
LONGEST_REASON = 4000
NOUNS: dict[type[Verdict], str] = {ModelPromoted: "promoted", ModelRejected: "rejected", ModelRolledBack: "rolledback"}


def record(store: Store, verdict: Verdict, now: float) -> tuple[Verdict, datetime]:
    """The verdict on a version and its time, as the first who came to one wrote it down: told twice it stays the same.

    now: seconds since the epoch.
    """
    found = recorded(store, verdict.model, verdict.version)
    if found is not None:
        return found
    if len(verdict.reason) > LONGEST_REASON:
        verdict = replace(verdict, reason=verdict.reason[:LONGEST_REASON] + "…")
    at = datetime.fromtimestamp(now, UTC)
    path = _path(verdict.model, verdict.version)
    store.write_json(path, {"type": verdict.TYPE, "at": at.isoformat(), "data": verdict.to_data()})
    metrics.PROMOTIONS.labels(verdict.model, NOUNS[type(verdict)]).inc()
    return verdict, at


def recorded(store: Store, model: str, version: str) -> tuple[Verdict, datetime] | None:
    """The verdict that was written down; None: there is none yet."""
    said = store.read_json(_path(model, version))
    if said is None:
        return None
    kinds = {kind.TYPE: kind for kind in NOUNS}
    return kinds[said["type"]](**said["data"]), datetime.fromisoformat(said["at"])


def _path(model: str, version: str) -> str:
    return f"verdicts/{model}/{version}.json"
