"""A new version swaps in without one failed request: the real process, over HTTP, under load."""

from __future__ import annotations

import http.client
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from functions.model import Model
from functions.store import Store
from tests.functions import packages
from tests.functions.predictor import predictors

CLIENTS = 8
SWAPS = 25
EVERY_S = 0.1
MANY = {"HEADRACE_MODEL": "", "HEADRACE_MODEL_VERSION": "", "HEADRACE_MODELS": "flights"}


def _question() -> bytes:
    inputs = packages.arrays(packages.ROWS)
    tensors = []
    for name, values in inputs.items():
        text = values.dtype == object
        data = [None if not text and np.isnan(v) else v for v in values.ravel().tolist()]
        tensors.append(
            {"name": name, "shape": list(values.shape), "datatype": "BYTES" if text else "FP32", "data": data}
        )
    return json.dumps({"inputs": tensors}).encode()


class Client(threading.Thread):
    """Asks without a pause over one connection; notes which versions might have answered, and which did.

    swapped, swapping: how many versions were in when the question went out, and were on their way when the answer came.
    """

    def __init__(self, port: int, swaps: Swaps) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._swaps = swaps
        self.answers: list[tuple[int, int, int, Any]] = []
        self.error: Exception | None = None

    def run(self) -> None:
        question = _question()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=predictors.DEADLINE_S)
        try:
            while not self._swaps.over:
                first = self._swaps.done
                connection.request("POST", "/v2/models/flights/infer", question)
                response = connection.getresponse()
                status, body = response.status, json.loads(response.read())
                self.answers.append((first, self._swaps.begun, status, body))
        except Exception as e:  # noqa: BLE001 - the test looks at it
            self.error = e
        finally:
            connection.close()


class Swaps:
    """The versions in the order in which they come; the first is there from the start."""

    def __init__(self) -> None:
        self.begun = self.done = 0
        self.over = False


def test_no_request_fails_while_versions_come_and_go(tmp_path: Path) -> None:
    """Eight clients ask while a new version comes and the one before goes every 100 ms, and a second model with them.

    Two forests take turns, which answer differently: whose version an answer names, his numbers it must hold.
    """
    store = Store.open((tmp_path / "store").as_uri())
    versions = [f"v20260101-{number:06}-000000" for number in range(SWAPS + 1)]
    built = [packages.build_package(tmp_path / "built", version=v, seed=i % 2) for i, v in enumerate(versions)]
    store.publish(packages.build_package(tmp_path / "beside", "beside"))
    store.publish(built[0])
    rows = packages.arrays(packages.ROWS)
    expected = [Model.load(folder).infer(rows)["probabilities"].ravel() for folder in built[:2]]
    assert not np.allclose(expected[0], expected[1])
    with predictors.running(store.url, **MANY) as predictor:
        predictor.until_ready()
        swaps = Swaps()
        clients = [Client(int(predictor.url.rsplit(":", 1)[1]), swaps) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for number in range(1, SWAPS + 1):
            began = time.monotonic()
            store.publish(built[number])
            swaps.begun = number
            assert predictor.ask("/v2/repository/models/flights/load", {})[0] == 200
            swaps.done = number
            beside = "load" if number % 2 else "unload"
            assert predictor.ask(f"/v2/repository/models/beside/{beside}", {})[0] == 200
            time.sleep(max(0.0, EVERY_S - (time.monotonic() - began)))
        swaps.over = True
        for client in clients:
            client.join(predictors.DEADLINE_S)
        gone = [line for line in predictor.log if "is unloaded" in line and "flights" in line]
        assert predictor.stop() == 0

    assert [client.error for client in clients if client.error] == []
    answers = [answer for client in clients for answer in client.answers]
    assert [body for _, _, status, body in answers if status != 200] == []
    seen = set()
    for first, last, _, body in answers:
        number = versions.index(body["model_version"])
        assert first <= number <= last, "a version answered that was gone, or was not there yet"
        given = next(output["data"] for output in body["outputs"] if output["name"] == "probabilities")
        assert np.allclose(given, expected[number % 2], atol=1e-6), "an answer holds another version's numbers"
        seen.add(number)
    assert len(answers) > CLIENTS * SWAPS
    assert len(seen) > SWAPS / 2
    assert len(gone) == SWAPS
