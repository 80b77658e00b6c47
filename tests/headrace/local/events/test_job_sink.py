"""What the laptop's JobSink promises: one Job for one event, with the event whole beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from headrace.local.events import job_sink
from tests.headrace.local.events import eventing_bench
from tests.headrace.local.events.eventing_bench import Bench, bench, binary_headers, manifest, send

Work = Callable[[Bench], Awaitable[None]]
TRAIN = "/jobsink/headrace/train"


def on_bench(home: Path, work: Work) -> None:
    """Run `work` on a platform with one JobSink, `train`."""

    async def go() -> None:
        async with bench(home) as made:
            if made.objects.get("JobSink", "headrace", "train") is None:
                made.objects.create(a_job_sink())
            await made.settled()
            await work(made)

    asyncio.run(go())


def a_job_sink(name: str = "train") -> dict[str, Any]:
    pod = {
        "initContainers": [{"name": "fetch", "image": "i"}],
        "containers": [
            {"name": "one", "image": "i", "env": [{"name": "A", "value": "b"}]},
            {"name": "two", "image": "i", "env": [{"name": "K_EXECUTION_MODE", "value": "mine"}]},
        ],
        "restartPolicy": "Never",
    }
    job = {"metadata": {"labels": {"app": "x"}}, "spec": {"backoffLimit": 2, "template": {"spec": pod}}}
    return manifest("sinks.knative.dev/v1alpha1", "JobSink", name, {"job": job})


def only_job(made: Bench) -> dict[str, Any]:
    (found,) = made.objects.list("Job")
    return found


def finish(made: Bench, condition: str) -> None:
    status = {"conditions": [{"type": condition, "status": "True"}]}
    made.objects.update({**only_job(made), "status": status}, subresource="status")


def test_an_event_becomes_a_job_with_the_event_in_its_file(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        headers = binary_headers("7", source="/s", subject="flights")
        status, answered, _ = await send(made.url + TRAIN, headers, b'{"a": 1}')
        assert (status, answered["Location"]) == (202, "/namespaces/headrace/name/train/sources/%2Fs/ids/7")
        found = only_job(made)
        assert found["metadata"]["name"] == "train-8d51e11a912262b293f4b2db72956ae8"  # md5 of "/s7"
        folder = tmp_path / "events" / "headrace" / found["metadata"]["name"]
        assert [p.name for p in folder.iterdir()] == ["event"]
        event = json.loads((folder / "event").read_bytes())
        assert (event["id"], event["subject"], event["data"]) == ("7", "flights", {"a": 1})

    on_bench(tmp_path, work)


def test_the_job_is_the_templates_with_what_knative_adds(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        await made.post("7", TRAIN)
        found, sink = only_job(made), made.objects.get("JobSink", "headrace", "train")
        assert sink is not None
        meta = found["metadata"]
        assert meta["labels"] == {
            "app": "x",
            "sinks.knative.dev/job-sink-id": meta["name"],
            "sinks.knative.dev/job-sink-name": "train",
        }
        (owner,) = meta["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("JobSink", sink["metadata"]["uid"], True)
        assert found["spec"]["backoffLimit"] == 2
        pod = found["spec"]["template"]["spec"]
        path = str(tmp_path / "events" / "headrace" / meta["name"])
        assert [{v["name"]: v["value"] for v in c["env"]} for c in pod["containers"]] == [
            {"A": "b", "K_EXECUTION_MODE": "batch", "K_EVENT_PATH": path},
            {"K_EXECUTION_MODE": "mine", "K_EVENT_PATH": path},
        ]
        assert pod["initContainers"][0]["env"] == [{"name": "K_EXECUTION_MODE", "value": "batch"}]

    on_bench(tmp_path, work)


def test_the_same_event_again_makes_no_second_job_while_the_first_lives(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        answers = await asyncio.gather(*(made.post("7", TRAIN) for _ in range(5)))
        assert [status for status, _ in answers] == [202] * 5
        first = only_job(made)
        finish(made, "Complete")
        assert (await made.post("7", TRAIN))[0] == 202
        assert only_job(made)["metadata"]["uid"] == first["metadata"]["uid"]
        made.objects.delete("Job", "headrace", first["metadata"]["name"])
        await made.post("7", TRAIN)
        assert only_job(made)["metadata"]["uid"] != first["metadata"]["uid"]

    on_bench(tmp_path, work)


def test_the_location_tells_what_became_of_the_job(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        headers = binary_headers("a/b c", source="https://x/y?z")
        _, answered, _ = await send(made.url + TRAIN, headers, b"")
        url = made.url + answered["Location"]

        async def ask() -> tuple[int, str | None]:
            status, told, _ = await send_raw(made, url)
            return status, told.get("Reason")

        assert await ask() == (202, None)
        finish(made, "Complete")
        assert await ask() == (200, "Complete")
        finish(made, "Failed")
        assert await ask() == (400, "Failed")
        made.objects.delete("Job", "headrace", only_job(made)["metadata"]["name"])
        assert await ask() == (500, None)

    on_bench(tmp_path, work)


async def send_raw(made: Bench, url: str) -> tuple[int, Any, str]:
    """GET with the path exactly as escaped."""
    async with aiohttp.ClientSession() as session, session.get(URL(url, encoded=True)) as answer:
        return answer.status, answer.headers, await answer.text()


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "says"),
    [
        ("POST", TRAIN, {"content-type": "application/json"}, b"{}", 400, "no CloudEvent"),
        ("POST", TRAIN, {"ce-id": "1", "ce-specversion": "1.0"}, b"{}", 400, "source is missing"),
        ("POST", TRAIN, binary_headers("1"), b"x" * 1_048_577, 413, "send a reference"),
        ("POST", "/jobsink/headrace/absent", binary_headers("1"), b"", 400, 'no JobSink "absent"'),
        ("POST", "/jobsink/headrace", binary_headers("1"), b"", 400, "expected /jobsink/NAMESPACE/NAME"),
        ("PUT", TRAIN, binary_headers("1"), b"", 400, "post an event"),
        ("GET", "/namespaces/headrace/name/train", {}, b"", 400, "expected /namespaces/"),
        ("GET", "/namespaces/headrace/name/train/sources/x/ids/y", {}, b"", 500, "no Job"),
        ("GET", "/namespaces/headrace/name/absent/sources/x/ids/y", {}, b"", 400, 'no JobSink "absent"'),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_reason(
    tmp_path: Path, method: str, path: str, headers: dict[str, str], body: bytes, status: int, says: str
) -> None:
    async def work(made: Bench) -> None:
        seen, _, text = await send(made.url + path, headers, body, method)
        assert (seen, says in json.loads(text)["error"]) == (status, True), text
        assert made.objects.list("Job") == []

    on_bench(tmp_path, work)


def test_the_event_goes_with_its_job(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        await made.post("7", TRAIN)
        assert list(tmp_path.glob("events/headrace/*/event"))
        made.objects.delete("JobSink", "headrace", "train")
        assert made.objects.list("Job") == []
        assert not list(tmp_path.glob("events/headrace/*"))

    on_bench(tmp_path, work)


def test_a_start_removes_events_without_a_job_and_keeps_the_others(tmp_path: Path) -> None:
    async def first(made: Bench) -> None:
        await made.post("7", TRAIN)

    async def second(made: Bench) -> None:
        (kept,) = tmp_path.glob("events/headrace/*")
        assert kept.name == only_job(made)["metadata"]["name"]

    on_bench(tmp_path, first)
    leftover = tmp_path / "events" / "headrace" / "train-0"
    leftover.mkdir()
    (leftover / ".event-half").write_bytes(b"{")
    on_bench(tmp_path, second)


def test_the_path_of_a_clusters_job_sink_is_known_by_its_host(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        headers = {**binary_headers("1"), "Host": "job-sink.knative-eventing.svc.cluster.local"}
        assert (await send(made.url + "/headrace/train", headers))[0] == 202

    on_bench(tmp_path, work)


def test_every_acknowledged_event_has_its_job_and_its_file_after_kill_9(tmp_path: Path) -> None:
    async def create(made: Bench) -> None:
        assert made.objects.list("JobSink")

    on_bench(tmp_path, create)
    acknowledged: set[str] = set()

    async def go() -> None:
        for round in range(2):
            process, url = await eventing_bench.start_process(tmp_path)
            burst = asyncio.create_task(eventing_bench.burst(url + TRAIN, f"{round}-", acknowledged))
            await asyncio.sleep(0.3)
            process.kill()
            await process.wait()
            await burst

    async def check(made: Bench) -> None:
        assert acknowledged
        jobs = {found["metadata"]["name"] for found in made.objects.list("Job")}
        assert {job_sink.job_name("train", "/test", id) for id in acknowledged} <= jobs
        for name in jobs:
            event = json.loads((tmp_path / "events" / "headrace" / name / "event").read_bytes())
            assert job_sink.job_name("train", event["source"], event["id"]) == name
        assert {folder.name for folder in (tmp_path / "events" / "headrace").iterdir()} == jobs

    asyncio.run(go())
    on_bench(tmp_path, check)


def test_an_event_that_the_disk_does_not_take_leaves_no_job(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        (tmp_path / "events").write_text("a file where the folder should be")
        assert (await made.post("7", TRAIN))[0] == 503
        assert made.objects.list("Job") == []

    on_bench(tmp_path, work)


def test_the_status_tells_the_address_and_the_selector(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        sink = made.objects.get("JobSink", "headrace", "train")
        assert sink is not None
        assert sink["status"]["address"] == {"name": "http", "url": made.url + TRAIN}
        assert sink["status"]["job"] == {"selector": "sinks.knative.dev/job-sink-name=train"}
        assert made.condition("JobSink", "train", "Ready")["status"] == "True"
        assert made.condition("JobSink", "train", "Addressable")["status"] == "True"

    on_bench(tmp_path, work)


def test_a_sink_without_a_job_to_run_is_not_ready_and_takes_nothing(tmp_path: Path) -> None:
    async def work(made: Bench) -> None:
        made.objects.create(manifest("sinks.knative.dev/v1alpha1", "JobSink", "empty", {}))
        await made.settled()
        assert made.condition("JobSink", "empty", "Ready")["reason"] == "InvalidJob"
        assert (await made.post("7", "/jobsink/headrace/empty"))[0] == 503

    on_bench(tmp_path, work)


@pytest.mark.parametrize(
    ("sink", "name"),
    [
        ("train", "train-8d51e11a912262b293f4b2db72956ae8"),
        ("a" * 30, "a" * 30 + "-" + "8d51e11a912262b293f4b2db72956ae8"),
        ("a" * 40, "a" * 31 + "6f8ae51bfeb6eb1804b994e36a31c174"),
    ],
)
def test_a_job_is_named_as_in_a_cluster(sink: str, name: str) -> None:
    assert job_sink.job_name(sink, "/s", "7") == name


@settings(deadline=None)  # a busy machine is no fault
@given(st.from_regex(r"[a-z]([a-z0-9-]{0,60}[a-z0-9])?", fullmatch=True), st.text(), st.text())
def test_every_name_fits_a_label_and_belongs_to_one_event(sink: str, source: str, id: str) -> None:
    name = job_sink.job_name(sink, source, id)
    assert len(name) <= 63
    assert name == job_sink.job_name(sink, source, id) != job_sink.job_name(sink, source, id + "x")


@settings(deadline=None)  # a busy machine is no fault
@given(st.text(min_size=1), st.text(min_size=1))
def test_every_source_and_id_is_one_segment_of_the_location(source: str, id: str) -> None:
    parts = job_sink.location("ns", "sink", source, id).split("/")
    assert len(parts) == 9
    assert parts[6] == quote(source, safe=job_sink.PATH_SAFE)
