"""What a file says of its requests, made into traffic: one place for every repair, so that each is stated alike.

The readers fill a `Recording`; `traffic` leaves out, fills in, sorts and tells what it did. What cannot be repaired
without guessing raises BadTraffic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.tune.readers import given, service_time
from headrace.tune.readers.options import Options
from headrace.tune.traffic import BadTraffic, Traffic

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.int64]

# Broken rows beyond this share say that the file was misunderstood, and then no repair is honest.
MAX_BROKEN_SHARE = 0.01
# A silence worth a word: this share of the whole, and not shorter than what a quiet hour brings.
SILENCE_SHARE, SILENCE_S = 0.1, 600.0
# Beyond it, two recordings are one file or a time is wrong: it would be simulated second by second.
LONGEST_SILENCE_S = 14 * 86_400.0
# More in one second than the busiest gateways of one service pass on: worth a word, for a coarse clock does the same.
DENSE = 10_000
# Of independent requests, hardly any come at one moment of a clock of milliseconds.
SAME_SHARE = 0.25
LONGEST_S = 600.0  # Knative's max-revision-timeout-seconds as it is shipped


@dataclass(frozen=True, slots=True)
class Recording:
    """Requests as a file has them, in its order."""

    at_s: Floats
    """(n,) seconds since the epoch or, unless `absolute`, since a moment nobody names; NaN: unreadable."""
    duration_s: Floats | None
    """(n,) seconds; NaN: unreadable. None: the file has none."""
    absolute: bool
    at_end: bool = False
    """`at_s` is when the answer was out, so the request came `duration_s` earlier."""
    is_service: bool = False
    """`duration_s` is what a pod spent, not what a caller saw."""
    cold_s: Floats | None = None
    """(n,) seconds of each request's cold start, 0 or NaN for none."""
    is_cold: Mask | None = None
    """(n,) which requests met a cold start, where its length is not told."""
    pods: Index | None = None
    """(n,) a number for each pod."""
    whole_seconds: bool = False
    """The file has no finer clock than a second."""
    notes: tuple[str, ...] = field(default=())


def traffic(recording: Recording, path: Path, kind: str, options: Options) -> Traffic:
    """The recording as traffic from second 0, its first request's start. kind: what the file is, in words."""
    notes = list(recording.notes)
    rng = np.random.default_rng(options.seed)
    readable = np.isfinite(recording.at_s)
    if not readable.any():
        raise BadTraffic(f"{path} holds no request; expected {kind} with at least one")
    _refuse_many(~readable, path, "times that cannot be read")
    if not readable.all():
        notes.append(f"{int((~readable).sum()):,} rows without a readable time were left out")
    index = np.flatnonzero(readable)
    durations, drawn = _durations(recording, index, path, options, rng, notes)
    starts = recording.at_s[index]
    late = int((np.diff(starts) < 0).sum())
    if recording.whole_seconds and np.unique(starts).size < starts.size:
        starts = starts + rng.random(starts.size)
        notes.append(
            f"the times are whole seconds: each of {starts.size:,} requests was moved to a random moment in its second"
        )
    if recording.at_end:
        starts = starts - durations
        notes.append("the times are those of the answers: each request began its duration earlier")
    if late:
        notes.append(
            f"{late:,} of {starts.size:,} requests have an earlier time than the one above them: sorted by time"
        )
    order = np.argsort(starts, kind="stable")
    index, starts, durations = index[order], starts[order], durations[order]
    cold_start_s = np.empty(0)
    if not drawn:
        durations, cold_start_s = _without_cold_starts(recording, index, starts, durations, options, rng, notes)
        durations = _without_waiting(recording, index, starts, durations, options, notes)
        if options.service_s is not None or options.service_from is not None:
            durations, said = given.service_times(starts.size, None, options, str(path), rng)
            notes.extend((*said, "they stand instead of the recorded durations"))
    starts_s = starts - starts[0]
    _refuse_long_silence(starts_s, recording.absolute, float(starts[0]), path)
    _tell_oddities(starts_s, durations, notes)
    began = _moment(float(starts[0]), path) if recording.absolute else None
    return Traffic(starts_s, durations, began, f"{kind} {path.name}", cold_start_s, tuple(notes))


def _refuse_many(broken: Mask, path: Path, what: str) -> None:
    count = int(broken.sum())
    if count > MAX_BROKEN_SHARE * broken.size:
        raise BadTraffic(
            f"{path} has {count:,} {what} in {broken.size:,} requests, the first in number "
            f"{int(np.argmax(broken)) + 1:,}; expected at most {MAX_BROKEN_SHARE:.0%}: correct the file, or say what "
            "its columns hold"
        )


def _durations(
    recording: Recording, index: Index, path: Path, options: Options, rng: np.random.Generator, notes: list[str]
) -> tuple[Floats, bool]:
    """A duration for every request, measured or drawn from those measured; True: all are drawn from what is given."""
    if recording.duration_s is None:
        durations, said = given.service_times(index.size, None, options, str(path), rng)
        notes.extend(said)
        return durations, True
    durations = recording.duration_s[index]
    broken = ~(np.isfinite(durations) & (durations >= 0))
    negative = int((durations < 0).sum())
    _refuse_many(broken, path, f"durations that are missing or negative ({negative:,} negative)")
    if broken.any():
        durations[broken] = rng.choice(durations[~broken], int(broken.sum()))
        notes.append(
            f"{int(broken.sum()):,} durations were missing or negative ({negative:,} negative): drawn from the others"
        )
    return durations, False


def _without_cold_starts(
    recording: Recording,
    index: Index,
    starts: Floats,
    durations: Floats,
    options: Options,
    rng: np.random.Generator,
    notes: list[str],
) -> tuple[Floats, Floats]:
    """Durations without cold starts, and the cold starts, as far as recording and options tell of them."""
    if recording.cold_s is not None:
        return _without_recorded(recording, recording.cold_s[index], durations, notes)
    if recording.is_cold is not None:
        word = "flagged as cold"
        found = service_time.flagged(starts, durations, recording.is_cold[index])
    elif options.cold_after_s is not None:
        word = f"after {options.cold_after_s:g} s of silence"
        found = service_time.cold_starts(starts, durations, options.cold_after_s)
    else:
        return durations, np.empty(0)
    if found is None:
        notes.append(f"all requests came {word} or shortly after: cold starts cannot be told from service by them")
        return durations, np.empty(0)
    durations = durations.copy()
    durations[found.touched] = rng.choice(durations[~found.touched], int(found.touched.sum()))
    notes.append(
        f"{found.cold_start_s.size:,} of {found.candidates:,} requests {word} were slower than usual: what they took "
        f"beyond the median is a cold start; the service times of the {int(found.touched.sum()):,} requests that these "
        "touched are drawn from the others"
    )
    return durations, found.cold_start_s


def _without_recorded(
    recording: Recording, cold_s: Floats, durations: Floats, notes: list[str]
) -> tuple[Floats, Floats]:
    cold_s = np.nan_to_num(cold_s, nan=0.0)
    if (cold_s < 0).any() or not np.isfinite(cold_s).all():
        raise BadTraffic("a recorded cold start is negative or infinite; expected seconds of 0 or more")
    cold_start_s = cold_s[cold_s > 0]
    if recording.is_service:
        return durations, cold_start_s
    longer = cold_s > durations
    notes.append(
        f"{cold_start_s.size:,} cold starts are as recorded, and taken off the latency of their requests, except "
        f"{int(longer.sum()):,} that are longer than it"
    )
    return np.where(longer, durations, durations - cold_s), cold_start_s


def _without_waiting(
    recording: Recording, index: Index, starts: Floats, durations: Floats, options: Options, notes: list[str]
) -> Floats:
    """Durations as service times: without the wait for a place in a pod, where the places are known."""
    if recording.is_service:
        return durations
    places = options.container_concurrency
    if places is None or recording.pods is None:
        unnamed = "" if places is None else "; the recording does not name the pods"
        notes.append(
            "latency is taken as service time: where requests waited for a place in a pod, this predicts too slow"
            + unnamed
        )
        return durations
    service_s = service_time.without_waiting(starts, starts + durations, recording.pods[index], places)
    notes.append(
        f"{int((service_s < durations).sum()):,} requests waited for one of {places} places in their pod, assuming "
        "first come, first served: their waiting is not counted as service"
    )
    return service_s


def _refuse_long_silence(starts_s: Floats, absolute: bool, first_s: float, path: Path) -> None:
    gaps = np.diff(starts_s)
    at = int(np.argmax(gaps)) if gaps.size else 0
    if gaps.size and gaps[at] > LONGEST_SILENCE_S:
        since = (
            f"{_moment(first_s + starts_s[at], path):%Y-%m-%dT%H:%M:%SZ}" if absolute else f"second {starts_s[at]:,.0f}"
        )
        raise BadTraffic(
            f"{path} has no request for {gaps[at] / 86_400:,.0f} days from {since}, after {at + 1:,} of "
            f"{starts_s.size:,} requests; expected at most {LONGEST_SILENCE_S / 86_400:.0f} days: correct a wrong "
            "time, give the times' unit (time_unit), or cut the file there"
        )


def _moment(epoch_s: float, path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(epoch_s, UTC)
    except (ValueError, OverflowError, OSError) as e:
        raise BadTraffic(f"{path} has a request {epoch_s:.0f} s after 1970; expected a time of this era") from e


def _tell_oddities(starts_s: Floats, service_s: Floats, notes: list[str]) -> None:
    gaps = np.diff(starts_s)
    at = int(np.argmax(gaps)) if gaps.size else 0
    if gaps.size and gaps[at] >= max(SILENCE_S, SILENCE_SHARE * starts_s[-1]):
        notes.append(
            f"no request came for {gaps[at]:,.0f} s, from second {starts_s[at]:,.0f}: taken as silence, not as a gap "
            "in the recording"
        )
    within = np.searchsorted(starts_s, starts_s + 1.0) - np.arange(starts_s.size) if starts_s.size >= DENSE else gaps
    at = int(np.argmax(within)) if within.size else 0
    same = int((gaps == 0).sum())
    if same > SAME_SHARE * starts_s.size:
        notes.append(
            f"{same:,} of {starts_s.size:,} requests came at the very moment of the one before: taken as they are, "
            "though a coarse clock writes the same"
        )
    if within.size and within[at] >= DENSE:
        notes.append(
            f"{int(within[at]):,} requests came within one second, from second {starts_s[at]:,.1f}: taken as "
            "they are, though a broken clock writes the same"
        )
    if np.median(service_s) > LONGEST_S:
        notes.append(
            f"half of the requests take more than {LONGEST_S:g} s, the longest timeout that Knative allows: "
            "is the unit of the durations right?"
        )
