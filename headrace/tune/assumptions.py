"""What the simulation takes for granted, each with the error that it brings. Told with every result. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.tune import pods, words
from headrace.tune.traffic import Traffic
from headrace.tune.world import LAPTOP, World


@dataclass(frozen=True, slots=True)
class Assumption:
    """says: what is taken for granted. error: what is wrong where it does not hold."""

    says: str
    error: str


def of(traffic: Traffic, world: World, cold_starts: str) -> tuple[Assumption, ...]:
    """What was assumed for this traffic in this world. cold_starts: where their length comes from, in words."""
    colds = world.colds
    length = words.milliseconds(float(colds[0]))
    if colds.size > 1:
        length = f"{words.milliseconds(float(colds.min()))} to {words.milliseconds(float(colds.max()))}"
    repairs = tuple(
        Assumption(_sentence(repair), "The traffic is as right as this is.") for repair in traffic.repairs
    )  # fmt: skip
    return (
        Assumption(
            f"A pod serves {world.pod_capacity} requests at once, each as fast as alone; more wait in it, in order.",
            "Where pods slow down earlier, latencies come out too short and targets too high: measure it and give "
            "--pod-capacity.",
        ),
        Assumption(
            f"A cold start takes {length} ({cold_starts}), and there is always a node with room and the image.",
            "Latencies of requests that meet one are wrong by as much as its length is; the others hardly.",
        ),
        Assumption(
            "Requests come as recorded, whatever answers they get: nobody waits for an answer before asking on, nobody "
            "asks again.",
            "Under overload real clients send fewer requests (they wait) or more (they retry); without overload it is "
            "exact.",
        ),
        Assumption(
            "The setting is a new revision at second 0 whose first pods are ready; the autoscaler knows nothing yet.",
            "The first stable window differs from that of a revision that has been running: of a day, a thousandth.",
        ),
        Assumption(
            "Every second all pods and the activator are read, in the middle of the second; decisions follow every 2 s "
            "from there.",
            "A cluster's phase is another, so a pod may come up to 2 s sooner or later; of many pods Knative reads a "
            "sample, whose average is off by a few percent.",
        ),
        *_path(world),
        Assumption(
            f"A pod costs from its creation until {world.seconds_to_stop:g} s after it is told to end, or its last "
            "answer.",
            "Pod-seconds are wrong by the difference, times the number of pods that were stopped.",
        ),
        Assumption(
            "The network, the ingress and queue-proxy take no time.",
            "Each latency is short by that time, 1 to 5 ms within a cluster.",
        ),
        Assumption(
            f"Timeouts ({world.timeout_s:g} s) end a request wherever it is, and free its place.",
            "A server that works on after its client has gone keeps the place longer: only where requests time out.",
        ),
        Assumption(
            f"At most {pods.MAX_PODS:,} pods.", "More are never made; the result says so where they were wanted."
        ),
        *repairs,
    )


def _path(world: World) -> tuple[Assumption, ...]:
    if world.path == LAPTOP:
        return (
            Assumption(
                "All requests pass one line before all pods; the least loaded pod takes the next, as in headrace up.",
                "In a cluster requests may wait at one pod while another is free: tails are longer there.",
            ),
        )
    return (
        Assumption(
            "One activator holds requests while there is no pod or too little burst capacity; past it, the ingress "
            "takes the less loaded of two random pods.",
            "Several activators divide the pods among them, and some ingresses choose in turn: both make slow requests "
            "slower by some percent where containerConcurrency is small.",
        ),
        Assumption(
            "A change between activator and ingress takes effect at once.",
            "In a cluster it takes about a second, in which requests go the old way.",
        ),
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
