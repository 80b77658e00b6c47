"""Commands deploy and undeploy: the rooms' manifests to a cluster, and away again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from headrace import manifests, screen
from headrace.commands import options
from headrace.deploy import deployment, plan, undeployment
from headrace.deploy import drop as drops
from headrace.deploy.difference import Change, Difference
from headrace.screen import Output

DryRun = Annotated[
    bool, typer.Option("--dry-run", envvar="HEADRACE_DRY_RUN", help="Ask the cluster what would be, change nothing.")
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout", envvar="HEADRACE_DEPLOY_TIMEOUT", parser=options.seconds, metavar="DURATION",
        show_default=False, help="How long to wait, e.g. 90s. [default: 5m; of undeploy 2m]",
    ),
]  # fmt: skip


def deploy(
    context: typer.Context,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            envvar="HEADRACE_DEPLOY_IMAGES",
            metavar="REF",
            help="Image of all containers, or predictor=REF, functions=REF, trainers=REF.",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            envvar="HEADRACE_DEPLOY_STORE",
            metavar="URL",
            help="Of the store, e.g. s3://bucket. [default: as deployed]",
        ),
    ] = None,
    drop: Annotated[
        str | None,
        typer.Option(
            "--drop",
            envvar="HEADRACE_DEPLOY_DROP",
            metavar="URL",
            help="Where dropped files are watched for: a URL, claim/NAME or none. [default: drop in the store]",
        ),
    ] = None,
    broker_class: Annotated[
        str | None,
        typer.Option(
            "--broker-class",
            envvar="HEADRACE_BROKER_CLASS",
            help="MTChannelBasedBroker, Kafka or RabbitMQBroker. [default: the cluster's]",
        ),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option("--set", envvar="HEADRACE_DEPLOY_VALUES", help="KEY=VALUE for the ConfigMap headrace."),
    ] = None,
    dry_run: DryRun = False,
    force_conflicts: Annotated[
        bool,
        typer.Option(
            "--force-conflicts", envvar="HEADRACE_FORCE_CONFLICTS", help="Take over fields that other managers set."
        ),
    ] = False,
    timeout: Timeout = 300.0,
    output: options.Json = Output.text,
) -> None:
    """Apply the manifests to a cluster, wait until all is Ready.

    The cluster is that of the current kubeconfig, unless --kubeconfig or --context names another.

    By server-side apply: what others have set is never overwritten, a conflict is told. Exit status 1 when something is
    wrong, with its cause.

    Example: headrace deploy --store s3://models --dry-run
    """
    cluster = options.cluster(context)
    wishes = plan.Wishes(
        namespace=cluster.namespace,
        store=store,
        image=_for_all(image),
        images=options.pairs("--image", [ref for ref in image or () if _is_named(ref)]),
        drop=drop,
        broker_class=broker_class,
        values=options.values(value),
    )
    how = deployment.Options(dry_run=dry_run, force_conflicts=force_conflicts, timeout_s=timeout)
    if store is None and "HEADRACE_STORE" not in wishes.values:
        # A deployment that says nothing of the store must not turn from the one that has the models.
        kept = deployment.deployed_store(cluster)
        wishes = dataclasses.replace(wishes, store=kept.pop("HEADRACE_STORE", None), values={**kept, **wishes.values})
    objects = plan.rolled(plan.objects(manifests.read(), wishes))
    with _progress() as tell:
        report = deployment.deploy(cluster, objects, how, tell)
        if drop == drops.NONE and not report.causes:
            gone = deployment.remove(cluster, "ContainerSource", drops.SOURCE, dry_run)  # of an earlier deploy
            done = () if dry_run else tuple(f"{each.kind} {each.name}" for each in gone)
            report = dataclasses.replace(
                report, differences=(*report.differences, *gone), applied=(*report.applied, *done)
            )
    if output is Output.json:
        head = {"server": cluster.server, "namespace": cluster.namespace, "dry_run": dry_run}
        screen.json_line({**head, **dataclasses.asdict(report), "healthy": not report.causes})
    else:
        _show(report)
    if report.causes:
        raise deployment.NotDeployed(report.causes)


def undeploy(
    context: typer.Context,
    dry_run: DryRun = False,
    timeout: Timeout = 120.0,
    output: options.Json = Output.text,
) -> None:
    """Remove what deploy and the promoter made, and no data.

    Claims, secrets, stores and other people's objects stay; the namespace goes if it is ours and nothing is left in it.

    Example: headrace undeploy --dry-run
    """
    cluster = options.cluster(context)
    with _progress() as tell:
        report = undeployment.undeploy(cluster, dry_run, timeout, tell)
    if output is Output.json:
        head = {"server": cluster.server, "namespace": cluster.namespace, "dry_run": dry_run}
        screen.json_line({**head, **dataclasses.asdict(report)})
    else:
        for name in report.removed:
            screen.say(f"{'would be removed' if dry_run else 'removed'}   {name}")
        for name in report.kept:
            screen.say(f"kept      {name}")
        if not (report.removed or report.kept or report.causes):
            screen.say(f"nothing of Headrace's is in namespace {cluster.namespace}")
    if report.causes:
        raise deployment.NotDeployed(report.causes)


def _is_named(ref: str) -> bool:
    """Whether an image is given as NAME=REF; no reference holds a `=`."""
    return "=" in ref


def _for_all(images: list[str] | None) -> str | None:
    alone = [ref for ref in images or () if not _is_named(ref)]
    if len(alone) > 1:
        raise typer.BadParameter(
            "give one image for all, or predictor=REF, functions=REF and trainers=REF", param_hint="--image"
        )
    return alone[0] if alone else None


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    with screen.progress() as bar:
        task = bar.add_task("asking the cluster", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(task, description=what[:100], completed=done, total=total)

        yield tell


def _show(report: deployment.Report) -> None:
    for each in report.differences:
        screen.say(f"{_verb(report, each):<16} {each.kind} {each.name}{_readiness(report, each)}")
        for field in each.fields:
            screen.say(f"    {field.path}: {_short(field.before)} -> {_short(field.after)}")
    if report.unjudged:
        screen.note("the namespace is not there yet: what would be in it was not judged by the cluster")
    for note in report.notes:
        screen.note(note)


def _verb(report: deployment.Report, each: Difference) -> str:
    done = each.change is Change.unchanged or f"{each.kind} {each.name}" in report.applied
    return str(each.change) if done else f"would be {each.change}"


def _readiness(report: deployment.Report, each: Difference) -> str:
    ready = report.ready.get(f"{each.kind} {each.name}")
    return "" if ready is None else "   Ready" if ready else "   not Ready"


def _short(value: Any) -> str:
    """A value as JSON has it, one line at most; `-` for none."""
    if value is None:
        return "-"
    text = screen.json_text(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
