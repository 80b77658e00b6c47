"""The options of `headrace tune`, by what they are about; each with its variable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.commands import options


def _option(name: str, variable: str, help: str, **more: Any) -> Any:
    return typer.Option(name, envvar=variable, help=help, **more)


def _time(name: str, variable: str, help: str) -> Any:
    return _option(name, variable, help, parser=options.seconds, metavar="DURATION", show_default=False)


# ---------------------------------------------------------------- traffic
Traces = Annotated[
    list[Path] | None,
    typer.Argument(exists=True, help="Recordings: logs, CSV, Parquet, Prometheus; together one traffic."),
]
FromLocal = Annotated[
    bool, _option("--from-local", "HEADRACE_TUNE_FROM_LOCAL", "What the gateway of this laptop's platform has noted.")
]
Only = Annotated[
    str | None,
    _option("--only", "HEADRACE_TUNE_ONLY", "The function, service, host or revision, of a recording of many."),
]
DurationUnit = Annotated[
    str | None, _option("--duration-unit", "HEADRACE_TUNE_DURATION_UNIT", "Of recorded durations: s, ms, us or ns.")
]
TimeUnit = Annotated[
    str | None, _option("--time-unit", "HEADRACE_TUNE_TIME_UNIT", "Of times written as numbers: s, ms, us or ns.")
]
TimeZone = Annotated[
    str, _option("--time-zone", "HEADRACE_TUNE_TIME_ZONE", "Of times written without one, e.g. Europe/Berlin.")
]
ServiceTime = Annotated[
    float | None,
    _time("--service-time", "HEADRACE_TUNE_SERVICE_TIME", "Mean time a pod needs for a request, e.g. 80ms."),
]
ServiceFrom = Annotated[
    Path | None, _option("--service-from", "HEADRACE_TUNE_SERVICE_FROM", "A file with the distribution of that time.")
]
RecordedConcurrency = Annotated[
    int | None,
    _option(
        "--recorded-concurrency",
        "HEADRACE_TUNE_RECORDED_CONCURRENCY",
        "containerConcurrency when it was recorded.",
        min=1,
    ),
]
ColdAfter = Annotated[
    float | None,
    _time(
        "--cold-after",
        "HEADRACE_TUNE_COLD_AFTER",
        "A slow request after so long a silence was a cold start, which it tells.",
    ),
]
Shape = Annotated[
    str | None,
    _option("--shape", "HEADRACE_TUNE_SHAPE", "Draw traffic instead: steady, ramp, burst, diurnal or sparse."),
]
PeakRps = Annotated[
    float, _option("--peak-rps", "HEADRACE_TUNE_PEAK_RPS", "The shape's highest rate, in requests a second.")
]
Length = Annotated[float, _time("--length", "HEADRACE_TUNE_LENGTH", "How long the shape lasts. [default: 1h]")]

# ---------------------------------------------------------------- what is set now, and where
Manifest = Annotated[
    Path | None,
    _option(
        "--manifest", "HEADRACE_TUNE_MANIFEST", "What is set now: a file with its Service.", exists=True, dir_okay=False
    ),
]
Service = Annotated[
    str | None,
    _option(
        "--service", "HEADRACE_TUNE_SERVICE", "What is set now: this Service of the manifest; without one, as it runs."
    ),
]
Annotations = Annotated[
    list[str] | None,
    _option(
        "--annotation", "HEADRACE_TUNE_ANNOTATION", "KEY=VALUE that is set now, e.g. target=10; over the manifest's."
    ),
]
ContainerConcurrency = Annotated[
    int | None,
    _option("--container-concurrency", "HEADRACE_TUNE_CONTAINER_CONCURRENCY", "What is set now; 0: no limit."),
]
ClusterConfig = Annotated[
    list[str] | None, _option("--config", "HEADRACE_TUNE_CONFIG", "KEY=VALUE of the cluster's config-autoscaler.")
]
PodCapacity = Annotated[
    int | None,
    _option(
        "--pod-capacity",
        "HEADRACE_TUNE_POD_CAPACITY",
        "Requests that a pod serves at once without slowing. [default: its containerConcurrency, else its target]",
        min=1,
    ),
]
ColdStart = Annotated[
    list[float] | None,
    _option("--cold-start", "HEADRACE_TUNE_COLD_START", "How long a cold start takes, e.g. 2s; several are drawn from.",
        parser=options.seconds, metavar="DURATION",
    ),
]  # fmt: skip
ColdStartFrom = Annotated[
    Path | None,
    _option("--cold-start-from", "HEADRACE_TUNE_COLD_START_FROM", "A file with the distribution of that time."),
]
Stop = Annotated[
    float | None,
    _time("--stop", "HEADRACE_TUNE_STOP", "How long a pod costs on after it was told to end. [default: 30s]"),
]
Path_ = Annotated[str, _option("--path", "HEADRACE_TUNE_PATH", "knative, or laptop: the gateway of `headrace up`.")]

# ---------------------------------------------------------------- what is wanted
P95 = Annotated[float | None, _time("--p95", "HEADRACE_TUNE_P95", "Aim: the cheapest setting with p95 below this.")]
P99 = Annotated[float | None, _time("--p99", "HEADRACE_TUNE_P99", "Aim: the cheapest setting with p99 below this.")]
Budget = Annotated[
    str | None,
    _option(
        "--budget",
        "HEADRACE_TUNE_BUDGET",
        "Aim: the fastest setting within this pod time (40h) or money (12.50).",
        metavar="TIME|MONEY",
    ),
]
PodHourPrice = Annotated[
    float | None, _option("--pod-hour-price", "HEADRACE_TUNE_POD_HOUR_PRICE", "What an hour of a pod costs.", min=0)
]
Max5xx = Annotated[
    float, _option("--max-5xx", "HEADRACE_TUNE_MAX_5XX", "Share of requests that may end with 5xx.", min=0, max=1)
]

# ---------------------------------------------------------------- the search, and what it leaves
Fix = Annotated[list[str] | None, _option("--fix", "HEADRACE_TUNE_FIX", "A setting to leave as it is, e.g. min-scale.")]
Vary = Annotated[
    list[str] | None, _option("--vary", "HEADRACE_TUNE_VARY", "container-concurrency: it may change as well.")
]
Settings = Annotated[int, _option("--settings", "HEADRACE_TUNE_SETTINGS", "How many settings to try.", min=1)]
Seed = Annotated[
    int, _option("--seed", "HEADRACE_TUNE_SEED", "Of all that is drawn: the same seed, the same advice.", min=0)
]
Cores = Annotated[int | None, _option("--cores", "HEADRACE_TUNE_CORES", "Cores to use. [default: all]", min=1)]
Report = Annotated[
    Path | None, _option("--report", "HEADRACE_TUNE_REPORT", "Write a page with plots, for any browser, to this file.")
]
