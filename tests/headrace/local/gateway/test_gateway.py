"""The gateway, through real sockets: a client, the gateway, and pods that are HTTP servers."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import aiohttp
import prometheus_client
import pytest
from aiohttp import web

from headrace.local import http1
from headrace.local.gateway import revision_queue
from headrace.local.pods.process import Endpoint
from tests.headrace.local.gateway.fleet import NAMESPACE, Fleet, place, pod, saying, until


def test_a_service_answers_by_path_by_host_and_by_tag(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at, pod(saying("old")) as old, pod(saying("new"), "pod-2") as new:
            at.revision("flights-1")
            at.revision("flights-2")
            at.service(
                "flights",
                {"revisionName": "flights-1", "percent": 100},
                {"revisionName": "flights-2", "percent": 0, "tag": "canary"},
            )
            at.fleet.set("flights-1", old)
            at.fleet.set("flights-2", new)
            assert await at.get("/svc/headrace/flights/v2") == (200, "old")
            assert await at.get("/svc/headrace/canary-flights/v2") == (200, "new")
            assert await at.get("/", headers={"Host": "flights.headrace.localhost:8080"}) == (200, "old")
            assert await at.get("/", headers={"Host": "canary-flights.headrace.example.com"}) == (200, "new")
            assert await at.get("/svc/headrace/flights/", headers={"Knative-Serving-Tag": "canary"}) == (200, "new")
            assert await at.get(headers={"Knative-Serving-Revision": "flights-2"}) == (200, "new")

    asyncio.run(promise())


def test_a_pod_sees_the_request_as_the_client_wrote_it(tmp_path: Path) -> None:
    async def mirror(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(
            {
                "path": request.raw_path,
                "headers": {k.lower(): v for k, v in request.headers.items()},
                "body": (await request.read()).decode(),
            }
        )

    async def promise() -> None:
        async with place(tmp_path) as at, pod(mirror) as endpoint:
            at.flights()
            at.fleet.set("flights-1", endpoint)
            url = aiohttp.client.URL(f"{at.url}/svc/headrace/flights/a%2Fb?q=%20x", encoded=True)
            headers = {
                "Host": "127.0.0.1:1",
                "Connection": "X-Hop",
                "X-Hop": "1",
                "X-Forwarded-For": "10.0.0.9",
                "ce-id": "7",
            }
            async with at.client.post(url, data=b"rows", headers=headers) as answer:
                seen = await answer.json()
        assert seen["path"] == "/a%2Fb?q=%20x"
        assert seen["body"] == "rows"
        assert seen["headers"]["host"] == "127.0.0.1:1"
        assert seen["headers"]["ce-id"] == "7"
        assert seen["headers"]["x-forwarded-for"] == "10.0.0.9, 127.0.0.1"
        assert seen["headers"]["x-forwarded-proto"] == "http"
        assert seen["headers"]["x-forwarded-prefix"] == "/svc/headrace/flights"
        assert seen["headers"]["x-request-id"]
        assert "x-hop" not in seen["headers"]

    asyncio.run(promise())


def test_of_a_hundred_requests_at_80_to_20_exactly_80_and_20_arrive(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at, pod(saying("old")) as old, pod(saying("new"), "pod-2") as new:
            at.revision("flights-1")
            at.revision("flights-2")
            at.service(
                "flights", {"revisionName": "flights-1", "percent": 80}, {"revisionName": "flights-2", "percent": 20}
            )
            at.fleet.set("flights-1", old)
            at.fleet.set("flights-2", new)
            answers = [(await at.get())[1] for _ in range(100)]
        assert (answers.count("old"), answers.count("new")) == (80, 20)
        assert "new" in answers[:5]

    asyncio.run(promise())


def test_an_unknown_service_names_those_that_are_there(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at:
            at.flights()
            status, text = await at.get("/svc/headrace/fligths/")
            assert status == 404
            assert json.loads(text)["error"] == "no Service 'fligths' in namespace 'headrace'; there are: flights"
            status, text = await at.get("/svc/other/flights/")
            assert (status, json.loads(text)["error"]) == (
                404,
                "no Service 'flights' in namespace 'other'; there is none",
            )

    asyncio.run(promise())


def test_a_request_to_a_revision_at_zero_waits_until_a_pod_is_ready(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at, pod(saying("awake")) as endpoint:
            at.flights()
            called: list[tuple[str, str]] = []
            at.gateway.on_demand(lambda namespace, revision: called.append((namespace, revision)))
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(at.client.get(at.url + "/svc/headrace/flights/"))
                await until(lambda: bool(called))
                assert at.gateway.observe(NAMESPACE, "flights-1").waiting == 1
                at.fleet.set("flights-1", endpoint)
            answer = waiting.result()
            assert (answer.status, await answer.text()) == (200, "awake")
            assert called == [(NAMESPACE, "flights-1")]
            timing = answer.headers["Server-Timing"]
            assert timing.startswith("activation;dur=") and "ready;dur=" in timing and "answer;dur=" in timing

    asyncio.run(promise())


def test_an_answer_streams_chunk_by_chunk(tmp_path: Path) -> None:
    async def promise() -> None:
        go_on = asyncio.Event()

        async def events(request: web.BaseRequest) -> web.StreamResponse:
            out = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await out.prepare(request)
            await out.write(b"data: 1\n\n")
            await go_on.wait()
            await out.write(b"data: 2\n\n")
            return out

        async with place(tmp_path) as at, pod(events) as endpoint:
            at.flights()
            at.fleet.set("flights-1", endpoint)
            async with at.client.get(at.url + "/svc/headrace/flights/") as answer:
                assert await answer.content.readline() == b"data: 1\n"
                go_on.set()
                assert (await answer.content.read()).endswith(b"data: 2\n\n")

    asyncio.run(promise())


def test_a_request_body_streams_to_the_pod(tmp_path: Path) -> None:
    async def promise() -> None:
        first_seen = asyncio.Event()

        async def count(request: web.BaseRequest) -> web.StreamResponse:
            total = 0
            async for chunk in request.content.iter_any():
                total += len(chunk)
                first_seen.set()
            return web.Response(text=str(total))

        async def rows():
            yield b"x" * 1000
            await first_seen.wait()  # the pod has the first part before the last one is written
            for _ in range(64):
                yield b"y" * 65536

        async with place(tmp_path) as at, pod(count) as endpoint:
            at.flights()
            at.fleet.set("flights-1", endpoint)
            async with at.client.post(at.url + "/svc/headrace/flights/", data=rows()) as answer:
                assert await answer.text() == str(1000 + 64 * 65536)

    asyncio.run(promise())


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 3_000_000])
def test_bodies_of_every_size_pass_whole_both_ways(tmp_path: Path, size: int) -> None:
    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        out = web.StreamResponse(headers={"Content-Length": str(request.content_length or 0)})
        await out.prepare(request)
        async for chunk in request.content.iter_any():
            await out.write(chunk)
        return out

    async def promise() -> None:
        async with place(tmp_path) as at, pod(echo) as endpoint:
            at.flights()
            at.fleet.set("flights-1", endpoint)
            body = bytes(range(256)) * (size // 256 + 1)
            async with at.client.post(at.url + "/svc/headrace/flights/", data=body[:size]) as answer:
                assert answer.headers["Content-Length"] == str(size)
                assert await answer.read() == body[:size]

    asyncio.run(promise())


def test_statuses_without_a_body_and_compressed_bodies_pass_untouched(tmp_path: Path) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/none":
            return web.Response(status=204)
        if request.path == "/moved":
            return web.Response(status=302, headers={"Location": "/elsewhere"})
        return web.Response(body=b"not really gzip", headers={"Content-Encoding": "gzip"})

    async def promise() -> None:
        async with place(tmp_path) as at, pod(answer) as endpoint:
            at.flights()
            at.fleet.set("flights-1", endpoint)
            assert (await at.get("/svc/headrace/flights/none"))[0] == 204
            async with at.client.get(at.url + "/svc/headrace/flights/moved", allow_redirects=False) as moved:
                assert (moved.status, moved.headers["Location"]) == (302, "/elsewhere")
            async with at.client.get(at.url + "/svc/headrace/flights/gz") as zipped:
                assert (zipped.headers["Content-Encoding"], await zipped.read()) == ("gzip", b"not really gzip")
            async with at.client.head(at.url + "/svc/headrace/flights/gz") as head:
                assert (head.status, head.headers["Content-Length"], await head.read()) == (200, "15", b"")

    asyncio.run(promise())


def test_a_websocket_passes_both_ways_with_its_protocol_and_close_code(tmp_path: Path) -> None:
    async def speak(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("v2",))
        await socket.prepare(request)
        async for message in socket:
            if message.data == "bye":
                await socket.close(code=4001)
            elif message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data.upper())
            else:
                await socket.send_bytes(message.data[::-1])
        return socket

    async def promise() -> None:
        async with place(tmp_path) as at, pod(speak) as endpoint:
            at.flights()
            at.fleet.set("flights-1", endpoint)
            async with at.client.ws_connect(at.url + "/svc/headrace/flights/ws", protocols=("v1", "v2")) as socket:
                assert socket.protocol == "v2"
                await socket.send_str("hello")
                assert await socket.receive_str() == "HELLO"
                await socket.send_bytes(b"abc")
                assert await socket.receive_bytes() == b"cba"
                assert at.gateway.in_flight(NAMESPACE, "flights-1") == 1
                await socket.send_str("bye")
                assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
                assert socket.close_code == 4001
            await until(lambda: at.gateway.in_flight(NAMESPACE, "flights-1") == 0)

    asyncio.run(promise())


def test_container_concurrency_holds_per_pod_and_the_least_loaded_one_is_next(tmp_path: Path) -> None:
    async def promise() -> None:
        most: dict[str, int] = {"a": 0, "b": 0}
        now = dict(most)

        def slow(name: str):
            async def answer(request: web.BaseRequest) -> web.StreamResponse:
                now[name] += 1
                most[name] = max(most[name], now[name])
                await asyncio.sleep(0.01)
                now[name] -= 1
                return web.Response(text=name)

            return answer

        async with place(tmp_path) as at, pod(slow("a")) as a, pod(slow("b"), "pod-2") as b:
            at.flights(containerConcurrency=2)
            at.fleet.set("flights-1", a, b)
            answers = await asyncio.gather(*(at.get() for _ in range(40)))
        assert most == {"a": 2, "b": 2}
        assert [text for _, text in answers].count("a") == pytest.approx(20, abs=4)

    asyncio.run(promise())


def test_a_full_queue_answers_503_with_the_reason_at_once(tmp_path: Path) -> None:
    async def promise() -> None:
        release = asyncio.Event()

        async def stuck(request: web.BaseRequest) -> web.StreamResponse:
            await release.wait()
            return web.Response()

        async with place(tmp_path) as at, pod(stuck) as endpoint:
            at.flights(containerConcurrency=1)
            at.fleet.set("flights-1", endpoint)
            at.client.connector._limit = 0
            most = 1 + revision_queue.MIN_WAITING
            tasks = [asyncio.create_task(at.get()) for _ in range(most)]
            await until(lambda: at.gateway.in_flight(NAMESPACE, "flights-1") == most)
            async with at.client.get(at.url + "/svc/headrace/flights/") as answer:
                assert answer.status == 503
                assert answer.headers["Retry-After"] == "1"
                assert "100 requests wait already" in (await answer.json())["error"]
            release.set()
            assert {status for status, _ in await asyncio.gather(*tasks)} == {200}

    asyncio.run(promise())


async def _slow(request: web.BaseRequest) -> web.StreamResponse:
    """Never answers, but for /stream?N: that begins at once, and has a part each tenth of a second, N of them."""
    if request.path != "/stream":
        await asyncio.sleep(30)
    out = web.StreamResponse()
    await out.prepare(request)
    for part in range(int(request.query_string or 0)):
        await out.write(f"{part} ".encode())
        await asyncio.sleep(0.1)
    if request.query_string == "1":
        await asyncio.sleep(30)
    return out


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"timeoutSeconds": 1}, "1 s (timeoutSeconds)"),
        ({"timeoutSeconds": 30, "responseStartTimeoutSeconds": 1}, "1 s (responseStartTimeoutSeconds)"),
        ({"timeoutSeconds": 30, "idleTimeoutSeconds": 1}, "1 s (idleTimeoutSeconds)"),
        ({"timeoutSeconds": 1, "responseStartTimeoutSeconds": 2, "idleTimeoutSeconds": 0}, "1 s (timeoutSeconds)"),
    ],
    ids=["whole", "start", "idle", "the shortest"],
)
def test_no_answer_within_the_timeouts_of_the_revision_is_504(tmp_path: Path, spec: dict[str, int], said: str) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at, pod(_slow) as endpoint:
            at.flights(**spec)
            at.fleet.set("flights-1", endpoint)
            (status, text), streamed = await asyncio.gather(at.get(), at.get("/svc/headrace/flights/stream?3"))
            assert status == 504
            assert json.loads(text)["error"] == f"revision 'flights-1': {said} over, without an answer"
            assert streamed == (200, "0 1 2 ")
            at.fleet.set("flights-1")
            assert "waiting for a ready pod" in (await at.get())[1]

    asyncio.run(promise())


@pytest.mark.parametrize(
    ("spec", "parts"),
    [({"timeoutSeconds": 1}, 100), ({"idleTimeoutSeconds": 1}, 1)],
    ids=["longer than timeoutSeconds", "silent for idleTimeoutSeconds"],
)
def test_an_answer_that_has_begun_is_broken_off_by_the_timeouts_too(
    tmp_path: Path, spec: dict[str, int], parts: int
) -> None:
    """As queue-proxy does: who streams for longer meets that on a laptop, not first in a cluster."""

    async def promise() -> None:
        async with place(tmp_path) as at, pod(_slow) as endpoint:
            at.flights(**spec)
            at.fleet.set("flights-1", endpoint)
            with pytest.raises(aiohttp.ClientError):
                await at.get(f"/svc/headrace/flights/stream?{parts}")
            await until(lambda: at.gateway.in_flight(NAMESPACE, "flights-1") == 0)

    asyncio.run(promise())


async def _said(url: str, request: bytes) -> bytes:
    """The first bytes that the front says to these."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(65536), 20)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("version", "expectation", "said"),
    [
        ("1.1", "100-continue", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("1.1", "100-Continue", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("1.1", "a-miracle", b"HTTP/1.1 417 "),
    ],
)
def test_a_client_that_waits_before_its_body_is_told_to_go_on(
    tmp_path: Path, version: str, expectation: str, said: bytes
) -> None:
    head = (
        f"POST /svc/headrace/flights/ HTTP/{version}\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nExpect: {expectation}"
    )

    async def promise() -> None:
        async with place(tmp_path) as at, pod(saying("hello")) as endpoint:
            at.flights()
            at.fleet.set("flights-1", endpoint)
            assert (await _said(at.url, f"{head}\r\n\r\n".encode())).startswith(said)
            whole = await _said(at.url, f"{head}\r\n\r\n".encode() + b"12345")
            assert whole.startswith(said)

    asyncio.run(promise())


def test_a_client_that_leaves_within_its_body_is_no_error_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at, pod(saying("hello")) as endpoint:
            at.flights()
            at.fleet.set("flights-1", endpoint)
            host, _, port = at.url.removeprefix("http://").partition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"POST /svc/headrace/flights/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\n12")
            await until(lambda: at.gateway.in_flight(NAMESPACE, "flights-1") == 1)
            writer.close()
            await until(lambda: at.gateway.in_flight(NAMESPACE, "flights-1") == 0)

    asyncio.run(promise())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_headers_and_queries_of_many_kilobytes_pass_both_ways(tmp_path: Path) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        long = request.headers["Token"] + request.query_string
        return web.Response(text=str(len(long)), headers={"Token": request.headers["Token"]})

    async def promise() -> None:
        pods = web.ServerRunner(http1.server(answer))
        await pods.setup()
        await web.TCPSite(pods, "127.0.0.1", 0).start()
        async with place(tmp_path) as at:
            at.flights()
            at.fleet.set("flights-1", Endpoint("pod-1", pods.addresses[0][1]))
            url = f"{at.url}/svc/headrace/flights/?{'q' * 30_000}"
            async with at.client.get(url, headers={"Token": "t" * 30_000}, max_field_size=2**16) as told:
                assert (told.status, await told.text()) == (200, "60000")
                assert told.headers["Token"] == "t" * 30_000
        await pods.cleanup()

    asyncio.run(promise())


def test_a_revision_that_cannot_become_ready_answers_503_with_its_reason(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at:
            at.flights()
            called: list[str] = []
            at.gateway.on_demand(lambda namespace, revision: called.append(revision))
            waiting = asyncio.create_task(at.get())
            await until(lambda: bool(called))
            failed = {
                "conditions": [{"type": "Ready", "status": "False", "reason": "ExitCode1", "message": "no model"}]
            }
            revision = at.objects.get("Revision", NAMESPACE, "flights-1")
            at.objects.update(revision | {"status": failed}, subresource="status")
            for status, text in (await waiting, await at.get()):
                assert status == 503
                assert json.loads(text)["error"] == ("revision 'flights-1': it is not ready: ExitCode1 - no model")
            assert len(called) == 2  # the second one asks for another try all the same

    asyncio.run(promise())


def test_a_service_without_a_ready_revision_says_why(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at:
            at.service("flights")
            service = at.objects.get("Service", NAMESPACE, "flights")
            status = {
                "conditions": [{"type": "Ready", "status": "Unknown", "reason": "Deploying", "message": "starts"}]
            }
            at.objects.update(service | {"status": status}, subresource="status")
            status_code, text = await at.get()
            assert status_code == 503
            assert "Deploying - starts" in text

    asyncio.run(promise())


def test_a_pod_that_takes_no_connection_is_passed_over_even_for_a_post(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at, pod(saying("alive")) as alive:
            at.flights()
            at.fleet.set("flights-1", at.dead, alive)
            for _ in range(4):
                async with at.client.post(at.url + "/svc/headrace/flights/", data=b"x") as answer:
                    assert (answer.status, await answer.text()) == (200, "alive")

    asyncio.run(promise())


def test_a_request_whose_only_pod_died_goes_to_its_successor(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at, pod(saying("successor")) as alive:
            at.flights()
            at.fleet.set("flights-1", at.dead)
            called: list[str] = []
            at.gateway.on_demand(lambda namespace, revision: called.append(revision))
            waiting = asyncio.create_task(at.get())
            await asyncio.sleep(0.05)
            at.fleet.set("flights-1")
            await until(lambda: bool(called) or waiting.done())
            at.fleet.set("flights-1", alive)
            assert await waiting == (200, "successor")
            assert called == ["flights-1"]

    asyncio.run(promise())


def test_a_post_that_a_pod_may_have_acted_on_is_not_sent_again(tmp_path: Path) -> None:
    async def promise() -> None:
        seen: list[str] = []

        async def die(request: web.BaseRequest) -> web.StreamResponse:
            seen.append(request.method)
            await request.read()
            request.transport.abort()
            return web.Response()

        async with place(tmp_path) as at, pod(die) as endpoint:
            at.flights()
            at.fleet.set("flights-1", endpoint)
            async with at.client.post(at.url + "/svc/headrace/flights/", data=b"x") as answer:
                assert answer.status == 502
                assert "broke off before it answered" in (await answer.json())["error"]
            assert seen == ["POST"]
            assert (await at.get())[0] == 502
            assert seen.count("GET") > 1

    asyncio.run(promise())


def test_a_client_that_leaves_ends_the_work_of_its_pod(tmp_path: Path) -> None:
    async def promise() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def work(request: web.BaseRequest) -> web.StreamResponse:
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.set()
                raise
            return web.Response()

        async with place(tmp_path) as at, pod(work) as endpoint:
            at.flights(containerConcurrency=1)
            at.fleet.set("flights-1", endpoint)
            asking = asyncio.create_task(at.get())
            await begun.wait()
            asking.cancel()
            async with asyncio.timeout(20):
                await ended.wait()
            await until(lambda: at.gateway.in_flight(NAMESPACE, "flights-1") == 0)

    asyncio.run(promise())


def test_the_autoscaler_is_called_for_the_first_request_after_silence_and_not_for_each(tmp_path: Path) -> None:
    async def promise() -> None:
        called: list[str] = []
        free = asyncio.Event()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            await free.wait()
            return web.Response()

        async with place(tmp_path) as at, pod(answer) as endpoint:
            at.gateway.on_demand(lambda namespace, revision: called.append(revision))
            at.flights()
            at.fleet.set("flights-1", endpoint)
            asking = [asyncio.create_task(at.get()) for _ in range(5)]
            await until(lambda: at.gateway.in_flight(NAMESPACE, "flights-1") == 5)
            assert called == ["flights-1"]
            free.set()
            await asyncio.gather(*asking)
            await at.get()
            assert called == ["flights-1"] * 2

    asyncio.run(promise())


def test_what_was_deleted_has_no_traffic_and_does_not_come_back_by_being_asked_for(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at:
            assert at.gateway.observe(NAMESPACE, "gone").in_flight == 0
            assert at.gateway._revisions._queues == {}

    asyncio.run(promise())


def test_concurrency_is_weighed_by_time(tmp_path: Path) -> None:
    async def promise() -> None:
        time = 100.0

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            nonlocal time
            time += 3.0  # in flight for three seconds of the gateway's clock
            return web.Response()

        async with place(tmp_path, clock=lambda: time) as at, pod(answer) as endpoint:
            at.flights()
            at.fleet.set("flights-1", endpoint)
            at.gateway.observe(NAMESPACE, "flights-1")
            await at.get()
            time += 1.0
            traffic = at.gateway.observe(NAMESPACE, "flights-1")
        assert traffic.concurrency == pytest.approx(0.75)
        assert traffic.requests_per_s == pytest.approx(0.25)
        assert (traffic.in_flight, traffic.waiting) == (0, 0)

    asyncio.run(promise())


def test_requests_are_counted_under_knatives_names(tmp_path: Path) -> None:
    async def promise() -> str:
        registry = prometheus_client.CollectorRegistry()
        async with place(tmp_path, registry=registry) as at, pod(saying("ok")) as endpoint:
            at.flights()
            at.fleet.set("flights-1", endpoint)
            for _ in range(3):
                await at.get()
            return prometheus_client.generate_latest(registry).decode()

    text = asyncio.run(promise())
    old = (
        'configuration_name="flights",namespace_name="headrace",response_code="200",response_code_class="2xx",'
        'revision_name="flights-1",service_name="flights"'
    )
    lines = {
        line.split("{")[0] + "{" + ",".join(sorted(line.split("{")[1].split("}")[0].split(","))) + "}": line
        for line in text.splitlines()
        if "{" in line
    }
    assert lines[f"revision_request_count{{{old}}}"].endswith(" 3.0")
    assert any(line.startswith("revision_request_latencies_bucket") for line in lines)
    assert any(line.startswith("kn_serving_invocation_duration_seconds_count") for line in lines)
    assert any(line.startswith("kn_serving_queue_depth") for line in lines)


def test_stopping_lets_what_is_in_flight_end_and_takes_nothing_more(tmp_path: Path) -> None:
    async def promise() -> None:
        begun, release = asyncio.Event(), asyncio.Event()

        async def work(request: web.BaseRequest) -> web.StreamResponse:
            begun.set()
            await release.wait()
            return web.Response(text="done")

        async with place(tmp_path) as at, pod(work) as endpoint:
            at.flights()
            at.fleet.set("flights-1", endpoint)
            asking = asyncio.create_task(at.get())
            await begun.wait()
            stopping = asyncio.create_task(at.gateway.stop())
            await asyncio.sleep(0)
            assert (await at.get())[0] == 503
            release.set()
            assert await asking == (200, "done")
            await stopping

    asyncio.run(promise())


def test_a_deleted_service_is_unknown_at_once(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at, pod(saying("ok")) as endpoint:
            at.flights()
            at.fleet.set("flights-1", endpoint)
            assert (await at.get())[0] == 200
            at.objects.delete("Service", NAMESPACE, "flights")
            assert (await at.get())[0] == 404

    asyncio.run(promise())


def test_the_fleet_stands_for_processes() -> None:
    assert Fleet({"r": (Endpoint("p", 1),)}).endpoints(NAMESPACE, "r") == (Endpoint("p", 1),)
