"""The laptop's autoscaler and Knative's, given the same Service and the same traffic: pods over time, side by side.

    python -m tests.bench.side_by_side --kubeconfig FILE --gateway HOST:PORT --image REF [--seconds 150]

The cluster goes first, then a laptop's platform with the cluster's own `config-autoscaler`; each has the machine to
itself. The Service sleeps (`tests.bench.sleeper`), its program is in the manifest, so that REF may be any image with
Python as `python`. Pods are those of the PodAutoscaler's status, read twice a second; latency is the client's. Prints
Markdown. What differs by nature is what a pod's start takes, and that is told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from headrace import config, daemon
from headrace.place import Place
from headrace.tune import shapes
from headrace.tune.traffic import Traffic
from knative.client import Cluster
from tests.bench import open_loop, sleeper

NAME = "side-by-side"
GROUP = "autoscaling.knative.dev"
ANNOTATIONS = {"target": "2", "max-scale": "8", "window": "20s"}
START_S, SERVICE_S, TIMEOUT_S, READY_S = 1.0, 0.25, 60.0, 120.0
PERIOD_S = 0.5
EVERY_S = 5  # of the table
AFTER_S = 45.0  # looked at after the last request: the way to zero


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One place: (n,) samples, and what the client was answered."""

    at_s: Sequence[float]
    """From the first second of the traffic."""
    wanted: Sequence[int]
    ready: Sequence[int]
    replies: open_loop.Replies

    def at(self, second: float) -> tuple[int, int]:
        """Pods wanted and ready then."""
        last = max((i for i, at in enumerate(self.at_s) if at <= second), default=0)
        return self.wanted[last], self.ready[last]


def manifest(image: str, namespace: str) -> dict[str, Any]:
    """The Service, the same for both places."""
    program = Path(sleeper.__file__).read_text(encoding="utf-8")
    container = {
        "name": "sleeper",
        "image": image,
        "command": ["python", "-c", program, "--start-s", str(START_S)],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    }
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "template": {
                "metadata": {"annotations": {f"{GROUP}/{key}": value for key, value in ANNOTATIONS.items()}},
                "spec": {"containerConcurrency": 0, "timeoutSeconds": int(TIMEOUT_S), "containers": [container]},
            }
        },
    }


def traffic(seconds: float) -> Traffic:
    """Quiet, a burst, a ramp up and down: what makes pods come and go."""
    return shapes.shape("burst", seconds, 24, SERVICE_S, 1)


async def watched(cluster: Cluster, url: str, headers: Mapping[str, str], asked: Traffic, seconds: float) -> Seen:
    """Send the traffic to `url` and look at the pods meanwhile, until the way to zero is over."""
    samples: list[tuple[float, int, int]] = []
    done = asyncio.Event()

    async def look() -> None:
        while not done.is_set():
            found = await asyncio.to_thread(cluster.get, "PodAutoscaler", f"{NAME}-00001")
            status = (found or {}).get("status") or {}
            samples.append((time.time(), max(0, status.get("desiredScale") or 0), status.get("actualScale") or 0))
            await asyncio.sleep(PERIOD_S)

    looking = asyncio.create_task(look())
    replies = await open_loop.send(url, asked.starts_s, asked.service_s, TIMEOUT_S, headers)
    await asyncio.sleep(max(0.0, replies.began_s + seconds + AFTER_S - time.time()))
    done.set()
    await looking
    return Seen(
        [at - replies.began_s for at, _, _ in samples],
        [wanted for _, wanted, _ in samples],
        [ready for _, _, ready in samples],
        replies,
    )


async def ready(cluster: Cluster) -> dict[str, Any]:
    """The Service, once it is Ready and has gone to zero: both places begin with a cold start."""
    async with asyncio.timeout(READY_S):
        while True:
            found = await asyncio.to_thread(cluster.get, "Service", NAME) or {}
            scale = await asyncio.to_thread(cluster.get, "PodAutoscaler", f"{NAME}-00001") or {}
            conditions = {c["type"]: c["status"] for c in (found.get("status") or {}).get("conditions") or ()}
            told = scale.get("status") or {}
            if conditions.get("Ready") == "True" and told.get("desiredScale") == 0 and not told.get("actualScale"):
                return found
            await asyncio.sleep(PERIOD_S)


def in_cluster(kubeconfig: Path, gateway: str, image: str, asked: Traffic, seconds: float) -> tuple[Seen, Any]:
    """What Knative does, and the `config-autoscaler` that it does it by."""
    namespace = f"{NAME}-{int(time.time())}"  # new each time: a namespace takes minutes to go
    cluster = Cluster.connect(str(kubeconfig), namespace)
    serving = Cluster.connect(str(kubeconfig), "knative-serving").get("ConfigMap", "config-autoscaler") or {}
    told = {k: v for k, v in (serving.get("data") or {}).items() if not k.startswith("_")}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    try:
        cluster.apply(manifest(image, namespace))
        host = urlsplit(asyncio.run(ready(cluster))["status"]["url"]).netloc
        return asyncio.run(watched(cluster, f"http://{gateway}/", {"Host": host}, asked, seconds)), told
    finally:
        cluster.delete("Namespace", namespace)


def on_laptop(image: str, settings: Mapping[str, str], asked: Traffic, seconds: float) -> Seen:
    """What the laptop does by the same settings."""
    with tempfile.TemporaryDirectory(prefix="headrace-side-by-side-") as temporary:
        home = Path(temporary) / "home"
        daemon.start(home, daemon.environment(home, 0, daemon.functions_interpreter(), {}))
        try:
            place = Place.of(config.Config(home=home, kubeconfig=None))
            serving = Cluster.connect(str(place.kubeconfig), "knative-serving")
            meta = {"name": "config-autoscaler", "namespace": "knative-serving"}
            serving.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "knative-serving"}})
            serving.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": dict(settings)})
            place.cluster.apply(manifest(image, config.NAMESPACE))
            asyncio.run(ready(place.cluster))
            return asyncio.run(watched(place.cluster, f"{place.url(NAME).rstrip('/')}/", {}, asked, seconds))
        finally:
            daemon.stop(home)


def report(cluster: Seen, laptop: Seen, asked: Traffic, seconds: float) -> str:
    """The table, and beneath it what the clients saw."""
    lines = [
        "| second | requests/s | Knative: wanted, ready | laptop: wanted, ready |",
        "|---|---|---|---|",
    ]
    for second in range(0, int(seconds + AFTER_S) + 1, EVERY_S):
        inside = (asked.starts_s >= second - EVERY_S) & (asked.starts_s < second)
        cells = (" ".join(map(str, seen.at(second))) for seen in (cluster, laptop))
        lines.append(f"| {second} | {inside.sum() / EVERY_S:.1f} | {' | '.join(cells)} |")
    lines.append("")
    for name, seen in (("Knative", cluster), ("laptop", laptop)):
        latency, status = seen.replies.latency_s, seen.replies.status
        p50, p95, most = (float(q) for q in np.quantile(latency, (0.5, 0.95, 1.0)))
        pod_s = float(np.sum(np.diff(seen.at_s) * np.asarray(seen.ready[:-1])))
        lines.append(
            f"{name}: {int((status != 200).sum())} of {status.size} requests failed; latency p50 {p50 * 1000:.0f} ms, "
            f"p95 {p95 * 1000:.0f} ms, most {most:.2f} s; {pod_s:.0f} pod-seconds ready; the first answer, from zero, "
            f"{float(latency[0]):.2f} s"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--gateway", required=True, metavar="HOST:PORT", help="of the cluster's Knative")
    parser.add_argument("--image", required=True, help="with Python as `python`, that the cluster can pull")
    parser.add_argument("--seconds", type=float, default=150.0, help="of traffic")
    asked = parser.parse_args()
    sent = traffic(asked.seconds)
    knative, settings = in_cluster(asked.kubeconfig, asked.gateway, asked.image, sent, asked.seconds)
    laptop = on_laptop(asked.image, settings, sent, asked.seconds)
    print(f"`config-autoscaler`: {json.dumps(settings)}\n")
    print(report(knative, laptop, sent, asked.seconds))
    failed = sum(int((seen.replies.status != 200).sum()) for seen in (knative, laptop))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
