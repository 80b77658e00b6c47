"""python -m functions.predictor: the real process, from an open port to its last answer."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from eventing import contract
from functions.model import write_sums
from functions.promoter import watch
from functions.store import Store
from monitoring import predictions
from tests.functions import packages
from tests.functions.predictor import predictors

ASK = {"instances": [[row["distance"], row["delay"], row["carrier"]] for row in packages.ROWS]}
PREDICT = "/v1/models/flights:predict"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a store with the package."""
    folder = tmp_path_factory.mktemp("store")
    url = (folder / "store").as_uri()
    Store.open(url).publish(packages.build_package(folder / "built"))
    return url


@contextmanager
def _sink(status: int = 202, delay_s: float = 0.0) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A sink's URL and what it took: the data of each event beside its headers."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(delay_s)
            taken.append({**{name.lower(): value for name, value in self.headers.items()}, "data": json.loads(body)})
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: the test reads what came."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/broker", taken
    finally:
        server.shutdown()
        server.server_close()


def test_it_serves_every_protocol_and_ends_with_0_on_sigterm(store: str) -> None:
    with predictors.running(store, K_REVISION="flights-00001") as predictor:
        predictor.until_ready()
        status, answer = predictor.ask(PREDICT, ASK)
        assert (status, len(answer["predictions"])) == (200, 5)
        status, event = predictor.ask(
            "/",
            {
                "specversion": "1.0", "id": "1", "source": "/x", "type": contract.PredictionRequested.TYPE,
                "data": {"model": "flights", "inputs": ASK},
            },
            {"Content-Type": "application/cloudevents+json"},
        )  # fmt: skip
        assert (status, event["data"]["outputs"]) == (200, answer)
        assert predictor.stop() == 0


def test_each_phase_of_the_start_is_a_metric_and_one_line_of_the_log(store: str) -> None:
    with predictors.running(store) as predictor:
        predictor.until_ready()
        predictor.ask(PREDICT, ASK)
        shown = predictor.ask("/metrics")[1]
        for phase in ("interpreter", "imports", "fetch", "load", "self_test", "ready", "first_answer"):
            assert f'headrace_start_seconds{{phase="{phase}"}}' in shown
        assert any("is ready; seconds by phase: interpreter" in line for line in predictor.log)
        assert f'headrace_model_info{{model="flights",revision="",version="{packages.VERSION}"}} 1.0' in shown


def test_it_is_one_process_that_dies_whole_with_a_sigkill(store: str) -> None:
    with predictors.running(store) as predictor:
        predictor.until_ready()
        children = Path(f"/proc/{predictor.process.pid}/task/{predictor.process.pid}/children").read_text()
        assert children.strip() == ""
        predictor.process.kill()
        predictor.process.wait()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", int(predictor.url.rsplit(":", 1)[1])))


def test_a_drain_fails_readiness_at_once_and_answers_what_still_arrives(store: str) -> None:
    with predictors.running(store, HEADRACE_DRAIN_S="3") as predictor:
        predictor.until_ready()
        predictor.process.send_signal(signal.SIGTERM)
        predictors.until(lambda: predictor.ask("/v2/health/ready")[0] == 503)
        assert predictor.ask("/v2/health/ready")[1]["error"].startswith("draining")
        for _ in range(20):
            assert predictor.ask(PREDICT, ASK)[0] == 200
        assert predictor.process.wait(predictors.DEADLINE_S) == 0


def test_a_second_sigterm_cuts_the_drain_short(store: str) -> None:
    with predictors.running(store, HEADRACE_DRAIN_S="600") as predictor:
        predictor.until_ready()
        predictor.process.send_signal(signal.SIGTERM)
        predictors.until(lambda: predictor.ask("/v2/health/ready")[0] == 503)
        assert predictor.stop() == 0


DRAIN_S = 0.5


def test_no_request_fails_while_it_drains_under_load(store: str) -> None:
    """Four clients ask until the port closes; each request that was taken got its answer."""
    failures: list[object] = []
    answered = []
    left: list[float] = []
    with predictors.running(store, HEADRACE_DRAIN_S=str(DRAIN_S)) as predictor:
        predictor.until_ready()

        def ask() -> None:
            while True:
                try:
                    status, answer = predictor.ask(PREDICT, ASK)
                except OSError as e:
                    # Once the drain is over the port closes: who is refused then, or waits in the kernel's line of
                    # connections and is reset, was not taken. Before that each of these is a loss.
                    if not left or time.monotonic() - left[0] < DRAIN_S:
                        failures.append(e)
                    return
                answered.append(status)
                if status != 200 or len(answer["predictions"]) != 5:
                    failures.append(answer)

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        predictors.until(lambda: len(answered) > 50)
        left.append(time.monotonic())
        assert predictor.stop() == 0
        for client in clients:
            client.join()
    assert failures == []


def test_the_port_is_open_and_says_why_while_the_store_has_no_package(tmp_path: Path) -> None:
    with predictors.running(tmp_path.as_uri()) as predictor:
        predictors.until(lambda: "not in the store" in predictor.ask("/v2/models/flights/ready")[1]["error"])
        assert predictor.ask("/v2/health/ready")[0] == 503
        assert predictor.ask("/v2/health/live")[0] == 200
        assert predictor.ask(PREDICT, ASK)[0] == 503
        assert any("is not ready" in line for line in predictor.log)
        # A process that waits for its store must not wait with its end.
        assert predictor.stop() == 0


def test_a_package_that_comes_later_is_served(tmp_path: Path) -> None:
    store = Store.open((tmp_path / "store").as_uri())
    with predictors.running(store.url) as predictor:
        predictors.until(lambda: "not in the store" in predictor.ask("/v2/models/flights/ready")[1]["error"])
        store.publish(packages.build_package(tmp_path / "built"))
        predictor.until_ready()
        assert predictor.ask(PREDICT, ASK)[0] == 200


def _never_ready(url: str, said: str, **settings: str) -> None:
    with predictors.running(url, **settings) as predictor:
        predictors.until(lambda: any("can never serve" in line for line in predictor.log))
        status, body = predictor.ask("/v2/models/" + settings.get("HEADRACE_MODEL", "flights") + "/ready")
        assert (status, body["ready"]) == (503, False)
        assert said in body["error"]
        assert predictor.ask("/v2/health/ready")[0] == 503
        assert predictor.ask("/v2/health/live")[0] == 200


def test_a_digest_that_is_wrong_is_never_served(tmp_path: Path) -> None:
    store = Store.open((tmp_path / "store").as_uri())
    store.publish(packages.build_package(tmp_path / "built"))
    (tmp_path / "store" / "models" / "flights" / packages.VERSION / "model.onnx").write_bytes(
        packages.onnx_bytes(seed=1)
    )
    _never_ready(store.url, "model.onnx has digest")


def test_a_model_whose_self_test_fails_is_never_served(tmp_path: Path) -> None:
    folder = packages.build_package(tmp_path / "built")
    sample = json.loads((folder / "sample.json").read_text())
    sample["requests"][0]["outputs"]["probabilities"] = [0.5, 0.5]
    (folder / "sample.json").write_text(json.dumps(sample))
    write_sums(folder)
    store = Store.open((tmp_path / "store").as_uri())
    store.publish(folder)
    _never_ready(store.url, "self-test: request 0 gives probabilities")


def test_a_load_that_memory_does_not_suffice_for_harms_no_other(tmp_path: Path) -> None:
    """The address space ends 40 MiB above what the process has; the forest of 262,112 nodes takes more."""
    store = Store.open((tmp_path / "store").as_uri())
    store.publish(packages.build_package(tmp_path / "built"))
    store.publish(packages.build_large(tmp_path / "built" / "large", "large"))
    with predictors.running(store.url, HEADRACE_MODEL_CONTROL="on") as predictor:
        predictor.until_ready()
        assert predictor.ask("/v2/repository/models/large/unload", {})[0] == 404  # Flask is there from now on
        pages = int(Path(f"/proc/{predictor.process.pid}/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + 40 * 2**20
        resource.prlimit(predictor.process.pid, resource.RLIMIT_AS, (limit, limit))
        status, body = predictor.ask("/v2/repository/models/large/load", {})
        assert status >= 400
        assert "alloc" in body["error"]
        assert "alloc" in predictor.ask("/v2/models/large/ready")[1]["error"]
        assert predictor.ask(PREDICT, ASK)[0] == 200
        assert predictor.ask("/v2/health/ready")[0] == 200
        assert predictor.stop() == 0


def test_a_version_that_cannot_serve_is_an_event(tmp_path: Path) -> None:
    store = Store.open((tmp_path / "store").as_uri())
    store.publish(packages.build_package(tmp_path / "built"))
    sample = tmp_path / "store" / "models" / "flights" / packages.VERSION / "sample.json"
    content = sample.read_bytes()
    sample.unlink()
    with _sink() as (url, taken), predictors.running(store.url, K_SINK=url, K_REVISION="flights-00007") as predictor:
        predictors.until(lambda: len(taken) == 1)
        sample.write_bytes(content[:-1])
        predictors.until(lambda: len(taken) == 2)
        assert predictor.stop() == 0
    waits, fails = taken
    assert (waits["ce-type"], waits["ce-subject"]) == (contract.ModelFailed.TYPE, "flights")
    assert waits["ce-source"] == "/headrace/functions/flights-00007"
    assert waits["data"] == {
        "model": "flights", "version": packages.VERSION, "revision": "flights-00007", "retryable": True,
        "reason": f"flights {packages.VERSION} is not whole in the store: sample.json is missing",
    }  # fmt: skip
    assert fails["data"]["retryable"] is False
    assert "sample.json has digest" in fails["data"]["reason"]
    assert waits["ce-id"] != fails["ce-id"]


def test_two_pods_of_a_revision_tell_the_same_failure_as_one_event(tmp_path: Path) -> None:
    (tmp_path / "store" / "models" / "flights").mkdir(parents=True)
    (tmp_path / "store" / "models" / "flights" / f"{packages.VERSION}.json").write_text("{")
    with _sink() as (url, taken):
        for count in (1, 2):
            with predictors.running((tmp_path / "store").as_uri(), K_SINK=url, K_REVISION="flights-00007"):
                predictors.until(lambda count=count: len(taken) == count)
    assert (taken[0]["ce-id"], taken[0]["ce-source"]) == (taken[1]["ce-id"], taken[1]["ce-source"])


def test_a_sink_that_hangs_holds_up_neither_start_nor_end(tmp_path: Path) -> None:
    store = Store.open((tmp_path / "store").as_uri())
    store.publish(packages.build_package(tmp_path / "built"))
    (tmp_path / "store" / "models" / "broken").mkdir()
    (tmp_path / "store" / "models" / "broken" / "v1.json").write_text("{")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        many = {"HEADRACE_MODEL": "", "HEADRACE_MODEL_VERSION": "", "HEADRACE_MODELS": "broken,flights"}
        with predictors.running(store.url, K_SINK=url, HEADRACE_DRAIN_S="0", **many) as predictor:
            predictors.until(lambda: predictor.ask("/v2/models/flights/ready")[0] == 200)
            silent.accept()  # the event is on its way
            assert predictor.ask(PREDICT, ASK)[0] == 200
            assert predictor.stop() == 0


def test_a_server_of_many_models_serves_all_that_can_be_and_names_the_rest(tmp_path: Path) -> None:
    """Ten small models in their order, one of them in two versions, one broken, one not in the store."""
    store = Store.open((tmp_path / "store").as_uri())
    names = [f"model-{number}" for number in range(10)]
    for name in (*names, "broken"):
        store.publish(packages.build_package(tmp_path / "built" / name, name))
    store.publish(packages.build_package(tmp_path / "built" / names[0], names[0], packages.OTHER_VERSION, seed=1))
    (tmp_path / "store" / "models" / "broken" / packages.VERSION / "model.onnx").write_bytes(b"")
    models = ",".join(["broken", *names, f"{names[0]}@{packages.VERSION}", "absent"])
    labels = f"{names[0]}:stable={packages.VERSION}"
    many = {"HEADRACE_MODEL": "", "HEADRACE_MODEL_VERSION": "", "HEADRACE_MODELS": models}
    with predictors.running(store.url, HEADRACE_MODEL_LABELS=labels, **many) as predictor:
        predictors.until(lambda: "absent is not in the store" in predictor.ask("/v2/health/ready")[1]["error"])
        for name in names:
            assert predictor.ask(f"/v1/models/{name}:predict", ASK)[0] == 200
        assert predictor.ask(f"/v1/models/{names[0]}/labels/stable:predict", ASK)[0] == 200
        status, body = predictor.ask("/v2/health/ready")
        assert status == 503
        assert "model.onnx has digest" in body["error"]
        assert not any(name in body["error"] for name in names)
        ready = [line for line in predictor.log if "is ready; seconds by phase: interpreter" in line]
        assert [line.split(": ")[1].split()[0] for line in ready] == [*names, names[0]]
        # No name of a model that is not there keeps the others' events and orders out.
        assert predictor.ask("/v1/models/absent:predict", ASK)[0] == 503
        assert predictor.ask("/v1/models/unknown:predict", ASK)[0] == 404
        status, body = predictor.ask("/v2/repository/models/broken/unload", {})
        assert status == 200
        assert "broken" not in predictor.ask("/v2/health/ready")[1]["error"]
        assert predictor.ask("/v1/models/broken:predict", ASK)[0] == 404
        assert predictor.stop() == 0


def test_a_server_of_one_version_takes_no_orders(store: str) -> None:
    with predictors.running(store) as predictor:
        predictor.until_ready()
        for order in ("load", "unload"):
            assert predictor.ask(f"/v2/repository/models/flights/{order}", {})[0] == 501
        assert predictor.ask(PREDICT, ASK)[0] == 200


def test_a_prediction_over_http_is_told_to_the_sink(store: str) -> None:
    with _sink() as (url, taken), predictors.running(store, K_SINK=url, K_REVISION="flights-00001") as predictor:
        predictor.until_ready()
        _, answer = predictor.ask(PREDICT, ASK)
        predictors.until(lambda: taken)
        event = taken[0]
        assert (event["ce-type"], event["ce-subject"]) == (contract.PredictionMade.TYPE, "flights")
        data = event["data"]
        assert data["answers"]["label"] == [p["label"] for p in answer["predictions"]]
        assert data["features"]["carrier"] == [row["carrier"] for row in packages.ROWS]
        assert (data["rows"], data["version"], data["revision"]) == (5, packages.VERSION, "flights-00001")


def test_a_probe_is_answered_and_counted_as_one_and_told_to_nobody(store: str) -> None:
    with _sink() as (url, taken), predictors.running(store, K_SINK=url) as predictor:
        predictor.until_ready()
        probe = {predictions.PROBE_HEADER: "promoter"}
        answers = [predictor.ask(PREDICT, ASK, headers)[1] for headers in (probe, {}, probe)]
        assert answers[0] == answers[1] == answers[2]
        text = predictor.ask("/metrics")[1]
        reading = watch.read_metrics(text, "flights")
        assert reading is not None
        assert (reading.requests, reading.probes, reading.errors) == (1, 2, 0)
        assert reading.seconds[math.inf] == 3
        assert 'headrace_rows_total{model="flights"} 15.0' in text
        assert predictor.stop() == 0
    assert len(taken) == 1


def test_samples_that_wait_are_told_before_the_process_ends(store: str) -> None:
    with _sink(delay_s=0.05) as (url, taken):
        with predictors.running(store, K_SINK=url, HEADRACE_PREDICTION_SAMPLES_PER_S="1000") as predictor:
            predictor.until_ready()
            for _ in range(10):
                predictor.ask(PREDICT, ASK)
            assert predictor.stop() == 0
        assert len(taken) == 10


def test_a_sink_that_is_away_fails_no_request(store: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with predictors.running(store, K_SINK=f"http://127.0.0.1:{port}/", HEADRACE_DRAIN_S="0") as predictor:
        predictor.until_ready()
        for _ in range(50):
            assert predictor.ask(PREDICT, ASK)[0] == 200
        unsampled = 'headrace_predictions_unsampled_total{model="flights"}'
        assert unsampled in predictor.ask("/metrics")[1]
        assert predictor.stop() == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HEADRACE_STORE", "nowhere"), ("HEADRACE_MODEL", ""), ("HEADRACE_MODEL", "../x"),
        ("HEADRACE_MODEL_VERSION", ""),
        ("PORT", "http"), ("HEADRACE_THREADS", "0"), ("HEADRACE_DRAIN_S", "-1"), ("HEADRACE_MAX_BODY_BYTES", "many"),
        ("HEADRACE_PREDICTION_SAMPLES_PER_S", "x"), ("K_SINK", "broker"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_work_ends_the_start_with_its_key(tmp_path: Path, key: str, value: str) -> None:
    environ = predictors.environment(tmp_path.as_uri(), **{key: value})
    done = subprocess.run(
        [sys.executable, "-m", "functions.predictor"], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == os.EX_CONFIG
    assert done.stderr.startswith(f"{key} is ")


def test_a_question_that_comes_too_early_is_refused_without_making_the_start_longer() -> None:
    code = (
        "import sys\n"
        "from functions.predictor import app, catalog\n"
        "from functions.predictor.wire import bodies\n"
        "from werkzeug.test import Client\n"
        "app = app.App(catalog.Catalog([('flights', 'v1')]), bodies.Bodies(1000))\n"
        "before = set(sys.modules)\n"
        "assert Client(app).post('/v1/models/flights:predict', data=b'{}').status_code == 503\n"
        "sys.exit(', '.join(sorted({'flask', 'numpy', 'cloudevents'} & set(sys.modules) - before)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_serves_without_a_training_library_a_kubernetes_client_or_flask(store: str) -> None:
    """Flask comes with the first request that is neither prediction nor probe, CloudEvents with the first event."""
    code = (
        "import sys, functions.predictor.__main__, functions.predictor.outbox.sampler, functions.predictor.protocols\n"
        "heavy = {'flask', 'cloudevents', 'sklearn', 'tensorflow', 'onnx', 'pandas', 'kubernetes', 'fsspec'}\n"
        "list(functions.predictor.protocols.routes())\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
