"""The overlay `plain` in a cluster: what of the loop works with Kubernetes alone, though Knative lies beside it."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventing.contract import ModelRolledBack
from functions.store import Store
from tests.e2e import plain as overlay
from tests.e2e.place import Deployed, until
from tests.e2e.plain import Plain
from tests.e2e.store import S3
from tests.running import flights_csv

pytestmark = pytest.mark.cluster

NAMESPACE = "headrace-e2e-plain"


@pytest.fixture(scope="module")
def plain(deployed: Deployed, s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plain]:
    """The overlay with the store that the run has already."""
    here = Plain(deployed.kubeconfig, NAMESPACE, deployed.gateway, deployed.environ)
    with overlay.applied(here, "plain", s3, tmp_path_factory.mktemp("plain")):
        yield here


def test_without_a_version_the_models_pod_runs_and_takes_no_requests(plain: Plain) -> None:
    for name in ("trainings", "promoter", "drift-watch", "flights"):
        until(f"a pod of {name}", lambda name=name: plain.is_running(name))
    assert plain.pinned() == "" and not plain.flights()["status"].get("readyReplicas")


def test_a_dropped_file_becomes_one_job_and_a_model_that_answers(
    plain: Plain, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    began = time.monotonic()
    event = plain.drop(flights_csv(tmp_path / "january.csv", rows=400))
    first = until("a version that serves", plain.serves)
    figure(f"without Knative, from a dropped file to a served model: {time.monotonic() - began:.0f} s")
    assert plain.pinned() == first
    # A pod is ready a moment before the Service leads to it.
    until("an answer", lambda: plain.try_kubectl("get", "--raw", f"{plain.door}/v2/models/flights").returncode == 0)
    assert _versions_that_answer(plain, tmp_path) == {first}
    # Told again it is the same Job, which ends a moment after its package is there to be served.
    plain.send(event)
    until("the Job's end", lambda: [job for job in plain.items("job") if job["status"].get("succeeded") == 1])
    assert len(plain.items("job")) == 1


def test_the_next_version_is_rolled_out_without_a_request_that_fails(plain: Plain, tmp_path: Path) -> None:
    first = plain.pinned()
    plain.drop(flights_csv(tmp_path / "february.csv", rows=random.randint(700, 900)))  # another one if asked again
    seen: set[str] = set()
    while (second := plain.serves()) in (None, first):
        seen |= _versions_that_answer(plain, tmp_path)  # fails where one is not answered
    assert seen <= {first, second}
    assert _versions_that_answer(plain, tmp_path) == {second}


def test_a_version_whose_pods_do_not_come_is_taken_back_and_nobody_notices(plain: Plain, tmp_path: Path) -> None:
    serving, broken = plain.pinned(), f"v29990101-000000-{uuid.uuid4().hex[:6]}"
    pinned = {"spec": {"template": {"metadata": {"annotations": {"headrace.dev/pinned": f"@{broken}"}}}}}
    plain.kubectl("patch", "deployment", "flights", "--type", "merge", "-p", json.dumps(pinned))
    while (verdict := Store.open(plain.store).read_json(f"verdicts/flights/{broken}.json")) is None:
        assert _versions_that_answer(plain, tmp_path) == {serving}
    assert verdict["type"] == ModelRolledBack.TYPE
    assert plain.pinned() == serving


def test_what_a_person_takes_back_stays_back(plain: Plain, tmp_path: Path) -> None:
    serving = plain.pinned()
    other = next(v for v in Store.open(plain.store).versions("flights") if v != serving)
    pinned = {"spec": {"template": {"metadata": {"annotations": {"headrace.dev/pinned": f"@{other}"}}}}}
    plain.kubectl("patch", "deployment", "flights", "--type", "merge", "-p", json.dumps(pinned))
    until("the version before", lambda: plain.serves() == other)
    assert _versions_that_answer(plain, tmp_path) == {other}


def _versions_that_answer(plain: Plain, folder: Path) -> set[str]:
    rows = {"instances": [{"distance": 700, "hour": 21, "carrier": "B6"}]}
    (prediction,) = plain.ask_plain("/v1/models/flights:predict", rows, folder)["predictions"]
    assert prediction["label"] in (0, 1)
    return set(json.loads(plain.kubectl("get", "--raw", f"{plain.door}/v2/models/flights"))["versions"])
