"""python -m functions.predictor.grpc_server: the real process, from an open port to its last answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest

from functions.predictor.grpc_server import open_inference_pb2 as v2
from functions.predictor.grpc_server.settings import IN_A_POD, DoorSettings
from functions.store import Store
from tests import signals
from tests.functions import packages
from tests.functions.predictor import predictors
from tests.functions.predictor.grpc_server import doors
from tests.functions.predictor.predictors import MODEL, until


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a store with the package."""
    folder = tmp_path_factory.mktemp("store")
    url = (folder / "store").as_uri()
    Store.open(url).publish(packages.build_package(folder / "built"))
    return url


def test_it_answers_counts_and_ends_with_0_on_sigterm(store: str) -> None:
    with doors.running(store, K_REVISION="flights-grpc-00001") as door:
        door.until_ready()
        assert len(door.call("ModelInfer", doors.question()).outputs) == 2
        assert door.healthy() and door.healthy("liveness")
        shown = door.metrics()
        assert 'headrace_requests_total{model="flights",outcome="done",protocol="grpc"} 1.0' in shown
        assert (
            f'headrace_model_info{{model="flights",revision="flights-grpc-00001",version="{packages.VERSION}"}} 1.0'
            in shown
        )
        for phase in ("interpreter", "imports", "ready", "first_answer"):
            assert f'headrace_start_seconds{{phase="{phase}"}}' in shown
        assert door.stop() == 0


def test_the_port_is_open_and_says_why_while_the_store_has_no_package(tmp_path: Path) -> None:
    store = Store.open((tmp_path / "store").as_uri())
    with doors.running(store.url) as door:
        until(lambda: "not in the store" in door.call("RepositoryIndex").models[0].reason)
        assert (door.healthy(), door.healthy("liveness")) == (False, True)
        assert door.fault("ModelInfer", doors.question())[0] == grpc.StatusCode.UNAVAILABLE
        store.publish(packages.build_package(tmp_path / "built"))
        door.until_ready()
        assert door.call("ModelInfer", doors.question()).outputs


def test_a_drain_fails_readiness_at_once_and_answers_what_still_arrives(store: str) -> None:
    with doors.running(store, HEADRACE_DRAIN_S="600") as door:
        door.until_ready()
        door.process.send_signal(signal.SIGTERM)
        until(lambda: not door.call("ServerReady").ready)
        assert (door.healthy(), door.healthy(MODEL), door.healthy("liveness")) == (False, False, True)
        for _ in range(20):
            assert door.call("ModelInfer", doors.question()).outputs
        # A second signal cuts the drain short.
        assert door.stop() == 0


def test_a_signal_ends_it_whichever_thread_the_system_gives_it_to(store: str) -> None:
    with doors.running(store, HEADRACE_DRAIN_S="0") as door:
        door.until_ready()
        signals.to_another_thread(door.process.pid, signal.SIGTERM)
        assert door.process.wait(predictors.DEADLINE_S) == 0


def test_no_request_fails_until_the_drain_is_over(store: str) -> None:
    """Four clients ask until the port closes. What arrives as it closes is not taken: gRPC cancels it unseen."""
    drain_s = 0.5
    failed: list[tuple[float, grpc.StatusCode]] = []
    answered: list[int] = []
    with doors.running(store, HEADRACE_DRAIN_S=str(drain_s)) as door:
        door.until_ready()

        def ask() -> None:
            mine = doors.Door(door.target)
            try:
                while True:
                    answered.append(len(mine.call("ModelInfer", doors.question()).outputs))
            except grpc.RpcError as e:
                failed.append((time.monotonic(), e.code()))  # type: ignore[attr-defined]
            finally:
                mine.close()

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        until(lambda: len(answered) > 50)
        asked_to_stop = time.monotonic()
        assert door.stop() == 0
        for client in clients:
            client.join()
    assert set(answered) == {2}
    assert min(at for at, _ in failed) >= asked_to_stop + drain_s
    assert {code for _, code in failed} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_models_are_loaded_and_unloaded_where_the_settings_allow_it(tmp_path: Path) -> None:
    store = Store.open((tmp_path / "store").as_uri())
    store.publish(packages.build_package(tmp_path / "built"))
    several = {"HEADRACE_MODEL": "", "HEADRACE_MODEL_VERSION": "", "HEADRACE_MODELS": MODEL}
    with doors.running(store.url, **several) as door:
        door.until_ready()
        newer = "v20270101-000000-000001"
        store.publish(packages.build_package(tmp_path / "built", version=newer, seed=1))
        door.call("RepositoryModelLoad", v2.RepositoryModelLoadRequest(model_name=MODEL))
        assert door.call("ModelInfer", doors.question()).model_version == newer
        door.call("RepositoryModelUnload", v2.RepositoryModelUnloadRequest(model_name=MODEL))
        assert door.fault("ModelInfer", doors.question())[0] in (
            grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE,
        )  # fmt: skip
        code, said, _ = door.fault("RepositoryModelLoad", v2.RepositoryModelLoadRequest(model_name="other"))
        assert (code, "not in the store" in said) == (grpc.StatusCode.NOT_FOUND, True)


@pytest.mark.parametrize("key", ["PORT", "HEADRACE_METRICS_PORT"])
def test_a_port_that_is_taken_is_refused_with_its_key(store: str, key: str) -> None:
    with doors.running(store) as door:
        taken = door.target if key == "PORT" else door.told("metrics on http://").removesuffix("/metrics")
        done = subprocess.run(
            [sys.executable, "-m", "functions.predictor.grpc_server"],
            env=predictors.environment(store, **{key: taken.rpartition(":")[2]}),
            capture_output=True, text=True, check=False, timeout=predictors.DEADLINE_S,
        )  # fmt: skip
    assert done.returncode == os.EX_CONFIG
    assert done.stderr.splitlines()[-1].startswith(f"{key} is ")


def test_a_pod_shows_its_metrics_where_triton_does() -> None:
    assert DoorSettings.from_environment({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}).metrics_port == IN_A_POD
    assert DoorSettings.from_environment({}).metrics_port == 0


def test_reflection_tells_what_is_spoken(store: str) -> None:
    from google.protobuf import descriptor_pb2
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    with doors.running(store) as door, grpc.insecure_channel(door.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
        ]
        services, ours, health = stub.ServerReflectionInfo(iter(asked))
        assert "inference.GRPCInferenceService" in {s.name for s in services.list_services_response.service}
        for answer, name in ((ours, "GRPCInferenceService"), (health, "Health")):
            (content,) = answer.file_descriptor_response.file_descriptor_proto
            file = descriptor_pb2.FileDescriptorProto.FromString(content)
            assert name in {service.name for service in file.service}


def test_the_http_predictor_knows_nothing_of_grpc() -> None:
    program = (
        "import sys, functions.predictor.__main__, functions.predictor.flask_app, functions.model\n"
        "from functions.predictor import protocols\n"
        "list(protocols.routes())\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('grpc', 'google', 'grpc_health', 'grpc_reflection')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
