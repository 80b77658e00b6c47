"""Command tune: what to set, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from eventing.errors import HeadraceError, Misconfigured
from headrace import screen
from headrace.commands import options, verified
from headrace.commands import tune_options as given
from headrace.screen import Output
from knative.literals import parse_float
from knative.settings import Config

if TYPE_CHECKING:
    from headrace.tune.tuning import Tuned


def tune(
    context: typer.Context,
    traces: given.Traces = None,
    from_local: given.FromLocal = False,
    only: given.Only = None,
    duration_unit: given.DurationUnit = None,
    time_unit: given.TimeUnit = None,
    time_zone: given.TimeZone = "UTC",
    service_time: given.ServiceTime = None,
    service_from: given.ServiceFrom = None,
    recorded_concurrency: given.RecordedConcurrency = None,
    cold_after: given.ColdAfter = None,
    shape: given.Shape = None,
    peak_rps: given.PeakRps = 50.0,
    length: given.Length = 3600.0,
    manifest: given.Manifest = None,
    service: given.Service = None,
    annotation: given.Annotations = None,
    container_concurrency: given.ContainerConcurrency = None,
    config: given.ClusterConfig = None,
    pod_capacity: given.PodCapacity = None,
    cold_start: given.ColdStart = None,
    cold_start_from: given.ColdStartFrom = None,
    stop: given.Stop = None,
    path: given.Path_ = "knative",
    p95: given.P95 = None,
    p99: given.P99 = None,
    budget: given.Budget = None,
    pod_hour_price: given.PodHourPrice = None,
    max_5xx: given.Max5xx = 0.001,
    fix: given.Fix = None,
    vary: given.Vary = None,
    settings: given.Settings = 200,
    seed: given.Seed = 0,
    cores: given.Cores = None,
    report: given.Report = None,
    verify: verified.Recorded = None,
    output: options.Json = Output.text,
) -> None:
    """What to set, and why.

    Settings are tried on recorded traffic, with Knative's own decisions. Exit status 1 when none meets the aim. With
    --verify our decisions are compared with recorded ones of Knative instead: exit status 1 when any differs.

    Example: headrace tune access.log --manifest service.yaml --p95 250ms --report tuned.html
    """
    if verify is not None:
        _verify(verify, output)
        return
    # They load numba, which takes a second that no other command has to spend.
    from headrace.tune import present, recordings, tuning
    from headrace.tune.aims import Aim
    from headrace.tune.world import Setting

    cluster = Config.from_map(options.pairs("--config", config))
    if manifest is not None:
        now = present.of_manifest(manifest, service, cluster)
    elif service is not None:
        now = present.of_object(options.place(context).service(service), cluster, f"Service {service}")
    else:
        now = present.Present(Setting())
    wish = tuning.Wish(
        present=present.given(now, options.pairs("--annotation", annotation), container_concurrency, cluster),
        config=cluster,
        aim=Aim(p95, p99, _pod_seconds(budget, pod_hour_price), max_5xx),
        cold_starts_s=tuple(cold_start or ()),
        pod_capacity=pod_capacity,
        stop_s=stop,
        path=path,
        fixed=tuple(fix or ()),
        free=tuple(vary or ()),
        settings=settings,
        seed=seed,
        cores=cores,
    )
    wanted = recordings.Wanted(
        files=tuple(traces or ()),
        home=context.obj.home if from_local else None,
        shape=shape,
        peak_rps=peak_rps,
        length_s=length,
        service_s=service_time,
        service_from=service_from,
        only=only,
        duration_unit=duration_unit,
        time_unit=time_unit,
        time_zone=time_zone,
        recorded_concurrency=recorded_concurrency,
        cold_after_s=cold_after,
        cold_start_from=cold_start_from,
        seed=seed,
    )
    with screen.progress() as bar:
        task = bar.add_task("reading", total=None)

        def step(text: str, done: int | None = None, of: int | None = None) -> None:
            bar.update(task, description=text, total=of, completed=done or 0)

        tuned = tuning.tune(recordings.traffic(wanted), wish, step)
        step("writing")
        _write(tuned, report, pod_hour_price)
    _show(tuned, output, pod_hour_price)
    if not tuned.advice.holds:
        raise typer.Exit(1)


def _verify(recorded: Path, output: Output) -> None:
    from headrace.tune import verify as of_verify

    with screen.progress() as bar:
        bar.add_task("deciding again", total=None)
        found = of_verify.verify(recorded)
    verified.decisions(found, output)


def _pod_seconds(budget: str | None, price: float | None) -> float | None:
    """`--budget`: with a unit it is pod time, without one money."""
    if budget is None:
        return None
    try:
        money = parse_float(budget)
    except ValueError:
        return options.seconds(budget)
    if not price:
        raise Misconfigured(
            "--budget", budget, "a unit for pod time, e.g. 40h, or --pod-hour-price beside it where it is money"
        )
    return money / price * 3600


def _write(tuned: Tuned, report: Path | None, price: float | None) -> None:
    if report is None:
        return
    from headrace.tune.report import page

    try:
        report.write_text(page.html(tuned, price), encoding="utf-8")
    except OSError as e:
        raise HeadraceError(f"the report cannot be written: {report}: {e.strerror}") from e


def _show(tuned: Tuned, output: Output, price: float | None) -> None:
    from headrace.tune import advice, summary

    if output is Output.json:
        screen.json_line(summary.to_json(tuned, price))
        return
    for line in summary.traffic_lines(tuned):
        screen.say(line)
    screen.say("")
    screen.table(summary.columns(price), summary.compared(tuned, price))
    screen.say("")
    screen.say(summary.verdict(tuned))
    setting, present = tuned.advice.recommended.setting, tuned.wish.present
    if tuned.advice.changed:
        screen.say("")
        screen.say(advice.paste(setting, present))
        screen.say("")
        screen.say(advice.command(setting, present))
    else:
        screen.say("Leave it as it is: nothing that was tried does better.")
    for heading, lines in summary.details(tuned, price):
        screen.say("")
        screen.say(heading)
        for line in lines:
            screen.say(f"  {line}")
