"""The gateway's HTTP/2 side, through real sockets: gRPC's own client, the gateway, and pods that are gRPC servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from headrace.local.gateway import request_files
from headrace.local.gateway.request_journal import RequestJournal
from headrace.local.http2.connection import PREFACE
from headrace.local.pods.process import Endpoint
from tests.headrace.local.gateway.fleet import NAMESPACE, Place, place, pod, saying, until

PORTS = [{"ports": [{"name": "h2c", "containerPort": 8080}]}]
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
Handle = Callable[[Any, grpc.ServicerContext], Any]


class Methods(grpc.GenericRpcHandler):
    """What a pod answers: `Echo` and `Stream` what they are sent, `Name` the pod's, `Fail` a status, `Wait` at `go`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.go = threading.Event()
        self.waiting = threading.Event()
        self.gone = threading.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = handler_call_details.method.rpartition("/")[2]
        if method == "Stream":
            return grpc.stream_stream_rpc_method_handler(lambda parts, context: iter(parts))
        calls = {"Echo": lambda body, _: body, "Name": lambda *_: self.name.encode(), "Fail": _fail, "Wait": self._wait}
        return grpc.unary_unary_rpc_method_handler(calls[method]) if method in calls else None

    def _wait(self, body: bytes, context: grpc.ServicerContext) -> bytes:
        context.add_callback(lambda: None if self.go.is_set() else self.gone.set())
        self.waiting.set()
        self.go.wait(60)
        return body


def _fail(body: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("why", "because"),))
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "100 % of it is wrong: ä")


@contextlib.contextmanager
def grpc_pod(name: str = "pod-1") -> Iterator[tuple[Endpoint, Methods, grpc.Server]]:
    methods = Methods(name)
    server = grpc.server(ThreadPoolExecutor(8), handlers=(methods,), options=UNLIMITED)
    endpoint = Endpoint(name, server.add_insecure_port("127.0.0.1:0"))
    server.start()
    try:
        yield endpoint, methods, server
    finally:
        methods.go.set()
        server.stop(None).wait()


def flights(at: Place, *pods: Endpoint, **spec: Any) -> None:
    at.revision("flights-1", containers=PORTS, **spec)
    at.service("flights", {"revisionName": "flights-1", "percent": 100})
    at.fleet.set("flights-1", *pods)


def channel(at: Place, authority: str = "flights.headrace.localhost") -> grpc.Channel:
    named = ("grpc.default_authority", authority)
    return grpc.insecure_channel(at.url.removeprefix("http://"), options=(named, *UNLIMITED))


async def call(open_channel: grpc.Channel, method: str, body: bytes = b"") -> bytes:
    ask = open_channel.unary_unary(f"/test.Test/{method}")
    return bytes(await asyncio.to_thread(ask, body, timeout=60))


def test_grpc_and_http_share_the_port_and_each_call_its_revision(tmp_path: Path) -> None:
    async def promise() -> None:
        with grpc_pod() as (old, *_), grpc_pod("pod-2") as (new, *_):
            async with place(tmp_path) as at, pod(saying("by HTTP")) as page:
                at.revision("flights-1", containers=PORTS)
                at.revision("flights-2", containers=PORTS)
                at.service(
                    "flights",
                    {"revisionName": "flights-1", "percent": 80},
                    {"revisionName": "flights-2", "percent": 20, "tag": "canary"},
                )
                at.revision("page-1", "page")
                at.service("page", {"revisionName": "page-1", "percent": 100})
                for revision, endpoint in (("flights-1", old), ("flights-2", new), ("page-1", page)):
                    at.fleet.set(revision, endpoint)
                with channel(at) as all, channel(at, "canary-flights.headrace.localhost:1234") as canary:
                    answers = Counter([await call(all, "Name") for _ in range(50)])
                    assert answers == {b"pod-1": 40, b"pod-2": 10}
                    assert await call(canary, "Name") == b"pod-2"
                assert await at.get("/svc/headrace/page/") == (200, "by HTTP")
                traffic = at.gateway.observe(NAMESPACE, "flights-2")
                assert traffic.requests_per_s > 0
                assert traffic.in_flight == 0

    asyncio.run(promise())


def test_each_call_is_noted_in_the_journal_of_requests(tmp_path: Path) -> None:
    async def promise() -> None:
        with grpc_pod() as (endpoint, *_):
            async with place(tmp_path) as at:
                journal = RequestJournal(at.objects, tmp_path, 2**20)
                at.gateway._revisions.journal = journal
                await journal.start()
                flights(at, endpoint)
                with channel(at) as opened:
                    await call(opened, "Name")
                await until(lambda: at.gateway.in_flight(NAMESPACE, "flights-1") == 0)
                await journal.stop()
        (line,) = [json.loads(text) for file in request_files.requests(tmp_path) for text in file.open()]
        assert (line["revision"], line["status"], line["cold"]) == ("flights-1", 200, False)
        assert 0 <= line["queued_s"] < line["duration_s"]

    asyncio.run(promise())


def test_large_messages_and_streams_come_back_as_they_were_sent(tmp_path: Path) -> None:
    async def promise() -> None:
        with grpc_pod() as (endpoint, *_):
            async with place(tmp_path) as at:
                flights(at, endpoint)
                with channel(at) as opened:
                    sent = bytes(range(256)) * 40_000  # ten windows
                    answers = await asyncio.gather(*(call(opened, "Echo", sent) for _ in range(4)))
                    assert all(answer == sent for answer in answers)
                    stream = opened.stream_stream("/test.Test/Stream")
                    parts = [b"one", b"", b"three" * 50_000]
                    assert await asyncio.to_thread(lambda: list(stream(iter(parts), timeout=60))) == parts

    asyncio.run(promise())


def test_calls_at_the_same_moment_get_each_its_own_answer(tmp_path: Path) -> None:
    async def promise() -> None:
        with grpc_pod() as (endpoint, *_):
            async with place(tmp_path) as at:
                flights(at, endpoint)
                with channel(at) as opened:
                    ask = opened.unary_unary("/test.Test/Echo")
                    sent = [b"%d" % number * (1 + 300 * number) for number in range(200)]
                    waiting = [ask.future(body, timeout=60) for body in sent]
                    assert await asyncio.to_thread(lambda: [call.result() for call in waiting]) == sent

    asyncio.run(promise())


def test_a_status_reaches_the_client_with_its_message_and_its_trailers(tmp_path: Path) -> None:
    async def promise() -> None:
        with grpc_pod() as (endpoint, *_):
            async with place(tmp_path) as at:
                flights(at, endpoint)
                with channel(at) as opened, pytest.raises(grpc.RpcError) as caught:
                    await call(opened, "Fail")
                error: Any = caught.value
                assert (error.code(), error.details()) == (
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "100 % of it is wrong: ä",
                )
                assert ("why", "because") in [tuple(item) for item in error.trailing_metadata()]

    asyncio.run(promise())


def test_a_call_to_a_revision_at_zero_waits_for_its_pod_and_hears_where_the_time_went(tmp_path: Path) -> None:
    async def promise() -> None:
        with grpc_pod() as (endpoint, *_):
            async with place(tmp_path) as at:
                flights(at)
                asked: list[str] = []
                at.gateway.on_demand(lambda namespace, name: asked.append(name))
                with channel(at) as opened:
                    ask = opened.unary_unary("/test.Test/Name")
                    waiting = ask.future(b"", timeout=60)
                    await until(lambda: asked == ["flights-1"])
                    at.fleet.set("flights-1", endpoint)
                    assert await asyncio.to_thread(waiting.result) == b"pod-1"
                    told = dict(tuple(item) for item in waiting.initial_metadata())
                    assert "activation;dur=" in str(told["server-timing"])

    asyncio.run(promise())


@pytest.mark.parametrize(
    ("authority", "code", "said"),
    [
        ("nobody.headrace.localhost", grpc.StatusCode.UNIMPLEMENTED, "no Service 'nobody' in namespace 'headrace'"),
        ("127.0.0.1:8080", grpc.StatusCode.UNIMPLEMENTED, "expected NAME.NAMESPACE.localhost"),
        ("page.headrace.localhost", grpc.StatusCode.UNAVAILABLE, "takes HTTP/1.1"),
        ("slow.headrace.localhost", grpc.StatusCode.UNAVAILABLE, "0.2 s (timeoutSeconds) over"),
        ("dead.headrace.localhost", grpc.StatusCode.UNAVAILABLE, "its pod takes no connection"),
    ],
)
def test_what_the_gateway_refuses_is_a_status_with_its_reason(
    tmp_path: Path, authority: str, code: grpc.StatusCode, said: str
) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at, pod(saying("page")) as page:
            at.revision("page-1", "page")
            at.revision("slow-1", "slow", containers=PORTS, timeoutSeconds=0.2)
            at.revision("dead-1", "dead", containers=PORTS)
            for name in ("page", "slow", "dead"):
                at.service(name, {"revisionName": f"{name}-1", "percent": 100})
            at.fleet.set("page-1", page)
            at.fleet.set("dead-1", at.dead)
            with channel(at, authority) as opened, pytest.raises(grpc.RpcError) as caught:
                await call(opened, "Name")
            error: Any = caught.value
            assert error.code() is code
            assert said in error.details()

    asyncio.run(promise())


def test_a_stream_that_has_begun_is_broken_off_after_timeout_seconds(tmp_path: Path) -> None:
    async def promise() -> None:
        ended = threading.Event()

        def parts() -> Iterator[bytes]:
            yield b"one"
            ended.wait(60)

        with grpc_pod() as (endpoint, *_):
            async with place(tmp_path) as at:
                flights(at, endpoint, timeoutSeconds=1)
                with channel(at) as opened:
                    answers = opened.stream_stream("/test.Test/Stream")(parts(), timeout=60)
                    assert await asyncio.to_thread(next, answers) == b"one"
                    with pytest.raises(grpc.RpcError) as caught:
                        await asyncio.to_thread(next, answers)
                    ended.set()
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.CANCELLED

    asyncio.run(promise())


def test_http_1_to_a_service_of_http_2_is_told_so(tmp_path: Path) -> None:
    async def promise() -> None:
        with grpc_pod() as (endpoint, *_):
            async with place(tmp_path) as at:
                flights(at, endpoint)
                status, text = await at.get()
                assert status == 502
                assert "takes HTTP/2 alone" in text

    asyncio.run(promise())


def test_a_client_that_gives_up_is_told_to_the_pod_and_leaves_nothing_in_flight(tmp_path: Path) -> None:
    async def promise() -> None:
        with grpc_pod() as (endpoint, methods, _):
            async with place(tmp_path) as at:
                flights(at, endpoint)
                with channel(at) as opened:
                    asked = opened.unary_unary("/test.Test/Wait").future(b"", timeout=60)
                    await asyncio.to_thread(methods.waiting.wait, 60)
                    assert at.gateway.in_flight(NAMESPACE, "flights-1") == 1
                    asked.cancel()
                    assert await asyncio.to_thread(methods.gone.wait, 60)
                    await until(lambda: at.gateway.in_flight(NAMESPACE, "flights-1") == 0)
                    assert await call(opened, "Name") == b"pod-1"  # the connection lives on

    asyncio.run(promise())


def test_a_pod_that_drains_answers_what_it_has_and_the_next_call_goes_to_its_successor(tmp_path: Path) -> None:
    async def promise() -> None:
        with grpc_pod() as (old, methods, server), grpc_pod("pod-2") as (new, *_):
            async with place(tmp_path) as at:
                flights(at, old)
                with channel(at) as opened:
                    asked = opened.unary_unary("/test.Test/Wait").future(b"late", timeout=60)
                    await asyncio.to_thread(methods.waiting.wait, 60)
                    stopped = server.stop(60)
                    at.fleet.set("flights-1", new)
                    assert await call(opened, "Name") == b"pod-2"
                    methods.go.set()
                    assert await asyncio.to_thread(asked.result) == b"late"
                    await asyncio.to_thread(stopped.wait, 60)

    asyncio.run(promise())


def test_a_request_in_pieces_is_known_by_its_first_bytes_all_the_same(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at, pod(saying("page")) as page:
            at.flights()
            at.fleet.set("flights-1", page)
            reader, writer = await asyncio.open_connection("127.0.0.1", int(at.url.rpartition(":")[2]))
            for piece in (b"P", b"OST /svc/headrace/flights/ HTTP/1.1\r\nHo", b"st: 127.0.0.1\r\n\r\n"):
                writer.write(piece)
                await asyncio.sleep(0.02)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()

    asyncio.run(promise())


def test_a_client_that_breaks_the_rules_of_http_2_is_cut_off(tmp_path: Path) -> None:
    async def promise() -> None:
        async with place(tmp_path) as at:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(at.url.rpartition(":")[2]))
            writer.write(PREFACE + b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x")  # DATA on stream 0
            async with asyncio.timeout(20):
                await reader.read()  # to its end
            writer.close()

    asyncio.run(promise())
