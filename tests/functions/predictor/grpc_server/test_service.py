"""The service over a real port: statuses and their words, limits, who waits and whose work is dropped."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from functions.model import Model
from functions.predictor.catalog import Catalog
from functions.predictor.grpc_server import open_inference_pb2 as v2
from functions.predictor.grpc_server.service import MAX_MESSAGE_BYTES, NAME
from functions.predictor.query import Prediction
from functions.predictor.served import Served
from monitoring import predictions
from tests.functions import packages
from tests.functions.predictor.grpc_server import doors
from tests.functions.predictor.grpc_server.doors import Door
from tests.functions.predictor.predictors import MODEL, VERSION, until

BAD = grpc.StatusCode.INVALID_ARGUMENT
UNAVAILABLE, UNIMPLEMENTED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages.build_package(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def served(package: Path) -> Iterator[tuple[Door, Catalog]]:
    with doors.serving(package) as here:
        yield here


@pytest.fixture
def door(served: tuple[Door, Catalog]) -> Door:
    return served[0]


class Slow:
    """A model in whose place each inference waits until it may go on."""

    def __init__(self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.may_go = threading.Event()
        model = catalog.find(MODEL).model
        infer = model.infer

        def wait(*arguments: Any) -> Any:
            self.begun += 1
            assert self.may_go.wait(60)
            return infer(*arguments)

        monkeypatch.setattr(model, "infer", wait)


def _meter(catalog: Catalog) -> Any:
    return catalog.find(MODEL).statistics.meter("grpc")


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize("asked", [doors.question, doors.raw_question])
def test_a_question_is_answered_as_over_http(served: tuple[Door, Catalog], asked: Any) -> None:
    door, catalog = served
    answer = door.call("ModelInfer", asked(id="q-1"))
    expected = catalog.find(MODEL).model.infer(packages.arrays(packages.ROWS))
    assert (answer.model_name, answer.model_version, answer.id) == (MODEL, VERSION, "q-1")
    assert [o.name for o in answer.outputs] == ["label", "probabilities"]
    if asked is doors.raw_question:
        assert list(answer.raw_output_contents) == [values.tobytes() for values in expected.values()]
    else:
        assert list(answer.outputs[0].contents.int64_contents) == expected["label"].tolist()
        assert list(answer.outputs[1].contents.fp32_contents) == expected["probabilities"].ravel().tolist()


def test_only_the_outputs_that_are_asked_for_are_answered(door: Door) -> None:
    request = doors.question(model_version=VERSION)
    request.outputs.add(name="probabilities")
    answer = door.call("ModelInfer", request)
    assert [(o.name, o.datatype, list(o.shape)) for o in answer.outputs] == [("probabilities", "FP32", [5, 2])]


def test_what_is_known_of_server_and_model_is_told(door: Door) -> None:
    assert door.call("ServerLive").live
    assert door.call("ServerReady").ready
    assert door.call("ModelReady", v2.ModelReadyRequest(name=MODEL)).ready
    assert door.call("ServerMetadata").name == "headrace"
    model = door.call("ModelMetadata", v2.ModelMetadataRequest(name=MODEL))
    assert (model.name, list(model.versions)) == (MODEL, [VERSION])
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs][2] == ("carrier", "BYTES", [-1, 1])
    config = door.call("ModelConfig", v2.ModelConfigRequest(name=MODEL)).config
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input][2] == ("carrier", v2.TYPE_STRING, [-1, 1])
    index = door.call("RepositoryIndex").models
    assert [(m.name, m.version, m.state, m.reason) for m in index] == [(MODEL, VERSION, "READY", "")]


def test_statistics_count_what_was_answered_and_what_was_not(package: Path) -> None:
    with doors.serving(package) as (door, _):
        for _ in range(3):
            door.call("ModelInfer", doors.question())
        door.fault("ModelInfer", v2.ModelInferRequest(model_name=MODEL))
        (told,) = door.call("ModelStatistics", v2.ModelStatisticsRequest(name=MODEL)).model_stats
        assert (told.name, told.version, told.inference_count, told.execution_count) == (MODEL, VERSION, 15, 3)
        assert (told.inference_stats.success.count, told.inference_stats.fail.count) == (3, 1)
        assert told.inference_stats.compute_infer.ns > 0
        (batch,) = told.batch_stats
        assert (batch.batch_size, batch.compute_infer) == (5, told.inference_stats.compute_infer)
        assert list(door.call("ModelStatistics").model_stats) == [told]


def test_a_probe_is_counted_as_one(served: tuple[Door, Catalog]) -> None:
    door, catalog = served
    before = _meter(catalog).requests()
    door.call("ModelInfer", doors.question(), metadata=((predictions.PROBE_HEADER.lower(), "promoter"),))
    door.call("ModelInfer", doors.question())
    after = _meter(catalog).requests()
    assert after.probes[predictions.DONE] - before.probes[predictions.DONE] == 1
    assert after.outcomes[predictions.DONE] - before.outcomes[predictions.DONE] == 2


def test_what_is_asked_is_told_and_a_probe_is_not(package: Path) -> None:
    told: list[Prediction] = []
    with doors.serving(None) as (door, catalog):
        catalog.put(Served(MODEL, VERSION, Model.load(package), tell=lambda _, prediction: told.append(prediction)))
        door.call("ModelInfer", doors.raw_question())
        door.call("ModelInfer", doors.raw_question(), metadata=((predictions.PROBE_HEADER.lower(), "promoter"),))
    (prediction,) = told
    assert prediction.query.inputs["carrier"].ravel().tolist() == [row["carrier"] or "" for row in packages.ROWS]
    assert prediction.head(2).outputs["label"].shape == (2,)


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("method", ["ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"])
def test_what_is_not_served_here_is_not_found(door: Door, method: str) -> None:
    field = "model_name" if method == "ModelInfer" else "name"
    kind = getattr(v2, f"{method}Request")
    code, said, _ = door.fault(method, kind(**{field: "other"}))
    assert (code, said) == (grpc.StatusCode.NOT_FOUND, "model 'other' is not served here; this server has flights")
    versioned = kind(**{field: MODEL, field.replace("name", "version"): "v9"})
    code, said, _ = door.fault(method, versioned)
    assert (code, said) == (
        grpc.StatusCode.NOT_FOUND, f"flights 'v9' is not served here; this server has {VERSION}",
    )  # fmt: skip


def test_a_request_that_does_not_fit_is_told_every_fault(door: Door) -> None:
    request = doors.question()
    request.inputs[0].datatype = "FP64"
    del request.inputs[2]
    code, said, _ = door.fault("ModelInfer", request)
    assert code == BAD
    assert said == (
        "the request does not fit the model, whose inputs are distance, delay, carrier: "
        "input 'distance' has datatype 'FP64'; the signature says 'FP32'; "
        "input 'carrier' is missing; the signature says BYTES [-1, 1]"
    )


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\xff\xff\xff\xff\x0f"])
def test_bytes_that_are_no_message_are_refused(door: Door, body: bytes) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        door.raw(f"/{NAME}/ModelInfer", body)
    error: Any = raised.value
    assert error.code() == BAD
    assert error.details().startswith("the message is no inference.ModelInferRequest")


def test_a_fault_of_any_length_arrives_as_what_it_is(door: Door) -> None:
    """A status is a header: one of more than 8 KiB would arrive as another error, of the client's own."""
    request = v2.ModelInferRequest(model_name="✈" * 5000)
    assert door.fault("ModelInfer", request)[0] == grpc.StatusCode.NOT_FOUND
    request = doors.question()
    for number in range(60):
        request.outputs.add(name=f"{number}{'é' * 500}")
    code, said, _ = door.fault("ModelInfer", request)
    assert (code, len(said) < MAX_MESSAGE_BYTES) == (BAD, True)


def test_while_it_starts_it_says_when_to_come_again() -> None:
    with doors.serving(None) as (door, catalog):
        assert not door.call("ServerReady").ready
        assert not door.call("ModelReady", v2.ModelReadyRequest(name=MODEL)).ready
        catalog.waits(MODEL, VERSION, "the store is away")
        code, said, told = door.fault("ModelInfer", doors.question())
        assert (code, said) == (UNAVAILABLE, "flights is not ready: the store is away")
        assert (told["retry-after"], told["grpc-retry-pushback-ms"]) == ("2", "2000")
        (entry,) = door.call("RepositoryIndex").models
        assert (entry.state, entry.reason) == ("LOADING", "the store is away")
        assert not door.call("RepositoryIndex", v2.RepositoryIndexRequest(ready=True)).models


def test_what_fails_inside_the_model_is_internal_and_the_next_one_is_answered(tmp_path: Path) -> None:
    with doors.serving(packages.build_foreign(tmp_path)) as (door, _):
        request = v2.ModelInferRequest(model_name=MODEL)
        request.inputs.add(name="size", datatype="INT64", shape=[1]).contents.int64_contents.append(4)
        code, said, _ = door.fault("ModelInfer", request)
        assert code == grpc.StatusCode.INTERNAL
        assert said.startswith("inference failed: ") and said.endswith("see the predictor's log")
        request.inputs[0].contents.int64_contents[0] = 3
        assert list(door.call("ModelInfer", request).outputs[0].contents.fp32_contents) == [3]


@pytest.mark.parametrize("method", ["ModelStreamInfer", "TraceSetting", "LogSettings", "SystemSharedMemoryStatus"])
def test_what_is_not_spoken_is_said_so(door: Door, method: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        door.raw(f"/{NAME}/{method}")
    error: Any = raised.value
    assert error.code() == UNIMPLEMENTED
    assert error.details().startswith(f"{method} is not supported")


def test_a_stream_is_refused_before_its_first_message(door: Door) -> None:
    call = door.stream(f"/{NAME}/ModelStreamInfer", doors.silence(never := threading.Event()))
    with pytest.raises(grpc.RpcError):
        next(call)
    assert "send each request by ModelInfer" in call.details()
    never.set()


# ---------------------------------------------------------------- limits


def test_a_message_that_is_too_long_is_refused(door: Door) -> None:
    request = doors.raw_question()
    request.raw_input_contents[0] = bytes(doors.MAX_MESSAGE_BYTES)
    code, said, _ = door.fault("ModelInfer", request)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(doors.MAX_MESSAGE_BYTES) in said


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_what_is_sent_short_and_gets_long_is_refused_too(door: Door, compression: grpc.Compression) -> None:
    assert door.call("ModelInfer", doors.question(), compression=compression).outputs
    request = doors.raw_question()
    request.raw_input_contents[0] = bytes(50 * doors.MAX_MESSAGE_BYTES)
    assert door.fault("ModelInfer", request, compression=compression)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_more_than_may_wait_are_told_to_come_again(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with doors.serving(package, concurrency=1, waiting=1) as (door, catalog):
        slow = Slow(catalog, monkeypatch)
        taken = [threading.Thread(target=door.call, args=("ModelInfer", doors.question())) for _ in range(2)]
        for thread in taken:
            thread.start()
        until(lambda: _meter(catalog).in_flight == 2)
        code, said, told = door.fault("ModelInfer", doors.question())
        assert (code, told["retry-after"]) == (UNAVAILABLE, "1")
        assert "2 requests are worked on or wait" in said
        # Neither a probe nor what is known of a model waits behind them.
        assert door.healthy() and door.call("ModelReady", v2.ModelReadyRequest(name=MODEL)).ready
        slow.may_go.set()
        for thread in taken:
            thread.join()
        assert slow.begun == 2
        assert door.call("ModelInfer", doors.question()).outputs


@pytest.mark.parametrize("gone", ["deadline", "cancelled", "disconnected"])
def test_the_work_of_a_client_that_has_gone_is_dropped(
    package: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    with doors.serving(package, concurrency=1, waiting=8) as (door, catalog):
        slow = Slow(catalog, monkeypatch)
        first = threading.Thread(target=door.call, args=("ModelInfer", doors.question()))
        first.start()
        until(lambda: slow.begun == 1)
        other = Door(door.target)
        ask = other._channel.unary_unary(f"/{NAME}/ModelInfer")
        call = ask.future(doors.question().SerializeToString(), timeout=0.3 if gone == "deadline" else 60)
        until(lambda: len(door.contexts) == 2)
        if gone == "cancelled":
            call.cancel()
        elif gone == "disconnected":
            other.close()
        until(lambda: not door.contexts[1].is_active())
        slow.may_go.set()
        first.join()
        until(lambda: _meter(catalog).in_flight == 0)
        assert slow.begun == 1
        assert _meter(catalog).requests().outcomes[predictions.RETRY_LATER] == 1
        assert door.call("ModelInfer", doors.question()).outputs
        other.close()


def test_calls_without_a_message_keep_no_other_waiting(package: Path) -> None:
    with doors.serving(package, concurrency=2, waiting=2, threads=12) as (door, _), contextlib.ExitStack() as held:
        for _ in range(8):
            other = Door(door.target)
            held.callback(other.close)
            held.callback((never := threading.Event()).set)
            other.stream(f"/{NAME}/ModelInfer", doors.silence(never))
        assert door.healthy()
        assert door.call("ModelInfer", doors.question()).outputs


def test_interleaved_questions_get_their_own_answers(served: tuple[Door, Catalog]) -> None:
    door, catalog = served
    rows = [{"distance": float(100 * n), "delay": float(n % 60), "carrier": "AA"} for n in range(40)]
    expected = catalog.find(MODEL).model.infer(packages.arrays(rows))["probabilities"]
    wrong: list[object] = []

    def ask(first: int) -> None:
        for n in range(first, 40, 4):
            try:
                answer = door.call("ModelInfer", doors.raw_question([rows[n]], id=str(n)))
            except grpc.RpcError as e:
                wrong.append(e)
                continue
            got = np.frombuffer(answer.raw_output_contents[1], np.float32)
            if answer.id != str(n) or not np.allclose(got, expected[n], atol=1e-6):
                wrong.append((n, answer))

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_every_call_that_was_begun_is_answered_though_the_server_stops(package: Path) -> None:
    answered: list[str] = []
    with doors.serving(package) as (door, _):

        def ask(client: int) -> None:
            mine = Door(door.target)
            with contextlib.suppress(grpc.RpcError):
                for number in itertools.count():
                    answered.append(mine.call("ModelInfer", doors.question(id=f"{client}-{number}")).id)
            mine.close()

        clients = [threading.Thread(target=ask, args=(client,)) for client in range(6)]
        for thread in clients:
            thread.start()
        until(lambda: len(answered) > 50)
        door.stop()
        for thread in clients:
            thread.join()
        assert len(answered) == len(door.contexts)


# ---------------------------------------------------------------- health


def test_health_says_who_is_well(served: tuple[Door, Catalog]) -> None:
    door, _ = served
    assert all(door.healthy(name) for name in ("", NAME, "liveness", MODEL))
    with pytest.raises(grpc.RpcError) as raised:
        door.healthy("other")
    error: Any = raised.value
    assert error.code() == grpc.StatusCode.NOT_FOUND


def test_a_process_that_waits_for_its_model_is_alive_and_not_ready() -> None:
    with doors.serving(None) as (door, _):
        assert (door.healthy(), door.healthy(MODEL), door.healthy("liveness")) == (False, False, True)


def test_who_watches_is_told_when_a_model_comes(package: Path) -> None:
    from grpc_health.v1 import health_pb2

    with doors.serving(None) as (door, catalog):
        watch = door._channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest(service=MODEL), timeout=60)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        catalog.put(Served(MODEL, VERSION, Model.load(package)))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


# ---------------------------------------------------------------- load and unload


class Loads:
    """In a repository's place: remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []

    def load(self, model: str, version: str | None = None) -> None:
        self.asked.append(("load", model, version))

    def unload(self, model: str, version: str | None = None) -> None:
        self.asked.append(("unload", model, version))

    def available(self) -> dict[str, tuple[str, ...]]:
        return {MODEL: (VERSION, "v9"), "a": ("1",)}


@pytest.fixture
def loads(package: Path) -> Iterator[tuple[Door, Loads]]:
    repository: Any = Loads()
    with doors.serving(package, repository=repository) as (door, _):
        yield door, repository


@pytest.mark.parametrize("field", ["model_name", "repository_name"])
def test_triton_and_kserve_name_the_model_in_fields_of_their_own(loads: tuple[Door, Loads], field: str) -> None:
    """KServe's field 1 is Triton's `repository_name`, and Triton's is field 2."""
    door, repository = loads
    load = door.call("RepositoryModelLoad", v2.RepositoryModelLoadRequest(**{field: "a"}))
    unload = door.call("RepositoryModelUnload", v2.RepositoryModelUnloadRequest(**{field: "a"}))
    assert repository.asked == [("load", "a", None), ("unload", "a", None)]
    assert (load.model_name, load.isLoaded, unload.model_name, unload.isUnloaded) == ("a", True, "a", True)


def test_a_version_may_be_named_and_nothing_else(loads: tuple[Door, Loads]) -> None:
    door, repository = loads
    request = v2.RepositoryModelLoadRequest(model_name="a")
    request.parameters["version"].string_param = "v1"
    door.call("RepositoryModelLoad", request)
    request.parameters["version"].int64_param = 7
    door.call("RepositoryModelLoad", request)
    request.parameters["config"].string_param = "{}"
    assert door.fault("RepositoryModelLoad", request)[0] == UNIMPLEMENTED
    assert repository.asked == [("load", "a", "v1"), ("load", "a", "7")]


def test_the_index_tells_what_could_be_loaded_too(loads: tuple[Door, Loads]) -> None:
    door, _ = loads
    told = {(m.name, m.version): (m.state, m.reason) for m in door.call("RepositoryIndex").models}
    absent = ("UNAVAILABLE", "not loaded")
    assert told == {(MODEL, VERSION): ("READY", ""), (MODEL, "v9"): absent, ("a", "1"): absent}
    (only,) = door.call("RepositoryIndex", v2.RepositoryIndexRequest(ready=True)).models
    assert only.version == VERSION


def test_a_server_that_is_told_what_to_serve_loads_nothing(door: Door) -> None:
    code, said, _ = door.fault("RepositoryModelLoad", v2.RepositoryModelLoadRequest(model_name=MODEL))
    assert (code, said) == (UNIMPLEMENTED, "this server neither loads nor unloads models")
