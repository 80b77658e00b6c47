"""functions.promoter: its settings, and the process that takes model.trained."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventing import binding, contract
from eventing.contract import ModelPromoted, ModelRejected, ModelRolledBack
from eventing.errors import Misconfigured
from functions.promoter.function import Settings
from knative.canary import Limits
from tests.functions.promoter import promoter_house
from tests.functions.promoter.promoter_house import V1, V2, House, eventually


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with promoter_house.built(tmp_path) as built:
        yield built


# The process


def test_settings_that_cannot_work_are_refused_with_their_key() -> None:
    for key, value in (("HEADRACE_CANARY_PERCENT", "100"), ("HEADRACE_MAX_ERROR_SHARE", "2"), ("HEADRACE_HOLD_S", "x")):
        with pytest.raises(Misconfigured, match=key):
            Settings.from_environment({"HEADRACE_STORE": "memory://", key: value})
    with pytest.raises(Misconfigured, match="HEADRACE_STORE"):
        Settings.from_environment({})


def test_settings_have_the_limits_that_the_decisions_default_to() -> None:
    assert Settings.from_environment({"HEADRACE_STORE": "memory://"}).limits == Limits()


def test_the_process_answers_what_it_holds_when_it_is_asked_to_end(house: House) -> None:
    house.serve()
    event = house.train(V2)
    environ = {
        **os.environ,
        "HEADRACE_STORE": house.store.url,
        "KUBECONFIG": str(house.api.kubeconfig),
        "HEADRACE_CANARY_S": "3600",
        "PORT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "functions.promoter"], env=environ, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        listening = next(line for line in process.stderr if "listening on" in line)
        drained = threading.Thread(target=process.stderr.read)
        drained.start()
        connection = http.client.HTTPConnection("127.0.0.1", int(listening.strip().rpartition(":")[2]), timeout=60)
        message = binding.to_binary(event)
        connection.request("POST", "/", message.body, dict(message.headers))
        eventually(lambda: house.knative.traffic[-1] == {V1: 80, V2: 20})
        process.send_signal(signal.SIGTERM)
        response = connection.getresponse()
        assert response.status == 503
        assert response.getheader("Retry-After") == "1"
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        drained.join()
    # And the next delivery, to the next process, ends it.
    assert house.promoter().handle(event).get_type() == ModelPromoted.TYPE


def test_every_verdict_is_a_type_of_the_contract() -> None:
    assert {ModelPromoted.TYPE, ModelRejected.TYPE, ModelRolledBack.TYPE} <= set(contract.TYPES)
