"""Access logs of proxies: Envoy's default text and Istio's longer one, nginx combined with $request_time.

A line that is no request is passed over and counted; times that a log collector puts in front of lines, as `kubectl
logs --timestamps` does, do no harm. Lines are parsed in blocks by RE2.

Source: envoyproxy.io, access log usage, default format string (START_TIME is when the request began, DURATION and
X-ENVOY-UPSTREAM-SERVICE-TIME are ms); nginx.org, ngx_http_log_module (`combined` and $request_time, seconds with ms
resolution; a line is written, and $time_local taken, when the request is done).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.tune.readers import instants, recording, selection, source
from headrace.tune.readers.options import Options
from headrace.tune.readers.recording import Recording
from headrace.tune.traffic import BadTraffic, Traffic

COLLECTED = r"^(?:\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d) (?:(?:stdout|stderr) [FP] )?)?"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
ENVOY = (
    COLLECTED + r"\[(?P<at>[-0-9T:.Z+]+)\] " + _QUOTED + r" (?P<code>\d+|-) \S+ "
    # Istio adds the response code's details, the connection's end and the upstream's failure.
    r'(?:\S+ \S+ "[^"]*" )?'
    r"(?:\d+|-) (?:\d+|-) (?P<duration>\d+|-) (?P<upstream>\d+|-)"
    r'(?: "[^"]*" "(?P<agent>[^"]*)" "[^"]*" "(?P<which>[^"]*)")?'
)
NGINX = (
    COLLECTED + r"\S+ - .*?\[(?P<at>\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    + _QUOTED + r" (?P<code>\d{3}) (?:\d+|-) " + _QUOTED + r' "(?P<agent>(?:[^"\\]|\\.)*)"(?P<rest>.*)$'
)  # fmt: skip
# $request_time is the one field with exactly three decimals; where its name is given, by that.
_NAMED_TIME = r'\b(?:rt|request_time|req_time|requesttime)[=:] ?"?(?P<seconds>\d+\.\d{3})\b'
_BARE_TIME = r'(?:^|[ "])(?P<seconds>\d+\.\d{3})(?:[ "]|$)'

# The user agents of probes: kubelet's, Knative's, load balancers'. Their answers are no work of a revision.
_PROBES = r"^(?:kube-probe/|Knative-(?:Ingress|Activator)-Probe|knative-.*-probe|GoogleHC/|ELB-HealthChecker/)"

Floats = NDArray[np.float64]


def read_envoy(path: Path, options: Options) -> Traffic:
    """Envoy's text log. The service time is the upstream's, which begins when Envoy has sent the request on."""
    table, notes = _requests(path, ENVOY, "Envoy's default format")
    table, taken = of_one(table, options)
    at = instants.of_text(table.column("at").cast(pa.string()), "START_TIME", options)
    total_s, upstream_s = (milliseconds(table.column(c)) for c in ("duration", "upstream"))
    duration_s, note = envoy_durations(total_s, upstream_s)
    found = Recording(at.at_s, duration_s, at.absolute, notes=(*notes, *taken, *at.notes, *note))
    return recording.traffic(found, path, "Envoy access log", options)


def envoy_durations(total_s: Floats, upstream_s: Floats) -> tuple[Floats, tuple[str, ...]]:
    """What of DURATION and X-ENVOY-UPSTREAM-SERVICE-TIME is nearest to service, and what that leaves out.

    Requests that no upstream answered took no service: a fraction of a percent of these is drawn from the others; with
    more of them, their own duration stands, for nothing better is known.
    """
    answered = np.isfinite(upstream_s)
    if not answered.any():
        return total_s, ()
    missing = int((~answered).sum())
    note = "latency is the upstream service time, which leaves out the client's sending and receiving"
    if not missing:
        return upstream_s, (note,)
    if missing <= recording.MAX_BROKEN_SHARE * answered.size:
        return upstream_s, (note,)
    both = np.where(answered, upstream_s, total_s)
    return both, (f"{note}; for {missing:,} requests that no upstream answered it is the whole duration",)


def read_nginx(path: Path, options: Options) -> Traffic:
    """nginx's `combined` format with $request_time after it. Raises BadTraffic where that is missing."""
    table, notes = _requests(path, NGINX, "nginx's combined format")
    if options.only is not None:
        raise BadTraffic(f"nginx's combined format does not name its host, so {options.only!r} cannot be found in it")
    at = instants.of_text(table.column("at").cast(pa.string()), "$time_local", options)
    duration_s: Floats | None = None
    for pattern in (_NAMED_TIME, _BARE_TIME):
        seconds = pc.extract_regex(table.column("rest"), pattern)
        if seconds.null_count < len(seconds):
            duration_s = milliseconds(pc.struct_field(seconds, "seconds")) * 1000
            break
    if duration_s is None and options.service_s is None and options.service_from is None:
        raise BadTraffic(
            f"{path} does not say how long requests took: add $request_time to nginx's log_format "
            '(log_format timed \'$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
            '"$http_referer" "$http_user_agent" $request_time\';), or give the mean service time (service_s)'
        )
    found = Recording(at.at_s, duration_s, at.absolute, at_end=True, whole_seconds=True, notes=notes)
    return recording.traffic(found, path, "nginx access log", options)


def parse(path: Path, pattern: str) -> tuple[pa.Table, int, bytes | None]:
    """A column for each group of the pattern, a row for each line that matches; the other lines' count and first."""
    tables: list[pa.Table] = []
    others, example = 0, None
    for lines in source.lines(path):
        matched = pc.extract_regex(pa.array(lines, pa.binary()), pattern)
        if matched.null_count:
            others += matched.null_count
            example = example or lines[int(np.argmax(matched.is_null().to_numpy(zero_copy_only=False)))]
        tables.append(pa.Table.from_struct_array(matched.drop_null()))
    return pa.concat_tables(tables), others, example


def others_note(count: int, example: bytes | None) -> tuple[str, ...]:
    """The sentence about lines that are no requests."""
    if not count or example is None:
        return ()
    return (
        f"{count:,} lines are no requests and were passed over, the first: {example[:80].decode(errors='replace')!r}",
    )


def _requests(path: Path, pattern: str, kind: str) -> tuple[pa.Table, tuple[str, ...]]:
    table, others, example = parse(path, pattern)
    probes = is_probe(table.column("agent"))
    count = pc.sum(probes).as_py() or 0
    if not table.num_rows or count == table.num_rows:
        shown = (example or b"")[:120].decode(errors="replace")
        found = f"holds {count:,} probes and no request" if count else f"has no line in {kind}; its first is {shown!r}"
        raise BadTraffic(f"{path} {found}")
    notes = others_note(others, example)
    if count:
        table, notes = table.filter(pc.invert(probes)), (*notes, f"{count:,} requests of probes were passed over")
    return table, notes


def milliseconds(column: pa.ChunkedArray) -> Floats:
    """(n,) seconds of whole or broken milliseconds in text; NaN for the `-` of what was not there."""
    text = column.cast(pa.string())
    number = pc.cast(pc.if_else(pc.match_substring_regex(text, r"^\d+(?:\.\d+)?$"), text, None), pa.float64())
    return np.asarray(pc.fill_null(number, float("nan")).to_numpy(zero_copy_only=False), dtype=np.float64) / 1000


def is_probe(agents: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which user agents are those of probes."""
    return pc.fill_null(pc.match_substring_regex(agents.cast(pa.string()), _PROBES), False)


def of_one(table: pa.Table, options: Options) -> tuple[pa.Table, tuple[str, ...]]:
    """The rows whose `which` the options name, and what was taken; all, and perhaps a note, where they name none."""
    hosts = pc.fill_null(table.column("which").cast(pa.string()), "-")
    counted = {str(c["values"]): int(c["counts"]) for c in pc.value_counts(hosts).to_pylist()}
    if options.only is None:
        many = (
            (f"the log is of {len(counted):,} hosts or revisions: all were taken together",) if len(counted) > 1 else ()
        )
        return table, many
    name = selection.choose(counted, options.only, "host or revision")
    kept = table.filter(pc.equal(hosts, name))
    return kept, (f"of {table.num_rows:,} requests the {kept.num_rows:,} of {name} were taken",)
