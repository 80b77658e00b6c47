"""Prometheus's series out of its three ways to write them: the query API's JSON, `promtool query`, a scraped page.

Source: prometheus.io, HTTP API, the formats of range and instant vectors; text-based exposition format;
prometheus/common model/value.go, which prints `{label="value"} =>` and then a line `value @[seconds]` for each sample.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from headrace.tune.readers import distribution
from headrace.tune.readers.distribution import Distribution
from headrace.tune.readers.options import UNITS, Options
from headrace.tune.traffic import BadTraffic

Floats = NDArray[np.float64]

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_.]*|"[^"]*")="((?:[^"\\]|\\.)*)"')
PROMTOOL = re.compile(
    r"^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)?(?P<labels>\{.*\})?\s*=>\s*(?P<sample>\S+ @\[[^\]]+\])?\s*$", re.M
)
_SAMPLE = re.compile(r"^(?P<value>\S+) @\[(?P<at>[^\]]+)\]$")
PAGE = re.compile(r"^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?P<labels>\{.*\})? (?P<value>\S+)(?: \d+)?$", re.M)


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One series: `labels`, its name under `__name__` where it has one; at_s and values (k,), in the file's order."""

    labels: Mapping[str, str]
    at_s: Floats
    values: Floats

    @property
    def name(self) -> str:
        """As Prometheus writes it, without the labels that its readers split it by."""
        inside = ", ".join(f'{k}="{v}"' for k, v in sorted(self.labels.items()) if k not in ("__name__", "le"))
        return self.labels.get("__name__", "") + (f"{{{inside}}}" if inside or "__name__" not in self.labels else "")


def of_api(document: bytes, what: str) -> list[Series]:
    """The answer of /api/v1/query_range or /api/v1/query. Raises BadTraffic for an error and for what is no answer."""
    try:
        answer = orjson.loads(document)
    except orjson.JSONDecodeError as e:
        raise BadTraffic(f"{what} begins like JSON and is not: {e}; was it cut off?") from e
    if isinstance(answer, dict) and answer.get("status") == "error":
        raise BadTraffic(f"{what} is Prometheus's refusal: {answer.get('error', 'no reason given')}; ask again")
    data = answer.get("data", answer) if isinstance(answer, dict) else {"result": answer}
    result = data.get("result") if isinstance(data, dict) else None
    kind = data.get("resultType", "matrix") if isinstance(data, dict) else None
    if not isinstance(result, list) or kind not in ("matrix", "vector"):
        raise BadTraffic(
            f"{what} is JSON without Prometheus's series (a resultType of {kind!r}); expected the answer of "
            "/api/v1/query_range"
        )
    return [_of_result(r, number, what) for number, r in enumerate(result)]


def of_promtool(text: str, what: str) -> list[Series]:
    """What `promtool query range` and `promtool query instant` print."""
    found: list[Series] = []
    labels: dict[str, str] | None = None
    samples: list[tuple[str, str]] = []

    def end() -> None:
        if labels is not None:
            found.append(_series(labels, [s[1] for s in samples], [s[0] for s in samples], what))

    for line in filter(None, map(str.strip, text.splitlines())):
        if begins := PROMTOOL.match(line):
            end()
            labels, samples = _labels(begins["name"], begins["labels"]), []
            line = begins["sample"] or ""
        sample = _SAMPLE.match(line)
        if sample is not None and labels is not None:
            samples.append((sample["value"], sample["at"]))
        elif line:
            raise BadTraffic(
                f"{what} holds {line[:80]!r} between its samples; expected lines such as '1.5 @[1767225600]'"
            )
    end()
    return found


def of_page(text: str, what: str) -> list[Series]:
    """A page that Prometheus would scrape: one sample, without a time, for each series."""
    found = (PAGE.match(line) for line in text.splitlines())
    return [_series(_labels(m["name"], m["labels"]), ["0"], [m["value"]], what) for m in found if m]


def histogram(series: Sequence[Series], options: Options) -> Distribution:
    """The distribution in series with the label `le`: all of them together, over the whole time.

    Counters count by what they rose, an instant's by what they are; rates by their sum. Raises BadTraffic where nothing
    says the unit.
    """
    name = series[0].labels.get("__name__", "")
    unit = options.duration_unit or histogram_unit(name)
    if unit is None:
        raise BadTraffic(
            f"the histogram {series[0].name} does not say its unit, s or ms; give the duration unit (duration_unit)"
        )
    counts: dict[float, float] = {}
    for one in series:
        bound = number(one.labels["le"], series[0].name)
        values = one.values[np.isfinite(one.values)]
        counts[bound] = counts.get(bound, 0.0) + float(
            (increase(values) if is_counter(one) and values.size > 1 else values).sum()
        )
    bounds = sorted(counts)
    return distribution.of_buckets(np.array(bounds) * UNITS[unit], [counts[b] for b in bounds], series[0].name)


def histogram_unit(name: str) -> str | None:
    """The unit in a metric's name; Knative's `revision_request_latencies` are milliseconds. None: it says none."""
    words = name.lower().split("_")
    if "seconds" in words:
        return "s"
    return "ms" if {"milliseconds", "ms", "latencies"} & set(words) else None


def is_counter(one: Series) -> bool:
    """A counter by its name: rate() would have taken the name away, and recording rules have a colon in theirs."""
    name = one.labels.get("__name__", "")
    return name.endswith(("_total", "_count", "_bucket")) and ":" not in name


def increase(values: Floats) -> Floats:
    """(k - 1,) by how much a counter rose from each sample to the next; after a reset, by all it has risen since."""
    rise = np.diff(values)
    return np.where(rise < 0, values[1:], rise)


def _of_result(result: object, number: int, what: str) -> Series:
    if not isinstance(result, dict) or not isinstance(result.get("metric"), dict):
        raise BadTraffic(
            f"{what}: series {number + 1} has no labels (metric); expected the answer of /api/v1/query_range"
        )
    labels = {str(k): str(v) for k, v in result["metric"].items()}
    if "histograms" in result or "histogram" in result:
        raise BadTraffic(
            f"{what}: {Series(labels, np.empty(0), np.empty(0)).name} is a native histogram; ask for "
            "histogram_count(...) of it, or for rates"
        )
    samples = result.get("values", [result["value"]] if "value" in result else [])
    if not isinstance(samples, list) or not all(isinstance(s, list) and len(s) == 2 for s in samples):
        raise BadTraffic(f"{what}: series {number + 1} has no pairs of time and value; is the file whole?")
    return _series(labels, [s[0] for s in samples], [s[1] for s in samples], what)


def _series(labels: Mapping[str, str], at: Iterable[object], values: Iterable[object], what: str) -> Series:
    return Series(labels, np.array([number(a, what) for a in at]), np.array([number(v, what) for v in values]))


def number(text: object, what: str) -> float:
    """As Prometheus writes it: NaN and +Inf are numbers."""
    try:
        return float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError) as e:
        raise BadTraffic(f"{what} holds {text!r} where a number is expected") from e


def _labels(name: str | None, inside: str | None) -> dict[str, str]:
    labels = {k.strip('"'): v.replace('\\"', '"').replace("\\\\", "\\") for k, v in _LABEL.findall(inside or "")}
    return {"__name__": name, **labels} if name else labels
