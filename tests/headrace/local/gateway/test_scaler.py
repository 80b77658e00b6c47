"""The autoscaler of the laptop, with a clock moved by hand; and once for real, gateway and all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from headrace.local.gateway.pod_autoscaler import REASON_ANNOTATION
from headrace.local.gateway.revision_queue import Traffic
from headrace.local.gateway.scaler import Scaler
from headrace.local.objects.objects import Objects
from headrace.local.pods.process import Endpoint
from tests.headrace.local.gateway.fleet import NAMESPACE, place, pod, saying, until

REVISION = "flights-1"
START = 1_700_000_000.5


class World:
    """A gateway's figures, pods that are ready at once unless `slow`, and a clock."""

    def __init__(self, path: Path, overrides: dict[str, str] | None = None) -> None:
        self.now = START
        self.load: dict[str, float] = {}
        self.slow = False
        self.pods: dict[str, int] = {}
        self.scaled: list[tuple[str, int]] = []
        self.demand: Callable[[str, str], None] = lambda namespace, revision: None
        self.objects = Objects(path / "objects.db")
        self.overrides = overrides
        self.scaler = self.fresh_scaler()

    def fresh_scaler(self) -> Scaler:
        return Scaler(self.objects, self, self.endpoints, self.scale, clock=lambda: self.now, overrides=self.overrides)

    # what the scaler asks
    def on_demand(self, callback: Callable[[str, str], None]) -> None:
        self.demand = callback

    def observe(self, namespace: str, revision: str) -> Traffic:
        load = self.load.get(revision, 0.0)
        return Traffic(load, load, int(load), load, int(load), 0)

    def in_flight(self, namespace: str, revision: str) -> int:
        return int(self.load.get(revision, 0.0))

    def endpoints(self, namespace: str, revision: str) -> tuple[Endpoint, ...]:
        ready = 0 if self.slow else self.pods.get(revision, 0)
        return tuple(Endpoint(f"pod-{number}", number + 1) for number in range(ready))

    def scale(self, namespace: str, revision: str, pods: int) -> None:
        self.scaled.append((revision, pods))
        self.pods[revision] = pods

    # what happens
    def autoscaler(self, name: str = REVISION, reachability: str = "Reachable", **keys: str) -> None:
        self.objects.create(
            {
                "apiVersion": "autoscaling.internal.knative.dev/v1alpha1",
                "kind": "PodAutoscaler",
                "metadata": {
                    "name": name,
                    "namespace": NAMESPACE,
                    "annotations": {f"autoscaling.knative.dev/{k.replace('_', '-')}": v for k, v in keys.items()},
                },
                "spec": {"reachability": reachability, "containerConcurrency": 0},
            }
        )

    def status(self, name: str = REVISION) -> dict[str, Any]:
        return self.objects.get("PodAutoscaler", NAMESPACE, name)["status"]

    def condition(self, kind: str) -> str:
        return next(c["status"] for c in self.status()["conditions"] if c["type"] == kind)

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.scaler.tick()

    @contextlib.asynccontextmanager
    async def running(self):
        """Started, its own loop held back: the test ticks."""
        await self.scaler.start()
        self.scaler._task.cancel()
        yield
        with contextlib.suppress(asyncio.CancelledError):
            await self.scaler.stop()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.objects.close()


def within(world: World, promise: Callable[[], None]) -> None:
    async def run() -> None:
        async with world.running():
            promise()

    asyncio.run(run())


def test_a_new_revision_gets_its_initial_scale_and_goes_to_zero_in_knatives_time(world: World) -> None:
    """Without a target burst the activator comes into the path only when nobody asks any more."""

    def promise() -> None:
        world.autoscaler(target_burst_capacity="0")
        assert world.scaled == [(REVISION, 1)]
        world.pass_time(2)
        assert world.condition("Active") == world.condition("Ready") == "True"
        assert world.condition("ScaleTargetInitialized") == "True"
        world.pass_time(57)
        assert world.condition("Active") == "True"
        world.pass_time(4)  # 60 s active
        assert (world.condition("Active"), world.status()["desiredScale"], world.pods[REVISION]) == ("False", 0, 1)
        world.pass_time(27)
        assert world.pods[REVISION] == 1
        world.pass_time(4)  # 30 s of grace
        assert world.pods[REVISION] == 0
        world.pass_time(2)
        assert world.status()["actualScale"] == 0
        assert world.scaled == [(REVISION, 1), (REVISION, 0)]

    within(world, promise)


@pytest.mark.parametrize(("more", "pods"), [({}, 1), ({"min_scale": "2"}, 2), ({"min_scale": "0"}, 1)])
def test_class_hpa_never_goes_to_zero_and_scales_on_requests(world: World, more: dict[str, str], pods: int) -> None:
    """Its target is percents of a core, which as requests in flight would never bring a second pod."""

    def promise() -> None:
        # As `class` is a word of Python's.
        world.autoscaler(**{"class": "hpa.autoscaling.knative.dev", "metric": "cpu", "target": "80000"}, **more)
        world.pass_time(200)
        assert world.pods[REVISION] == pods
        world.load[REVISION] = 700.0
        world.pass_time(10)
        assert world.pods[REVISION] > pods

    within(world, promise)


def test_a_pod_that_the_activator_was_in_front_of_all_along_goes_without_a_grace_period(world: World) -> None:
    """The default target burst, 211, is beyond what one pod bears: the traffic is where the grace period would have it
    go.
    """

    def promise() -> None:
        world.autoscaler()
        world.pass_time(60)
        assert (world.condition("Active"), world.pods[REVISION]) == ("True", 1)
        world.pass_time(4)
        assert (world.condition("Active"), world.pods[REVISION]) == ("False", 0)

    within(world, promise)


def test_pod_retention_is_waited_for_though_the_activator_was_in_the_path(world: World) -> None:
    def promise() -> None:
        world.autoscaler(scale_to_zero_pod_retention_period="2m")
        world.pass_time(60 + 118)
        assert (world.condition("Active"), world.pods[REVISION]) == ("False", 1)
        world.pass_time(6)
        assert world.pods[REVISION] == 0

    within(world, promise)


def test_a_request_in_the_grace_period_keeps_the_last_pod(world: World) -> None:
    """Between two decisions too: the activator pokes an autoscaler that wants no pods."""

    def promise() -> None:
        world.autoscaler(target_burst_capacity="0")
        world.pass_time(85)
        assert (world.condition("Active"), world.pods[REVISION]) == ("False", 1)
        world.now += 0.2
        world.load[REVISION] = 1
        world.demand(NAMESPACE, REVISION)
        world.scaler.tick()
        assert (world.condition("Active"), world.status()["desiredScale"]) == ("True", 1)
        world.load[REVISION] = 0
        world.pass_time(55)
        assert world.scaled == [(REVISION, 1)]

    within(world, promise)


def test_a_waiting_request_wakes_a_revision_at_zero_at_once(world: World) -> None:
    def promise() -> None:
        world.autoscaler()
        world.pass_time(100)
        assert world.pods[REVISION] == 0
        world.now += 3600.2
        world.load[REVISION] = 1
        world.demand(NAMESPACE, REVISION)
        world.scaler.tick()  # the loop does so as soon as it is woken
        assert world.pods[REVISION] == 1
        world.load[REVISION] = 0
        world.pass_time(100)
        assert world.pods[REVISION] == 0

    within(world, promise)


def test_many_waiting_requests_wake_it_once(world: World) -> None:
    def promise() -> None:
        world.autoscaler()
        world.pass_time(100)
        world.slow = True
        world.load[REVISION] = 50
        for _ in range(50):
            world.demand(NAMESPACE, REVISION)
        world.scaler.tick()
        assert world.scaled[-1] == (REVISION, 1)
        world.demand(NAMESPACE, REVISION)
        assert world.scaler._demanded == set()

    within(world, promise)


def test_a_burst_at_zero_gets_one_pod_at_once_and_the_others_by_the_next_decision(world: World) -> None:
    """The activator's first word is of one request; the whole second comes in its report."""

    def promise() -> None:
        world.autoscaler(target="10", target_utilization_percentage="100")
        world.pass_time(100)
        world.now += 0.3
        world.slow, world.load[REVISION] = True, 35
        world.demand(NAMESPACE, REVISION)
        world.scaler.tick()
        assert world.pods[REVISION] == 1
        world.pass_time(2)
        assert world.pods[REVISION] == 3  # of a second with one request, one of 34 and one of 35
        world.pass_time(6)
        assert world.pods[REVISION] == 4

    within(world, promise)


def test_where_pods_are_never_scraped_silence_is_seen_when_the_window_has_passed(world: World) -> None:
    """With target-burst-capacity -1 the activator alone reports, and a revision that nobody asks it says nothing of."""

    def promise() -> None:
        world.autoscaler(target="10", target_utilization_percentage="100", target_burst_capacity="-1")
        world.load[REVISION] = 30
        world.pass_time(130)
        assert world.pods[REVISION] == 3
        world.load[REVISION] = 0
        world.pass_time(50)
        assert world.pods[REVISION] == 3
        world.pass_time(14)
        assert world.pods[REVISION] == 0

    within(world, promise)


def test_scraped_pods_report_that_nobody_asks(world: World) -> None:
    def promise() -> None:
        world.autoscaler(target="10", target_utilization_percentage="100")
        world.load[REVISION] = 30
        world.pass_time(130)
        world.load[REVISION] = 0
        world.pass_time(50)
        assert world.pods[REVISION] == 1

    within(world, promise)


def test_without_a_ready_pod_nobody_reports_and_nothing_is_decided(world: World) -> None:
    def promise() -> None:
        world.slow = True
        world.autoscaler()
        world.pass_time(10)
        found = world.scaler.report(NAMESPACE, REVISION)
        assert found is not None and "stable" not in found
        assert found["reason"] == "no data in the last 1m0s; waiting for the first ready pod"

    within(world, promise)


def test_load_brings_pods_and_panic_keeps_them(world: World) -> None:
    def promise() -> None:
        world.autoscaler(target="10", target_utilization_percentage="100", max_scale="5")
        world.load[REVISION] = 35
        world.pass_time(1)
        assert world.pods[REVISION] == 4
        reason = world.status()["annotations"][REASON_ANNOTATION]
        assert reason.startswith("panic: 35 in flight on average over the last 6s would need 4 pods of 10, 1 is ready")
        world.load[REVISION] = 500
        world.pass_time(30)
        assert world.pods[REVISION] == 5
        found = world.scaler.report(NAMESPACE, REVISION)
        assert found is not None
        assert (found["mode"], found["desired"], found["actual"], found["target"]) == ("panic", 5, 5, 10)
        assert (found["panic"], found["excessBurstCapacity"]) == (500, 5 * 10 - 211 - 500)
        assert found["activatorInPath"] is True
        assert found["reason"].endswith("max-scale 5 holds it at 5")
        world.load[REVISION] = 12
        world.pass_time(10)
        assert world.pods[REVISION] == 5
        world.pass_time(200)
        assert world.pods[REVISION] == 2

    within(world, promise)


def test_min_scale_is_kept_and_initial_scale_reached_first(world: World) -> None:
    def promise() -> None:
        world.autoscaler(min_scale="1", initial_scale="3")
        assert world.scaled == [(REVISION, 3)]
        world.pass_time(200)
        assert world.pods[REVISION] == 1
        assert world.condition("Active") == "True"

    within(world, promise)


def test_a_revision_that_no_route_points_at_any_more_goes_though_min_scale_says_stay(world: World) -> None:
    def promise() -> None:
        world.autoscaler(min_scale="2")
        world.pass_time(100)
        assert world.pods[REVISION] == 2
        obj = world.objects.get("PodAutoscaler", NAMESPACE, REVISION)
        obj["spec"]["reachability"] = "Unreachable"
        world.objects.update(obj)
        world.pass_time(40)
        assert world.pods[REVISION] == 0

    within(world, promise)


def test_a_raised_minimum_wakes_a_revision_at_rest(world: World) -> None:
    def promise() -> None:
        world.autoscaler()
        world.pass_time(100)
        obj = world.objects.get("PodAutoscaler", NAMESPACE, REVISION)
        obj["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] = "2"
        world.objects.update(obj)
        world.pass_time(2)
        assert world.pods[REVISION] == 2

    within(world, promise)


def test_the_activator_leaves_the_path_when_there_is_capacity_for_a_burst(world: World) -> None:
    def promise() -> None:
        world.autoscaler(min_scale="3", target="100", target_burst_capacity="50")
        world.slow = True
        world.pass_time(4)
        assert world.scaler.report(NAMESPACE, REVISION)["activatorInPath"] is True
        world.slow = False
        world.pass_time(4)
        assert world.scaler.report(NAMESPACE, REVISION)["activatorInPath"] is False
        world.load[REVISION] = 280
        world.pass_time(6)
        assert world.scaler.report(NAMESPACE, REVISION)["activatorInPath"] is True

    within(world, promise)


def test_a_configmap_that_forbids_zero_brings_back_what_is_at_zero(world: World) -> None:
    def promise() -> None:
        world.autoscaler()
        world.pass_time(100)
        assert world.pods[REVISION] == 0
        meta = {"name": "config-autoscaler", "namespace": "knative-serving"}
        data = {"enable-scale-to-zero": "false"}
        world.objects.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
        world.pass_time(2)
        assert world.pods[REVISION] == 1
        kept = world.objects.get("ConfigMap", "knative-serving", "config-autoscaler")
        world.objects.update(kept | {"data": {}})
        world.pass_time(70)
        assert world.pods[REVISION] == 0

    within(world, promise)


def test_a_configmap_changes_the_windows_of_what_runs(world: World) -> None:
    def promise() -> None:
        world.autoscaler(target="10", target_utilization_percentage="100", target_burst_capacity="0")
        world.load[REVISION] = 30
        world.pass_time(130)
        world.load[REVISION] = 0
        meta = {"name": "config-autoscaler", "namespace": "knative-serving"}
        data = {"stable-window": "10s", "scale-to-zero-grace-period": "5s"}
        world.objects.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
        world.pass_time(20)
        assert world.pods[REVISION] == 0

    within(world, promise)


def test_the_configmap_is_obeyed_and_a_broken_one_leaves_the_last(world: World) -> None:
    def config(**data: str) -> dict[str, Any]:
        meta = {"name": "config-autoscaler", "namespace": "knative-serving"}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}

    def promise() -> None:
        world.objects.create(config(**{"stable-window": "10s", "scale-to-zero-grace-period": "5s"}))
        world.autoscaler()
        broken = world.objects.get("ConfigMap", "knative-serving", "config-autoscaler")
        world.objects.update(broken | {"data": {"stable-window": "1s"}})
        world.pass_time(20)
        assert world.pods[REVISION] == 0

    within(world, promise)


def test_the_status_is_written_on_a_change_alone(world: World) -> None:
    def promise() -> None:
        world.autoscaler()
        world.pass_time(5)
        before = world.objects.resource_version
        world.pass_time(30)
        assert world.objects.resource_version == before

    within(world, promise)


@pytest.mark.parametrize(
    ("idle_s", "reachability", "pods"), [(0, "Reachable", 4), (400, "Reachable", 0), (0, "Unreachable", 0)]
)
def test_a_restart_goes_on_where_it_was(world: World, idle_s: int, reachability: str, pods: int) -> None:
    async def run() -> None:
        async with world.running():
            world.autoscaler(target="10", target_utilization_percentage="100")
            world.load[REVISION] = 40
            world.pass_time(10)
            if idle_s:
                world.load[REVISION] = 0
                world.pass_time(idle_s)
            obj = world.objects.get("PodAutoscaler", NAMESPACE, REVISION)
            obj["spec"]["reachability"] = reachability
            world.objects.update(obj)
        world.scaled, world.pods, world.load = [], {}, {}
        world.now += 5
        world.scaler = world.fresh_scaler()
        async with world.running():
            assert world.scaled == [(REVISION, pods)]
            world.pass_time(10)
            assert world.pods[REVISION] == pods

    asyncio.run(run())


def test_a_restart_in_a_panic_does_not_scale_down_for_lack_of_history(world: World) -> None:
    async def run() -> None:
        async with world.running():
            world.autoscaler(target="10", target_utilization_percentage="100")
            world.load[REVISION] = 80
            world.pass_time(6)
            assert world.pods[REVISION] == 8
        world.scaled, world.pods, world.load, world.slow = [], {}, {REVISION: 20}, True
        world.now += 5
        world.scaler = world.fresh_scaler()
        async with world.running():
            world.pass_time(4)
            world.slow = False
            world.pass_time(50)
            assert world.scaled == [(REVISION, 8)]
            assert world.scaler.report(NAMESPACE, REVISION)["mode"] == "panic"
            world.pass_time(20)
            assert world.pods[REVISION] < 8

    asyncio.run(run())


def test_what_never_gets_ready_is_given_up_and_tried_again_on_demand(world: World) -> None:
    def promise() -> None:
        world.slow = True
        world.autoscaler()
        world.pass_time(629)
        assert (world.pods[REVISION], world.condition("Active")) == (1, "Unknown")
        world.pass_time(3)
        assert (world.pods[REVISION], world.condition("Active")) == (0, "False")
        assert next(c for c in world.status()["conditions"] if c["type"] == "Active")["reason"] == "TimedOut"
        world.load[REVISION] = 0  # the gateway has answered 503 already
        world.demand(NAMESPACE, REVISION)
        world.scaler.tick()
        assert world.pods[REVISION] == 1

    within(world, promise)


def test_revisions_do_not_share_state(world: World) -> None:
    def promise() -> None:
        world.autoscaler("a", target="10")
        world.autoscaler("b", target="10")
        world.load["a"] = 70
        world.pass_time(20)
        assert (world.pods["a"], world.pods["b"]) == (10, 1)

    within(world, promise)


def test_a_revision_is_scaled_beside_others_as_it_is_alone(tmp_path: Path) -> None:
    def scaled(*names: str) -> list[tuple[str, int]]:
        folder = tmp_path / "-".join(names)
        folder.mkdir()
        world = World(folder)

        def promise() -> None:
            for name in names:
                world.autoscaler(name, target="10", window="20s" if name == "a" else "6s", max_scale="8")
            for second in range(300):
                for name, period in (("a", 60), ("b", 37), ("c", 11)):
                    if name in names:
                        load = 25.0 if second // period % 2 else 0.0
                        if load and not world.load.get(name):
                            world.demand(NAMESPACE, name)
                        world.load[name] = load
                if second == 150 and "c" in names:
                    world.objects.delete("PodAutoscaler", NAMESPACE, "c")
                world.pass_time(1)

        within(world, promise)
        world.objects.close()
        return [each for each in world.scaled if each[0] == "a"]

    alone = scaled("a")
    assert len(alone) > 4
    assert scaled("a", "b", "c") == alone


def test_a_deleted_autoscaler_is_left_alone(world: World) -> None:
    def promise() -> None:
        world.autoscaler()
        world.objects.delete("PodAutoscaler", NAMESPACE, REVISION)
        world.scaled = []
        world.load[REVISION] = 500
        world.pass_time(10)
        assert world.scaled == []

    within(world, promise)


def test_a_request_to_a_revision_at_zero_is_answered_by_the_pod_it_started(tmp_path: Path) -> None:
    """Gateway and autoscaler on the real clock: zero, a request, a pod, an answer; and nothing runs in between."""

    async def hello(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="hello")

    async def promise() -> None:
        async with place(tmp_path) as at, pod(hello) as endpoint:
            asked: list[int] = []

            def scale(namespace: str, revision: str, pods: int) -> None:
                asked.append(pods)
                loop = asyncio.get_running_loop()
                loop.call_later(0.05, at.fleet.set, revision, *([endpoint] if pods else []))

            at.flights()
            meta = {"name": REVISION, "namespace": NAMESPACE}
            version = "autoscaling.internal.knative.dev/v1alpha1"
            made = at.objects.create({"apiVersion": version, "kind": "PodAutoscaler", "metadata": meta, "spec": {}})
            active = {"type": "Active", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            at.objects.update(made | {"status": {"desiredScale": 0, "conditions": [active]}}, subresource="status")
            scaler = Scaler(at.objects, at.gateway, at.fleet.endpoints, scale)
            await scaler.start()
            assert asked == [0]
            await asyncio.sleep(0.1)
            assert scaler._due_s < 0  # it has not ticked: nothing is there to be watched
            assert await asyncio.gather(*(at.get() for _ in range(20))) == [(200, "hello")] * 20
            assert asked == [0, 1]
            await until(lambda: at.objects.get("PodAutoscaler", NAMESPACE, REVISION)["status"]["desiredScale"] == 1)
            await scaler.stop()

    asyncio.run(promise())


def test_of_a_burst_that_wakes_it_the_autoscaler_hears_first_of_one_request(tmp_path: Path) -> None:
    """On the real clock: the decision at once is for the request that came first, the others count a second later."""

    async def promise() -> None:
        async with place(tmp_path) as at, pod(saying("hello")) as endpoint:
            asked: list[int] = []

            def scale(namespace: str, revision: str, pods: int) -> None:
                asked.append(pods)
                if pods > 2:
                    at.fleet.set(revision, endpoint)

            at.flights()
            meta = {"name": REVISION, "namespace": NAMESPACE, "annotations": {"autoscaling.knative.dev/target": "1"}}
            version = "autoscaling.internal.knative.dev/v1alpha1"
            made = at.objects.create({"apiVersion": version, "kind": "PodAutoscaler", "metadata": meta, "spec": {}})
            active = {"type": "Active", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            at.objects.update(made | {"status": {"desiredScale": 0, "conditions": [active]}}, subresource="status")
            scaler = Scaler(at.objects, at.gateway, at.fleet.endpoints, scale)
            await scaler.start()
            await asyncio.gather(*(at.get() for _ in range(20)))
            await scaler.stop()
            first, second = asked[1:3]
            assert (asked[0], first) == (0, 2)  # ceil(1 / 0.7), of one request
            assert second > 2

    asyncio.run(promise())
