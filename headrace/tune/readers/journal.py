"""The request journal of Headrace's own gateway: a JSON object for each request, in lines.

`at_s` epoch seconds when it came; `duration_s` until its answer was out, `queued_s` of that it waited for a place in a
pod; `cold`: no pod was ready when it came; `revision`, `namespace`, `status`. Service is what is left of the duration
without the wait. A cold start lasts as long as the first of the requests that waited for it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from headrace.tune.readers import json_lines, recording, selection
from headrace.tune.readers.json_lines import Fields, Skipped
from headrace.tune.readers.options import Options
from headrace.tune.readers.recording import Floats, Index, Mask, Recording
from headrace.tune.traffic import BadTraffic, Traffic

_NUMBER_OF_REVISION = re.compile(r"-\d{5}$")


def is_journal(found: dict[str, Any]) -> bool:
    """By its keys."""
    return {"at_s", "duration_s", "queued_s"} <= found.keys()


def read(path: Path, options: Options) -> Traffic:
    """One service's requests, those of all its revisions, or of the revision that the options name.

    Raises BadTraffic where they name none and the journal holds several services.
    """
    skipped = Skipped()
    revisions: dict[str, int] = {}
    blocks: list[Floats] = []
    for rows in json_lines.rows(path, _pick, skipped):
        for row in rows:
            revisions.setdefault(row[0], len(revisions))
        numbered = [(revisions[name], *numbers) for name, *numbers in rows]
        blocks.append(np.array(numbered, dtype=np.float64).reshape(-1, 5))
    requests = np.concatenate(blocks) if blocks else np.empty((0, 5))
    if not requests.size:
        raise BadTraffic(f"{path} is a journal without a request in its {skipped.count:,} lines")
    kept, taken = _selected(list(revisions), requests[:, 0].astype(np.int64), options)
    at_s, duration_s, queued_s, cold = requests[kept, 1:].T
    service_s, overlong = duration_s - queued_s, queued_s > duration_s
    notes = [*skipped.notes, *taken, "service is each request's duration without its wait for a place in a pod"]
    if overlong.any():
        # Rounded apart, the two may differ by a hair; by more, the row is broken and its duration is drawn.
        service_s = np.where(overlong & (queued_s - duration_s < 1e-3), 0.0, service_s)
    found = Recording(
        at_s,
        service_s,
        absolute=True,
        is_service=True,
        cold_s=_first_waits(at_s, queued_s, cold > 0),
        notes=tuple(notes),
    )
    return recording.traffic(found, path, "gateway's journal", options)


def _pick(found: dict[str, Any]) -> Fields | None:
    """Revision, at_s, duration_s, queued_s, cold; None for an object without them."""
    try:
        numbers = float(found["at_s"]), float(found["duration_s"]), float(found["queued_s"])
    except (KeyError, TypeError, ValueError):
        return None
    name = f"{found.get('namespace', 'default')}/{found.get('revision', '')}"
    return name, *numbers, 1.0 if found.get("cold") is True else 0.0


def _selected(names: list[str], number: Index, options: Options) -> tuple[Mask, tuple[str, ...]]:
    counts = np.bincount(number, minlength=len(names))
    services = [_NUMBER_OF_REVISION.sub("", n) for n in names]
    counted: dict[str, int] = {}
    for service, count in zip(services, counts.tolist(), strict=True):
        counted[service] = counted.get(service, 0) + count
    only = options.only
    meant = [only in (n, n.partition("/")[2], s, s.partition("/")[2]) for n, s in zip(names, services, strict=True)]
    if not any(meant):
        service = selection.choose(counted, only, "service")
        meant = [s == service for s in services]
    chosen = np.array(meant)[number]
    of = ", ".join(n for n, m in zip(names, meant, strict=True) if m)
    return chosen, (f"of {number.size:,} requests the {int(chosen.sum()):,} of {of} were taken",)


def _first_waits(at_s: Floats, queued_s: Floats, cold: Mask) -> Floats:
    """(n,) each cold request's wait, unless it came while another waited for the same cold start; then 0."""
    waits = np.zeros(at_s.size)
    order = np.flatnonzero(cold)[np.argsort(at_s[cold], kind="stable")]
    up_s = -np.inf
    for i in order.tolist():
        if at_s[i] >= up_s:
            waits[i], up_s = queued_s[i], at_s[i] + queued_s[i]
    return waits
