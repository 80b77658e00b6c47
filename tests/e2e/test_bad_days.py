"""What happens to a running Headrace on a bad day, and that nothing is lost by it. `make bad-days`.

The days are made on a cluster of this machine's own: daemons killed, pods taken away, a store that refuses.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

import pytest

from eventing.contract import ModelTrained
from headrace import flights
from tests.e2e import images, store
from tests.e2e.images import reference
from tests.e2e.kit import Kit
from tests.e2e.place import Deployed, until

pytestmark = pytest.mark.bad_day

MODEL = "months"
HOUR_S = 3600
Figure = Callable[[str], None]
T = TypeVar("T")


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    def write(number: int) -> Path:
        file = tmp_path_factory.mktemp("months") / f"{number}.csv"
        flights.write_month(number, file)
        return file

    return write


@pytest.fixture(scope="module")
def served(deployed: Deployed, month: Callable[[int], Path]) -> Deployed:
    """A place in which a model serves."""
    learn(deployed, month(1))
    return deployed


def test_an_api_server_that_restarts_mid_deploy_is_waited_for(kit: Kit, served: Deployed, figure: Figure) -> None:
    began = time.monotonic()
    with beside(lambda: served.run("deploy", *served.deployment, *changed("21"))) as deploying:
        time.sleep(2.0)  # it has connected, and judges or applies
        with kit.without("kube-apiserver"):
            time.sleep(5.0)
        told = deploying.result()
    assert told.returncode == 0, told.stdout + told.stderr
    assert served.get("configmap", "headrace")["data"]["HEADRACE_CANARY_S"] == "21"
    figure(f"API server killed mid-deploy, back after 5 s: deployed in {time.monotonic() - began:.0f} s")


def test_a_webhook_that_is_down_is_named_and_predictions_go_on(served: Deployed) -> None:
    scale = ("-n", "knative-serving", "scale", "deployment/webhook")
    pods = ("-n", "knative-serving", "-l", "app=webhook")
    served.kubectl(*scale, "--replicas=0")
    try:

        def ending() -> bool:
            """Whether each is on its way out: one that is killed before is replaced."""
            left = json.loads(served.kubectl("get", "pods", *pods, "-o", "json"))["items"]
            return all(pod["metadata"].get("deletionTimestamp") for pod in left)

        until("the end of the webhook's pods", ending)
        served.kubectl("delete", "pods", *pods, "--grace-period=0", "--force")
        # One that was told to end goes on answering for a while, on the connections that the API server keeps.
        until("a webhook that is missed", lambda: misses_webhook(served))
        # What is as it was is asked of no webhook.
        other = f"--image=functions={reference('functions')}-other"
        told = served.run("deploy", *served.deployment, *changed("22"), other, "--timeout", "5s")
        assert told.returncode == 1
        assert "webhook" in told.stderr and "does not answer" in told.stderr, told.stderr
        assert served.get("configmap", "headrace")["data"]["HEADRACE_CANARY_S"] != "22", told.stdout + told.stderr
        assert served.ask(MODEL, f"/v2/models/{MODEL}").status == 200
    finally:
        served.kubectl(*scale, "--replicas=1")
    until("the webhook", lambda: endpoints(served, "knative-serving", "webhook"))
    served.headrace("deploy", *served.deployment, *changed("20"))


def test_a_node_killed_during_training_costs_time_and_no_model(
    kit: Kit, served: Deployed, month: Callable[[int], Path], figure: Figure
) -> None:
    before = len(trained(served))
    began = time.monotonic()
    with beside(lambda: learn(served, month(2))) as dropped:
        until("a trainer's process", lambda: training(served))
        with kit.without("kubelet"):
            assert kit.kill_processes("trainers.job") > 0
            time.sleep(5.0)
        dropped.result()
    assert len(trained(served)) == before + 1
    figure(f"node killed during training: promoted or judged after {time.monotonic() - began:.0f} s, trained once")


def test_a_store_that_refuses_for_a_minute_delays_a_training_and_loses_none(
    served: Deployed, month: Callable[[int], Path], figure: Figure
) -> None:
    before = len(trained(served))
    began = time.monotonic()
    with beside(lambda: learn(served, month(3)), refusing_store(served)) as dropped:
        time.sleep(60.0)
        assert not dropped.done()
    dropped.result()
    assert len(trained(served)) == before + 1
    figure(f"store answered 503 for 60 s: judged after {time.monotonic() - began:.0f} s, trained once")


def test_a_channel_that_restarts_loses_no_dataset(
    served: Deployed, month: Callable[[int], Path], figure: Figure
) -> None:
    before = len(trained(served))
    began = time.monotonic()
    words = ("-n", "knative-eventing", "delete", "pod", "-l", "messaging.knative.dev/role=dispatcher")
    with beside(lambda: learn(served, month(4))) as dropped:
        served.kubectl(*words, "--grace-period=0", "--force")
        dropped.result()
    assert len(trained(served)) == before + 1
    figure(f"the Broker's channel killed at a drop: judged after {time.monotonic() - began:.0f} s, trained once")


def test_a_trainers_clock_an_hour_off_is_named_and_once_it_is_right_the_month_is_trained(
    kit: Kit, served: Deployed, month: Callable[[int], Path], figure: Figure
) -> None:
    """An S3 store refuses what is signed at another hour than its own."""
    before, file = len(trained(served)), month(5)
    ahead = f"--image=trainers={images.with_clock(kit, 'trainers', HOUR_S)}"
    served.headrace("deploy", *served.deployment, ahead, "--set=HEADRACE_PATIENCE_S=1")
    began = time.monotonic()
    try:
        told = served.run("drop", str(file), "--dataset", MODEL, "--target", flights.TARGET, "--wait")
        assert told.returncode == 1 and "clock" in told.stdout, told.stdout + told.stderr
    finally:
        served.headrace("deploy", *served.deployment)
    figure(f"a trainer's clock an hour off: its training failed, for that reason, in {time.monotonic() - began:.0f} s")
    learn(served, file)
    assert len(trained(served)) == before + 1


def test_functions_whose_clock_is_an_hour_off_hold_the_loop_up_and_lose_nothing(
    kit: Kit, served: Deployed, month: Callable[[int], Path], figure: Figure
) -> None:
    """What is trained meanwhile is told to those who cannot reach the store, again and again."""
    before = len(trained(served))
    behind = f"--image=functions={images.with_clock(kit, 'functions', -HOUR_S)}"
    served.headrace("drop", str(month(6)), "--dataset", MODEL, "--target", flights.TARGET)
    began = time.monotonic()
    served.headrace("deploy", *served.deployment, behind)
    try:
        time.sleep(20.0)
        told = served.run("events")
        assert told.returncode == 1 and "clock" in told.stderr, told.stdout + told.stderr
    finally:
        served.headrace("deploy", *served.deployment)
    until("the month's model in the journal", lambda: len(trained(served)) > before)
    assert len(trained(served)) == before + 1
    figure(f"the functions' clocks an hour off for a while: trained once, told after {time.monotonic() - began:.0f} s")


@contextmanager
def beside(work: Callable[[], T], state: AbstractContextManager[None] | None = None) -> Iterator[Future[T]]:
    """`work`, begun in `state` and going on beside the block; what it gives, or raises, is its result."""
    pool = ThreadPoolExecutor(1)
    with state or nullcontext():
        yield pool.submit(work)
    pool.shutdown(wait=True)


def learn(deployed: Deployed, file: Path) -> None:
    """Drop a month and wait for the verdict, whichever it is."""
    told = deployed.run("drop", str(file), "--dataset", MODEL, "--target", flights.TARGET, "--wait")
    assert told.returncode in (0, 1) and "trained in" in told.stdout, told.stdout + told.stderr


def trained(deployed: Deployed) -> set[str]:
    """The versions that were ever told as trained: told twice is one fact."""
    return {e["data"]["version"] for e in deployed.events(ModelTrained.TYPE) if e["subject"] == MODEL}


def training(deployed: Deployed) -> bool:
    """Whether a trainer's pod runs."""
    return any(
        pod["status"].get("phase") == "Running" for pod in deployed.items("pods", "app.kubernetes.io/component=trainer")
    )


def changed(seconds: str) -> tuple[str, ...]:
    return (f"--set=HEADRACE_CANARY_S={seconds}",)


def misses_webhook(deployed: Deployed) -> bool:
    """Whether a change of a Service is refused for want of Knative's webhook; nothing is changed."""
    annotation = f"tests/asked={time.time()}"  # a change, or no webhook is asked
    told = deployed.try_kubectl("annotate", "ksvc", MODEL, annotation, "--overwrite", "--dry-run=server")
    return told.returncode != 0 and "webhook" in told.stderr


def endpoints(deployed: Deployed, namespace: str, service: str) -> list[str]:
    words = ("-n", namespace, "get", "endpointslices", "-l", f"kubernetes.io/service-name={service}", "-o", "json")
    slices = json.loads(deployed.kubectl(*words))["items"]
    found = [e for s in slices for e in s.get("endpoints") or () if (e.get("conditions") or {}).get("ready")]
    return [address for endpoint in found for address in endpoint["addresses"]]


@contextmanager
def refusing_store(deployed: Deployed) -> Iterator[None]:
    """Pods are answered 503 by the store's name; a person here goes on reaching the store itself."""
    program = (
        "from http.server import BaseHTTPRequestHandler as B, ThreadingHTTPServer as T\n"
        "class H(B):\n"
        "    def do_GET(self):\n"
        "        self.send_response(503); self.send_header('Content-Length', '0'); self.end_headers()\n"
        "    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET\n"
        f"T(('0.0.0.0', {store.PORT}), H).serve_forever()\n"
    )
    kubectl = ("-n", store.NAMESPACE)
    container = {"name": "refuser", "image": reference("functions"), "command": ["python", "-c", program]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "refuser", "labels": {"app": "refuser"}},
        "spec": {"containers": [container]},
    }
    deployed.kubectl(*kubectl, "apply", "-f", "-", given=json.dumps(pod))
    deployed.kubectl(*kubectl, "wait", "pod/refuser", "--for=condition=Ready", "--timeout=60s")
    select = (*kubectl, "patch", "service", "s3", "--type=merge", "-p")
    deployed.kubectl(*select, '{"spec":{"selector":{"app":"refuser"}}}')
    try:
        yield
    finally:
        deployed.kubectl(*select, '{"spec":{"selector":{"app":"s3"}}}')
        deployed.kubectl(*kubectl, "delete", "pod", "refuser", "--wait=false")
