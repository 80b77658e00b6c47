"""The options of `headrace tune`, by what they are about; each with its `HEADRACE_TUNE_` twin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.commands import options


def _option(name: str, help: str, **more: Any) -> Any:
    variable = "HEADRACE_TUNE_" + name.removeprefix("--").replace("-", "_").upper()
    return typer.Option(name, envvar=variable, help=help, **more)


def _time(name: str, help: str) -> Any:
    return _option(name, help, parser=options.seconds, metavar="DURATION")


# ---------------------------------------------------------------- traffic
Traces = Annotated[
    list[Path] | None,
    typer.Argument(
        exists=True, dir_okay=False, help="Recordings: logs, CSV, Parquet, Prometheus; together one traffic."
    ),
]
FromLocal = Annotated[bool, _option("--from-local", "What the gateway of this laptop's platform has noted.")]
Only = Annotated[str | None, _option("--only", "The function, service, host or revision, of a recording of many.")]
DurationUnit = Annotated[str | None, _option("--duration-unit", "Of recorded durations: s, ms, us or ns.")]
TimeUnit = Annotated[str | None, _option("--time-unit", "Of times written as numbers: s, ms, us or ns.")]
TimeZone = Annotated[str, _option("--time-zone", "Of times written without one, e.g. Europe/Berlin.")]
ServiceTime = Annotated[float | None, _time("--service-time", "Mean time a pod needs for a request, e.g. 80ms.")]
ServiceFrom = Annotated[Path | None, _option("--service-from", "A file with the distribution of that time.")]
RecordedConcurrency = Annotated[
    int | None, _option("--recorded-concurrency", "containerConcurrency when it was recorded.", min=1)
]
ColdAfter = Annotated[
    float | None, _time("--cold-after", "A slow request after so long a silence was a cold start, which it tells.")
]
Shape = Annotated[str | None, _option("--shape", "Draw traffic instead: steady, ramp, burst, diurnal or sparse.")]
PeakRps = Annotated[float, _option("--peak-rps", "The shape's highest rate, in requests a second.")]
Length = Annotated[float, _time("--length", "How long the shape lasts.")]

# ---------------------------------------------------------------- what is set now, and where
Manifest = Annotated[
    Path | None, _option("--manifest", "What is set now: a file with its Service.", exists=True, dir_okay=False)
]
Service = Annotated[str | None, _option("--service", "Which Service of the manifest, if it holds several.")]
Annotations = Annotated[
    list[str] | None, _option("--annotation", "KEY=VALUE that is set now, e.g. target=10; over the manifest's.")
]
ContainerConcurrency = Annotated[int | None, _option("--container-concurrency", "What is set now; 0: no limit.")]
ClusterConfig = Annotated[list[str] | None, _option("--config", "KEY=VALUE of the cluster's config-autoscaler.")]
PodCapacity = Annotated[
    int | None,
    _option(
        "--pod-capacity",
        "Requests that a pod serves at once without slowing. [default: its containerConcurrency, else its target]",
        min=1,
    ),
]
ColdStart = Annotated[
    list[float] | None,
    _option(
        "--cold-start", "How long a cold start takes, e.g. 2s; several are drawn from.",
        parser=options.seconds, metavar="DURATION",
    ),
]  # fmt: skip
ColdStartFrom = Annotated[Path | None, _option("--cold-start-from", "A file with the distribution of that time.")]
Stop = Annotated[float | None, _time("--stop", "How long a pod costs on after it was told to end. [default: 30s]")]
Path_ = Annotated[str, _option("--path", "knative, or laptop: the gateway of `headrace up`.")]

# ---------------------------------------------------------------- what is wanted
P95 = Annotated[float | None, _time("--p95", "Aim: the cheapest setting with p95 below this.")]
P99 = Annotated[float | None, _time("--p99", "Aim: the cheapest setting with p99 below this.")]
Budget = Annotated[
    str | None,
    _option("--budget", "Aim: the fastest setting within this pod time (40h) or money (12.50).", metavar="TIME|MONEY"),
]
PodHourPrice = Annotated[float | None, _option("--pod-hour-price", "What an hour of a pod costs.", min=0)]
Max5xx = Annotated[float, _option("--max-5xx", "Share of requests that may end with 5xx.", min=0, max=1)]

# ---------------------------------------------------------------- the search, and what it leaves
Fix = Annotated[list[str] | None, _option("--fix", "A setting to leave as it is, e.g. min-scale.")]
Vary = Annotated[list[str] | None, _option("--vary", "container-concurrency: it may change as well.")]
Settings = Annotated[int, _option("--settings", "How many settings to try on the whole traffic.", min=1)]
Seed = Annotated[int, _option("--seed", "Of all that is drawn: the same seed, the same advice.", min=0)]
Cores = Annotated[int | None, _option("--cores", "Cores to use. [default: all]", min=1)]
Report = Annotated[Path | None, _option("--report", "Write a page with plots, for any browser, to this file.")]
