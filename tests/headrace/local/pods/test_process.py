"""Pods as child processes: how they start, what they get, how they end, and that none is ever left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from headrace.local.objects.objects import Object
from headrace.local.pods.pod import Timings
from tests.headrace.local.pods.laptop import (
    NAMESPACE,
    PATIENCE_S,
    SERVE,
    Laptop,
    eventually,
    laptop,
    marked,
    platform,
    pod,
    run,
)

SERVER = ("python", "-S", "-c", SERVE)
FAMILY = ("/bin/sh", "-c", "sleep 1000 & sleep 1000 & wait")  # a process with two children


def container(home: Laptop, name: str) -> Object:
    statuses = (home.get("Pod", name).get("status") or {}).get("containerStatuses") or [{}]
    return dict(statuses[0])


def test_a_pod_is_an_endpoint_once_its_port_answers(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            changes: list[tuple[str, str]] = []
            it.processes.subscribe(lambda *change: changes.append(change))
            it.objects.create(pod("a", *SERVER, revision="rev"))
            (endpoint,) = await eventually(lambda: it.processes.endpoints(NAMESPACE, "rev"))
            assert endpoint.pod == "a"
            assert any(c.laddr.port == endpoint.port for p in it.children() for c in p.net_connections())
            assert changes == [(NAMESPACE, "rev")]

    run(main())


def test_a_container_inherits_nothing_from_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the person at the keyboard")

    async def main() -> None:
        async with laptop(tmp_path, environment=lambda namespace: {"KUBECONFIG": f"/k-{namespace}"}) as it:
            it.objects.create(pod("a", "env", spec={"restartPolicy": "Never"}))
            await eventually(lambda: it.get("Pod", "a")["status"]["phase"] == "Succeeded")
            names = {line.partition("=")[0] for line in it.log("a").splitlines()}
            assert f"KUBECONFIG=/k-{NAMESPACE}" in it.log("a").splitlines()
            assert "AWS_SECRET_ACCESS_KEY" not in names
            assert {"PATH", "HOME", "LANG", "TMPDIR", "HOSTNAME", "KUBECONFIG"} <= names

    run(main())


def test_python_in_a_command_is_the_interpreter_of_the_image(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path, images={"example/image": "/bin/echo"}) as it:
            it.objects.create(pod("a", "python", "-m", "functions", spec={"restartPolicy": "Never"}))
            await eventually(lambda: it.get("Pod", "a")["status"]["phase"] == "Succeeded")
            assert it.log("a") == "-m functions\n"

    run(main())


def test_a_crash_loop_is_told_with_the_last_lines_of_the_log(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path, timings=Timings(crash_backoff_s=1000)) as it:
            it.objects.create(pod("a", "/bin/sh", "-c", "echo no model here; exit 3", revision="rev"))
            looping = await eventually(
                lambda: (
                    (c := container(it, "a")).get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
                    and c
                )
            )
            assert looping["restartCount"] == 2  # the first restart comes at once
            assert looping["lastState"]["terminated"]["exitCode"] == 3
            assert "no model here" in looping["lastState"]["terminated"]["message"]

    run(main())


def test_a_server_that_is_killed_serves_again_at_another_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path, timings=Timings(crash_backoff_s=1000)) as it:
            it.objects.create(pod("a", *SERVER, revision="rev"))
            await eventually(lambda: it.processes.endpoints(NAMESPACE, "rev"))
            os.kill(it.children()[0].pid, signal.SIGKILL)
            await eventually(lambda: not it.processes.endpoints(NAMESPACE, "rev"))
            await eventually(lambda: it.processes.endpoints(NAMESPACE, "rev"))
            again = container(it, "a")
            assert again["restartCount"] == 1
            assert again["lastState"]["terminated"]["exitCode"] == 137

    run(main())


def test_deleting_a_pod_ends_all_its_processes_and_then_the_object(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(pod("a", *FAMILY))
            await eventually(lambda: len(it.children()) == 3)
            it.objects.delete("Pod", NAMESPACE, "a")
            assert "deletionTimestamp" in it.get("Pod", "a")["metadata"]
            await eventually(lambda: it.objects.get("Pod", NAMESPACE, "a") is None)
            assert it.children() == []

    run(main())


def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            script = "trap '' TERM; echo deaf; while true; do sleep 0.05; done"
            it.objects.create(pod("a", "/bin/sh", "-c", script, spec={"terminationGracePeriodSeconds": 1}))
            await eventually(lambda: "deaf" in it.log("a"))
            it.objects.delete("Pod", NAMESPACE, "a")
            await eventually(lambda: it.objects.get("Pod", NAMESPACE, "a") is None)
            assert it.children() == []

    run(main())


def test_what_a_container_leaves_running_ends_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(pod("a", "/bin/sh", "-c", "sleep 1000 & exit 0", spec={"restartPolicy": "Never"}))
            await eventually(lambda: it.get("Pod", "a")["status"]["phase"] == "Succeeded")
            await eventually(lambda: it.children() == [])

    run(main())


def test_a_pod_waits_for_its_config_map(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            wants: dict[str, Any] = {"envFrom": [{"configMapRef": {"name": "settings"}}]}
            it.objects.create(pod("a", "/bin/sh", "-c", "echo $COLOUR", **wants, spec={"restartPolicy": "Never"}))
            await eventually(
                lambda: (
                    container(it, "a").get("state", {}).get("waiting", {}).get("reason") == "CreateContainerConfigError"
                )
            )
            meta = {"name": "settings", "namespace": NAMESPACE}
            it.objects.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"COLOUR": "red"}})
            await eventually(lambda: it.get("Pod", "a")["status"]["phase"] == "Succeeded")
            assert it.log("a") == "red\n"

    run(main())


def test_a_command_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(pod("a", "no-such-program", spec={"restartPolicy": "Never"}))
            await eventually(lambda: it.get("Pod", "a")["status"]["phase"] == "Failed")
            ended = container(it, "a")["state"]["terminated"]
            assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
            assert "'no-such-program' cannot be started" in ended["message"]

    run(main())


def test_an_image_without_a_command_is_refused_with_the_reason(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(pod("a"))
            waiting = await eventually(
                lambda: (
                    (w := container(it, "a").get("state", {}).get("waiting", {})).get("reason") == "ContainerMissing"
                    and w
                )
            )
            assert "has no command" in waiting["message"]

    run(main())


def test_a_volume_that_no_process_can_see_is_told_as_an_event(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            volumes = [{"name": "models", "emptyDir": {}}]
            mounts = [{"name": "models", "mountPath": "/models"}]
            it.objects.create(pod("a", "sleep", "1000", volumeMounts=mounts, spec={"volumes": volumes}))
            told = await eventually(
                lambda: [e for e in it.objects.list("Event", NAMESPACE) if e["reason"] == "FailedMount"]
            )
            assert told[0]["message"] == "volume models at /models is not supported on the laptop"

    run(main())


def test_a_pod_is_not_ready_while_its_http_probe_fails(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            probe = {"httpGet": {"path": "/health"}, "periodSeconds": 1, "failureThreshold": 1}
            it.objects.create(pod("a", *SERVER, revision="rev", readinessProbe=probe))
            await eventually(lambda: it.processes.endpoints(NAMESPACE, "rev"))
            status = it.home / "pods" / it.get("Pod", "a")["metadata"]["uid"] / "status"
            status.write_text("503")
            await eventually(lambda: not it.processes.endpoints(NAMESPACE, "rev"))
            status.write_text("200")
            await eventually(lambda: it.processes.endpoints(NAMESPACE, "rev"))

    run(main())


def test_a_failed_liveness_probe_starts_the_container_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            probe = {"exec": {"command": ["/bin/sh", "-c", "test ! -e ill"]}, "periodSeconds": 1, "failureThreshold": 1}
            it.objects.create(pod("a", "/bin/sh", "-c", "touch ill; exec sleep 1000", livenessProbe=probe))
            await eventually(lambda: container(it, "a").get("restartCount", 0) >= 1)
            reasons = {e["reason"] for e in it.objects.list("Event", NAMESPACE)}
            assert {"Unhealthy", "Killing", "Started"} <= reasons

    run(main())


def test_after_a_full_disk_a_container_runs_as_before(tmp_path: Path) -> None:
    """Nothing goes on asking after a container that is gone, nor is one left that nobody looks after."""
    liveness = {"httpGet": {"path": "/"}, "initialDelaySeconds": 1, "periodSeconds": 1, "failureThreshold": 3}

    async def main() -> None:
        async with laptop(tmp_path) as it:
            slow = f"import time; time.sleep(0.5)\n{SERVE}"
            it.objects.create(pod("a", "python", "-S", "-c", slow, revision="rev", livenessProbe=liveness))
            (first,) = await eventually(it.children)
            with full_disk(tmp_path):  # so that its being ready cannot be written
                await eventually(lambda: not first.is_running() or first.status() == psutil.STATUS_ZOMBIE)
                await asyncio.sleep(1.5)  # for a few more starts, none of which can be written
                assert len(it.children()) <= 1
            await eventually(lambda: container(it, "a").get("ready"))
            restarts, running = container(it, "a")["restartCount"], it.children()
            await asyncio.sleep(4.5)  # more than the periods after which the probe gives up
            assert container(it, "a")["restartCount"] == restarts
            assert (it.children(), len(running)) == (running, 1)

    run(main())


@contextlib.contextmanager
def full_disk(home: Path) -> Iterator[None]:
    """No file may grow beyond what objects.db-wal has now, which SQLite meets as a disk that takes no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((home / "objects.db-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_stopping_the_platform_leaves_no_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(pod("a", *FAMILY))
            it.objects.create(pod("deaf", "/bin/sh", "-c", "trap '' TERM; while true; do sleep 0.05; done"))
            await eventually(lambda: len(it.children()) >= 4)

    run(main())
    assert marked(tmp_path) == []


FAMILY_POD = f"it.objects.create(pod('a', *{FAMILY!r}))"


def test_a_killed_platform_takes_its_processes_and_theirs_along(tmp_path: Path) -> None:
    killed, watchdog = platform(tmp_path, FAMILY_POD, "len(it.children()) == 3")
    assert len(marked(tmp_path)) == 3
    killed.kill()
    killed.communicate()
    deadline = time.monotonic() + PATIENCE_S
    while (marked(tmp_path) or psutil.pid_exists(watchdog)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert marked(tmp_path) == []
    assert not psutil.pid_exists(watchdog)


def test_the_next_platform_kills_what_even_the_watchdog_could_not(tmp_path: Path) -> None:
    killed, watchdog = platform(tmp_path, FAMILY_POD, "len(it.children()) == 3")
    os.kill(watchdog, signal.SIGKILL)
    killed.kill()
    killed.communicate()
    left = {process.pid for process in marked(tmp_path)}
    assert len(left) == 3

    async def main() -> None:
        async with laptop(tmp_path) as it:
            assert left.isdisjoint(process.pid for process in it.children())

    run(main())
    assert marked(tmp_path) == []
