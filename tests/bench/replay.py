"""Predictions of `headrace tune` beside what happens: traffic replayed for real against `headrace up`.

    python -m tests.bench.replay [--case steady-cc2 …] [--seconds 150] [--out FOLDER]
    python -m tests.bench.replay --table FOLDER     # predicted anew, beside what was measured

Each shape is sent open-loop to a Knative Service of its own, started from a manifest as anybody's is, whose service
time and cold start are known (`tests.bench.sleeper`: it sleeps, so that a small machine does not become the limit).
The cases of a round run side by side on one platform. Not accelerated: windows, decisions and cold starts are seconds
of Knative's and of the machine, and a minute of traffic squeezed into ten seconds would meet other decisions. What is
short is the traffic itself: the `diurnal` day lasts as long as the run.

Latency is the client's. Requests that met no ready pod come from the gateway's journal, pod-seconds from its times of
pods, from when each was asked for to when it was gone, within the run. A run whose client was late is refused.

`tests.bench.replay_prediction` is the one place where the prediction comes in. Exit status 1 where it is off by more
than `OFF`, or a run was refused.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace import config, daemon
from headrace.local.gateway import request_files
from headrace.place import Place
from headrace.tune.traffic import Traffic
from tests.bench import open_loop
from tests.bench.open_loop import Replies
from tests.bench.replay_cases import ROUNDS, TIMEOUT_S, Case
from tests.bench.replay_prediction import Figures, Prediction, off, predict

OFF = 0.15  # how far a prediction may be from what was measured, as a share of it
# Of the client: what its 99th percentile may be, as a number or as a share of the p95 that is measured, and its worst.
LATE_P99_S, LATE_SHARE, LATE_MOST_S = 0.010, 0.02, 0.250
READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """One run. began_s: second 0, since the epoch. late_p99_s, late_most_s: of the client. colds_s: each cold start."""

    case: Case
    began_s: float
    requests: int
    measured: Figures
    predicted: Prediction | None
    late_p99_s: float
    late_most_s: float
    colds_s: tuple[float, ...]
    decisions: tuple[Mapping[str, Any], ...]

    @property
    def refused(self) -> bool:
        return late(self.measured.p95_s, self.late_p99_s, self.late_most_s)


# ---------------------------------------------------------------------- measured


def late(p95_s: float, late_p99_s: float, late_most_s: float) -> bool:
    """Whether the client was too late for what it measured to count."""
    return late_p99_s > max(LATE_P99_S, LATE_SHARE * p95_s) or late_most_s > LATE_MOST_S


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One case, replayed. decisions: the autoscaler's, as seen every two seconds."""

    case: Case
    traffic: Traffic
    replies: Replies
    decisions: tuple[Mapping[str, Any], ...]


async def replay(place: Place, cases: Sequence[Case]) -> list[Run]:
    """Every case's traffic against its Service, side by side."""
    for case in cases:
        await asyncio.to_thread(place.cluster.apply, case.manifest())
    urls = [await _ready(place, case) for case in cases]
    return list(await asyncio.gather(*(_replay(place, *each) for each in zip(cases, urls, strict=True))))


async def _replay(place: Place, case: Case, url: str) -> Run:
    traffic, decisions = case.traffic(), list[Mapping[str, Any]]()
    watching = asyncio.create_task(_watch(place, case, decisions))
    replies = await open_loop.send(url, traffic.starts_s, traffic.service_s, TIMEOUT_S)
    await asyncio.sleep(max(0.0, replies.began_s + case.seconds - time.time()))
    watching.cancel()
    return Run(case, traffic, replies, tuple(decisions))


async def _ready(place: Place, case: Case) -> str:
    """Where the Service answers, once it is ready."""
    async with asyncio.timeout(READY_S):
        while True:
            found = await asyncio.to_thread(place.service, case.name)
            conditions = {c["type"]: c["status"] for c in (found.get("status") or {}).get("conditions") or ()}
            if conditions.get("Ready") == "True":
                return f"{(await asyncio.to_thread(place.url, case.name)).rstrip('/')}/"
            await asyncio.sleep(0.1)


async def _watch(place: Place, case: Case, decisions: list[Mapping[str, Any]]) -> None:
    while True:
        revision = f"{case.name}-00001"
        found = await asyncio.to_thread(place.cluster.subresource, "PodAutoscaler", revision, "decision")
        decisions.append(found or {})
        await asyncio.sleep(2)


def lines(files: Iterable[Path]) -> list[dict[str, Any]]:
    """The journal's lines, without a torn last one."""
    return [
        json.loads(line) for file in files for line in file.read_bytes().splitlines(keepends=True) if line[-1:] == b"\n"
    ]


def result(run: Run, requests: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]]) -> Result:
    """What a run measured, beside what is predicted. requests, pods: of the gateway's journal."""
    case, replies = run.case, run.replies
    revision, began_s, ended_s = f"{case.name}-00001", replies.began_s, replies.began_s + case.seconds
    mine = [line for line in requests if line["revision"] == revision]
    if len(mine) != run.traffic.count:
        raise SystemExit(f"{case.name}: {run.traffic.count} requests were sent, and {len(mine)} are in the journal")
    of_pods = [line for line in pods if line["revision"] == revision]
    lives = [(p["at_s"], p["at_s"] + p["pod_s"]) for p in of_pods if p["pod_s"] is not None]
    inside = [(max(begin, began_s), min(end, ended_s)) for begin, end in lives if begin < ended_s and end > began_s]
    colds_s = tuple(p["cold_start_s"] for p in of_pods if p["pod_s"] is None and p["cold_start_s"] is not None)
    answered = replies.latency_s[replies.status == 200]
    p50, p95, p99 = (float(q) for q in np.quantile(answered, (0.5, 0.95, 0.99))) if answered.size else (math.nan,) * 3
    measured = Figures(
        p50_s=p50,
        p95_s=p95,
        p99_s=p99,
        cold_share=sum(line["cold"] for line in mine) / max(1, len(mine)),
        failed_share=float(np.mean(replies.status != 200)) if replies.status.size else 0.0,
        pod_seconds=sum(end - begin for begin, end in inside),
        pods=_most(inside),
    )
    late_p99, late_most = (float(q) for q in np.quantile(replies.late_s, (0.99, 1.0)))
    predicted = predict(case, run.traffic, began_s, colds_s)
    count, late = run.traffic.count, (late_p99, late_most)
    return Result(case, began_s, count, measured, predicted, *late, colds_s, tuple(run.decisions))


def _most(lives: Iterable[tuple[float, float]]) -> int:
    """How many at once."""
    most = now = 0
    for _, change in sorted(each for begin, end in lives for each in ((begin, 1), (end, -1))):
        now += change
        most = max(most, now)
    return most


# ---------------------------------------------------------------------- told

COLUMNS = (
    "run",
    "requests",
    "cold start",
    "",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "cold %",
    "5xx %",
    "pod s",
    "pods",
    "late",
)


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Two lines a run, measured and predicted, and how far p95 and pod-seconds are off. results: as in the files."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    for r in results:
        colds = r["colds_s"]
        cold = f"{np.median(colds):.2f} s x {len(colds)}" if colds else "none"
        late = f"{r['late_p99_s'] * 1000:.1f} ms" + (" REFUSED" if r["refused"] else "")
        rows.append((r["case"]["name"], f"{r['requests']:,}", cold, "measured", *_cells(r["measured"]), late))
        said = r["predicted"]
        rows.append(("", "", "", "predicted", *(_cells(said["figures"]) if said else ("-",) * 7), ""))
        if said:
            p95, pod_s = (f"{share:+.1%}" for share in r["off"])
            rows.append(("", "", "", "off by", "", p95, "", "", "", pod_s, "", ""))
            p95 = "{:.0f}-{:.0f}".format(*(bound * 1000 for bound in said["p95_s"]))
            pod_s = "{:.0f}-{:.0f}".format(*said["pod_seconds"])
            rows.append(("", "", "", "any phase", "", p95, "", "", "", pod_s, "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _cells(f: Mapping[str, Any]) -> tuple[str, ...]:
    latencies = (f"{f[key] * 1000:.0f}" for key in ("p50_s", "p95_s", "p99_s"))
    shares = (f"{f[key]:.1%}".rstrip("%") for key in ("cold_share", "failed_share"))
    return (*latencies, *shares, f"{f['pod_seconds']:.0f}", f"{f['pods']}")


def to_json(result: Result) -> dict[str, Any]:
    case = {**dataclasses.asdict(result.case), "name": result.case.name}
    shares = off(result.measured, result.predicted.figures) if result.predicted else None
    return {**dataclasses.asdict(result), "case": case, "refused": result.refused, "off": shares}


def again(file: Path) -> dict[str, Any]:
    """A run as it was measured, beside what is predicted now. With the same code this is what stands in the file."""
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    case = Case(**{field.name: kept["case"][field.name] for field in dataclasses.fields(Case)})
    predicted = predict(case, case.traffic(), kept["began_s"], kept["colds_s"])
    measured = Figures(**kept["measured"])
    return kept | {
        "refused": late(measured.p95_s, kept["late_p99_s"], kept["late_most_s"]),
        "predicted": dataclasses.asdict(predicted) if predicted else None,
        "off": off(measured, predicted.figures) if predicted else None,
    }


def holds(result: Mapping[str, Any]) -> bool:
    """The run counts, and the prediction was near enough where there is one."""
    return not result["refused"] and all(abs(share) <= OFF for share in result["off"] or ())


def _keep(folder: Path, cases: Sequence[Case]) -> None:
    """Replay the cases on a platform of their own; a file for each."""
    with tempfile.TemporaryDirectory(prefix="headrace-replay-") as temporary:
        home = Path(temporary) / "home"
        daemon.start(home, daemon.environment(home, 0, daemon.functions_interpreter(), {}))
        try:
            runs = asyncio.run(replay(Place.of(config.Config(home=home, kubeconfig=None)), cases))
        finally:
            daemon.stop(home)  # pods end with it, and the journal is whole
        requests, pods = lines(request_files.requests(home)), lines(request_files.pods(home))
    for run in runs:
        told = json.dumps(to_json(result(run, requests, pods)), indent=1, default=float)
        (folder / f"{run.case.name}.json").write_text(told, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser()
    names = sorted(case.name for cases in ROUNDS for case in cases)
    parser.add_argument("--case", action="append", choices=names, help="[default: all, round by round]")
    parser.add_argument("--seconds", type=float, help="of each [default: 150; sparse 165]")
    parser.add_argument("--seed", type=int, help="of the traffic [default: 1; sparse 8]")
    parser.add_argument("--out", type=Path, default=Path("replays"), help="a JSON file for each run goes here")
    parser.add_argument("--table", type=Path, metavar="FOLDER", help="only print what is there")
    asked = parser.parse_args()
    if asked.table is None:
        given = {"seed": asked.seed, "seconds": asked.seconds}
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        asked.out.mkdir(parents=True, exist_ok=True)
        for side_by_side in ROUNDS:
            cases = [dataclasses.replace(c, **changes) for c in side_by_side if not asked.case or c.name in asked.case]
            if cases:
                _keep(asked.out, cases)
    results = [again(file) for file in sorted((asked.table or asked.out).glob("*.json"))]
    print(table(results))
    return 0 if all(map(holds, results)) else 1


if __name__ == "__main__":
    sys.exit(main())
