"""Whether what a model is asked still looks like what it learned from: statistics and the decision. Pure.

Called by `functions.drift_watch`. Each feature and output of a model is a column: a few bins, the share of the baseline
in each, and the share of the window. The statistic is the population stability index,

    PSI = Σ (wᵢ - bᵢ) · ln(wᵢ / bᵢ)        wᵢ, bᵢ: share of the window and of the baseline in bin i

0 where both are alike. A missing value is a bin of its own, so that a feed that breaks is seen like one that shifts.

With few rows chance alone makes a PSI: under "nothing changed" it is about (1/N + 1/M) · χ² with B - 1 degrees of
freedom, N rows in the window, M in the baseline, B bins. So a column drifts when its PSI is over the operator's
threshold and over the value that chance exceeds once in 1/ALPHA windows: with 300 rows, 50,000 in the baseline, 12
columns and 11 bins 0.12; with 101 bins 0.54, far over the customary 0.25.

Source: B. Yurdakul, Statistical Properties of Population Stability Index, Western Michigan University, 2018, for the
distribution; N. Siddiqi, Credit Risk Scorecards, Wiley, 2006, for the customary 0.1 (look) and 0.25 (act);
E. Wilson and M. Hilferty, The Distribution of Chi-Square, PNAS 17, 1931, for the quantile.
"""

from __future__ import annotations

import bisect
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import NormalDist
from typing import Any, Literal

from eventing.errors import Rejected

STATISTIC = "psi"
ALPHA = 0.001  # how often chance alone may look like drift, over all columns of one window

# How files spell a missing value, and how a request that repeats a file's cell does: text to the eye, missing to the
# models of the trainers, which read it from here.
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NaT", "NULL", "Null", "null", "None", "?")

# What a window of rows holds per column is the number of the row's bin; 0 is the bin of the missing.
MISSING_BIN = 0
UNTOLD = -1  # the prediction did not say it


@dataclass(frozen=True, slots=True)
class Column:
    """One feature or output, as the baseline knows it."""

    name: str
    kind: Literal["feature", "output"]
    shares: tuple[float, ...]
    """Share of the baseline's rows per bin: the missing, the intervals or categories, then all other categories."""
    edges: tuple[float, ...] | None = None
    """Numeric: bin i + 1 holds edges[i - 1] < x <= edges[i]; a value on an edge lies below it."""
    categories: Mapping[str, int] = field(default_factory=dict)
    """Categorical: the bin of each category, in every spelling that the model takes for it."""

    @classmethod
    def from_baseline(cls, name: str, kind: Literal["feature", "output"], value: Mapping[str, Any]) -> Column:
        """From a package's baseline. Shares count the present rows alone or all of them; both are understood.

        Raises Rejected for a baseline that describes no distribution.
        """
        try:
            missing = float(value.get("missing", 0.0))
            if value["kind"] == "numeric":
                edges = tuple(float(e) for e in value["edges"])
                present = [float(s) for s in value["shares"]]
                if len(present) != len(edges) + 1 or any(a >= b for a, b in pairwise(edges)):
                    raise ValueError(f"{len(edges)} edges, {len(present)} shares")
                return cls(name, kind, _all_bins(present, missing), edges)
            shares = {str(k): float(s) for k, s in value["shares"].items()}
            present = [*shares.values(), float(value.get("other", 0.0))]
            bins = {category: i + 1 for i, category in enumerate(shares)}
            if kind == "feature":
                bins = _spellings(bins)
            return cls(name, kind, _all_bins(present, missing), None, bins)
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise Rejected(f"the baseline of {name!r} describes no distribution: {e}") from e

    def bin(self, value: object) -> int:
        """The bin of one value; None, NaN and the empty text are missing."""
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            return MISSING_BIN
        if self.edges is None:
            return self.categories.get(_category(value), len(self.shares) - 1)
        try:
            # The model reads float32 and the edges were made from it: 0.7 there is 0.69999999, on the edge, not above.
            number = struct.unpack("f", struct.pack("f", float(value)))[0]  # type: ignore[arg-type]
        except OverflowError:
            number = math.copysign(math.inf, float(value))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return MISSING_BIN  # to a numeric model, a text is as good as nothing
        return MISSING_BIN if math.isnan(number) else bisect.bisect_left(self.edges, number) + 1


@dataclass(frozen=True, slots=True)
class Baseline:
    """All columns of one model version, features first."""

    columns: tuple[Column, ...]
    rows: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Baseline:
        """From a package's model.json. Raises Rejected naming the column that is broken."""
        features = value.get("features") or {}
        outputs = value.get("outputs") or {}
        columns = [Column.from_baseline(n, "feature", v) for n, v in features.items()]
        columns += [Column.from_baseline(n, "output", v) for n, v in outputs.items()]
        return cls(tuple(columns), max(int(value.get("rows") or 1), 1))

    def rows_of(
        self, features: Mapping[str, Sequence[Any]] | None, answers: Mapping[str, Sequence[Any]] | None
    ) -> tuple[tuple[int, ...], ...]:
        """Per row of a prediction the bin of each column. Raises Rejected when the columns' lengths differ.

        A column that the prediction does not tell is UNTOLD, and counts nowhere: leaving it out is no missing value.
        """
        told = {("feature", n): v for n, v in (features or {}).items()}
        told |= {("output", n): v for n, v in (answers or {}).items()}
        lengths = {len(v) for v in told.values()}
        if len(lengths) > 1:
            raise Rejected(f"the columns hold {', '.join(map(str, sorted(lengths)))} rows; expected the same number")
        unknown: Sequence[Any] = ()
        bins = []
        for column in self.columns:
            values = told.get((column.kind, column.name), unknown)
            bins.append([column.bin(v) for v in values] or [UNTOLD] * next(iter(lengths), 0))
        return tuple(zip(*bins, strict=True)) if bins else ()


@dataclass(frozen=True, slots=True)
class Window:
    """The last rows of a model's predictions. A value: `add` gives another."""

    size: int
    """Rows kept at most."""
    bins: tuple[int, ...]
    """How many bins each column has."""
    rows: tuple[tuple[int, ...], ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()
    """Per column, how many rows of the window lie in each bin; kept up to date, so that a decision need not count."""

    @classmethod
    def empty(cls, baseline: Baseline, size: int) -> Window:
        bins = tuple(len(c.shares) for c in baseline.columns)
        return cls(size, bins, (), tuple((0,) * b for b in bins))

    def add(self, rows: Iterable[tuple[int, ...]]) -> Window:
        """The window after these rows, without the oldest that no longer fit."""
        new = tuple(rows)[-self.size :]
        gone = self.rows[: max(0, len(self.rows) + len(new) - self.size)]
        counts = [list(c) for c in self.counts]
        for sign, some in ((1, new), (-1, gone)):
            for row in some:
                for count, bin in zip(counts, row, strict=True):
                    if bin != UNTOLD:
                        count[bin] += sign
        kept = self.rows[len(gone) :] + new
        return replace(self, rows=kept, counts=tuple(map(tuple, counts)))


@dataclass(frozen=True, slots=True)
class Measure:
    """One column of a window, measured."""

    name: str
    kind: Literal["feature", "output"]
    value: float
    """The PSI."""
    threshold: float
    """The value above which it counts as drift, for as many rows as there are."""

    @property
    def excess(self) -> float:
        """How far over its threshold: 1 is on it."""
        return self.value / self.threshold


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as drift, and how often it may be told."""

    min_rows: int = 300
    """Fewer rows in the window decide nothing."""
    threshold: float = 0.25
    """PSI above which a column drifts, unless chance explains more than that."""
    clear: float = 0.1
    """PSI below which every column must fall before a drift is over and another may begin."""
    cool_down_s: float = 3600.0
    """Seconds between two drifts, at the least: a training must have the time to answer the first."""


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a model between two decisions."""

    window: Window
    drifting: bool = False
    """Whether a drift was told that is not over."""
    told_at: float | None = None
    """When a drift was told last, in seconds since 1970; None: never."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to tell a drift, and why or why not."""

    drift: bool
    reason: str
    measures: tuple[Measure, ...] = ()
    """Every column, the furthest over its threshold first."""

    @property
    def over(self) -> tuple[Measure, ...]:
        """The columns over their threshold, the furthest first."""
        return tuple(m for m in self.measures if m.excess > 1)


def psi(window: Sequence[int], baseline: Sequence[float], baseline_rows: int) -> float:
    """The population stability index of counts per bin against shares per bin.

    Half a row is added to each bin on both sides (Jeffreys' prior), for the logarithm of an empty bin is infinite.
    """
    n, bins = sum(window), len(baseline)
    total = 0.0
    for count, share in zip(window, baseline, strict=True):
        w = (count + 0.5) / (n + 0.5 * bins)
        b = (share * baseline_rows + 0.5) / (baseline_rows + 0.5 * bins)
        total += (w - b) * math.log(w / b)
    return total


def by_chance(rows: int, baseline_rows: int, bins: int, alpha: float) -> float:
    """The PSI that chance alone exceeds with probability `alpha` when nothing changed. Source: Yurdakul 2018."""
    k = max(bins - 1, 1)
    # The quantile of χ² with k degrees of freedom by Wilson and Hilferty. So far out in its tail it is too large,
    # by 7 % at k = 1, 4 % at 3 and 1 % at 10: chance is given a little more room.
    z = NormalDist().inv_cdf(1 - alpha)
    quantile = k * (1 - 2 / (9 * k) + z * math.sqrt(2 / (9 * k))) ** 3
    return (1 / rows + 1 / baseline_rows) * quantile


def measure(window: Window, baseline: Baseline, threshold: float) -> tuple[Measure, ...]:
    """Every column that was told, the furthest over its threshold first."""
    measures = []
    for column, counts in zip(baseline.columns, window.counts, strict=True):
        n = sum(counts)
        if not n:
            continue
        # Bonferroni: with many columns one of them is off by chance more often.
        chance = by_chance(n, baseline.rows, len(counts), ALPHA / len(baseline.columns))
        value = psi(counts, column.shares, baseline.rows)
        measures.append(Measure(column.name, column.kind, value, max(threshold, chance)))
    return tuple(sorted(measures, key=lambda m: -m.excess))


def decide(
    state: State, rows: Iterable[tuple[int, ...]], now: float, baseline: Baseline, limits: Limits
) -> tuple[State, Decision]:
    """The state after these rows, and whether they tell a drift.

    One drift is told once: after it, every column must come back below `clear` (hysteresis: a value that trembles
    around the threshold is one drift), and the cool-down must pass. rows: see `Baseline.rows_of`. now: seconds since
    1970.
    """
    # A drift that was told by a clock that was ahead was told now at the latest, or the cool-down would last for ever.
    told_at = None if state.told_at is None else min(state.told_at, now)
    state = replace(state, window=state.window.add(rows), told_at=told_at)
    seen = len(state.window.rows)
    if seen < limits.min_rows:
        return state, Decision(False, f"{seen} rows in the window; {limits.min_rows} are needed")
    measures = measure(state.window, baseline, limits.threshold)
    if not measures:
        return state, Decision(False, "no column of the baseline was told")
    worst = measures[0]
    words = f"{worst.kind} {worst.name} has {STATISTIC} {worst.value:.3f}, threshold {worst.threshold:.3f}, {seen} rows"
    if state.drifting:
        # The clear level rises with the threshold where chance does, or a small window could never be clear.
        if all(m.value < limits.clear * m.threshold / limits.threshold for m in measures):
            return replace(state, drifting=False), Decision(False, f"the drift is over: {words}", measures)
        return state, Decision(False, f"still the drift that was told: {words}", measures)
    if worst.excess <= 1:
        return state, Decision(False, f"no drift: {words}", measures)
    if state.told_at is not None and now - state.told_at < limits.cool_down_s:
        left_s = limits.cool_down_s - (now - state.told_at)
        return state, Decision(False, f"a drift, the cool-down ends in {left_s:.0f} s: {words}", measures)
    return replace(state, drifting=True, told_at=now), Decision(True, f"a drift: {words}", measures)


def _all_bins(present: Sequence[float], missing: float) -> tuple[float, ...]:
    """Shares of all rows: the missing first, then the present scaled to the rest."""
    total = sum(present)
    if min((missing, *present)) < 0 or missing > 1 + 1e-9 or (total <= 0 and missing < 1):
        raise ValueError(f"shares {total:g}, missing {missing:g}")
    scale = (1 - missing) / total if total else 0.0
    return (missing, *(share * scale for share in present))


def _spellings(bins: Mapping[str, int]) -> dict[str, int]:
    """The bins of a text feature, by whatever a request may say for them: what is one to the model is one here.

    true in JSON reaches the model as "True", whatever the file said. Source: `trainers.preprocessing`.
    """
    known = dict(bins)
    for word, bin in bins.items():
        if word.lower() in ("true", "false"):
            for spelling in (word.title(), word.lower(), word.upper()):
                known.setdefault(spelling, bin)
    return {**dict.fromkeys(MISSING, MISSING_BIN), **known}


def _category(value: object) -> str:
    """A label may come as 1, 1.0 or "1", by the protocol it was asked in; a category is one text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
