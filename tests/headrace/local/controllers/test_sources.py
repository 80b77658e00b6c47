"""ContainerSource: one process with its sink's address, started again whenever it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.local.objects.objects import Object
from tests.headrace.local.pods.laptop import NAMESPACE, eventually, laptop, run

BROKER = {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}}


def source(script: str, sink: dict[str, Any]) -> Object:
    container = {"name": "c", "image": "example/image:1", "command": ["/bin/sh", "-c", script]}
    return {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "ContainerSource",
        "metadata": {"name": "folder", "namespace": NAMESPACE},
        "spec": {"sink": sink, "template": {"spec": {"containers": [container]}}},
    }


def test_a_source_runs_with_the_address_of_its_sink(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(source('echo "$K_SINK"; exec sleep 1000', BROKER))
            await eventually(lambda: it.condition("ContainerSource", "folder", "Ready")[0] == "True")
            url = "http://127.0.0.1:8080/broker/test/default"
            assert it.get("ContainerSource", "folder")["status"]["sinkUri"] == url
            await eventually(lambda: it.log(it.pods()[0]["metadata"]["name"]) == url + "\n")

    run(main())


def test_a_source_that_ends_is_started_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(source("true", BROKER))
            await eventually(
                lambda: (
                    it.pods() and it.pods()[0]["status"].get("containerStatuses", [{}])[0].get("restartCount", 0) >= 2
                )
            )

    run(main())


def test_a_changed_source_replaces_its_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(source("exec sleep 1000", BROKER))
            await eventually(lambda: it.children())
            (old,) = it.children()
            it.patch("ContainerSource", "folder", **source("exec sleep 2000", BROKER)["spec"])
            await eventually(lambda: (c := it.children()) and old.pid not in {p.pid for p in c} and len(c) == 1)

    run(main())


def test_a_sink_that_cannot_be_addressed_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with laptop(tmp_path) as it:
            it.objects.create(source("true", {"ref": {"kind": "Deployment", "name": "x"}}))
            await eventually(lambda: it.condition("ContainerSource", "folder", "Ready") == ("False", "SinkNotFound"))
            assert it.pods() == []

    run(main())
