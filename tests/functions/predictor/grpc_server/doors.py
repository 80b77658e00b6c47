"""A gRPC predictor for tests: the service in this process, or the real process on a free port; and calls to either."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from functions.model import Model
from functions.predictor.admission import Admission
from functions.predictor.catalog import Catalog
from functions.predictor.grpc_server import open_inference_pb2 as v2
from functions.predictor.grpc_server.health import Health
from functions.predictor.grpc_server.service import NAME, Service
from functions.predictor.repository import Repository
from functions.predictor.served import Served
from tests.functions import packages
from tests.functions.predictor import predictors
from tests.functions.predictor.predictors import DEADLINE_S, MODEL, VERSION, until

MAX_MESSAGE_BYTES = 100_000
HOUSE = Path(__file__).parents[4]
CLIENTS = HOUSE / ".venv-clients" / "bin" / "python"


class Watched(Service):
    """The service, and the contexts of the predictions that it was asked for."""

    def _infer(self, request: v2.ModelInferRequest, context: grpc.ServicerContext) -> v2.ModelInferResponse:
        self.__dict__.setdefault("contexts", []).append(context)
        return super()._infer(request, context)


class Door:
    """Calls to a gRPC predictor that listens at `target`."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.server: grpc.Server | None = None
        self.contexts: list[grpc.ServicerContext] = []
        self._channel = grpc.insecure_channel(target, options=(("grpc.max_receive_message_length", -1),))

    def call(self, method: str, request: Any = None, **options: Any) -> Any:
        """The answer's message. Raises grpc.RpcError."""
        kind = getattr(v2, f"{method}Request")
        response = getattr(v2, f"{method}Response")
        ask = self._channel.unary_unary(f"/{NAME}/{method}", kind.SerializeToString, response.FromString)
        return ask(kind() if request is None else request, **{"timeout": DEADLINE_S, **options})

    def fault(self, method: str, request: Any = None, **options: Any) -> tuple[grpc.StatusCode, str, dict[str, str]]:
        """Status, message and trailing metadata of a call that is refused."""
        with pytest.raises(grpc.RpcError) as raised:
            self.call(method, request, **options)
        error: Any = raised.value
        return error.code(), error.details(), dict(error.trailing_metadata())

    def raw(self, path: str, body: bytes = b"", **options: Any) -> bytes:
        """The answer to any bytes."""
        answer: bytes = self._channel.unary_unary(path)(body, **{"timeout": DEADLINE_S, **options})
        return answer

    def stream(self, path: str, messages: Iterator[bytes]) -> Any:
        """A call whose messages come one by one."""
        return self._channel.stream_stream(path)(messages)

    def healthy(self, service: str = "") -> bool:
        """What grpc.health.v1 says of `service`. Raises grpc.RpcError for one that is not known."""
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        answer = health_pb2_grpc.HealthStub(self._channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE_S
        )
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def close(self) -> None:
        self._channel.close()

    def stop(self) -> object:
        """End the server, the calls in flight answered."""
        return self.server.stop(DEADLINE_S).wait() if self.server else None


def silence(until: threading.Event) -> Iterator[bytes]:
    """The messages of a client that sends none."""
    until.wait()
    yield from ()


def question(rows: Any = packages.ROWS, **changes: Any) -> v2.ModelInferRequest:
    """`rows` as typed contents; None is missing."""
    request = v2.ModelInferRequest(model_name=MODEL, **changes)
    for name, values in packages.arrays(rows).items():
        tensor = request.inputs.add(name=name, shape=values.shape)
        if values.dtype == object:
            tensor.datatype = "BYTES"
            tensor.contents.bytes_contents.extend(text.encode() for text in values.ravel())
        else:
            tensor.datatype = "FP32"
            tensor.contents.fp32_contents.extend(values.ravel().tolist())
    return request


def raw_question(rows: Any = packages.ROWS, **changes: Any) -> v2.ModelInferRequest:
    """`rows` as raw contents."""
    request = question(rows, **changes)
    for tensor in request.inputs:
        if tensor.datatype == "BYTES":
            texts = list(tensor.contents.bytes_contents)
            request.raw_input_contents.append(b"".join(len(t).to_bytes(4, "little") + t for t in texts))
        else:
            request.raw_input_contents.append(np.array(tensor.contents.fp32_contents, np.float32).tobytes())
        tensor.ClearField("contents")
    return request


@contextmanager
def serving(
    package: Path | None,
    *,
    concurrency: int = 4,
    waiting: int = 4,
    wait_s: float = DEADLINE_S,
    threads: int = 16,
    repository: Repository | None = None,
) -> Iterator[tuple[Door, Catalog]]:
    """The service over a catalog with `package`, None for one that is still on its way."""
    catalog = Catalog([(MODEL, VERSION)])
    admission = Admission(concurrency, waiting, wait_s)
    if package is not None:
        model = Model.load(package)
        catalog.put(Served(MODEL, VERSION, model, revision="flights-00001", inferences=admission.inferences))
    service = Watched(catalog, admission.requests, repository)
    server = grpc.server(ThreadPoolExecutor(threads), options=(("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),))
    service.add_to(server)
    Health(catalog).add_to(server)
    door = Door(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    door.server = server
    door.contexts = service.__dict__.setdefault("contexts", [])
    server.start()
    try:
        yield door, catalog
    finally:
        door.close()
        server.stop(None).wait()


class Process(predictors.Running, Door):
    """A running gRPC predictor."""

    def __init__(self, started: predictors.Running) -> None:
        predictors.Running.__init__(self, started.process, started.log)
        Door.__init__(self, self.told("listening on "))

    def metrics(self) -> str:
        with urllib.request.urlopen(self.told("metrics on "), timeout=DEADLINE_S) as response:
            text: str = response.read().decode()
            return text

    def until_ready(self) -> None:
        until(lambda: self.call("ServerReady").ready)


@contextmanager
def running(store: str, **settings: str) -> Iterator[Process]:
    """A gRPC predictor that listens."""
    with predictors.process("functions.predictor.grpc_server", store, **settings) as started:
        door = Process(started)
        try:
            yield door
        finally:
            door.close()


@functools.cache
def clients() -> Path:
    """The Python of the environment that holds other people's clients, which do not go with our protobuf."""
    if not CLIENTS.exists():
        pytest.skip("`make setup` builds the clients' environment")
    return CLIENTS


def client(program: str, *arguments: str) -> Any:
    """The JSON that a program prints which other people's clients are imported by."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [clients(), "-c", program, *arguments],
        env=clean, cwd="/", capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
