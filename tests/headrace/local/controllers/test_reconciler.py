"""Knative Services through the reconciler: Revisions, traffic, readiness, scale; with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from headrace.local.controllers.reconciler import Limits
from headrace.local.pods import pod_status
from tests.headrace.local.pods.laptop import (
    NAMESPACE,
    SERVE,
    Laptop,
    eventually,
    kill_platform,
    laptop,
    marked,
    run,
    service,
    template,
)

BROKEN = ("/bin/sh", "-c", "echo the model is not readable; exit 4")


async def ready(it: Laptop, name: str = "web") -> None:
    await eventually(lambda: it.condition("Service", name, "Ready")[0] == "True")


async def quiet(it: Laptop) -> None:
    """Until nothing has changed for a while."""
    seen = -1
    while seen != it.objects.resource_version:
        seen = it.objects.resource_version
        await asyncio.sleep(0.3)


def traffic(it: Laptop, name: str = "web") -> list[tuple[str, int]]:
    status = it.get("Service", name).get("status") or {}
    return [(t["revisionName"], t["percent"]) for t in status.get("traffic", [])]


def test_a_service_becomes_ready_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(service("web"))
            await ready(it)
            status = it.get("Service", "web")["status"]
            assert status["latestCreatedRevisionName"] == status["latestReadyRevisionName"] == "web-00001"
            assert status["url"] == "http://web.test.localhost:8080"
            assert status["address"] == {"url": "http://127.0.0.1:8080/svc/test/web"}
            assert status["traffic"] == [{"latestRevision": True, "percent": 100, "revisionName": "web-00001"}]
            assert it.get("PodAutoscaler", "web-00001")["spec"]["reachability"] == "Reachable"
            (pod,) = it.pods()
            labels = pod["metadata"]["labels"]
            assert labels["app"] == labels["serving.knative.dev/revision"] == "web-00001"
            assert labels["serving.knative.dev/service"] == labels["serving.knative.dev/configuration"] == "web"
            assert {e["name"]: e["value"] for e in pod["spec"]["containers"][0]["env"]} == {
                "K_SERVICE": "web",
                "K_CONFIGURATION": "web",
                "K_REVISION": "web-00001",
            }

    run(main())


def test_a_route_of_no_service_says_that_it_gets_no_requests(tmp_path: Path) -> None:
    """Unready without an end would say that something is still to come."""

    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(
                {
                    "apiVersion": "serving.knative.dev/v1",
                    "kind": "Route",
                    "metadata": {"name": "alone", "namespace": NAMESPACE},
                    "spec": {"traffic": [{"configurationName": "web", "percent": 100}]},
                }
            )
            await eventually(lambda: it.condition("Route", "alone", "Ready") == ("False", "NoService"))

    run(main())


def test_the_same_spec_applied_twice_makes_no_second_revision(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(service("web"))
            await ready(it)
            await quiet(it)
            before = it.objects.resource_version
            it.objects.update({**it.get("Service", "web"), "spec": service("web")["spec"]})
            await quiet(it)
            assert len(it.objects.list("Revision")) == 1
            assert it.objects.resource_version == before

    run(main())


def test_traffic_moves_to_a_new_revision_only_when_it_is_ready(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(service("web"))
            await ready(it)
            wait = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(.01)\n"
            slow = template("python", "-S", "-c", wait + SERVE)
            it.patch("Service", "web", template=slow)
            await eventually(lambda: it.objects.get("Revision", NAMESPACE, "web-00002"))
            await quiet(it)
            assert traffic(it) == [("web-00001", 100)]
            assert it.condition("Service", "web", "Ready")[0] == "Unknown"
            (tmp_path / "go").touch()
            await ready(it)
            assert traffic(it) == [("web-00002", 100)]
            await eventually(lambda: it.get("PodAutoscaler", "web-00001")["spec"]["reachability"] == "Unreachable")

    run(main())


def test_a_revision_that_crashes_leaves_the_last_one_serving_and_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(service("web"))
            await ready(it)
            it.patch("Service", "web", template=template(*BROKEN))
            await eventually(lambda: it.condition("Service", "web", "Ready") == ("False", "RevisionFailed"))
            assert it.condition("Revision", "web-00002", "Ready") == ("False", "ExitCode4")
            conditions = it.get("Service", "web")["status"]["conditions"]
            assert any("the model is not readable" in condition.get("message", "") for condition in conditions)
            assert traffic(it) == [("web-00001", 100)]
            assert it.processes.endpoints(NAMESPACE, "web-00001")

    run(main())


def test_a_revision_that_recovers_from_its_crashes_becomes_ready(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            flag = tmp_path / "store-is-back"
            script = f"import os, sys\nos.path.exists('{flag}') or sys.exit(75)\n{SERVE}"
            it.objects.create(service("web", "python", "-S", "-c", script))
            await eventually(lambda: it.condition("Service", "web", "Ready")[0] == "False")
            flag.touch()
            await ready(it)
            assert it.condition("Revision", "web-00001", "Ready") == ("True", "")

    run(main())


def test_a_revision_that_is_never_ready_fails_at_its_progress_deadline(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            deadline = {"serving.knative.dev/progress-deadline": "1s"}
            it.objects.create(service("web", "sleep", "1000", annotations=deadline))
            expected = ("False", "ProgressDeadlineExceeded")
            await eventually(lambda: it.condition("Revision", "web-00001", "Ready") == expected)
            await eventually(lambda: it.condition("Service", "web", "Ready") == ("False", "RevisionFailed"))

    run(main())


def test_traffic_is_split_between_named_revisions_and_tags_have_addresses(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(service("web"))
            await ready(it)
            split = [
                {"revisionName": "web-00001", "percent": 80},
                {"revisionName": "web-next", "percent": 20, "tag": "canary"},
            ]
            it.patch("Service", "web", template=template(name="web-next"), traffic=split)
            await eventually(lambda: traffic(it) == [("web-00001", 80), ("web-next", 20)])
            await ready(it)
            assert it.get("Service", "web")["status"]["traffic"][1]["url"] == "http://canary-web.test.localhost:8080"

    run(main())


def test_traffic_to_an_unknown_revision_is_refused_and_the_last_split_stays(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(service("web"))
            await ready(it)
            it.patch("Service", "web", traffic=[{"revisionName": "web-nowhere", "percent": 100}])
            await eventually(lambda: it.condition("Service", "web", "Ready") == ("False", "RevisionMissing"))
            assert traffic(it) == [("web-00001", 100)]
            it.patch("Service", "web", traffic=[{"latestRevision": True, "percent": 100}])
            await ready(it)

    run(main())


def test_a_revision_name_taken_for_another_template_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(service("web"))
            it.patch("Service", "web", template=template(name="web-a"))
            await ready(it)
            it.patch("Service", "web", template=template("sleep", "1000", name="web-a"))
            await eventually(lambda: it.condition("Service", "web", "Ready") == ("False", "RevisionFailed"))
            assert traffic(it) == [("web-a", 100)]

    run(main())


def test_scaling_down_takes_pods_out_of_the_endpoints_at_once_and_the_not_ready_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(service("web"))
            await ready(it)
            it.reconciler.scale(NAMESPACE, "web-00001", 3)
            await eventually(lambda: len(it.processes.endpoints(NAMESPACE, "web-00001")) == 3)
            worst = it.processes.endpoints(NAMESPACE, "web-00001")[0].pod
            uid = it.get("Pod", worst)["metadata"]["uid"]
            (child,) = [p for p in it.children() if p.environ()["HEADRACE_POD_UID"] == uid]
            child.send_signal(signal.SIGKILL)
            await eventually(lambda: not pod_status.is_ready(it.get("Pod", worst)))
            it.reconciler.scale(NAMESPACE, "web-00001", 2)
            left = it.processes.endpoints(NAMESPACE, "web-00001")
            assert len(left) == 2
            assert worst not in {endpoint.pod for endpoint in left}
            it.reconciler.scale(NAMESPACE, "web-00001", 0)
            assert it.processes.endpoints(NAMESPACE, "web-00001") == ()
            await eventually(lambda: it.children() == [] and it.pods() == [])
            assert it.condition("Service", "web", "Ready")[0] == "True"

    run(main())


def test_scaling_twice_to_the_same_number_makes_no_more_pods(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(service("web"))
            await ready(it)
            for _ in range(3):
                it.reconciler.scale(NAMESPACE, "web-00001", 2)
            await quiet(it)
            assert len(it.pods()) == 2
            it.reconciler.scale(NAMESPACE, "nowhere-00001", 2)
            assert len(it.pods()) == 2

    run(main())


def test_a_deleted_pod_of_a_service_is_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(service("web"))
            await ready(it)
            old = it.pods()[0]["metadata"]["name"]
            it.objects.delete("Pod", NAMESPACE, old)
            (new,) = await eventually(lambda: it.processes.endpoints(NAMESPACE, "web-00001"))
            assert new.pod != old

    run(main())


def test_deleting_a_service_ends_its_processes(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(service("web"))
            await ready(it)
            it.objects.delete("Service", NAMESPACE, "web")
            await eventually(lambda: it.children() == [] and it.pods() == [])
            for kind in ("Configuration", "Route", "Revision", "PodAutoscaler"):
                assert it.objects.list(kind) == []

    run(main())


def test_old_revisions_beyond_twenty_are_collected(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            none = {"autoscaling.knative.dev/initial-scale": "0"}
            it.objects.create(service("web", annotations=none))
            await ready(it)
            for number in range(2, 25):
                it.patch("Service", "web", template=template(annotations={**none, "number": str(number)}))
                name = f"web-{number:05d}"
                await eventually(lambda name=name: traffic(it) == [(name, 100)])  # type: ignore[misc]
            await quiet(it)
            names = [revision["metadata"]["name"] for revision in it.objects.list("Revision")]
            assert names == [f"web-{number:05d}" for number in range(4, 25)]

    run(main())


def test_a_platform_goes_on_where_the_last_one_was_killed(tmp_path: Path) -> None:
    kill_platform(
        tmp_path,
        "it.objects.create(service('web'))",
        "it.condition('Service', 'web', 'Ready')[0] == 'True' and it.objects.update("
        "{**it.get('PodAutoscaler', 'web-00001'), 'status': {'desiredScale': 1}}, subresource='status')",
    )

    async def second() -> None:
        async with laptop(tmp_path) as it:
            assert it.condition("Service", "web", "Ready")[0] == "True"
            (endpoint,) = await eventually(lambda: it.processes.endpoints(NAMESPACE, "web-00001"))
            assert endpoint.pod in {pod["metadata"]["name"] for pod in it.pods()}
            assert len(it.children()) == 1
            assert len(it.objects.list("Revision")) == 1

    run(second())
    assert marked(tmp_path) == []


def test_an_object_that_cannot_be_reconciled_holds_up_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path, limits=Limits()) as it:
            broken = service("broken")
            broken["spec"]["template"]["spec"] = {"containers": 7}
            it.objects.create(broken)
            it.objects.create(service("web"))
            await ready(it)

    run(main())


def test_an_idle_platform_writes_nothing_and_burns_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(service("web"))
            await ready(it)
            await quiet(it)
            before, ticks = it.objects.resource_version, os.times()
            await asyncio.sleep(1)
            used_s = sum(os.times()[:2]) - sum(ticks[:2])
            assert it.objects.resource_version == before
            assert used_s < 0.1

    run(main())
