"""The gateway's journal of requests, and the files it is kept in."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from headrace.local.gateway import request_files, rotating_lines
from headrace.local.gateway.request_journal import RequestJournal
from headrace.local.gateway.rotating_lines import FILES, RotatingLines
from headrace.local.objects.objects import Objects
from headrace.local.pods.process import Endpoint
from tests.headrace.local.gateway.fleet import NAMESPACE, place, pod, saying, until

MIB = 2**20
REVISION = "flights-1"


def lines(files: tuple[Path, ...]) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_each_request_is_noted_with_what_it_took_and_what_it_waited_for(tmp_path: Path) -> None:
    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        return web.Response(status=201)

    async def promise() -> None:
        home = tmp_path / "home"
        async with place(tmp_path) as at, pod(slow) as endpoint:
            journal = RequestJournal(at.objects, home, MIB)
            at.gateway._revisions.journal = journal
            await journal.start()
            at.flights(containerConcurrency=1)
            first = asyncio.create_task(at.get())
            await until(lambda: at.gateway.in_flight(NAMESPACE, REVISION) == 1)
            await asyncio.sleep(0.3)
            at.fleet.set(REVISION, endpoint)
            second = asyncio.create_task(at.get())  # behind the first one's place
            await asyncio.gather(first, second)
            await journal.stop()
        cold, warm = sorted(lines(request_files.requests(home)), key=lambda line: line["at_s"])
        assert list(cold) == ["at_s", "namespace", "revision", "duration_s", "queued_s", "cold", "status"]
        assert (cold["namespace"], cold["revision"], cold["status"]) == (NAMESPACE, REVISION, 201)
        assert cold["cold"] is True and warm["cold"] is False
        assert 0.3 <= cold["queued_s"] <= cold["duration_s"] - 0.2
        assert 0.1 <= warm["queued_s"] <= warm["duration_s"] - 0.2
        assert 0.2 < warm["at_s"] - cold["at_s"] < 5
        assert cold["at_s"] > 1_700_000_000

    asyncio.run(promise())


def test_a_request_that_no_pod_came_for_is_noted_with_its_status(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at:
            journal = RequestJournal(at.objects, tmp_path, MIB)
            at.gateway._revisions.journal = journal
            await journal.start()
            at.flights(timeoutSeconds=1)
            assert (await at.get())[0] == 504
            await journal.stop()
        (line,) = lines(request_files.requests(tmp_path))
        assert (line["status"], line["cold"]) == (504, True)
        assert line["queued_s"] == pytest.approx(line["duration_s"], abs=0.2)

    asyncio.run(promise())


def test_a_fault_of_the_gateway_itself_is_noted_as_such_and_not_as_a_client_that_left(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at:
            journal = RequestJournal(at.objects, tmp_path, MIB)
            at.gateway._revisions.journal = journal
            await journal.start()
            at.flights()
            at.fleet.set(REVISION, Endpoint("pod-1", 70_000))  # no port that there can be
            assert (await at.get())[0] == 500
            await journal.stop()
        (line,) = lines(request_files.requests(tmp_path))
        assert line["status"] == 500

    asyncio.run(promise())


def test_a_platform_without_a_journal_answers_and_keeps_nothing(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at, pod(saying("ok")) as endpoint:
            at.flights()
            at.fleet.set(REVISION, endpoint)
            assert await at.get() == (200, "ok")
        assert request_files.requests(tmp_path) == request_files.pods(tmp_path) == ()

    asyncio.run(promise())


def test_a_pod_is_noted_when_it_is_ready_and_when_it_is_gone(tmp_path: Path) -> None:
    async def promise() -> None:
        now = 1000.0
        objects = Objects(tmp_path / "objects.db")
        journal = RequestJournal(objects, tmp_path, MIB, clock=lambda: now)
        await journal.start()

        def made(name: str, labels: dict[str, str]) -> dict[str, Any]:
            meta = {"name": name, "namespace": NAMESPACE, "labels": labels}
            containers = [{"name": "c", "image": "i"}]
            return objects.create(
                {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": containers}}
            )

        of_revision = {"serving.knative.dev/revision": REVISION}
        served, never = made("served", of_revision), made("never", of_revision)
        made("of-a-job", {"batch.kubernetes.io/job-name": "j"})
        now = 1001.5
        objects.update(served | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, subresource="status")
        now = 1060.0
        objects.delete("Pod", NAMESPACE, "served")
        now = 1070.0
        await journal.stop()  # `never` ends with the platform
        objects.close()
        found = lines(request_files.pods(tmp_path))
        assert [(line["pod"], line["cold_start_s"], line["pod_s"]) for line in found] == [
            ("served", 1.5, None),
            ("served", 1.5, 60.0),
            (never["metadata"]["name"], None, 70.0),
        ]
        assert {line["at_s"] for line in found} == {1000.0}

    asyncio.run(promise())


def test_a_full_disk_costs_the_note_and_not_the_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at, pod(saying("ok")) as endpoint:
            journal = RequestJournal(at.objects, tmp_path, MIB)
            at.gateway._revisions.journal = journal
            await journal.start()
            for file in journal._files.values():  # every write fails, as where no space is left
                file.close()
                file._out = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
            at.flights()
            at.fleet.set(REVISION, endpoint)
            assert await at.get() == (200, "ok")
            await journal.stop()

    asyncio.run(promise())
    assert "the journal of requests left out up to 1" in caplog.text


def test_the_files_stay_within_their_bound_and_the_oldest_lines_go(tmp_path: Path) -> None:
    writer = RotatingLines(tmp_path, "requests", limit_bytes=8000)
    writer.open()
    for batch in range(100):
        writer.append([b"%08d\n" % (batch * 50 + n) for n in range(50)])
    writer.close()
    files = rotating_lines.files(tmp_path, "requests")
    kept = [int(line) for file in files for line in file.read_bytes().splitlines()]
    assert sum(file.stat().st_size for file in files) <= 8000
    assert len(files) <= FILES
    assert kept == list(range(5000 - len(kept), 5000))
    assert len(kept) > 700


def test_the_files_are_told_in_the_order_of_time_though_the_number_grows_longer(tmp_path: Path) -> None:
    for number in ("99999999", "100000000", "00000007"):
        (tmp_path / f"requests-{number}.jsonl").touch()
    (tmp_path / "requests-other.jsonl").touch()
    names = [file.name for file in rotating_lines.files(tmp_path, "requests")]
    assert names == ["requests-00000007.jsonl", "requests-99999999.jsonl", "requests-100000000.jsonl"]


@pytest.mark.parametrize("torn", [b'{"at_s": 12', b"x" * 200_000, b""])
def test_a_line_torn_by_a_crash_is_cut_off_before_the_next_is_written(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "requests-00000001.jsonl").write_bytes(b"1\n2\n" + torn)
    writer = RotatingLines(tmp_path, "requests", limit_bytes=8 * MIB)
    writer.open()
    writer.append([b"3\n"])
    writer.close()
    assert (tmp_path / "requests-00000001.jsonl").read_bytes() == b"1\n2\n3\n"
