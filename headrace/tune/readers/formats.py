"""The formats that can be read, each with how it is recognised and who reads it. The first that fits is taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.tune.readers import (
    access_log,
    columns,
    counts,
    given,
    journal,
    json_lines,
    json_log,
    percentiles,
    prometheus,
    series,
    source,
    table,
    tabular,
)
from headrace.tune.readers.options import Options
from headrace.tune.traffic import BadTraffic, Traffic


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a file begins with, in the ways that formats are recognised by."""

    head: bytes
    names: list[str]
    """The columns, were it a table."""
    objects: list[dict[str, Any]]
    """The first objects, were it JSON in lines."""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of recording."""

    name: str
    fits: Callable[[Beginning], bool]
    read: Callable[[Path, Options], Traffic]


_SERIES = re.compile(rb'"(?:resultType|metric)"\s*:')


def _has_line(pattern: str) -> Callable[[Beginning], bool]:
    compiled = re.compile(pattern.encode(), re.MULTILINE)
    return lambda b: compiled.search(b.head) is not None


def _any(fits: Callable[[dict[str, Any]], bool]) -> Callable[[Beginning], bool]:
    return lambda b: any(map(fits, b.objects))


def _is_api(b: Beginning) -> bool:
    return b.head.lstrip()[:1] in (b"{", b"[") and _SERIES.search(b.head) is not None


def _is_promtool(b: Beginning) -> bool:
    return series.PROMTOOL.search(b.head.decode(errors="replace")) is not None


def _is_table(b: Beginning) -> bool:
    return len(b.names) > 1 or columns.has_times(b.names) or b.head.startswith(source.PARQUET)


FORMATS = (
    Format("Prometheus range, JSON", _is_api, prometheus.read_api),
    Format("gateway's journal", _any(journal.is_journal), journal.read),
    Format("queue-proxy request log", _any(json_log.is_queue_proxy), json_log.read_queue_proxy),
    Format("Envoy access log, JSON", _any(json_log.is_envoy), json_log.read_envoy),
    Format("JSON objects in lines", _any(lambda _: True), json_log.read_any),
    Format("Envoy access log", _has_line(access_log.ENVOY), access_log.read_envoy),
    Format("nginx access log", _has_line(access_log.NGINX), access_log.read_nginx),
    Format("Prometheus range, promtool", _is_promtool, prometheus.read_promtool),
    Format("Azure Functions 2019", lambda b: counts.is_azure_2019(b.names), counts.read_azure_2019),
    Format("Huawei 2023 or 2025, per step", lambda b: counts.is_huawei(b.names), counts.read_huawei),
    Format("CSV or Parquet", _is_table, table.read),
)


def read(path: Path, options: Options) -> Traffic:
    """The traffic in a file of any format, or in a journal's folder, with the cold starts that the options give."""
    if path.is_dir():
        return given.cold_starts(journal.read_folder(path, options), options)
    head = source.head(path)
    if b"\0" in head and not head.startswith(source.PARQUET):
        raise BadTraffic(f"{path} is binary and no Parquet; {_EXPECTED}")
    beginning = Beginning(head, tabular.header(path, head), json_lines.objects(head))
    if percentiles.recognises(beginning.names):
        raise BadTraffic(
            f"{path} has durations without requests; give the invocations_per_function_md file of the same day, with "
            "this beside it"
        )
    known = next((f for f in FORMATS if f.fits(beginning)), None)
    if known is None:
        line = head.strip().splitlines()[0][:80].decode(errors="replace")
        raise BadTraffic(f"{path} begins with {line!r}, which is no known recording; {_EXPECTED}")
    try:
        return given.cold_starts(known.read(path, options), options)
    except BadTraffic as e:
        if str(path) in str(e):
            raise
        raise BadTraffic(f"{path}, read as {known.name}: {e}") from e


_EXPECTED = "expected one of: " + ", ".join(f.name for f in FORMATS)
