"""From what a caller saw to what a pod spent: latency without cold starts and without waiting for a place.

Both parts are estimates, made only where the user says what they rest on. Pure; called by
`headrace.tune.readers.recording`.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A request after a silence met a cold start when it took longer than this share of all requests that met none; the
# others after a silence found a pod that had stayed.
USUAL_SHARE = 0.99


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """touched: (n,) requests whose latency holds a cold start, or the rest of somebody else's. cold_start_s: (m,)."""

    touched: NDArray[np.bool_]
    cold_start_s: Floats
    candidates: int


def cold_starts(starts_s: Floats, latency_s: Floats, after_s: float) -> ColdStarts | None:
    """Requests that met a cold start: the first after `after_s` without any request, where it was unusually slow, and
    those that came before its pod was up. None where every request follows a silence: nothing is there to compare with.

    starts_s: ascending. A cold start lasts as long as the request took beyond the median of the others.
    """
    ends = starts_s + latency_s
    first = np.zeros(starts_s.size, dtype=np.bool_)
    first[1:] = starts_s[1:] - np.maximum.accumulate(ends)[:-1] >= after_s
    # Whoever came before the first was answered may have waited with it, and says nothing about the usual.
    others = latency_s[~(first | _within(starts_s, starts_s[first], ends[first]))]
    if not others.size:
        return None
    cold = first & (latency_s > np.quantile(others, USUAL_SHARE))
    return _with_riders(starts_s, latency_s, cold, float(np.median(others)), int(first.sum()))


def flagged(starts_s: Floats, latency_s: Floats, cold: NDArray[np.bool_]) -> ColdStarts | None:
    """The same where the recording names the requests that met a cold start. None where it names all of them."""
    if cold.all():
        return None
    usual_s = float(np.median(latency_s[~cold]))
    return _with_riders(starts_s, latency_s, cold & (latency_s > usual_s), usual_s, int(cold.sum()))


def _with_riders(
    starts_s: Floats, latency_s: Floats, cold: NDArray[np.bool_], usual_s: float, candidates: int
) -> ColdStarts:
    cold_start_s = latency_s[cold] - usual_s
    touched = cold | _within(starts_s, starts_s[cold], starts_s[cold] + cold_start_s)
    return ColdStarts(cold if touched.all() else touched, cold_start_s, candidates)


def _within(starts_s: Floats, from_s: Floats, until_s: Floats) -> NDArray[np.bool_]:
    """(n,) which starts lie in any of the spans, `from_s` ascending."""
    if not from_s.size:
        return np.zeros(starts_s.size, dtype=np.bool_)
    before = np.searchsorted(from_s, starts_s, side="right") - 1
    return (before >= 0) & (starts_s < np.maximum.accumulate(until_s)[np.maximum(before, 0)])


def without_waiting(starts_s: Floats, ends_s: Floats, pods: NDArray[np.int64], places: int) -> Floats:
    """(n,) seconds that each request held one of its pod's `places`, had they been given out first come, first served.

    starts_s: ascending. A request began when it came, or when the places-th latest end among those before it had come.
    Where one ended before that, it had overtaken others, and its whole latency counts.
    """
    service_s = ends_s - starts_s
    by_pod = np.argsort(pods, kind="stable")
    for of_pod in np.split(by_pod, np.flatnonzero(np.diff(pods[by_pod])) + 1):
        begins = _begins(starts_s[of_pod], ends_s[of_pod], places)
        held = ends_s[of_pod] - begins
        service_s[of_pod] = np.where(held > 0, held, service_s[of_pod])
    return service_s


def _begins(starts_s: Floats, ends_s: Floats, places: int) -> Floats:
    begins = starts_s.copy()
    if places == 1:
        begins[1:] = np.maximum(begins[1:], np.maximum.accumulate(ends_s)[:-1])
        return begins
    latest = ends_s[:places].tolist()
    heapq.heapify(latest)
    free_at = np.empty(max(starts_s.size - places, 0))
    for i, end in enumerate(ends_s[places:].tolist()):
        free_at[i] = latest[0]
        heapq.heappushpop(latest, end)
    begins[places:] = np.maximum(begins[places:], free_at)
    return begins
