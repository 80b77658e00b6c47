"""What the user gives instead of what a recording says: how long requests and cold starts take, as a mean or as a file.

A file may be a Prometheus histogram (the query API's JSON, promtool's print or a scraped page), the Azure Functions
duration percentiles of 2019, or a table with a column of durations, Huawei's cold starts of 2025 among them.

Source: AzureFunctionsDataset2019.md of Azure/AzurePublicDataset; README_data_release_2025.md of sir-lab/data-release.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.tune import shapes
from headrace.tune.readers import columns, distribution, durations, percentiles, series, source, tabular
from headrace.tune.readers.distribution import Distribution
from headrace.tune.readers.options import Options
from headrace.tune.traffic import BadTraffic, Traffic

Floats = NDArray[np.float64]


def service_times(
    count: int, measured: Distribution | None, options: Options, of: str, rng: np.random.Generator
) -> tuple[Floats, tuple[str, ...]]:
    """(count,) service times drawn from what the options give, else from what was measured, and sentences on it.

    of: the recording, in words. Raises BadTraffic where there is neither.
    """
    if options.service_s is not None:
        return shapes.service_times(count, options.service_s, rng), (
            f"{count:,} service times are drawn, lognormal with the given mean {options.service_s:g} s and sigma "
            f"{shapes.SIGMA}",
        )
    known = measured if options.service_from is None else read(options.service_from, options)
    if known is None:
        raise BadTraffic(
            f"{of} has no durations; give the mean service time of a request in seconds (service_s), or a file with "
            "their distribution (service_from)"
        )
    note = f"{count:,} service times are drawn from a distribution with the mean {known.mean_s:g} s"
    return known.draw(count, rng), (*known.notes, note)


def cold_starts(traffic: Traffic, options: Options) -> Traffic:
    """The traffic with the cold starts that the options give, where they do."""
    if options.cold_start_s is not None:
        times, said = np.array([options.cold_start_s]), f"each cold start takes the given {options.cold_start_s:g} s"
    elif options.cold_start_from is not None:
        known = read(options.cold_start_from, options)
        times = known.draw(COLD_STARTS, np.random.default_rng(options.seed))
        said = f"cold starts are drawn from {options.cold_start_from.name}, with the mean {known.mean_s:g} s"
    else:
        return traffic
    instead = f", instead of the {traffic.cold_start_s.size:,} recorded" if traffic.cold_start_s.size else ""
    return dataclasses.replace(traffic, cold_start_s=times, repairs=(*traffic.repairs, said + instead))


# Enough to draw from again: the 99th percentile of a thousand rests on ten.
COLD_STARTS = 1_000


def read(path: Path, options: Options) -> Distribution:
    """The distribution in a file. Raises BadTraffic for one that holds none."""
    head = source.head(path)
    if head.lstrip().startswith((b"{", b"[")):
        return _of_series(series.of_api(source.whole(path), str(path)), path, options)
    text = head.decode(errors="replace")
    if series.PROMTOOL.search(text):
        return _of_series(series.of_promtool(source.text(path), str(path)), path, options)
    if 'le="' in text and series.PAGE.search(text):
        return _of_series(series.of_page(source.text(path), str(path)), path, options)
    names = tabular.header(path, head)
    if percentiles.recognises(names):
        return percentiles.read(path, options)
    return _of_column(path, names, options)


def _of_column(path: Path, names: list[str], options: Options) -> Distribution:
    """The durations in a table's one column of them."""
    column = columns.duration(names)
    if column is None:
        raise BadTraffic(
            f"{path} has no column of durations: there are {columns.shown(names)}; expected one called duration_s or "
            "latency_ms, or a histogram's buckets"
        )
    seconds, said = durations.read(tabular.load(path, [column.name], names).column(column.name), column, options)
    readable = np.isfinite(seconds) & (seconds >= 0)
    if not readable.all():
        raise BadTraffic(
            f"{path} has {int((~readable).sum()):,} durations in {column.name!r} that are missing or negative; "
            "expected seconds of 0 or more in each row"
        )
    known = distribution.of_samples(seconds)
    return Distribution(known.shares, known.seconds, said)


def _of_series(found: list[series.Series], path: Path, options: Options) -> Distribution:
    buckets = [s for s in found if "le" in s.labels]
    if not buckets:
        raise BadTraffic(
            f"{path} holds {len(found):,} series and none with the label le; expected a histogram's buckets"
        )
    return series.histogram(buckets, options)
