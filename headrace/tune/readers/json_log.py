"""Logs of a JSON object for each request: Knative's queue-proxy, Envoy and Istio, nginx, anybody's own.

Source: knative/serving config/core/configmaps/observability.yaml, `logging.request-log-template` (latency in seconds,
written when the request is done, without a time of its own); istio.io, Envoy access logs, JSON encoding (times in ms);
nginx.org, ngx_http_log_module, `escape=json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headrace.tune.readers import (
    access_log,
    columns,
    durations,
    instants,
    json_lines,
    recording,
    source,
    table,
    tabular,
)
from headrace.tune.readers.columns import Column, Columns
from headrace.tune.readers.json_lines import Fields, Pick, Skipped
from headrace.tune.readers.options import Options
from headrace.tune.readers.recording import Recording
from headrace.tune.traffic import BadTraffic, Traffic


def is_queue_proxy(found: dict[str, Any]) -> bool:
    """Knative's default template; Google's log entries have the same object."""
    request = found.get("httpRequest")
    return isinstance(request, dict) and "latency" in request


def is_envoy(found: dict[str, Any]) -> bool:
    """The keys of Istio, Envoy Gateway and Contour, which come from Envoy's own names."""
    return "duration" in found and (
        "response_code" in found or "response_flags" in found or "upstream_service_time" in found
    )


def read_queue_proxy(path: Path, options: Options) -> Traffic:
    """queue-proxy's log. Its times are the collector's, which sees a line when its request is done."""

    def pick(found: dict[str, Any]) -> Fields | None:
        request = found.get("httpRequest")
        if not isinstance(request, dict) or "latency" not in request:
            return None
        which = found.get("revision", found.get("service"))
        return (
            _text(json_lines.collected(found)),
            _text(request["latency"]),
            _text(request.get("serverIp")),
            _text(which),
            _text(request.get("userAgent")),
        )

    table, notes = _table(path, ("at", "latency", "pod", "which", "agent"), pick, "queue-proxy's request log")
    if table.column("at").null_count == table.num_rows:
        raise BadTraffic(
            f"{path} does not say when its requests came: Knative's template writes no time. Collect it with "
            "`kubectl logs --timestamps -c queue-proxy`, or give the log as its collector keeps it"
        )
    table, taken = access_log.of_one(table, options)
    at = instants.read(table.column("at"), "timestamp", None, options)
    seconds, _ = durations.read(table.column("latency"), Column("latency", "s"), options)
    pods = table.column("pod")
    found = Recording(
        at.at_s,
        seconds,
        at.absolute,
        at_end=True,
        pods=tabular.codes(pods) if not pods.null_count else None,
        notes=(*notes, *taken, *at.notes),
    )
    return recording.traffic(found, path, "queue-proxy request log", options)


def read_envoy(path: Path, options: Options) -> Traffic:
    """Envoy's log as JSON, whose keys are Istio's or near to them."""

    def pick(found: dict[str, Any]) -> Fields | None:
        at = found.get("start_time") or json_lines.collected(found)
        if at is None or "duration" not in found:
            return None
        upstream = found.get("upstream_service_time", found.get("x-envoy-upstream-service-time"))
        which = found.get("authority", found.get(":authority"))
        return _text(at), _text(found["duration"]), _text(upstream), _text(which), _text(found.get("user_agent"))

    table, notes = _table(path, ("at", "duration", "upstream", "which", "agent"), pick, "Envoy's access log as JSON")
    table, taken = access_log.of_one(table, options)
    at = instants.read(table.column("at"), "start_time", None, options)
    total_s, upstream_s = (access_log.milliseconds(table.column(c)) for c in ("duration", "upstream"))
    duration_s, said = access_log.envoy_durations(total_s, upstream_s)
    found = Recording(at.at_s, duration_s, at.absolute, notes=(*notes, *taken, *at.notes, *said))
    return recording.traffic(found, path, "Envoy access log", options)


def read_any(path: Path, options: Options) -> Traffic:
    """Anybody's objects, their keys named like a table's columns; nginx's `request_time` ends at the line's time."""
    examples = json_lines.objects(source.head(path))
    names = list(dict.fromkeys(k for e in examples for k in e if k != json_lines.COLLECTED))
    roles = _nginx(names) or columns.recognise(names)
    key = (roles.which.name,) if roles.which else ()
    wanted = list(dict.fromkeys((*roles.names, *key)))
    stamp = (roles.start or roles.end or Column("", None)).name

    def pick(found: dict[str, Any]) -> Fields | None:
        return tuple(_text(found.get(w)) for w in wanted) if found.get(stamp) is not None else None

    rows, notes = _table(path, wanted, pick, "JSON objects of requests")
    return table.requests(rows, roles, key, False, path, "JSON log", options, notes)


def _nginx(names: Sequence[str]) -> Columns | None:
    stamp = next((n for n in ("msec", "time_iso8601", "time_local") if n in names), None)
    if stamp is None or "request_time" not in names:
        return None
    which = next((Column(n, None) for n in ("host", "http_host", "server_name") if n in names), None)
    end, latency = Column(stamp, "s" if stamp == "msec" else None), Column("request_time", "s")
    return Columns(start=None, end=end, service=None, latency=latency, cold=None, pod=None, which=which)


def _table(path: Path, names: Sequence[str], pick: Pick, kind: str) -> tuple[pa.Table, tuple[str, ...]]:
    """A column of text for each name, without the requests of probes. Raises BadTraffic where no line is a request."""
    skipped = Skipped()
    schema = pa.schema([(n, pa.string()) for n in names])
    blocks = [
        pa.table([pa.array(c, pa.string()) for c in zip(*rows, strict=True)], schema=schema)
        for rows in json_lines.rows(path, pick, skipped)
        if rows
    ]
    if not blocks:
        raise BadTraffic(
            f"{path} holds no request in {skipped.count:,} lines; expected {kind}, the first is {skipped.shown!r}"
        )
    found, notes = pa.concat_tables(blocks), skipped.notes
    if "agent" in names:
        probes = access_log.is_probe(found.column("agent"))
        if count := int(pc.sum(probes).as_py() or 0):
            found, notes = found.filter(pc.invert(probes)), (*notes, f"{count:,} requests of probes were passed over")
    return found, notes


def _text(value: object) -> str | None:
    """A value of JSON as text, which says the same in each row whatever its type."""
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else repr(value)
