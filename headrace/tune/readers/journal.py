"""The journal of Headrace's own gateway, JSON objects in lines: `requests-*.jsonl` and `pods-*.jsonl` in one folder.

Requests have `at_s`, epoch seconds when one came; `duration_s` until its answer was out, `queued_s` of that it waited
for a place in a pod; `cold`: no pod was ready when it came; `revision`, `namespace`, `status`. Service is what is left
of the duration without the wait. Pods have `cold_start_s`, from asked for to ready; where no file has them, a cold
start is what the first of its requests waited.

Source: headrace.local.gateway.request_journal, which writes both.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

from headrace.tune.readers import columns, json_lines, recording, selection
from headrace.tune.readers.json_lines import Fields, Skipped
from headrace.tune.readers.options import Options
from headrace.tune.readers.recording import Floats, Index, Mask, Recording
from headrace.tune.traffic import BadTraffic, Traffic

_NUMBER_OF_REVISION = re.compile(r"-\d{5}$")


def is_journal(found: dict[str, Any]) -> bool:
    """By its keys."""
    return {"at_s", "duration_s", "queued_s"} <= found.keys()


def read(path: Path, options: Options) -> Traffic:
    """One service's requests in one file, those of all its revisions, or of the revision that the options name.

    Raises BadTraffic where they name none and the journal holds several services.
    """
    return _read((path,), (), path, options)


def read_folder(folder: Path, options: Options) -> Traffic:
    """The same of all files in the journal's folder, which are one journal, with the cold starts of its pods."""
    requests, pods = (tuple(sorted(folder.glob(f"{name}-*.jsonl"))) for name in ("requests", "pods"))
    if not requests:
        raise BadTraffic(
            f"{folder} is a folder without a gateway's journal (requests-*.jsonl); expected a file, or that"
        )
    return _read(requests, pods, folder, options)


def _read(files: tuple[Path, ...], pods: tuple[Path, ...], path: Path, options: Options) -> Traffic:
    skipped = Skipped()
    revisions: dict[str, int] = {}
    blocks: list[Floats] = []
    for file in files:
        for rows in json_lines.rows(file, _pick, skipped):
            for row in rows:
                revisions.setdefault(row[0], len(revisions))
            numbered = [(revisions[name], *numbers) for name, *numbers in rows]
            blocks.append(np.array(numbered, dtype=np.float64).reshape(-1, 5))
    requests = np.concatenate(blocks) if blocks else np.empty((0, 5))
    if not requests.size:
        raise BadTraffic(f"{path} is a journal without a request in its {skipped.count:,} lines")
    chosen = _chosen(list(revisions), requests[:, 0].astype(np.int64), options)
    kept = np.isin(requests[:, 0], [revisions[name] for name in chosen])
    at_s, duration_s, queued_s, cold = requests[kept, 1:].T
    service_s, overlong = duration_s - queued_s, queued_s > duration_s
    # Rounded apart, the two may differ by a hair; by more, the row is broken and its duration is drawn.
    service_s = np.where(overlong & (queued_s - duration_s < 1e-3), 0.0, service_s)
    notes = (
        *skipped.notes,
        f"of {len(requests):,} requests the {int(kept.sum()):,} of {columns.shown(chosen)} were taken",
        "service is each request's duration without its wait for a place in a pod",
    )
    waits = None if pods else _first_waits(at_s, queued_s, cold > 0)
    found = Recording(at_s, service_s, absolute=True, is_service=True, cold_s=waits, notes=notes)
    traffic = recording.traffic(found, path, "gateway's journal", options)
    return _with_pods(traffic, pods, set(chosen)) if pods else traffic


def _with_pods(traffic: Traffic, files: tuple[Path, ...], revisions: set[str]) -> Traffic:
    """The traffic with what its revisions' pods took from asked for to ready, each once: a pod has several lines."""
    skipped = Skipped()
    took: dict[tuple[str, str], float] = {}
    for file in files:
        for rows in json_lines.rows(file, _pick_pod, skipped):
            took.update({(revision, pod): seconds for revision, pod, seconds in rows if revision in revisions})
    said = f"{len(took):,} cold starts are those of the pods, from asked for to ready"
    return dataclasses.replace(traffic, cold_start_s=np.array(list(took.values())), repairs=(*traffic.repairs, said))


def _pick(found: dict[str, Any]) -> Fields | None:
    """Revision, at_s, duration_s, queued_s, cold; None for an object without them."""
    try:
        numbers = float(found["at_s"]), float(found["duration_s"]), float(found["queued_s"])
    except (KeyError, TypeError, ValueError):
        return None
    return _revision(found), *numbers, 1.0 if found.get("cold") is True else 0.0


def _pick_pod(found: dict[str, Any]) -> Fields | None:
    """Revision, pod, cold_start_s; None for a pod that never was ready."""
    seconds = found.get("cold_start_s")
    if not isinstance(seconds, int | float) or not 0 <= seconds < np.inf:
        return None
    return _revision(found), str(found.get("pod", "")), float(seconds)


def _revision(found: dict[str, Any]) -> str:
    return f"{found.get('namespace', 'default')}/{found.get('revision', '')}"


def _chosen(names: list[str], number: Index, options: Options) -> list[str]:
    """The revisions, `namespace/name`, that the options mean: one by its name, all of a service by that one's."""
    services = [_NUMBER_OF_REVISION.sub("", n) for n in names]
    only = options.only
    meant = [n for n, s in zip(names, services, strict=True) if only in (n, _name(n), s, _name(s))]
    if meant:
        return meant
    counted: dict[str, int] = {}
    for service, count in zip(services, np.bincount(number, minlength=len(names)).tolist(), strict=True):
        counted[service] = counted.get(service, 0) + count
    service = selection.choose(counted, only, "service")
    return [n for n, s in zip(names, services, strict=True) if s == service]


def _name(of: str) -> str:
    return of.partition("/")[2]


def _first_waits(at_s: Floats, queued_s: Floats, cold: Mask) -> Floats:
    """(n,) each cold request's wait, unless it came while another waited for the same cold start; then 0."""
    waits = np.zeros(at_s.size)
    order = np.flatnonzero(cold)[np.argsort(at_s[cold], kind="stable")]
    up_s = -np.inf
    for i in order.tolist():
        if at_s[i] >= up_s:
            waits[i], up_s = queued_s[i], at_s[i] + queued_s[i]
    return waits
