"""A range of request rates out of Prometheus: the answer of /api/v1/query_range, or what `promtool query range` prints.

Several series are summed. A counter that was exported without rate() is read as what it is, counts of requests. Series
with the label `le` are a histogram of durations and give the service times.

Source: prometheus.io, HTTP API, range queries: each sample at its time, which is the end of what rate() looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.tune.readers import arrivals, selection, series, source
from headrace.tune.readers.arrivals import Steps
from headrace.tune.readers.options import Options
from headrace.tune.readers.series import Series
from headrace.tune.traffic import BadTraffic, Traffic

Floats = NDArray[np.float64]

# Prometheus refuses more points in a series; a range of years at a second's step is not what was meant.
MAX_STEPS = 10_000_000


def read_api(path: Path, options: Options) -> Traffic:
    """The JSON of the HTTP API."""
    return _read(series.of_api(source.whole(path), str(path)), path, options)


def read_promtool(path: Path, options: Options) -> Traffic:
    """What promtool prints."""
    return _read(series.of_promtool(source.text(path), str(path)), path, options)


def _read(found: list[Series], path: Path, options: Options) -> Traffic:
    if not found:
        raise BadTraffic(f"{path} holds no series: the query found nothing; check its metric's name and its time")
    if any("quantile" in s.labels for s in found):
        raise BadTraffic(f"{path} holds quantiles ({found[0].name}); expected rates or counts of requests")
    rates = [s for s in found if "le" not in s.labels]
    buckets = [s for s in found if "le" in s.labels]
    # A histogram alone counts requests too: its last bucket has them all.
    counted, notes = _selected(
        rates or [s for s in buckets if np.isinf(series.number(s.labels["le"], str(path)))], path, options
    )
    kinds = {series.is_counter(s) for s in counted}
    if len(kinds) > 1:
        raise BadTraffic(
            f"{path} mixes counters and rates ({counted[0].name}, {counted[-1].name}); expected one of the two"
        )
    at_s, values, said = _on_one_grid(counted, path)
    exact = kinds == {True}
    steps = _counted(at_s, values, said) if exact else _rated(at_s, values, said)
    buckets = [s for s in buckets if options.only in s.labels.values()] or buckets
    given = options.service_s is not None or options.service_from is not None
    durations = series.histogram(buckets, options) if buckets and not given else None
    traffic_source = f"Prometheus {'counters' if exact else 'rates'} {path.name}"
    drawn = arrivals.traffic(steps, durations, traffic_source, options)
    return drawn if not notes else _noted(drawn, notes)


def _noted(drawn: Traffic, notes: tuple[str, ...]) -> Traffic:
    return Traffic(
        drawn.starts_s, drawn.service_s, drawn.began, drawn.source, drawn.cold_start_s, (*notes, *drawn.repairs)
    )


def _selected(found: Sequence[Series], path: Path, options: Options) -> tuple[list[Series], tuple[str, ...]]:
    """The series that the options name, by the name or by any label's value; all without."""
    if not found:
        raise BadTraffic(f'{path} holds no series of requests: buckets need the one with le="+Inf" beside them')
    if options.only is None:
        return list(found), ((f"{len(found):,} series were summed",) if len(found) > 1 else ())
    labelled = [s for s in found if options.only in s.labels.values()]
    if not labelled:
        sums = {s.name: float(np.nansum(s.values)) for s in found}
        name = selection.choose(sums, options.only, "series")
        labelled = [s for s in found if s.name == name]
    return labelled, (f"of {len(found):,} series the {len(labelled):,} of {options.only} were taken",)


def _on_one_grid(found: Sequence[Series], path: Path) -> tuple[Floats, Floats, list[str]]:
    """at_s (k,), ascending without gaps, and values (series, k), NaN where a series has none then."""
    times = np.unique(np.concatenate([s.at_s for s in found]))
    if times.size < 2 or not np.isfinite(times).all():
        raise BadTraffic(f"{path} has {times.size} time(s) in its samples; expected a range with at least two")
    step_s = float(np.diff(times).min())
    places = np.rint((times - times[0]) / step_s)
    if np.abs(times - times[0] - places * step_s).max() > 0.01 * step_s:
        raise BadTraffic(
            f"{path} has samples that do not lie {step_s:g} s apart, or on a multiple of it; expected one range query, "
            "whose step is even"
        )
    if places[-1] >= MAX_STEPS:
        raise BadTraffic(f"{path} spans {places[-1]:,.0f} steps of {step_s:g} s; expected at most {MAX_STEPS:,}")
    at_s = times[0] + np.arange(int(places[-1]) + 1) * step_s
    values = np.full((len(found), at_s.size), np.nan)
    for row, one in zip(values, found, strict=True):
        place = np.rint((one.at_s - times[0]) / step_s).astype(int)
        if np.unique(place).size < place.size:
            raise BadTraffic(f"{path} has two samples of {one.name} at one time; expected one")
        row[place] = one.values
    said = []
    empty = int(np.isnan(values).all(axis=0).sum())
    if empty:
        said.append(f"{empty:,} of {at_s.size:,} steps have no sample in any series: taken as no request")
    some = int(np.isnan(values).sum()) - empty * len(found)
    if some:
        said.append(f"{some:,} samples are missing in some of the series: taken as no request of these")
    return at_s, values, said


def _rated(at_s: Floats, values: Floats, said: list[str]) -> Steps:
    """Requests to be expected in the step that ends at each sample."""
    step_s = float(at_s[1] - at_s[0])
    total = np.where(np.isnan(values), 0.0, values).sum(axis=0)
    said.append(
        f"each rate is taken as requests per second over the {step_s:g} s before its sample; where rate() looked "
        "further back than that, bursts are smoother here than they were"
    )
    began = at_s[0] - step_s
    return Steps(at_s - at_s[0], step_s, total * step_s, False, _moment(began), tuple(said))


def _counted(at_s: Floats, values: Floats, said: list[str]) -> Steps:
    """Requests that came between a sample and the next. A sample that is missing is bridged by those around it."""
    rises = np.zeros(at_s.size - 1)
    late = 0
    for row in values:
        known = np.flatnonzero(~np.isnan(row))
        if known.size and known[0]:
            rises[known[0] - 1] += row[known[0]]
            late += 1
        rise, ends = series.increase(row[known]), known[1:] - 1
        lengths = np.diff(known)
        # Over a gap of several steps the rise is spread over all of them.
        np.add.at(
            rises, np.repeat(ends - lengths + 1, lengths) + _counting(lengths), np.repeat(rise / lengths, lengths)
        )
    resets = int((np.diff(values, axis=1) < 0).sum())
    if resets:
        said.append(f"counters began anew {resets:,} times: what they had risen since is counted")
    if late:
        said.append(f"{late:,} series begin within the range: what they first show is counted in the step before")
    said.append("the series are counters: requests are what they rose by from sample to sample")
    whole = np.diff(np.rint(np.concatenate(([0.0], np.cumsum(rises)))))
    return Steps(at_s[:-1] - at_s[0], float(at_s[1] - at_s[0]), whole, True, _moment(at_s[0]), tuple(said))


def _counting(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, … within each of the lengths."""
    return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _moment(epoch_s: float) -> datetime:
    try:
        return datetime.fromtimestamp(float(epoch_s), UTC)
    except (ValueError, OverflowError, OSError) as e:
        raise BadTraffic(f"the samples begin {epoch_s:.0f} s after 1970; expected seconds of this era") from e
