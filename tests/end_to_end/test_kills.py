"""kill -9, ten times each, at random moments: of the platform, of trainers mid-way, of predictors under load.

Afterwards all that was dropped is learned once and answered for, every event that was acknowledged is in the journal
and was delivered, and no process is left without its platform.
"""

from __future__ import annotations

import itertools
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from eventing.contract import PredictionMade
from tests.end_to_end import tables
from tests.end_to_end.conftest import Open
from tests.end_to_end.house import VERDICTS, House, prediction_requested, trained, until

pytestmark = pytest.mark.slow

KILLS = 10
SEED = 20261123  # of the random moments; the machine's own are beyond control
POD_SUFFIX = re.compile(r"-[a-z0-9]{5}$")
DELIVERED = "delivered"


@pytest.fixture(scope="module")
def house(open_another: Open, tmp_path_factory: pytest.TempPathFactory) -> House:
    """A house of its own, with a model that serves."""
    house = open_another({"HEADRACE_MAX_REGRESSION": "1000"})
    house.learn(tables.table(tmp_path_factory.mktemp("first") / "first.csv", seed=100), "sturdy")
    return house


class Asker:
    """Sends events and HTTP requests all the while, and remembers what it was promised."""

    def __init__(self, house: House, model: str, name: str) -> None:
        self._house, self._model, self._name = house, model, name
        self._rows = tables.questions(tables.MANY, seed=101)
        self.acknowledged: list[str] = []
        self.answered = 0

    @contextmanager
    def asking(self, pause_s: float = 0.05) -> Iterator[None]:
        over = threading.Event()
        threads = [threading.Thread(target=ask, args=(over, pause_s)) for ask in (self._events, self._http)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def _events(self, over: threading.Event, pause_s: float) -> None:
        for number in itertools.count():
            if over.wait(pause_s):
                return
            event = prediction_requested(f"{self._name}-{number}", self._model, self._rows[number % tables.MANY])
            try:
                if self._house.send(event) == 202:
                    self.acknowledged.append(event["id"])
            except OSError:
                continue  # the platform is down: nothing was promised

    def _http(self, over: threading.Event, pause_s: float) -> None:
        for number in itertools.count():
            if over.wait(pause_s):
                return
            try:
                self.answered += self._house.ask(self._model, [self._rows[number % tables.MANY]]).status == 200
            except OSError:
                continue


def test_the_platform_killed_ten_times_loses_nothing(house: House, file: Callable[[int], Path]) -> None:
    """While Jobs train, canaries are watched and events are on their way."""
    chance = random.Random(SEED)
    asker = Asker(house, "sturdy", "platform")
    drops: list[str] = []
    with asker.asking():
        for kill in range(KILLS):
            if kill % 3 == 0:
                drops.append(house.drop(file(200 + kill), "sturdy"))
            time.sleep(chance.uniform(0.1, 2.5))
            house.kill()
            until("the end of its pods", lambda: not house.processes())  # the watchdog's work, before any restart
            house.up()
    for dropped in drops:
        assert house.verdict_on(dropped).type in VERDICTS
    _learned_once(house, drops)
    _delivered(house, asker)
    assert house.predictions("sturdy", tables.questions(5, seed=102))


def test_trainers_killed_ten_times_mid_way_train_once(house: House, file: Callable[[int], Path]) -> None:
    """Two kills a Job at most: its manifest has three retries, and Kubernetes' pauses between them double from 10 s."""
    chance = random.Random(SEED + 1)
    drops: list[str] = []
    killed: dict[str, int] = {}
    seen: set[int] = set()

    def kill_one() -> bool:
        for process in house.pods_running("trainers.job"):
            with suppress(psutil.NoSuchProcess):  # it may end by itself before we come to it
                job = POD_SUFFIX.sub("", process.environ()["HOSTNAME"])
                if process.pid in seen or killed.get(job, 0) >= 2:
                    continue
                seen.add(process.pid)
                time.sleep(chance.uniform(0.0, 2.0))
                if process.status() != psutil.STATUS_ZOMBIE:
                    process.kill()
                    killed[job] = killed.get(job, 0) + 1
                    return True
        return False

    for number in range(KILLS // 2):
        drops.append(house.drop(file(300 + number), "sturdy", "--parameter", "n_estimators=300"))
        kill_one()
    extra = itertools.count(350)
    while sum(killed.values()) < KILLS:
        if not kill_one():
            if not _jobs_run(house):  # a training that was faster than its kill: another takes its place
                drops.append(house.drop(file(next(extra)), "sturdy", "--parameter", "n_estimators=300"))
            time.sleep(0.1)
    for dropped in drops:
        assert house.verdict_on(dropped).type in VERDICTS
    _learned_once(house, drops)


def test_predictors_killed_ten_times_under_load_answer_every_event(house: House) -> None:
    """Two pods, so that a kill leaves one; whoever was waiting for the other is served all the same."""
    chance = random.Random(SEED + 2)
    house.kubectl(
        "patch", "ksvc", "sturdy", "--type=merge", "-p",
        '{"spec":{"template":{"metadata":{"annotations":{"autoscaling.knative.dev/min-scale":"2"}}}}}',
    )  # fmt: skip
    house.kubectl("wait", "--for=condition=Ready", "ksvc/sturdy", "--timeout=120s")
    asker = Asker(house, "sturdy", "predictor")
    with asker.asking(pause_s=0.02):
        for _ in range(KILLS):
            victims = until("a predictor", lambda: house.pods_running("functions.predictor"))
            with suppress(psutil.NoSuchProcess):  # it may end by itself before we come to it
                chance.choice(victims).kill()
            time.sleep(chance.uniform(0.1, 2.0))
    _delivered(house, asker)
    made = {e.cause for e in house.entries(type=PredictionMade.TYPE)}
    assert [id for id in asker.acknowledged if id not in made] == []
    assert asker.answered > 0
    assert house.predictions("sturdy", tables.questions(5, seed=103))


def test_no_process_outlives_its_killed_platform(house: House) -> None:
    """Also while its pods are busy, and without a restart that could clean up."""
    with Asker(house, "sturdy", "orphans").asking():
        until("a predictor", lambda: house.pods_running("functions.predictor"))
        house.kill()
        until("the end of all processes", lambda: not house.processes())
    house.up()


def _learned_once(house: House, drops: list[str]) -> None:
    """Each drop has one model.trained, and the store one package for it."""
    entries = house.all_settled()
    models = trained(entries, "sturdy")
    by_drop = {drop: [m for m in models.values() if m.cause == drop] for drop in drops}
    assert {drop: len(m) for drop, m in by_drop.items()} == dict.fromkeys(drops, 1)
    assert house.versions("sturdy") == sorted(m.data["version"] for m in models.values())


def _delivered(house: House, asker: Asker) -> None:
    """Everything acknowledged is in the journal, and reached all who asked for it."""
    assert asker.acknowledged
    entries = house.all_settled()
    by_id = {e.id: e for e in entries}
    assert [id for id in asker.acknowledged if id not in by_id] == []
    assert [(e.id, d) for e in entries for d in e.deliveries if d["state"] != DELIVERED] == []


def _jobs_run(house: House) -> bool:
    def runs(job: dict[str, object]) -> bool:
        conditions = job.get("status", {}).get("conditions", [])  # type: ignore[attr-defined]
        return not any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)

    return any(runs(job) for job in house.items("jobs"))
