"""The overlay `plain` in a cluster: what of the loop works with Kubernetes alone, though Knative lies beside it.

Nothing here touches Knative: the events go from process to process, and Deployments and Jobs are Kubernetes' own.
"""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloudevents.core.v1.event import CloudEvent

from eventing import binding, landing
from eventing.contract import ModelRolledBack
from functions.store import Store
from tests.e2e.images import reference
from tests.e2e.place import Deployed, until
from tests.manifests.kustomized import FOLDER, build
from tests.running import flights_csv

pytestmark = pytest.mark.cluster

NAMESPACE = "headrace-e2e-plain"
ROOMS = ("predictor", "functions", "trainers")
# Sent from a predictor's pod, which may: nobody else than the loop's own reaches the receiver.
SEND = (
    "import sys, orjson; from eventing import binding, sender; "
    "sender.Sender('http://trainings').send(binding.from_json(orjson.loads(sys.stdin.read())), attempts=5)"
)


class Plain(Deployed):
    """A namespace with the overlay in it."""

    @property
    def store(self) -> str:
        return f"s3://headrace/{self.namespace}"

    def flights(self) -> dict[str, Any]:
        return self.get("deployment", "flights")

    def pinned(self) -> str:
        annotations = self.flights()["spec"]["template"]["metadata"].get("annotations") or {}
        return str(annotations.get("headrace.dev/pinned", "")).removeprefix("@")

    @property
    def door(self) -> str:
        """The model's Service by way of the API server: what a kubeconfig alone can reach anywhere."""
        return f"/api/v1/namespaces/{self.namespace}/services/flights:80/proxy"

    def ask_plain(self, path: str, body: Any, folder: Path) -> Any:
        (folder / "body.json").write_text(json.dumps(body))
        return json.loads(self.kubectl("create", "--raw", f"{self.door}{path}", "-f", str(folder / "body.json")))

    def drop(self, file: Path) -> CloudEvent:
        """The file into the store, and its event to the receiver."""
        arrived = landing.land(file, "flights", self.store, target="late", parameters={"n_estimators": 10})
        event = landing.arrived_event(arrived, datetime.now(UTC))
        self.send(event)
        return event

    def send(self, event: CloudEvent) -> None:
        text = json.dumps(binding.to_json(event))
        self.kubectl("exec", "-i", "deploy/flights", "--", "python", "-c", SEND, given=text)

    def serves(self) -> str | None:
        """The version that the store says serves, once it is the one that is rolled out."""
        found = Store.open(self.store).serving("flights")
        ready = self.flights()["status"].get("readyReplicas")
        return found.version if found and ready and self.pinned() == found.version else None


@pytest.fixture(scope="module")
def plain(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plain]:
    """The overlay with this run's images and store, and without the watched folder: no claim is brought for it."""
    words = dict(word.removeprefix("--set=").split("=", 1) for word in deployed.deployment if word.startswith("--set="))
    keys = [(k, v) for k, v in deployed.environ.items() if k.startswith("AWS_") and k != "AWS_ENDPOINT_URL"]
    here = Plain(deployed.kubeconfig, NAMESPACE, deployed.gateway, deployed.environ)
    folder = tmp_path_factory.mktemp("plain")
    kustomization = {
        "namespace": NAMESPACE,
        "resources": [os.path.relpath(FOLDER / "overlays" / "plain", folder.resolve())],
        "images": [_image(room) for room in ROOMS],
        "patches": [
            _patch("ConfigMap", "headrace", "replace", "/data/HEADRACE_STORE", here.store),
            _patch("ConfigMap", "headrace", "add", "/data/AWS_ENDPOINT_URL", words["AWS_ENDPOINT_URL"]),
            _patch("ConfigMap", "headrace", "add", "/data/HEADRACE_PROMOTER_POLL_S", "1"),
            # What serves next is not the question here, and what is broken is to be known soon.
            _patch("ConfigMap", "headrace", "add", "/data/HEADRACE_MAX_REGRESSION", "1"),
            _patch("Deployment", "flights", "replace", "/spec/progressDeadlineSeconds", 30),
            # Small files, on a node that has other things to do.
            _patch("CronJob", "random-forest", "replace", CPU, "100m"),
            _patch("NetworkPolicy", "store", "add", "/spec/egress/0/ports/-", {"port": 8333, "protocol": "TCP"}),
            {"target": {"kind": "Deployment", "name": "folder"}, "patch": ABSENT},
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    kept = {k: os.environ.get(k) for k in deployed.environ}
    os.environ.update(deployed.environ)  # the store is written to from here
    try:
        here.kubectl("create", "namespace", NAMESPACE)
        here.kubectl("create", "secret", "generic", "headrace-store", *(f"--from-literal={k}={v}" for k, v in keys))
        here.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=build(folder))
        yield here
    finally:
        os.environ.update({k: v for k, v in kept.items() if v is not None})
        for key in [k for k, v in kept.items() if v is None]:
            del os.environ[key]
        here.try_kubectl("delete", "namespace", NAMESPACE, "--wait=false")


CPU = "/spec/jobTemplate/spec/template/spec/containers/0/resources/requests/cpu"
ABSENT = "{$patch: delete, apiVersion: apps/v1, kind: Deployment, metadata: {name: any}}"


def _image(room: str) -> dict[str, str]:
    name, _, tag = reference(room).rpartition(":")
    return {"name": f"ghcr.io/headrace/{room}", "newName": name, "newTag": tag}


def _patch(kind: str, name: str, op: str, path: str, value: Any) -> dict[str, Any]:
    return {"target": {"kind": kind, "name": name}, "patch": json.dumps([{"op": op, "path": path, "value": value}])}


def test_without_a_version_the_models_pod_runs_and_takes_no_requests(plain: Plain) -> None:
    for name in ("trainings", "promoter", "drift-watch", "flights"):
        until(f"a pod of {name}", lambda name=name: _running(plain, name))
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


def _running(plain: Plain, name: str) -> bool:
    """Whether a pod's process has begun; of a model without a version it is not ready, and waits."""
    labels = plain.get("deployment", name)["spec"]["selector"]["matchLabels"]
    pods = plain.items("pod", ",".join(f"{k}={v}" for k, v in labels.items()))
    started = [s.get("started") for pod in pods for s in pod["status"].get("containerStatuses", ())]
    return bool(started) and all(started)


def _versions_that_answer(plain: Plain, folder: Path) -> set[str]:
    rows = {"instances": [{"distance": 700, "hour": 21, "carrier": "B6"}]}
    (prediction,) = plain.ask_plain("/v1/models/flights:predict", rows, folder)["predictions"]
    assert prediction["label"] in (0, 1)
    return set(json.loads(plain.kubectl("get", "--raw", f"{plain.door}/v2/models/flights"))["versions"])
