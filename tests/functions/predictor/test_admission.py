"""functions.predictor.admission: what is taken is bounded, what is not is told at once, nothing is held for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from eventing import contract
from functions.model import Model
from functions.predictor.admission import Admission, Overloaded, Places, Turns
from functions.predictor.app import App
from functions.predictor.catalog import Catalog
from functions.predictor.served import Served
from functions.predictor.wire.bodies import Bodies
from monitoring import predictions
from tests.functions import packages
from tests.functions.predictor.predictors import DEADLINE_S, MODEL, VERSION, until

PREDICT = f"/v1/models/{MODEL}:predict"
ROW = {"instances": [dict(packages.ROWS[0])]}


class Held(Model):
    """A model whose inferences end when they are let go."""

    def hold(self) -> None:
        self.running = threading.Semaphore(0)
        self.go = threading.Event()

    def infer(self, inputs: Any, outputs: Any = None) -> dict[str, Any]:
        self.running.release()
        assert self.go.wait(DEADLINE_S)
        return super().infer(inputs, outputs)


def serving(tmp_path: Path, admission: Admission) -> tuple[Client, Held, Served]:
    model = Held.load(packages.build_package(tmp_path))
    assert isinstance(model, Held)
    model.hold()
    catalog = Catalog([(MODEL, VERSION)])
    app = App(catalog, Bodies(100_000), requests=admission.requests)
    served = Served(MODEL, VERSION, model, inferences=admission.inferences)
    catalog.put(served)
    return Client(app), model, served


def test_what_is_too_much_at_once_is_told_at_once_and_the_rest_is_answered(tmp_path: Path) -> None:
    admission = Admission(concurrency=1, waiting=1, wait_s=DEADLINE_S)
    client, model, served = serving(tmp_path, admission)
    with ThreadPoolExecutor(2) as threads:
        taken = [threads.submit(client.post, PREDICT, json=ROW) for _ in range(2)]
        until(lambda: admission.requests.taken == 2)
        refused = client.post(PREDICT, json=ROW)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert "2 requests are worked on or wait" in refused.get_json()["error"]
        model.go.set()
        assert [one.result().status_code for one in taken] == [200, 200]
    assert served.statistics.meter("v1").requests().outcomes[predictions.RETRY_LATER] == 1
    assert client.post(PREDICT, json=ROW).status_code == 200
    assert (admission.requests.taken, admission.inferences.taken) == (0, 0)


def test_an_event_that_is_too_much_is_brought_again_by_the_broker(tmp_path: Path) -> None:
    """One place for both doors: the event is refused for the request's sake, and the request for the event's."""
    admission = Admission(concurrency=1, waiting=0, wait_s=DEADLINE_S)
    client, model, _ = serving(tmp_path, admission)
    headers = {
        "Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/test", "Ce-Subject": MODEL,
        "Ce-Type": contract.PredictionRequested.TYPE,
    }  # fmt: skip
    event = {"path": "/", "json": {"model": MODEL, "inputs": ROW}, "headers": headers}
    request = {"path": PREDICT, "json": ROW}
    with ThreadPoolExecutor(1) as threads:
        for first, second in ((request, event), (event, request)):
            taken = threads.submit(client.post, **first)
            assert model.running.acquire(timeout=DEADLINE_S)
            refused = client.post(**second)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert "1 requests are worked on or wait" in refused.get_json()["error"]
            model.go.set()
            assert taken.result().status_code == 200
            model.go.clear()
    assert admission.requests.taken == 0


def test_a_request_that_waits_too_long_for_its_inference_is_told_so(tmp_path: Path) -> None:
    client, model, _ = serving(tmp_path, Admission(concurrency=1, waiting=4, wait_s=0.05))
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.post, PREDICT, json=ROW)
        assert model.running.acquire(timeout=DEADLINE_S)
        late = client.post(PREDICT, json=ROW)
        assert late.status_code == 503
        assert "none of them ended within 0.05 s" in late.get_json()["error"]
        model.go.set()
        assert first.result().status_code == 200


@pytest.mark.parametrize("body", [b"{}", b"no JSON", b'{"instances": [[1, 2]]}'])
def test_a_request_that_fails_gives_its_place_back(tmp_path: Path, body: bytes) -> None:
    admission = Admission(concurrency=1, waiting=0)
    client, _, _ = serving(tmp_path, admission)
    for _ in range(5):
        assert client.post(PREDICT, data=body).status_code == 400
    assert (admission.requests.taken, admission.inferences.taken) == (0, 0)


def test_no_more_than_the_places_are_ever_taken() -> None:
    places, most, inside = Turns(3, "full", wait_s=DEADLINE_S), [0], [0]
    lock = threading.Lock()

    def work(_: int) -> None:
        places.take()
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        with lock:
            inside[0] -= 1
        places.leave()

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(work, range(600)))
    assert 1 <= most[0] <= 3 and places.taken == 0


def test_turns_come_in_the_order_in_which_they_were_asked_for_whoever_comes_meanwhile() -> None:
    turns, served = Turns(1, "full", wait_s=DEADLINE_S), list[int]()
    turns.take()

    def work(number: int) -> None:
        turns.take()
        served.append(number)
        turns.leave()

    waiting = []
    for number in range(20):
        waiting.append(threading.Thread(target=work, args=(number,)))
        waiting[-1].start()
        until(lambda number=number: turns.waiting == number + 1)
    turns.leave()
    work(20)  # comes at the moment at which the first turn ends, and is the last all the same
    for thread in waiting:
        thread.join()
    assert served == list(range(21))
    assert turns.taken == 0


def test_a_turn_that_did_not_come_in_time_is_nobodys() -> None:
    turns = Turns(1, "one goes on", wait_s=0.02)
    turns.take()
    with pytest.raises(Overloaded, match=r"^one goes on; none of them ended within 0.02 s$"):
        turns.take()
    turns.leave()
    assert turns.taken == 0
    turns.take()


def test_turns_that_come_just_as_their_time_ends_are_neither_lost_nor_doubled() -> None:
    turns, inside, most = Turns(2, "full", wait_s=0.002), [0], [0]
    lock = threading.Lock()
    late = [0]

    def work(number: int) -> None:
        try:
            turns.take()
        except Overloaded:
            with lock:
                late[0] += 1
            return
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.001 * (number % 3))
        with lock:
            inside[0] -= 1
        turns.leave()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(2000)))
    assert late[0] > 0
    assert most[0] <= 2
    assert turns.taken == 0


def test_without_a_wait_a_full_house_refuses() -> None:
    places = Places(1, "one is here")
    places.take()
    refusal: Callable[[], None] = places.take
    with pytest.raises(Overloaded, match=r"^one is here$"):
        refusal()
    places.leave()
    places.take()
