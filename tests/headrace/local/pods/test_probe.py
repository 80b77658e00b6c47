"""What a probe declares, and what it takes for an answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from headrace.local.pods import probe
from headrace.local.pods.probe import Probe
from headrace.local.pods.prober import Probes

CONTAINER = {"ports": [{"name": "http1", "containerPort": 8080}]}


@pytest.mark.parametrize(
    ("declared", "port"),
    [
        ({"tcpSocket": {"port": 0}}, 0),
        ({"tcpSocket": {"port": 8080}}, 0),  # the laptop's container listens where PORT says instead
        ({"httpGet": {"port": "http1"}}, 0),
        ({"httpGet": {"path": "/ready"}}, 0),
        ({"tcpSocket": {"port": 9090}}, 9090),
    ],
)
def test_a_port_that_means_the_containers_own_is_its_own(declared: dict[str, Any], port: int) -> None:
    parsed = probe.parse(declared, CONTAINER, default_period_s=0)
    assert parsed is not None
    assert parsed.port == port


def test_without_a_declared_period_a_starting_server_is_asked_often_and_a_ready_one_seldom() -> None:
    readiness = Probes.of({}, serving=True).readiness
    assert readiness is not None
    assert (readiness.interval_s(waiting=True), readiness.interval_s(waiting=False)) == (0.025, 10.0)


def test_a_declared_period_holds_before_and_after() -> None:
    readiness = Probes.of({"readinessProbe": {"tcpSocket": {}, "periodSeconds": 2}}, serving=True).readiness
    assert readiness is not None
    assert readiness.interval_s(waiting=True) == readiness.interval_s(waiting=False) == 2


def test_what_serves_nothing_and_declares_nothing_is_not_asked() -> None:
    assert Probes.of({}, serving=False) == Probes(None, None, None)


async def ask(declared: Probe, answer: bytes) -> str | None:
    """What a probe says of a server that answers so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if declared.path is not None:
            await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        return await probe.ask(declared, server.sockets[0].getsockname()[1], {}, Path("/"))


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", None),
        (b"HTTP/1.1 302 Found\r\n\r\n", None),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP probe failed with statuscode: 503"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "HTTP probe failed with statuscode: 404"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        (b"", "the answer is not HTTP"),
        (b"x" * 4096, "the answer is not HTTP"),
    ],
)
def test_an_http_answer_from_200_and_below_400_is_well(answer: bytes, fault: str | None) -> None:
    assert asyncio.run(ask(Probe(path="/ready"), answer)) == fault


def test_a_server_that_does_not_answer_in_time_is_ill() -> None:
    async def main() -> str | None:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await probe.ask(Probe(path="/", timeout_s=0.1), port, {}, Path("/"))

    assert asyncio.run(main()) == "no answer within 0.1 s"


@pytest.mark.parametrize(("script", "fault"), [("exit 0", None), ("exit 3", "command '/bin/sh' ended with 3")])
def test_a_command_is_well_when_it_ends_with_zero(script: str, fault: str | None) -> None:
    assert asyncio.run(probe.ask(Probe(command=("/bin/sh", "-c", script)), 0, {}, Path("/"))) == fault


@pytest.mark.parametrize(
    ("service", "status", "said"),
    [
        ("", "SERVING", None),
        ("liveness", "NOT_SERVING", "gRPC probe failed: not SERVING"),
        ("x" * 200, "SERVING", None),
        ("unknown", None, "gRPC probe failed with status 5"),
    ],
)
def test_a_grpc_probe_asks_the_health_service(service: str, status: str | None, said: str | None) -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if status is not None:
        servicer.set(service, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    declared = probe.parse({"grpc": {"port": 8080, "service": service}}, CONTAINER, default_period_s=0)
    assert declared is not None
    try:
        answer = asyncio.run(probe.ask(declared, port, {}, Path()))
    finally:
        server.stop(None).wait()
    assert answer == said if said is None else str(answer).startswith(said)


def test_a_server_of_http_1_fails_a_grpc_probe() -> None:
    answer = asyncio.run(ask(Probe(service=""), b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert answer is not None
    assert "not gRPC" in answer
