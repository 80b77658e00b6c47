"""How many requests came in each minute or second, as clouds publish it: Azure Functions 2019, Huawei 2023 and 2025.

Source: AzureFunctionsDataset2019.md of Azure/AzurePublicDataset: `invocations_per_function_md.anon.d01.csv`, a row for
each function and trigger, its columns 1 to 1440 the minutes of the day. README_data_release_2023.md and _2025.md of
sir-lab/data-release: a row for each minute or second, `day`, `time` (seconds since the data set's beginning), then a
column for each function, empty or NaN where it was not seen.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.tune.readers import arrivals, columns, durations, percentiles, selection, source, tabular
from headrace.tune.readers.arrivals import Steps
from headrace.tune.readers.options import Options
from headrace.tune.traffic import BadTraffic, Traffic

Floats = NDArray[np.float64]

MINUTE_S = 60.0
_FUNCTION, _APP = "HashFunction", "HashApp"
# 3, or 400---418---pool22-300-128.
_HUAWEI_FUNCTION = re.compile(r"\d+(---\d+---\S+)?")


def is_azure_2019(names: Sequence[str]) -> bool:
    """By its header."""
    return {_FUNCTION, _APP, "1", "2"} <= set(names)


def is_huawei(names: Sequence[str]) -> bool:
    """By its header; also of Huawei's other measures, which only their folders' names tell apart."""
    return [*names[:2]] == ["day", "time"] and len(names) > 2 and all(_HUAWEI_FUNCTION.fullmatch(n) for n in names[2:])


def read_azure_2019(path: Path, options: Options) -> Traffic:
    """One function's day, its triggers together; durations from the same day's percentiles where they lie beside."""
    names = tabular.header(path, source.head(path))
    minutes = sorted((n for n in names if n.isdigit()), key=int)
    if [int(m) for m in minutes] != list(range(1, len(minutes) + 1)):
        raise BadTraffic(f"{path} lacks minutes: it has {columns.shown(minutes)}; expected 1, 2, 3 … without a gap")
    table = tabular.load(path, [_FUNCTION, *minutes], names)
    by_function = table.column(_FUNCTION)
    name = _azure_function(table, minutes, options)
    rows = table.filter(pc.equal(by_function, name))
    per_minute = np.column_stack([durations.numbers(rows.column(m), m) for m in minutes])
    notes: tuple[str, ...] = (f"function {name} was taken, {rows.num_rows:,} of {table.num_rows:,} rows",)
    if np.isnan(per_minute).any():
        notes += (f"{int(np.isnan(per_minute).sum()):,} minutes without a number count as none",)
    steps = Steps(
        begins_s=np.arange(len(minutes), dtype=np.float64) * MINUTE_S,
        step_s=MINUTE_S,
        requests=_whole(np.nansum(per_minute, axis=0), path),
        exact=True,
        began=None,
        notes=notes,
    )
    measured = None
    beside = percentiles.beside(path)
    if beside is not None and options.service_s is None and options.service_from is None:
        measured = percentiles.read(beside, dataclasses.replace(options, only=name))
    named = dataclasses.replace(options, only=name)
    return arrivals.traffic(steps, measured, f"Azure Functions trace of 2019 {path.name}", named)


def read_huawei(path: Path, options: Options) -> Traffic:
    """One function's requests per minute or second. The step is what lies between the rows' times."""
    names = tabular.header(path, source.head(path))
    functions = list(names[2:])
    name = functions[0] if len(functions) == 1 else None
    if name is None or options.only is not None:
        name = _huawei_function(path, names, functions, options)
    table = tabular.load(path, ["time", name], names)
    at_s, requests = (durations.numbers(table.column(c), c) for c in ("time", name))
    step_s = _step(at_s, path)
    missing = np.isnan(requests)
    notes: tuple[str, ...] = (f"function {name} was taken, one of {len(functions):,}",)
    if missing.any():
        notes += (f"in {int(missing.sum()):,} of {missing.size:,} steps it was not seen: they count as no request",)
    lost = round((at_s[-1] - at_s[0]) / step_s) + 1 - at_s.size
    if lost:
        notes += (f"{lost:,} steps have no row: they count as no request",)
    steps = Steps(
        begins_s=at_s - at_s[0],
        step_s=step_s,
        requests=_whole(np.where(missing, 0.0, requests), path),
        exact=True,
        began=None,
        notes=notes,
    )
    named = dataclasses.replace(options, only=name)
    return arrivals.traffic(steps, None, f"Huawei trace {path.parent.name}/{path.name}", named)


def _huawei_function(path: Path, names: Sequence[str], functions: Sequence[str], options: Options) -> str:
    if options.only in functions:
        return str(options.only)
    table = tabular.load(path, functions, names)
    totals = {f: float(np.nansum(durations.numbers(table.column(f), f))) for f in functions}
    return selection.choose(totals, options.only, "function")


def _azure_function(table: pa.Table, minutes: Sequence[str], options: Options) -> str:
    """The one that is meant. All rows are summed only where a refusal is to name the busiest."""
    functions = [str(f) for f in pc.unique(table.column(_FUNCTION)).to_pylist()]
    meant = [f for f in functions if options.only and f.startswith(options.only)]
    if len(meant) == 1:
        return meant[0]
    totals = np.sum([np.nan_to_num(durations.numbers(table.column(m), m)) for m in minutes], axis=0)
    summed = pa.table({"function": table.column(_FUNCTION), "requests": totals}).group_by("function")
    rows = summed.aggregate([("requests", "sum")]).to_pylist()
    return selection.choose({str(r["function"]): float(r["requests_sum"]) for r in rows}, options.only, "function")


def _whole(requests: Floats, path: Path) -> Floats:
    """Counts as they are. Raises BadTraffic for fractions: then the file holds another measure."""
    if (requests % 1 != 0).any():
        odd = requests[requests % 1 != 0][0]
        raise BadTraffic(
            f"{path} holds {odd:g}; expected whole numbers of requests, as in Huawei's requests_minute, "
            "requests_second and Azure's invocations_per_function_md"
        )
    return requests


def _step(at_s: Floats, path: Path) -> float:
    gaps = np.diff(at_s)
    if not np.isfinite(at_s).all() or not gaps.size or not (gaps > 0).all():
        raise BadTraffic(f"{path} has times that do not ascend, or one row; expected a time for each step, ascending")
    step_s = float(gaps.min())
    if (gaps % step_s > 1e-6).any():
        raise BadTraffic(
            f"{path} has steps of {step_s:g} s and of {gaps[gaps % step_s > 1e-6][0]:g} s; expected even ones"
        )
    return step_s
