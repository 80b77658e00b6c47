"""The percentiles of execution times that Microsoft published beside the invocations of Azure Functions in 2019.

Source: AzureFunctionsDataset2019.md of Azure/AzurePublicDataset: `function_durations_percentiles.anon.d01.csv`, a row
for each function, in ms, without cold starts; its percentiles are of averages over 30 s, weighted by invocations.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from headrace.tune.readers import distribution, durations, selection, tabular
from headrace.tune.readers.distribution import Distribution
from headrace.tune.readers.options import Options
from headrace.tune.traffic import BadTraffic

FUNCTION, AVERAGE, COUNT = "HashFunction", "Average", "Count"
_PERCENTILES = (0, 1, 25, 50, 75, 99, 100)


def recognises(names: Sequence[str]) -> bool:
    """By its header."""
    return {FUNCTION, AVERAGE, *_columns()} <= set(names)


def beside(invocations: Path) -> Path | None:
    """The published file of the same day as a file of invocations, where it lies beside it."""
    name = invocations.name.replace("invocations_per_function_md", "function_durations_percentiles")
    found = invocations.with_name(name)
    return found if found != invocations and found.is_file() else None


def read(path: Path, options: Options) -> Distribution:
    """The distribution of the one function that the options name. Raises BadTraffic where it is not there."""
    names = [FUNCTION, COUNT, *_columns()]
    table = tabular.load(path, names, names)
    functions = table.column(FUNCTION)
    counts = np.nan_to_num(durations.numbers(table.column(COUNT), COUNT))
    counted: dict[str, float] = {}
    for function, count in zip(functions.to_pylist(), counts.tolist(), strict=True):
        counted[str(function)] = counted.get(str(function), 0) + count
    name = selection.choose(counted, options.only, "function")
    row = table.filter(pc.equal(functions, name)).slice(0, 1)
    seconds = [durations.numbers(row.column(c), c)[0] / 1000 for c in _columns()]
    if not (np.isfinite(seconds).all() and (np.diff(seconds) >= 0).all() and seconds[0] >= 0):
        raise BadTraffic(f"{path} has the percentiles {seconds} s for {name}; expected them ascending from 0 or more")
    known = distribution.of_percentiles(_PERCENTILES, seconds)
    note = f"durations are drawn from the published percentiles in {path.name}, which are of averages over 30 s"
    return Distribution(known.shares, known.seconds, (note,))


def _columns() -> list[str]:
    return [f"percentile_Average_{p}" for p in _PERCENTILES]
